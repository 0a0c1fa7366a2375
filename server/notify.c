#include "server/notify.h"
#include "server/listen.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

void srv_notify_status(const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (char *s = text; *s; s++) {
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            *s = ' '; /* a line break would begin another assignment */
    }
    sd_notifyf(0, "STATUS=%s", text);
}

void srv_notify_ready(void)
{
    sd_notify(0, "READY=1");
}

void srv_notify_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}

void srv_notify_extend(uint64_t us)
{
    sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)us);
}

uint64_t srv_notify_watchdog_interval(void)
{
    uint64_t us = 0;

    return sd_watchdog_enabled(0, &us) > 0 ? us : 0;
}

void srv_notify_watchdog(void)
{
    sd_notify(0, "WATCHDOG=1");
}

int srv_notify_listen_fds(int *fds, int max, struct pcv_err *e)
{
    int n = sd_listen_fds(1);

    if (n < 0)
        return pcv_fail(e, PCV_EIO, "LISTEN_FDS: %s", strerror(-n));
    if (n > max) {
        pcv_fail(e, PCV_ELIMIT, "%d sockets, at most %d are served", n, max);
        return pcv_err_at(e, "LISTEN_FDS");
    }
    for (int i = 0; i < n; i++) {
        if (srv_listen_adopt(SD_LISTEN_FDS_START + i, e) != 0)
            return pcv_err_at(e, "LISTEN_FDS: %d", SD_LISTEN_FDS_START + i);
    }
    for (int i = 0; i < n; i++)
        fds[i] = SD_LISTEN_FDS_START + i;
    return n;
}
