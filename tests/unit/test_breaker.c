#include "email/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void test_opens_after_failures_in_a_row(void **state)
{
    struct breaker b;

    (void)state;
    breaker_init(&b, 3);
    assert_true(breaker_admits(&b, 100));
    assert_false(breaker_failure(&b));
    assert_false(breaker_failure(&b));
    assert_true(breaker_admits(&b, 100));
    assert_true(breaker_failure(&b));
    assert_true(b.open);
}

static void test_a_success_between_starts_the_count_anew(void **state)
{
    struct breaker b;

    (void)state;
    breaker_init(&b, 2);
    for (int i = 0; i < 10; i++) {
        assert_false(breaker_failure(&b));
        assert_false(breaker_success(&b));
    }
    assert_false(b.open);
}

static void test_one_probe_at_a_time(void **state)
{
    struct breaker b;

    (void)state;
    breaker_init(&b, 1);
    assert_true(breaker_failure(&b));
    assert_true(breaker_admits(&b, 0));
    assert_false(breaker_admits(&b, 1));
    assert_false(breaker_failure(&b)); /* the probe's: still open, no change */
    assert_true(breaker_admits(&b, 0));
    assert_true(breaker_success(&b));
    assert_true(breaker_admits(&b, 1));
    assert_false(breaker_success(&b));
    assert_true(breaker_failure(&b)); /* counts from zero again */
}

static void test_no_threshold_is_one(void **state)
{
    struct breaker b;

    (void)state;
    breaker_init(&b, 0);
    assert_false(b.open);
    assert_true(breaker_failure(&b));
}

static void test_many_failures_do_not_wrap(void **state)
{
    struct breaker b;

    (void)state;
    breaker_init(&b, UINT32_MAX);
    b.failures = UINT32_MAX - 1;
    assert_true(breaker_failure(&b));
    assert_false(breaker_failure(&b));
    assert_true(b.open);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_after_failures_in_a_row),
        cmocka_unit_test(test_a_success_between_starts_the_count_anew),
        cmocka_unit_test(test_one_probe_at_a_time), cmocka_unit_test(test_no_threshold_is_one),
        cmocka_unit_test(test_many_failures_do_not_wrap)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
