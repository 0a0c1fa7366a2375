/* listen.h - opening listening sockets from what people write.
 *
 *   "127.0.0.1:8080"  "0.0.0.0:80"  "[::1]:8080"  "[::]:80" (both families)  "127.0.0.1:0" (any
 * port) "unix:/run/perceiverd.sock"     "unix:/run/perceiverd.sock,mode=0660"
 *
 * Hosts are numeric: nothing here asks a name server. Pure but for the system calls; any thread. */
#ifndef SRV_LISTEN_H
#define SRV_LISTEN_H

#include "lib/base/err.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

struct srv_addr {
    char text[160]; /* as written */
    union {
        struct sockaddr sa;
        struct sockaddr_un un;
        struct sockaddr_storage any;
    } u;
    socklen_t len;
    int mode; /* of a Unix socket's file, -1: what umask leaves */
};

/* PCV_EFORMAT says what is wrong with it. */
PCV_CHECK int srv_addr_parse(struct srv_addr *ret, const char *text, struct pcv_err *e);

/* own: close(). Non-blocking, close-on-exec, SO_REUSEADDR. A Unix socket's file that nobody listens
 * on any more is replaced. PCV_EIO names the address: "127.0.0.1:8080: address already in use". */
PCV_CHECK int srv_listen_open(int *ret, const struct srv_addr *a, struct pcv_err *e);

/* Removes the file of a Unix socket that srv_listen_open made; nothing for others. */
void srv_listen_remove(const struct srv_addr *a);

/* Checks that fd is a listening stream socket, and makes it non-blocking and close-on-exec. */
PCV_CHECK int srv_listen_adopt(int fd, struct pcv_err *e);

/* Where fd really listens: "127.0.0.1:40123", "unix:/run/perceiverd.sock". Returns buf. */
const char *srv_listen_name(int fd, char *buf, size_t size);

#endif
