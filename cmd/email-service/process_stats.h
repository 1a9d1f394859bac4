/* What the standard process_* metrics tell, from /proc/self. */
#ifndef PROCESS_STATS_H
#define PROCESS_STATS_H

#include <stdint.h>

#include "base/error.h"

struct process_stats {
    bool known; /* false where /proc cannot be read: nothing but start_time_seconds means anything
                   then */
    double cpu_seconds;
    double start_time_seconds; /* since 1970; worked out once, so that it never wavers */
    uint64_t virtual_bytes, resident_bytes;
    double max_virtual_bytes, max_fds; /* INFINITY: no limit */
    uint64_t open_fds;
};

void process_stats_init(struct process_stats *p);
/* Reads the present values; costs some ten microseconds. */
void process_stats_read(struct process_stats *p);

#endif
