#include "base/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/timer_heap.h"

/* Small batches: what a tick sends together (claims, fences) is under way while the next ones are
 * worked on, and hundreds of sessions don't fall into step. */
enum { BATCH = 32, TICK_END_HOOKS = 4, SIGNALS = 8 };

struct hook {
    void (*fn)(void *ctx);
    void *ctx;
};

struct signal_hook {
    int signo;
    void (*fn)(void *ctx, int signo);
    void *ctx;
};

struct loop {
    int epoll_fd;
    uint64_t now_ms;
    bool stopping;

    struct epoll_event batch[BATCH]; /* of the running tick; removed watchers are blanked in it */
    int batch_len;

    struct loop_timer *first_timer; /* the earliest, see timer_heap.h */
    uint64_t timer_seq;

    struct loop_task *task_head, *task_tail;
    uint64_t task_seq;

    struct hook tick_end[TICK_END_HOOKS];
    size_t tick_end_len;

    struct loop_fd wake_fd;
    struct hook wake;

    struct loop_fd signal_fd;
    sigset_t signal_set;
    struct signal_hook signals[SIGNALS];
    size_t signals_len;
};

static void on_wake_fd(void *ctx, uint32_t events)
{
    struct loop *loop = ctx;
    uint64_t count;

    (void)events;
    while (read(loop->wake_fd.fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    if (loop->wake.fn)
        loop->wake.fn(loop->wake.ctx);
}

struct loop *loop_new(struct error *err)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    int wake_fd;

    if (!loop) {
        error_set(err, "out of memory");
        return NULL;
    }
    loop->wake_fd.fd = loop->signal_fd.fd = -1;
    sigemptyset(&loop->signal_set);
    loop->now_ms = clock_monotonic_ms();
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        error_set(err, "epoll_create1: %s", strerror(errno));
        goto failed;
    }
    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fd < 0) {
        error_set(err, "eventfd: %s", strerror(errno));
        goto failed;
    }
    loop->wake_fd.fd = wake_fd;
    if (!loop_fd_add(loop, &loop->wake_fd, wake_fd, EPOLLIN, on_wake_fd, loop, err))
        goto failed;
    return loop;

failed:
    loop_destroy(loop);
    return NULL;
}

void loop_destroy(struct loop *loop)
{
    if (!loop)
        return;
    if (loop->signal_fd.fd >= 0)
        close(loop->signal_fd.fd);
    if (loop->wake_fd.fd >= 0)
        close(loop->wake_fd.fd);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    free(loop);
}

uint64_t loop_now_ms(const struct loop *loop)
{
    return loop->now_ms;
}

void loop_stop(struct loop *loop)
{
    loop->stopping = true;
}

void loop_wake(struct loop *loop)
{
    const uint64_t one = 1;

    while (write(loop->wake_fd.fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ; /* EAGAIN: the counter is full, so it is awake anyway */
}

void loop_on_wake(struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
    loop->wake = (struct hook){fn, ctx};
}

/* ---- watchers ---- */

bool loop_fd_add(struct loop *loop, struct loop_fd *w, int fd, uint32_t events,
                 void (*fn)(void *ctx, uint32_t events), void *ctx, struct error *err)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};

    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
        return error_set(err, "epoll_ctl: %s", strerror(errno));
    *w = (struct loop_fd){.fd = fd, .events = events, .active = true, .fn = fn, .ctx = ctx};
    return true;
}

bool loop_fd_change(struct loop *loop, struct loop_fd *w, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};

    if (w->events == events)
        return true;
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev) < 0)
        return false;
    w->events = events;
    return true;
}

void loop_fd_remove(struct loop *loop, struct loop_fd *w)
{
    if (!w->active)
        return;
    /* A failure means that the fd was closed already, which removed it as well. */
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    w->active = false;
    for (int i = 0; i < loop->batch_len; i++)
        if (loop->batch[i].data.ptr == w)
            loop->batch[i].data.ptr = NULL;
}

/* ---- timers ---- */

void loop_timer_init(struct loop_timer *t, void (*fn)(void *ctx), void *ctx)
{
    *t = (struct loop_timer){.fn = fn, .ctx = ctx};
}

bool loop_timer_running(const struct loop_timer *t)
{
    return t->running;
}

void loop_timer_stop(struct loop *loop, struct loop_timer *t)
{
    if (!t->running)
        return;
    t->running = false;
    timer_heap_remove(&loop->first_timer, t);
}

void loop_timer_start(struct loop *loop, struct loop_timer *t, uint64_t delay_ms)
{
    loop_timer_stop(loop, t);
    t->due_ms = loop->now_ms + delay_ms;
    t->seq = loop->timer_seq++;
    t->running = true;
    timer_heap_add(&loop->first_timer, t);
}

static void run_timers(struct loop *loop)
{
    /* Timers that a callback starts with no delay wait for the next tick, so that I/O gets its
     * turn. */
    const uint64_t started_before = loop->timer_seq;

    while (loop->first_timer) {
        struct loop_timer *t = loop->first_timer;
        if (t->due_ms > loop->now_ms || t->seq >= started_before)
            break;
        loop_timer_stop(loop, t);
        t->fn(t->ctx);
    }
}

/* ---- deferred tasks ---- */

void loop_defer(struct loop *loop, struct loop_task *task, void (*fn)(void *ctx), void *ctx)
{
    if (task->queued)
        return;
    *task = (struct loop_task){.fn = fn, .ctx = ctx, .seq = loop->task_seq++, .queued = true};
    if (loop->task_tail)
        loop->task_tail->next = task;
    else
        loop->task_head = task;
    loop->task_tail = task;
}

void loop_undefer(struct loop *loop, struct loop_task *task)
{
    struct loop_task **link = &loop->task_head, *before = NULL;

    if (!task->queued)
        return;
    while (*link && *link != task) {
        before = *link;
        link = &(*link)->next;
    }
    if (*link) {
        *link = task->next;
        if (loop->task_tail == task)
            loop->task_tail = before;
    }
    task->queued = false;
    task->next = NULL;
}

static void run_tasks(struct loop *loop)
{
    const uint64_t queued_before = loop->task_seq; /* what tasks defer waits for the next tick */

    while (loop->task_head && loop->task_head->seq < queued_before) {
        struct loop_task *task = loop->task_head;
        loop->task_head = task->next;
        if (!loop->task_head)
            loop->task_tail = NULL;
        task->next = NULL;
        task->queued = false;
        task->fn(task->ctx); /* may free the task */
    }
}

bool loop_at_tick_end(struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
    if (loop->tick_end_len == TICK_END_HOOKS)
        return false;
    loop->tick_end[loop->tick_end_len++] = (struct hook){fn, ctx};
    return true;
}

/* ---- signals ---- */

static void on_signal_fd(void *ctx, uint32_t events)
{
    struct loop *loop = ctx;
    struct signalfd_siginfo info;

    (void)events;
    while (read(loop->signal_fd.fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        for (size_t i = 0; i < loop->signals_len; i++)
            if (loop->signals[i].signo == (int)info.ssi_signo)
                loop->signals[i].fn(loop->signals[i].ctx, (int)info.ssi_signo);
}

bool loop_on_signal(struct loop *loop, int signo, void (*fn)(void *ctx, int signo), void *ctx,
                    struct error *err)
{
    int fd;

    if (loop->signals_len == SIGNALS)
        return error_set(err, "too many signals are watched");
    sigaddset(&loop->signal_set, signo);
    if (sigprocmask(SIG_BLOCK, &loop->signal_set, NULL) < 0)
        return error_set(err, "sigprocmask: %s", strerror(errno));
    fd = signalfd(loop->signal_fd.fd, &loop->signal_set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return error_set(err, "signalfd: %s", strerror(errno));
    loop->signals[loop->signals_len++] = (struct signal_hook){signo, fn, ctx};
    if (loop->signal_fd.active)
        return true;
    loop->signal_fd.fd = fd;
    return loop_fd_add(loop, &loop->signal_fd, fd, EPOLLIN, on_signal_fd, loop, err);
}

/* ---- the tick ---- */

static int wait_ms(const struct loop *loop, int max_wait_ms)
{
    uint64_t due_ms;

    if (loop->task_head)
        return 0;
    if (!loop->first_timer)
        return max_wait_ms;
    due_ms = loop->first_timer->due_ms;
    if (due_ms <= loop->now_ms)
        return 0;
    if (max_wait_ms >= 0 && due_ms - loop->now_ms > (uint64_t)max_wait_ms)
        return max_wait_ms;
    return due_ms - loop->now_ms > 60000 ? 60000 : (int)(due_ms - loop->now_ms);
}

bool loop_tick(struct loop *loop, int max_wait_ms, struct error *err)
{
    int n;

    loop->now_ms = clock_monotonic_ms();
    n = epoll_wait(loop->epoll_fd, loop->batch, BATCH, wait_ms(loop, max_wait_ms));
    if (n < 0 && errno != EINTR)
        return error_set(err, "epoll_wait: %s", strerror(errno));
    loop->now_ms = clock_monotonic_ms();
    loop->batch_len = n > 0 ? n : 0;
    for (int i = 0; i < loop->batch_len; i++) {
        struct loop_fd *w = loop->batch[i].data.ptr;
        if (w)
            w->fn(w->ctx, loop->batch[i].events);
    }
    loop->batch_len = 0;
    run_timers(loop);
    run_tasks(loop);
    for (size_t i = 0; i < loop->tick_end_len; i++)
        loop->tick_end[i].fn(loop->tick_end[i].ctx);
    return true;
}

bool loop_run(struct loop *loop, struct error *err)
{
    loop->stopping = false;
    while (!loop->stopping)
        if (!loop_tick(loop, -1, err))
            return false;
    return true;
}
