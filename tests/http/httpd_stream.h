/* httpd_stream.h - the fixture's replies in pieces.
 *
 *   GET /stream?n=N&size=S    N pieces of S bytes, sent as there is room
 *     &every_ms=N             one piece each N ms instead, whatever is queued
 *     &greedy=1               all at once
 *     &later_ms=N             begins N ms after the request
 *     &idle=1                 after the last piece nothing more, and no end
 *     &abort=1                breaks off in the place of the end
 *
 * Byte i of them all is i % 251. */
#ifndef HTTPD_STREAM_H
#define HTTPD_STREAM_H

#include "server/http.h"

struct fixture_streams {
    uv_loop_t *loop;
    long open, rooms;
    size_t queued_max; /* most bytes that ever were queued in one */
    size_t bytes;      /* on_replied said so */
};

long fixture_arg(struct srv_exchange *x,
                 const char *wanted); /* of the query string; 0: not there */
void fixture_stream_start(struct fixture_streams *f, struct srv_exchange *x);
void fixture_stream_gone(struct srv_exchange *x);

#endif
