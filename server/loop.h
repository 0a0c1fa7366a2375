/* loop.h - the daemon: its parts put together around one event loop, from start to drained.
 *
 *   LOADING  listening, answering 503 where a model is needed
 *   SERVING  [models loaded and warmed: READY=1]
 *   LEAVING  [SIGTERM or SIGINT] readiness is 503, work is still taken, for drain_delay
 *   DRAINING new work is 503; what was accepted is finished. Sockets of our own are still open, so
 * that clients get their 503; those of systemd are left to the next daemon at once. CLOSING  no
 * connection is left; lanes and pool give back what they still have
 *
 * A second signal ends the process at once. */
#ifndef SRV_LOOP_H
#define SRV_LOOP_H

#include "server/config.h"

/* Serves until it is told to stop. 0, or PCV_E* when it cannot start or a model cannot be loaded:
 * the error names the address, file or tensor. Once per process: it handles signals. */
PCV_CHECK int srv_daemon_run(const struct srv_config *c, struct pcv_err *e);

#endif
