/* The event loop: order of a tick, re-entrancy, timers, signals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/loop.h"

static char trace[64];
static size_t trace_len;
static struct loop *loop;

static void note(char c)
{
    assert_true(trace_len < sizeof(trace) - 1);
    trace[trace_len++] = c;
    trace[trace_len] = '\0';
}

static int set_up(void **state)
{
    struct error err = {0};

    (void)state;
    trace_len = 0;
    trace[0] = '\0';
    loop = loop_new(&err);
    return loop ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    loop_destroy(loop);
    return 0;
}

static void tick(int max_wait_ms)
{
    struct error err = {0};

    assert_true(loop_tick(loop, max_wait_ms, &err));
}

static void *name(const char *letter)
{
    return (void *)(uintptr_t)letter;
}

static void note_timer(void *ctx)
{
    note(*(const char *)ctx);
}

static void note_fd(void *ctx, uint32_t events)
{
    assert_true(events & EPOLLIN);
    note(*(const char *)ctx);
}

static void tick_order(void **state)
{
    struct loop_fd w = {0};
    struct loop_timer t;
    struct loop_task task = {0};
    struct error err = {0};
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    loop_defer(loop, &task, note_timer, name("d"));
    loop_timer_init(&t, note_timer, name("t"));
    loop_timer_start(loop, &t, 0);
    assert_true(loop_fd_add(loop, &w, fds[0], EPOLLIN, note_fd, name("f"), &err));
    assert_true(loop_at_tick_end(loop, note_timer, name("e")));
    tick(0);
    assert_string_equal(trace, "ftde");
    loop_fd_remove(loop, &w);
    loop_fd_remove(loop, &w);
    close(fds[0]);
    close(fds[1]);
}

struct pair {
    struct loop_fd w;
    struct pair *other;
};

static void remove_other(void *ctx, uint32_t events)
{
    struct pair *p = ctx;

    (void)events;
    note('r');
    loop_fd_remove(loop, &p->other->w);
    loop_fd_remove(loop, &p->w);
}

/* A watcher that was removed in the same tick must not be called, although its event was fetched
 * already. */
static void removed_in_the_same_tick(void **state)
{
    struct pair a = {.other = NULL}, b = {.other = &a};
    struct error err = {0};
    int fds[2];

    (void)state;
    a.other = &b;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_true(loop_fd_add(loop, &a.w, fds[0], EPOLLIN, remove_other, &a, &err));
    int copy = dup(fds[0]);
    assert_true(loop_fd_add(loop, &b.w, copy, EPOLLIN, remove_other, &b, &err));
    tick(0);
    assert_string_equal(trace, "r");
    close(copy);
    close(fds[0]);
    close(fds[1]);
}

static void timers_in_order(void **state)
{
    static const char names[] = "abcdefgh";
    static const uint64_t delays[] = {5, 1, 3, 1, 9, 0, 3, 2};
    struct loop_timer t[8];

    (void)state;
    for (int i = 0; i < 8; i++) {
        loop_timer_init(&t[i], note_timer, name(&names[i]));
        loop_timer_start(loop, &t[i], delays[i]);
    }
    loop_timer_stop(loop, &t[4]);
    assert_false(loop_timer_running(&t[4]));
    loop_timer_start(loop, &t[0], 4); /* moves it */
    while (trace_len < 7)
        tick(20);
    assert_string_equal(trace, "fbdhcga");
}

static struct loop_timer again;

static void restart(void *ctx)
{
    (void)ctx;
    note('x');
    loop_timer_start(loop, &again, 0);
}

static void a_timer_that_restarts_itself_does_not_starve_the_tick(void **state)
{
    (void)state;
    loop_timer_init(&again, restart, NULL);
    loop_timer_start(loop, &again, 0);
    tick(0);
    assert_string_equal(trace, "x");
    tick(0);
    assert_string_equal(trace, "xx");
}

static struct loop_task again_task;

static void defer_again(void *ctx)
{
    note('d');
    loop_defer(loop, &again_task, defer_again, ctx);
}

static void tasks(void **state)
{
    struct loop_task first = {0}, second = {0}, third = {0};

    (void)state;
    loop_defer(loop, &first, note_timer, name("1"));
    loop_defer(loop, &second, note_timer, name("2"));
    loop_defer(loop, &third, note_timer, name("3"));
    loop_defer(loop, &first, note_timer, name("1")); /* queued once */
    loop_undefer(loop, &third);
    loop_undefer(loop, &third);
    memset(&again_task, 0, sizeof(again_task));
    loop_defer(loop, &again_task, defer_again, NULL);
    tick(0);
    assert_string_equal(trace, "12d");
    tick(0);
    assert_string_equal(trace, "12dd");
}

static void on_signal(void *ctx, int signo)
{
    (void)ctx;
    assert_int_equal(signo, SIGUSR1);
    note('s');
}

static void signals(void **state)
{
    struct error err = {0};

    (void)state;
    assert_true(loop_on_signal(loop, SIGUSR1, on_signal, NULL, &err));
    assert_true(loop_on_signal(loop, SIGUSR2, on_signal, NULL, &err));
    kill(getpid(), SIGUSR1);
    tick(100);
    assert_string_equal(trace, "s");
}

static void *wake_from_thread(void *ctx)
{
    (void)ctx;
    loop_wake(loop);
    return NULL;
}

static void woken_from_another_thread(void **state)
{
    pthread_t thread;

    (void)state;
    loop_on_wake(loop, note_timer, name("w"));
    assert_int_equal(pthread_create(&thread, NULL, wake_from_thread, NULL), 0);
    tick(5000);
    pthread_join(thread, NULL);
    assert_string_equal(trace, "w");
}

static void many_timers_random(void **state)
{
    enum { N = 2000 };
    struct loop_timer *t = calloc(N, sizeof(*t));
    uint32_t seed = 1;
    size_t running = 0;

    (void)state;
    for (int i = 0; i < N; i++)
        loop_timer_init(&t[i], note_timer, name(""));
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1664525 + 1013904223;
        struct loop_timer *one = &t[seed / 7 % N];
        if (seed >> 30)
            loop_timer_start(loop, one, 100000 + seed % 1000);
        else
            loop_timer_stop(loop, one);
    }
    for (int i = 0; i < N; i++)
        running += loop_timer_running(&t[i]);
    assert_true(running > N / 2);
    for (int i = 0; i < N; i++)
        loop_timer_stop(loop, &t[i]);
    tick(0);
    assert_string_equal(trace, "");
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tick_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(removed_in_the_same_tick, set_up, tear_down),
        cmocka_unit_test_setup_teardown(timers_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_timer_that_restarts_itself_does_not_starve_the_tick,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(tasks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(signals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(woken_from_another_thread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_timers_random, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
