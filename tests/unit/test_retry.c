#include "email/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct retry_policy usual = {.max_attempts = 5, .base_ms = 1000, .max_ms = 60000};

static void test_exhausted(void **state)
{
    const struct retry_policy one = {.max_attempts = 1, .base_ms = 1, .max_ms = 1};

    (void)state;
    assert_false(retry_exhausted(&usual, 0));
    assert_false(retry_exhausted(&usual, 4));
    assert_true(retry_exhausted(&usual, 5));
    assert_true(retry_exhausted(&usual, 6));
    assert_true(retry_exhausted(&one, 1));
}

/* The largest random number gives the ceiling, the smallest gives zero. */
static void test_ceiling_doubles_up_to_the_maximum(void **state)
{
    static const uint64_t ceilings[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000};

    (void)state;
    for (unsigned i = 0; i < sizeof(ceilings) / sizeof(ceilings[0]); i++) {
        assert_int_equal(retry_delay_ms(&usual, i + 1, UINT64_MAX), ceilings[i]);
        assert_int_equal(retry_delay_ms(&usual, i + 1, 0), 0);
    }
    assert_int_equal(retry_delay_ms(&usual, 4000000000u, UINT64_MAX), 60000);
}

static void test_extremes(void **state)
{
    const struct retry_policy zero = {5, 0, 60000}, small = {5, 1000, 10},
                              huge = {5, UINT64_MAX / 2 + 9, UINT64_MAX};

    (void)state;
    assert_int_equal(retry_delay_ms(&zero, 3, UINT64_MAX), 0);
    assert_int_equal(retry_delay_ms(&small, 3, UINT64_MAX), 10);
    assert_int_equal(retry_delay_ms(&huge, 3, 12345), 12345);
    assert_int_equal(retry_delay_ms(&huge, 4000000000u, UINT64_MAX), UINT64_MAX);
}

/* Full jitter: uniform over [0, ceiling], both ends included. */
static void test_uniform(void **state)
{
    const struct retry_policy p = {5, 9, 9};
    unsigned counts[10] = {0};

    (void)state;
    for (uint64_t i = 0; i < 10000; i++)
        counts[retry_delay_ms(&p, 1, i * (UINT64_MAX / 10000))]++;
    for (unsigned i = 0; i < 10; i++)
        assert_in_range(counts[i], 999, 1001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exhausted), cmocka_unit_test(test_ceiling_doubles_up_to_the_maximum),
        cmocka_unit_test(test_extremes), cmocka_unit_test(test_uniform)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
