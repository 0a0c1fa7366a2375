/* log.h - one line per event, on stderr.
 *
 * The daemon's one global: srv_log_init is called once by main, before there are threads; until
 * then lines of level info are written as text. Afterwards any thread: a line is a single write(2).
 *
 * What comes from clients may be logged as it is: control characters, backslashes and bytes that
 * are no UTF-8 appear as \n, \\, \x1b, so that a line cannot be forged or a terminal driven. A line
 * of more than SRV_LOG_LINE bytes ends with "...". */
#ifndef SRV_LOG_H
#define SRV_LOG_H

#include "lib/base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum srv_level { SRV_ERROR, SRV_WARN, SRV_INFO, SRV_DEBUG };

enum srv_log_format {
    SRV_LOG_AUTO,    /* journal when stderr is the journal's, else text */
    SRV_LOG_TEXT,    /* 2024-05-01T12:00:00.123Z info [id] message */
    SRV_LOG_JOURNAL, /* <6>[id] message */
    SRV_LOG_JSON,    /* {"time": "...", "level": "info", "request_id": "...", "message": "..."} */
};

enum { SRV_LOG_LINE = 4096 };

void srv_log_init(enum srv_level least, enum srv_log_format format);
bool srv_log_wants(enum srv_level level);

/* id: the request's, or NULL when the line is about none. Keeps errno. */
void srv_log(enum srv_level level, const char *id, const char *fmt, ...) PCV_PRINTF(3, 4);

/* "error", "warn", "info", "debug"; and "auto", "text", "journal", "json". -1: no such name. */
int srv_level_parse(const char *name);
int srv_log_format_parse(const char *name);
const char *srv_level_name(enum srv_level level);

/* The line that srv_log writes, with its newline; unix_ms is the time. format is not AUTO. Returns
 * its length, at most SRV_LOG_LINE. Pure. */
size_t srv_log_line(char out[SRV_LOG_LINE], enum srv_log_format format, enum srv_level level,
                    long long unix_ms, const char *id, const char *message);

#endif
