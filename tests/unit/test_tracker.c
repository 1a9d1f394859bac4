#include "kafka/tracker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void begin(struct tracker *t, int64_t offset)
{
    assert_true(tracker_begin(t, offset));
}

static void nothing_yet(void **state)
{
    struct tracker *t = tracker_new();

    (void)state;
    assert_non_null(t);
    assert_int_equal(tracker_watermark(t), -1);
    assert_int_equal(tracker_under_way(t), 0);
    assert_false(tracker_done(t, 0));
    assert_false(tracker_abandon(t, 0));
    tracker_destroy(t);
    tracker_destroy(NULL);
}

static void in_order(void **state)
{
    struct tracker *t = tracker_new();

    (void)state;
    begin(t, 100);
    assert_int_equal(tracker_watermark(t), 100);
    assert_true(tracker_done(t, 100));
    assert_int_equal(tracker_watermark(t), 101);
    begin(t, 101);
    assert_int_equal(tracker_watermark(t), 101);
    assert_true(tracker_done(t, 101));
    assert_int_equal(tracker_watermark(t), 102);
    tracker_destroy(t);
}

static void out_of_order(void **state)
{
    struct tracker *t = tracker_new();

    (void)state;
    for (int64_t i = 0; i < 5; i++)
        begin(t, i);
    assert_true(tracker_done(t, 4));
    assert_true(tracker_done(t, 1));
    assert_int_equal(tracker_watermark(t), 0);
    assert_true(tracker_done(t, 0));
    assert_int_equal(tracker_watermark(t), 2);
    assert_true(tracker_done(t, 3));
    assert_true(tracker_done(t, 2));
    assert_int_equal(tracker_watermark(t), 5);
    assert_int_equal(tracker_under_way(t), 0);
    tracker_destroy(t);
}

static void gaps(void **state)
{
    struct tracker *t = tracker_new();

    (void)state;
    begin(t, 10);
    begin(t, 15);
    begin(t, 1000000000000);
    assert_true(tracker_done(t, 10));
    assert_int_equal(tracker_watermark(t), 11);
    assert_true(tracker_done(t, 1000000000000));
    assert_int_equal(tracker_watermark(t), 11);
    assert_false(tracker_done(t, 11));
    assert_false(tracker_done(t, 16));
    assert_true(tracker_done(t, 15));
    assert_int_equal(tracker_watermark(t), 1000000000001);
    tracker_destroy(t);
}

static void mistakes(void **state)
{
    struct tracker *t = tracker_new();

    (void)state;
    assert_false(tracker_begin(t, -1));
    assert_false(tracker_begin(t, INT64_MAX));
    begin(t, 7);
    assert_false(tracker_begin(t, 7));
    assert_false(tracker_begin(t, 6));
    begin(t, 8);
    assert_true(tracker_done(t, 8));
    assert_false(tracker_done(t, 8));
    assert_false(tracker_abandon(t, 8));
    assert_false(tracker_done(t, 9));
    assert_false(tracker_done(t, 6));
    assert_int_equal(tracker_watermark(t), 7);
    tracker_destroy(t);
}

static void abandoned_stays_behind(void **state)
{
    struct tracker *t = tracker_new();

    (void)state;
    for (int64_t i = 0; i < 6; i++)
        begin(t, i);
    assert_true(tracker_abandon(t, 4));
    assert_int_equal(tracker_under_way(t), 5);
    assert_true(tracker_done(t, 0));
    assert_true(tracker_done(t, 1));
    assert_int_equal(tracker_watermark(t), 2);
    assert_true(tracker_abandon(t, 2));
    assert_true(tracker_done(t, 3));
    assert_true(tracker_done(t, 5));
    assert_int_equal(tracker_under_way(t), 0);
    assert_int_equal(tracker_watermark(t), 2);
    begin(t, 6);
    assert_true(tracker_done(t, 6));
    assert_int_equal(tracker_watermark(t), 2);
    tracker_destroy(t);
}

static void abandoned_after_a_gap(void **state)
{
    struct tracker *t = tracker_new();

    (void)state;
    begin(t, 3);
    begin(t, 9);
    assert_true(tracker_done(t, 3));
    assert_true(tracker_abandon(t, 9));
    assert_int_equal(tracker_watermark(t), 4);
    tracker_destroy(t);
}

/* One offset stays behind while a million others come and go: memory must not follow them. */
static void one_stays_behind(void **state)
{
    struct tracker *t = tracker_new();

    (void)state;
    begin(t, 0);
    for (int64_t i = 1; i < 1000000; i++) {
        begin(t, i);
        assert_true(tracker_done(t, i));
    }
    assert_int_equal(tracker_under_way(t), 1);
    assert_int_equal(tracker_watermark(t), 0);
    assert_true(tracker_done(t, 0));
    assert_int_equal(tracker_watermark(t), 1000000);
    tracker_destroy(t);
}

/* ---- against a naive model ---- */

enum { MODEL = 3000, NOT_BEGUN = 0, UNDER_WAY, DONE, ABANDONED };

struct model {
    int64_t offset[MODEL];
    int state[MODEL];
    size_t len;
};

static int64_t model_watermark(const struct model *m)
{
    int64_t watermark = m->len ? m->offset[0] : -1;

    for (size_t i = 0; i < m->len && m->state[i] == DONE; i++)
        watermark = m->offset[i] + 1;
    return watermark;
}

static size_t model_under_way(const struct model *m)
{
    size_t n = 0;

    for (size_t i = 0; i < m->len; i++)
        n += m->state[i] == UNDER_WAY;
    return n;
}

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 16 & 0x7fff;
}

static void step(struct tracker *t, struct model *m, unsigned *seed, unsigned begin_share,
                 bool abandons)
{
    if (m->len < MODEL && (!m->len || next_random(seed) % 100 < begin_share)) {
        int64_t after = m->len ? m->offset[m->len - 1] + 1 : (int64_t)(next_random(seed) % 50);
        int64_t offset = after + (next_random(seed) % 8 == 0 ? next_random(seed) % 1000 : 0);
        begin(t, offset);
        m->offset[m->len] = offset;
        m->state[m->len++] = UNDER_WAY;
        return;
    }
    size_t i = next_random(seed) % m->len;
    bool expected = m->state[i] == UNDER_WAY;
    if (abandons && next_random(seed) % 50 == 0) {
        assert_int_equal(tracker_abandon(t, m->offset[i]), expected);
        m->state[i] = expected ? ABANDONED : m->state[i];
    } else {
        assert_int_equal(tracker_done(t, m->offset[i]), expected);
        m->state[i] = expected ? DONE : m->state[i];
    }
}

static void like_the_model(void **state)
{
    struct model *m = malloc(sizeof(*m));

    (void)state;
    assert_non_null(m);
    for (unsigned round = 0; round < 60; round++) {
        struct tracker *t = tracker_new();
        unsigned seed = round + 1;
        m->len = 0;
        for (unsigned i = 0; i < 4000; i++) {
            step(t, m, &seed, 15 + round % 5 * 20, round % 3 == 0);
            if (i % 16 == 0 || i > 3900) {
                assert_int_equal(tracker_watermark(t), model_watermark(m));
                assert_int_equal(tracker_under_way(t), model_under_way(m));
            }
        }
        tracker_destroy(t);
    }
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_yet),
        cmocka_unit_test(in_order),
        cmocka_unit_test(out_of_order),
        cmocka_unit_test(gaps),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(abandoned_stays_behind),
        cmocka_unit_test(abandoned_after_a_gap),
        cmocka_unit_test(one_stays_behind),
        cmocka_unit_test(like_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
