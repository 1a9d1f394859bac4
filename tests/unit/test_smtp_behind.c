#include "email/smtp_behind.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_on_trial_until_it_is_proved(void **state)
{
    struct behind b = {0};

    (void)state;
    assert_true(behind_may(&b, 0, false));
    assert_false(behind_may(&b, 0, true));
    behind_heard(&b);
    assert_true(behind_may(&b, 0, true));
}

static void test_off_soon_where_it_never_worked(void **state)
{
    struct behind b = {0};

    (void)state;
    assert_false(behind_timed_out(&b, 1));
    assert_true(behind_may(&b, 5, false));
    assert_true(behind_timed_out(&b, 2));
    assert_false(behind_may(&b, 0, false));
    assert_false(behind_timed_out(&b, 3)); /* told once */
    behind_heard(&b);
    assert_false(behind_may(&b, 0, false)); /* for good */
}

static void test_off_after_three_in_a_row(void **state)
{
    struct behind b = {0};

    (void)state;
    for (uint64_t now_ms = 0; now_ms < 100000; now_ms += 2000) {
        behind_heard(&b);
        assert_false(behind_timed_out(&b, now_ms));
        assert_false(behind_timed_out(&b, now_ms + 1000));
    }
    behind_heard(&b);
    /* Sessions that end together count once. */
    for (unsigned i = 0; i < 50; i++)
        assert_false(behind_lost(&b, 3, false, 200000 + i));
    assert_false(behind_timed_out(&b, 201000));
    assert_true(behind_may(&b, 0, false));
    assert_true(behind_lost(&b, 3, false, 202000));
    assert_false(behind_may(&b, 0, false));
}

static void hear(struct behind *b, unsigned answers)
{
    while (answers--)
        behind_heard(b);
}

/* One of the relay's nodes bears it and another one does not: answers are no excuse for mails in
 * doubt, but that a relay was restarted long ago is forgotten. */
static void test_off_after_three_mails_in_doubt(void **state)
{
    struct behind b = {0};

    (void)state;
    hear(&b, 100);
    assert_false(behind_lost(&b, 3, false, 10000));
    hear(&b, 1000);
    assert_false(behind_lost(&b, 3, false, 10999)); /* the same burst */
    hear(&b, 1000);
    assert_false(behind_lost(&b, 3, false, 20000));
    hear(&b, 1000);
    assert_false(behind_timed_out(&b, 25000)); /* no mail in doubt */
    assert_true(behind_may(&b, 0, false));
    assert_true(behind_lost(&b, 3, false, 30000));
    assert_false(behind_may(&b, 0, false));

    b = (struct behind){0};
    for (uint64_t now_ms = 10000; now_ms < 1000000; now_ms += 10000) {
        hear(&b, 10000);
        assert_false(behind_lost(&b, 3, false, now_ms));
    }
}

static void test_a_limit_is_learnt(void **state)
{
    struct behind b = {0};

    (void)state;
    behind_heard(&b);
    behind_limit(&b, 100); /* a session that had taken 100 was at its end */
    assert_true(behind_may(&b, 98, false));
    assert_false(behind_may(&b, 99, false));
    /* The others come to it as well, and that is no sign of anything else. */
    for (unsigned i = 0; i < 50; i++)
        assert_false(behind_lost(&b, 100, true, 5000 * i));
    assert_true(behind_may(&b, 98, false));
    assert_false(behind_lost(&b, 50, true, 5000000)); /* there is a lower one */
    assert_true(behind_may(&b, 48, false));
    assert_false(behind_may(&b, 49, false));
    behind_limit(&b, 70); /* known to be lower */
    assert_false(behind_may(&b, 49, false));
    behind_limit(&b, 0);
    assert_true(behind_may(&b, 48, false));
}

static void test_a_limit_that_is_none(void **state)
{
    struct behind b = {0};
    unsigned alone = 0;

    (void)state;
    behind_heard(&b);
    assert_false(behind_lost(&b, 1, true, 5000));
    assert_false(behind_may(&b, 0, false));
    for (unsigned mails = 1; mails <= 5000; mails++) {
        alone += !behind_may(&b, mails - 1, false);
        behind_took(&b, mails);
    }
    assert_in_range(alone, 1, 20);
    assert_int_equal(b.most, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_on_trial_until_it_is_proved),
        cmocka_unit_test(test_off_soon_where_it_never_worked),
        cmocka_unit_test(test_off_after_three_in_a_row),
        cmocka_unit_test(test_off_after_three_mails_in_doubt),
        cmocka_unit_test(test_a_limit_is_learnt),
        cmocka_unit_test(test_a_limit_that_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
