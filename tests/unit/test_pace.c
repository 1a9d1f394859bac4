#include "email/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_connections(void **state)
{
    struct pace p;

    (void)state;
    pace_init(&p, 20, 0);
    assert_int_equal(pace_connections(&p), 20);
    pace_success(&p, 5000);
    assert_int_equal(pace_connections(&p), 20);
    assert_true(pace_busy(&p, 12, 6000)); /* half of those in use */
    assert_int_equal(pace_connections(&p), 6);
    assert_false(pace_busy(&p, 6, 6999)); /* the same burst */
    assert_int_equal(pace_connections(&p), 6);
    pace_success(&p, 6999);
    assert_int_equal(pace_connections(&p), 6);
    pace_success(&p, 7000); /* one more each second */
    pace_success(&p, 7999);
    assert_int_equal(pace_connections(&p), 7);
    assert_true(pace_busy(&p, 40, 8000)); /* some still end */
    assert_int_equal(pace_connections(&p), 3);
    assert_true(pace_busy(&p, 3, 9000));
    assert_false(pace_busy(&p, 1, 10000));     /* it can't fall */
    assert_int_equal(pace_connections(&p), 1); /* never none */
    for (uint64_t now_ms = 11000; now_ms <= 300000; now_ms += 10)
        pace_success(&p, now_ms);
    assert_int_equal(pace_connections(&p), 20);
    pace_init(&p, 0, 0);
    assert_int_equal(pace_connections(&p), 1);
}

/* One more connection is no reason to overlook that the relay is too busy with it. */
static void test_growth_hides_no_burst(void **state)
{
    struct pace p;

    (void)state;
    pace_init(&p, 20, 0);
    assert_true(pace_busy(&p, 16, 1000));
    pace_success(&p, 2000);
    assert_int_equal(pace_connections(&p), 9);
    assert_true(pace_busy(&p, 9, 2001));
    assert_int_equal(pace_connections(&p), 4);
    pace_success(&p, 3000); /* not a second since it fell */
    assert_int_equal(pace_connections(&p), 4);
    pace_success(&p, 3001);
    assert_int_equal(pace_connections(&p), 5);
    pace_init(&p, 2, 0); /* the first burst of all, at any time */
    assert_true(pace_busy(&p, 2, 5));
    assert_false(pace_busy(&p, 2, 6));
    pace_success(&p, 1005);
    assert_int_equal(pace_connections(&p), 2);
    assert_true(pace_busy(&p, 2, 1006));
}

/* Mails at that rate, a multiple of ten, for so many tenths of a second; what the limit is then. */
static unsigned limit_after(struct pace *p, unsigned per_second, uint64_t *now_ms, unsigned tenths)
{
    const uint64_t begin_ms = *now_ms, all = per_second * tenths / 10;

    for (uint64_t i = 1; i <= all; i++) {
        *now_ms = begin_ms + i * 1000 / per_second;
        pace_success(p, *now_ms);
    }
    return pace_connections(p);
}

static void test_grows_while_it_brings_more(void **state)
{
    struct pace p;
    uint64_t now_ms = 1000;
    unsigned limit = 16;

    (void)state;
    pace_init(&p, 64, 0);
    assert_true(pace_busy(&p, 32, now_ms));
    assert_int_equal(pace_connections(&p), 16);
    /* Every connection brings ten mails a second: an eighth more each second. */
    for (unsigned wanted = 18; wanted < 64; wanted += wanted / 8) {
        limit = limit_after(&p, limit * 10, &now_ms, 10);
        assert_int_equal(limit, wanted);
    }
    assert_int_equal(limit_after(&p, limit * 10, &now_ms, 10),
                     64); /* and no more than are allowed */

    /* The relay takes a hundred a second, from however many: only every ten seconds. */
    pace_init(&p, 64, 0);
    now_ms = 1000;
    assert_true(pace_busy(&p, 32, now_ms));
    assert_int_equal(limit_after(&p, 100, &now_ms, 10), 18);
    assert_int_equal(limit_after(&p, 100, &now_ms, 90), 18);
    assert_int_equal(limit_after(&p, 100, &now_ms, 20), 20);
    assert_int_equal(limit_after(&p, 100, &now_ms, 80), 20);
    /* Then it takes more again. */
    assert_int_equal(limit_after(&p, 200, &now_ms, 10), 22);
}

/* Mails of which every so manieth is refused, a thousand a second; the least limit there was. */
static unsigned least_limit(struct pace *p, unsigned one_in, unsigned mails)
{
    unsigned least = pace_connections(p);

    for (unsigned i = 1; i <= mails; i++) {
        if (i % one_in == 0)
            (void)pace_busy(p, 64, 1000 + i);
        else
            pace_success(p, 1000 + i);
        if (pace_connections(p) < least)
            least = pace_connections(p);
    }
    return least;
}

/* A mail that is refused now and then says nothing about the relay; one in twenty does. */
static void test_single_mails_matter(void **state)
{
    struct pace p;

    (void)state;
    pace_init(&p, 64, 0);
    assert_int_equal(least_limit(&p, 100, 100000), 64);
    assert_int_equal(least_limit(&p, 40, 100000), 64);
    assert_int_equal(least_limit(&p, 20, 20000), 1);
    pace_init(&p, 64, 0);
    assert_int_equal(least_limit(&p, 1000000, 100000), 64);
    assert_false(pace_busy(&p, 64, 200000)); /* after a long calm the third in a row counts */
    assert_false(pace_busy(&p, 64, 200001));
    assert_true(pace_busy(&p, 64, 200002));
}

/* Mails that go from `from_ms` to before `to_ms`, one after the other as soon as each may. */
static unsigned run(struct pace *p, uint64_t from_ms, uint64_t to_ms)
{
    uint64_t now_ms = from_ms;
    unsigned mails = 0;

    while (now_ms < to_ms) {
        const uint64_t delay_ms = pace_delay_ms(p, now_ms);
        if (!delay_ms) {
            pace_take(p);
            mails++;
        }
        now_ms += delay_ms;
    }
    return mails;
}

static void test_rate(void **state)
{
    static const uint64_t rates[] = {1, 2, 3, 7, 19, 50, 333, 1000, 4096, 1000000};
    struct pace p;

    (void)state;
    for (size_t i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
        const uint64_t burst = rates[i] / 20 ? rates[i] / 20 : 1;
        unsigned mails;
        pace_init(&p, 1, rates[i]);
        mails = run(&p, 1000, 3000);
        assert_in_range(mails, rates[i] * 2 - 1, rates[i] * 2 + burst + 1);
        /* What was not used is not saved up. */
        mails = run(&p, 100000, 102000);
        assert_in_range(mails, rates[i] * 2 - 1, rates[i] * 2 + burst + 1);
    }
}

static void test_delay_is_exact(void **state)
{
    struct pace p;

    (void)state;
    pace_init(&p, 1, 4);
    assert_int_equal(pace_delay_ms(&p, 1000), 0);
    pace_take(&p);
    assert_int_equal(pace_delay_ms(&p, 1000), 250);
    assert_int_equal(pace_delay_ms(&p, 1100), 150);
    assert_int_equal(pace_delay_ms(&p, 1249), 1);
    assert_int_equal(pace_delay_ms(&p, 1250), 0);
}

static void test_no_bound(void **state)
{
    struct pace p;

    (void)state;
    pace_init(&p, 1, 0);
    for (unsigned i = 0; i < 100000; i++) {
        assert_int_equal(pace_delay_ms(&p, 1), 0);
        pace_take(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_growth_hides_no_burst),
        cmocka_unit_test(test_grows_while_it_brings_more),
        cmocka_unit_test(test_single_mails_matter),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_delay_is_exact),
        cmocka_unit_test(test_no_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
