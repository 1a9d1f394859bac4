/* One line on stderr, where that is a terminal, else nothing. */
#ifndef EMAILCTL_PROGRESS_BAR_H
#define EMAILCTL_PROGRESS_BAR_H

#include <stdbool.h>
#include <stdint.h>

struct progress_bar {
    bool shown;
    uint64_t total; /* 0: unknown */
    uint64_t next_ms;
};

/* total: in the unit of `done` below. */
void progress_bar_begin(struct progress_bar *bar, uint64_t total);
void progress_bar_update(struct progress_bar *bar, uint64_t done, uint64_t events);
void progress_bar_hide(struct progress_bar *bar); /* before anything else is written */

#endif
