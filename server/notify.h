/* notify.h - what the daemon tells systemd, and what systemd hands over.
 *
 * Everything is silently nothing when systemd did not start the daemon. Any thread. */
#ifndef SRV_NOTIFY_H
#define SRV_NOTIFY_H

#include "lib/base/err.h"

#include <stdint.h>

/* STATUS=, one line for `systemctl status`; control characters become blanks. */
void srv_notify_status(const char *fmt, ...) PCV_PRINTF(1, 2);
/* READY=1: models are loaded and warmed, requests are taken. */
void srv_notify_ready(void);
/* STOPPING=1: draining began. */
void srv_notify_stopping(void);
/* EXTEND_TIMEOUT_USEC=: starting or stopping goes on and may take this much longer. */
void srv_notify_extend(uint64_t us);

/* Microseconds within which srv_notify_watchdog() must be called, again and again (do so at half of
 * it); 0 when systemd does not watch. */
uint64_t srv_notify_watchdog_interval(void);
/* WATCHDOG=1: loop and lanes are alive. */
void srv_notify_watchdog(void);

/* Listening sockets of socket activation into fds[max]; returns how many (0: none), or PCV_ELIMIT
 * for more than max, PCV_EFORMAT for one that is no listening stream socket, PCV_EIO. own: close().
 * They are close-on-exec and non-blocking, and the environment forgets them. Once. */
PCV_CHECK int srv_notify_listen_fds(int *fds, int max, struct pcv_err *e);

#endif
