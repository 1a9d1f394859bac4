#include "kafka/fetch_look.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* At once, sixteen times every 5 ms, then after twice as long each time, but never a second. */
static void test_delays(void **state)
{
    static const uint64_t delays[] = {5, 5, 5, 5, 5,  5,  5,  5,  5,   5,   5,  5,
                                      5, 5, 5, 5, 10, 20, 40, 80, 160, 320, 640};
    struct fetch_look l = {0};
    uint64_t now_ms = 1000;

    (void)state;
    assert_int_equal(fetch_look_delay_ms(&l, now_ms), 0);
    assert_true(fetch_look_now(&l, 1, now_ms));
    for (size_t i = 0; i < sizeof(delays) / sizeof(*delays); i++) {
        assert_int_equal(fetch_look_delay_ms(&l, now_ms), delays[i]);
        assert_false(fetch_look_now(&l, 1, now_ms + delays[i] - 1));
        assert_int_equal(fetch_look_delay_ms(&l, now_ms + delays[i] - 1), 1);
        now_ms += delays[i];
        assert_int_equal(fetch_look_delay_ms(&l, now_ms), 1); /* a late timer does not spin */
        assert_true(fetch_look_now(&l, 1, now_ms));
    }
    assert_int_equal(fetch_look_delay_ms(&l, now_ms), 0);
    assert_false(fetch_look_now(&l, 1, now_ms + 100000));
    assert_int_equal(fetch_look_delay_ms(&l, now_ms + 100000), 0);
}

static void test_record_starts_anew(void **state)
{
    struct fetch_look l = {0};
    uint64_t now_ms = 0;

    (void)state;
    for (; fetch_look_now(&l, 7, now_ms) || fetch_look_delay_ms(&l, now_ms); now_ms++)
        ;
    assert_true(fetch_look_now(&l, 9, now_ms));
    assert_int_equal(fetch_look_delay_ms(&l, now_ms), FETCH_LOOK_MS);
    assert_true(fetch_look_now(&l, 10, now_ms)); /* before the delay is over */
    assert_true(fetch_look_now(&l, 4, now_ms));  /* the log was truncated */
}

/* A day of ticks, a millisecond each, at the same offset. */
static void test_few_in_all(void **state)
{
    struct fetch_look l = {0};
    unsigned looks = 0;

    (void)state;
    for (uint64_t now_ms = 0; now_ms < 86400000; now_ms++)
        looks += fetch_look_now(&l, 1, now_ms);
    assert_int_equal(looks, 24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delays),
        cmocka_unit_test(test_record_starts_anew),
        cmocka_unit_test(test_few_in_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
