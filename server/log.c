#include "server/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Written once by main before there are threads, then only read. */
static struct {
    enum srv_level least;
    enum srv_log_format format;
} log_state = {SRV_INFO, SRV_LOG_TEXT};

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *const format_names[] = {"auto", "text", "journal", "json"};
static const char level_priority[] = {'3', '4', '6', '7'}; /* as syslog numbers them */

static int find(const char *name, const char *const *names, int n)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(name, names[i]) == 0)
            return i;
    }
    return -1;
}

int srv_level_parse(const char *name)
{
    return find(name, level_names, 4);
}

int srv_log_format_parse(const char *name)
{
    return find(name, format_names, 4);
}

const char *srv_level_name(enum srv_level level)
{
    return level_names[level];
}

/* ---- a line ---------------------------------------------------------------------------------- */

struct line {
    char *at, *end; /* end leaves room for what must follow */
    bool json, cut;
};

/* Appends n bytes, or nothing ever again once they do not fit. */
static void put(struct line *l, const char *s, size_t n)
{
    if (l->cut || (size_t)(l->end - l->at) < n) {
        l->cut = true;
        return;
    }
    memcpy(l->at, s, n);
    l->at += n;
}

static void puts_to(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

/* Length of the UTF-8 character at s, or 0: not UTF-8, or a control character. */
static size_t character(const unsigned char *s)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    unsigned c = n == 1 ? s[0] : n ? s[0] & (0xffu >> (n + 1)) : 0;

    if (n == 0 || (n == 1 && (c < 0x20 || c == 0x7f)))
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (n > 1 && (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) || c < 0xa0 ||
                  c == 0x2028 || c == 0x2029))
        return 0;
    return n;
}

/* In JSON the escapes' own backslashes are escaped once more, so that both forms say the same. */
static void put_escaped(struct line *l, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    while (*s && !l->cut) {
        size_t n = character(s);
        char escape[8];

        if (n != 0 && *s != '\\' && !(l->json && *s == '"')) {
            put(l, (const char *)s, n);
            s += n;
            continue;
        }
        if (*s == '"')
            snprintf(escape, sizeof(escape), "\\\"");
        else if (*s == '\\' || *s == '\n' || *s == '\r' || *s == '\t')
            snprintf(escape, sizeof(escape), "%s\\%c", l->json ? "\\" : "",
                     *s == '\n'   ? 'n'
                     : *s == '\r' ? 'r'
                     : *s == '\t' ? 't'
                                  : '\\');
        else
            snprintf(escape, sizeof(escape), "%s\\x%02x", l->json ? "\\" : "", *s);
        if (*s == '\\' && l->json)
            snprintf(escape, sizeof(escape), "\\\\\\\\");
        puts_to(l, escape);
        s++;
    }
}

static void put_time(struct line *l, long long unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    char text[40];
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    puts_to(l, text);
    snprintf(text, sizeof(text), ".%03dZ", (int)(unix_ms % 1000));
    puts_to(l, text);
}

static void put_head(struct line *l, enum srv_log_format format, enum srv_level level,
                     long long unix_ms, const char *id)
{
    if (l->json) {
        puts_to(l, "{\"time\": \"");
        put_time(l, unix_ms);
        puts_to(l, "\", \"level\": \"");
        puts_to(l, level_names[level]);
        puts_to(l, id ? "\", \"request_id\": \"" : "\", \"message\": \"");
        if (id)
            put_escaped(l, id);
        puts_to(l, id ? "\", \"message\": \"" : "");
        return;
    }
    if (format == SRV_LOG_JOURNAL) {
        put(l, "<", 1);
        put(l, &level_priority[level], 1);
        put(l, ">", 1);
    } else {
        put_time(l, unix_ms);
        put(l, " ", 1);
        puts_to(l, level_names[level]);
        put(l, " ", 1);
    }
    if (id) {
        put(l, "[", 1);
        put_escaped(l, id);
        put(l, "] ", 2);
    }
}

size_t srv_log_line(char out[SRV_LOG_LINE], enum srv_log_format format, enum srv_level level,
                    long long unix_ms, const char *id, const char *message)
{
    static const char tail[] = "...\"}\n";
    struct line l = {
        .at = out, .end = out + SRV_LOG_LINE - sizeof(tail), .json = format == SRV_LOG_JSON};

    put_head(&l, format, level, unix_ms, id);
    put_escaped(&l, message);
    l.end = out + SRV_LOG_LINE;
    if (l.cut) {
        l.cut = false;
        puts_to(&l, "...");
    }
    puts_to(&l, l.json ? "\"}\n" : "\n");
    return (size_t)(l.at - out);
}

/* ---- writing it ------------------------------------------------------------------------------ */

/* systemd names the journal's stream by device and inode. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void srv_log_init(enum srv_level least, enum srv_log_format format)
{
    if (format == SRV_LOG_AUTO)
        format = stderr_is_journal() ? SRV_LOG_JOURNAL : SRV_LOG_TEXT;
    log_state.least = least;
    log_state.format = format;
}

bool srv_log_wants(enum srv_level level)
{
    return level <= log_state.least;
}

void srv_log(enum srv_level level, const char *id, const char *fmt, ...)
{
    char message[SRV_LOG_LINE], line[SRV_LOG_LINE];
    int kept = errno;
    struct timespec now;
    ssize_t written;
    va_list ap;

    if (!srv_log_wants(level))
        return;
    va_start(ap, fmt);
    vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    clock_gettime(CLOCK_REALTIME, &now);
    written = write(STDERR_FILENO, line,
                    srv_log_line(line, log_state.format, level,
                                 now.tv_sec * 1000LL + now.tv_nsec / 1000000, id, message));
    (void)written; /* there is nowhere to complain */
    errno = kept;
}
