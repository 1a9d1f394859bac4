#include "progress_bar.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

enum { WIDTH = 40, PAUSE_MS = 100 };

void progress_bar_begin(struct progress_bar *bar, uint64_t total)
{
    *bar = (struct progress_bar){.shown = isatty(STDERR_FILENO) == 1, .total = total};
}

void progress_bar_update(struct progress_bar *bar, uint64_t done, uint64_t events)
{
    static const char full[] = "########################################";
    static const char empty[] = "........................................";
    const uint64_t now_ms = bar->shown ? clock_monotonic_ms() : 0;
    int filled;

    if (!bar->shown || now_ms < bar->next_ms)
        return;
    bar->next_ms = now_ms + PAUSE_MS;
    if (!bar->total) {
        fprintf(stderr, "\r\033[K%llu events", (unsigned long long)events);
        return;
    }
    if (done > bar->total)
        done = bar->total;
    filled = (int)((double)done / (double)bar->total * WIDTH);
    fprintf(stderr, "\r\033[K[%.*s%.*s] %3d %%  %llu events", filled, full, WIDTH - filled, empty,
            (int)((double)done / (double)bar->total * 100), (unsigned long long)events);
}

void progress_bar_hide(struct progress_bar *bar)
{
    if (bar->shown && bar->next_ms)
        fputs("\r\033[K", stderr);
    bar->next_ms = 0;
}
