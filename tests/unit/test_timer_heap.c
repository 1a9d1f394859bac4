/* Timers: their order, against a plain list, and that none of it needs memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static int memory_is_out;

/* Unused where the code below asks for no memory of that kind, which is the point. */
#define MAYBE_UNUSED __attribute__((unused))

MAYBE_UNUSED static void *limited_malloc(size_t size)
{
    return memory_is_out ? NULL : malloc(size);
}

MAYBE_UNUSED static void *limited_calloc(size_t n, size_t size)
{
    return memory_is_out ? NULL : calloc(n, size);
}

MAYBE_UNUSED static void *limited_realloc(void *old, size_t size)
{
    return memory_is_out ? NULL : realloc(old, size);
}

/* The loop, on the limited allocator; the linker takes these copies and leaves the library's out.
 */
#define malloc(size) limited_malloc(size)
#define calloc(n, size) limited_calloc(n, size)
#define realloc(old, size) limited_realloc(old, size)
#include "base/loop.c"
#include "base/timer_heap.c"
#undef malloc
#undef calloc
#undef realloc

enum { TIMERS = 3000, STEPS = 60000 };

static struct loop_timer timers[TIMERS];
static uint64_t last_due_ms, last_seq;
static size_t fired;

static void on_timer(void *ctx)
{
    const struct loop_timer *t = ctx;

    assert_true(t->due_ms > last_due_ms || (t->due_ms == last_due_ms && t->seq > last_seq));
    last_due_ms = t->due_ms;
    last_seq = t->seq;
    fired++;
}

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < TIMERS; i++)
        loop_timer_init(&timers[i], on_timer, &timers[i]);
    last_due_ms = last_seq = fired = 0;
    return 0;
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static const struct loop_timer *earliest_running(void)
{
    const struct loop_timer *first = NULL;

    for (size_t i = 0; i < TIMERS; i++)
        if (timers[i].running && (!first || earlier(&timers[i], first)))
            first = &timers[i];
    return first;
}

static void the_first_is_always_the_earliest(void **state)
{
    struct loop loop = {.now_ms = 1000};
    uint32_t seed = 1;

    (void)state;
    for (int i = 0; i < STEPS; i++) {
        struct loop_timer *t = &timers[next_random(&seed) % TIMERS];
        if (next_random(&seed) % 8 < 5)
            loop_timer_start(&loop, t, next_random(&seed) % 500);
        else if (loop.first_timer && next_random(&seed) % 2)
            loop_timer_stop(&loop, loop.first_timer);
        else
            loop_timer_stop(&loop, t);
        if (i % 50 == 0)
            assert_ptr_equal(loop.first_timer, earliest_running());
    }
    while (loop.first_timer) { /* every link is right: all that run come out, in order */
        struct loop_timer *t = loop.first_timer;
        loop_timer_stop(&loop, t);
        on_timer(t);
    }
    assert_true(fired > TIMERS / 4);
    assert_null(earliest_running());
}

static void many_start_and_fire_while_memory_is_out(void **state)
{
    struct error err = {0};
    struct loop *loop = loop_new(&err);
    uint32_t seed = 7;

    (void)state;
    assert_non_null(loop);
    memory_is_out = 1;
    for (size_t i = 0; i < TIMERS; i++)
        loop_timer_start(loop, &timers[i], next_random(&seed) % 20);
    for (int tick = 0; tick < 1000 && fired < TIMERS; tick++)
        assert_true(loop_tick(loop, 50, &err));
    memory_is_out = 0;
    assert_int_equal(fired, TIMERS);
    loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_first_is_always_the_earliest, set_up),
        cmocka_unit_test_setup(many_start_and_fire_while_memory_is_out, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
