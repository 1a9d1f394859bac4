#include "process_stats.h"

#include "base/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct stat_fields { /* of /proc/self/stat, see proc(5) */
    uint64_t user_ticks, system_ticks, start_ticks, virtual_bytes, resident_pages;
};

static bool read_stat(struct stat_fields *out)
{
    char text[1024];
    ssize_t len;
    const char *rest;
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return false;
    len = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (len <= 0)
        return false;
    text[len] = '\0';
    /* The second field is the program's name in parentheses, which may hold anything. */
    rest = strrchr(text, ')');
    if (!rest)
        return false;
    return sscanf(rest + 1,
                  " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
                  " %*d %*d %*d %*d %*d %*d %" SCNu64 " %" SCNu64 " %" SCNu64,
                  &out->user_ticks, &out->system_ticks, &out->start_ticks, &out->virtual_bytes,
                  &out->resident_pages) == 5;
}

static double seconds_of(clockid_t clock)
{
    struct timespec t = {0};

    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double ticks_to_seconds(uint64_t ticks)
{
    long per_second = sysconf(_SC_CLK_TCK);

    return (double)ticks / (double)(per_second > 0 ? per_second : 100);
}

static double limit_of(__rlimit_resource_t resource)
{
    struct rlimit limit;

    if (getrlimit(resource, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return INFINITY;
    return (double)limit.rlim_cur;
}

static bool count_fds(uint64_t *out)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t entries = 0;

    if (!dir)
        return false;
    while (readdir(dir))
        entries++;
    closedir(dir);
    *out = entries > 3 ? entries - 3 : 0; /* ".", ".." and the directory's own */
    return true;
}

void process_stats_init(struct process_stats *p)
{
    struct stat_fields fields;

    *p = (struct process_stats){.start_time_seconds = (double)clock_unix_ms() / 1000};
    if (read_stat(&fields))
        p->start_time_seconds = seconds_of(CLOCK_REALTIME) - seconds_of(CLOCK_BOOTTIME) +
                                ticks_to_seconds(fields.start_ticks);
}

void process_stats_read(struct process_stats *p)
{
    struct stat_fields fields;
    long page = sysconf(_SC_PAGESIZE);

    p->known = page > 0 && read_stat(&fields) && count_fds(&p->open_fds);
    if (!p->known)
        return;
    p->cpu_seconds = ticks_to_seconds(fields.user_ticks + fields.system_ticks);
    p->virtual_bytes = fields.virtual_bytes;
    p->resident_bytes = fields.resident_pages * (uint64_t)page;
    p->max_virtual_bytes = limit_of(RLIMIT_AS);
    p->max_fds = limit_of(RLIMIT_NOFILE);
}
