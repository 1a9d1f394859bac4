/* The event loop: one thread, one epoll. A tick is: cached time, I/O, timers, deferred tasks — I/O
 * before timers, so that a reply that has arrived beats its own time-out.
 *
 * Watchers, timers and tasks are embedded in the caller's structures and never allocated here.
 * Callbacks run on the loop's thread only and may add, change or remove any watcher, timer or task,
 * their own included; the memory that holds the running callback's own watcher must survive the
 * callback: free it from a deferred task. Only loop_wake() may be called from another thread. */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct loop;

struct loop_fd { /* private but for being embedded; zero it before the first use */
    int fd;
    uint32_t events;
    bool active;
    void (*fn)(void *ctx, uint32_t events);
    void *ctx;
};

struct loop_timer { /* as above */
    void (*fn)(void *ctx);
    void *ctx;
    uint64_t due_ms;
    uint64_t seq;
    bool running;
    struct loop_timer *child, *before, *after; /* see timer_heap.h */
};

struct loop_task { /* as above */
    void (*fn)(void *ctx);
    void *ctx;
    struct loop_task *next;
    uint64_t seq;
    bool queued;
};

BASE_CHECK struct loop *loop_new(struct error *err);
void loop_destroy(
    struct loop *loop); /* NULL is fine; watchers that are left are forgotten, not closed */

/* Runs ticks until loop_stop(). Returns false on a failure of epoll itself. */
BASE_CHECK bool loop_run(struct loop *loop, struct error *err);
/* One tick that waits at most max_wait_ms. For tests and for libraries that are driven by a caller.
 */
BASE_CHECK bool loop_tick(struct loop *loop, int max_wait_ms, struct error *err);
void loop_stop(struct loop *loop);
/* Thread-safe: makes a sleeping loop turn, and run `fn` of loop_on_wake if one is set. */
void loop_wake(struct loop *loop);
void loop_on_wake(struct loop *loop, void (*fn)(void *ctx), void *ctx);

/* Monotonic milliseconds, read once a tick. */
uint64_t loop_now_ms(const struct loop *loop);

/* Watches fd for EPOLLIN, EPOLLOUT, … (level-triggered; EPOLLERR and EPOLLHUP always). The fd stays
 * the caller's: remove the watcher before closing it. */
BASE_CHECK bool loop_fd_add(struct loop *loop, struct loop_fd *w, int fd, uint32_t events,
                            void (*fn)(void *ctx, uint32_t events), void *ctx, struct error *err);
BASE_CHECK bool loop_fd_change(struct loop *loop, struct loop_fd *w, uint32_t events);
void loop_fd_remove(struct loop *loop, struct loop_fd *w); /* fine where it is not active */

/* One-shot. Starting a running timer moves it. Equal instants fire in the order they were started.
 * A start cannot fail. */
void loop_timer_init(struct loop_timer *t, void (*fn)(void *ctx), void *ctx);
void loop_timer_start(struct loop *loop, struct loop_timer *t, uint64_t delay_ms);
void loop_timer_stop(struct loop *loop, struct loop_timer *t);
bool loop_timer_running(const struct loop_timer *t);

/* Runs fn once, after the timers of this tick (or of the next one where called in between). A task
 * that is queued already stays queued once. */
void loop_defer(struct loop *loop, struct loop_task *task, void (*fn)(void *ctx), void *ctx);
void loop_undefer(struct loop *loop, struct loop_task *task);

/* Runs fn at the very end of every tick (flushing of buffers). At most 4 of them. */
bool loop_at_tick_end(struct loop *loop, void (*fn)(void *ctx), void *ctx);

/* Delivers a signal as a callback (signalfd; the signal is blocked in the calling thread, so call
 * it before threads are started). At most 8 signals. */
BASE_CHECK bool loop_on_signal(struct loop *loop, int signo, void (*fn)(void *ctx, int signo),
                               void *ctx, struct error *err);

#endif
