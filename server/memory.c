#include "server/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The number in a file; 0 when there is none ("max", or no such file). */
static double read_limit(const char *path)
{
    char text[64];
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    double v = fgets(text, sizeof text, f) ? strtod(text, NULL) : 0;
    fclose(f);
    return v > 0 ? v : 0;
}

static double smaller(double a, double b)
{
    return b > 0 && b < a ? b : a;
}

/* The limits of a group and of all above it. */
static double group_limit(double limit, const char *mount, const char *group, const char *file)
{
    char dir[2048], path[4096];
    snprintf(dir, sizeof dir, "%s", group);
    for (;;) {
        snprintf(path, sizeof path, "%s%s/%s", mount, strcmp(dir, "/") ? dir : "", file);
        limit = smaller(limit, read_limit(path));
        char *slash = strrchr(dir, '/');
        if (!slash || !*dir)
            return limit;
        *slash = 0;
    }
}

double srv_memory_available(void)
{
    double limit = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    FILE *f = fopen("/proc/self/cgroup", "re");
    char line[2048];
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *group = strrchr(line, ':');
        if (!group)
            continue;
        *group++ = 0;
        if (!strncmp(line, "0:", 2)) /* "0::/group": version 2 */
            limit = group_limit(limit, "/sys/fs/cgroup", group, "memory.max");
        else if (strstr(line, "memory"))
            limit = group_limit(limit, "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
    }
    if (f)
        fclose(f);
    /* In a container the group's own directory may be mounted as the root. */
    limit = smaller(limit, read_limit("/sys/fs/cgroup/memory.max"));
    return smaller(limit, read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
}
