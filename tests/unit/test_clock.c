#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"

struct instant {
    const char *text;
    int64_t unix_ms;
};

static const struct instant good[] = {
    {"1970-01-01T00:00:00Z", 0},
    {"1970-01-01T00:00:00.001Z", 1},
    {"1969-12-31T23:59:59.999Z", -1},
    {"2026-11-21T08:10:42.123Z", 1795248642123},
    {"2026-11-21T08:10:42.1239999999Z", 1795248642123},
    {"2026-11-21T08:10:42.1Z", 1795248642100},
    {"2026-11-21t08:10:42z", 1795248642000},
    {"2026-11-21 08:10:42Z", 1795248642000},
    {"2026-11-21T10:10:42+02:00", 1795248642000},
    {"2026-11-20T22:40:42-09:30", 1795248642000},
    {"2026-11-21T08:10:42-00:00", 1795248642000},
    {"2016-12-31T23:59:60Z", 1483228800000}, /* a leap second is the following second */
    {"2000-02-29T00:00:00Z", 951782400000},
    {"2024-02-29T23:59:59Z", 1709251199000},
    {"0000-01-01T00:00:00Z", -62167219200000},
    {"9999-12-31T23:59:59.999Z", 253402300799999},
};

static const char *const bad[] = {
    "",
    "2026",
    "2026-11-21",
    "2026-11-21T08:10:42",
    "2026-11-21T08:10Z",
    "2026-11-21T08:10:42.Z",
    "2026-11-21T08:10:42,1Z",
    "2026-11-21T08:10:42 Z",
    "2026-11-21T08:10:42Zx",
    " 2026-11-21T08:10:42Z",
    "2026-11-21T08:10:42+02",
    "2026-11-21T08:10:42+0200",
    "2026-11-21T08:10:42+24:00",
    "2026-11-21T08:10:42+02:60",
    "2026-11-21T08:10:42+02:0",
    "2026-11-21T08:10:42+",
    "26-11-21T08:10:42Z",
    "2026-1-21T08:10:42Z",
    "2026-00-21T08:10:42Z",
    "2026-13-21T08:10:42Z",
    "2026-11-00T08:10:42Z",
    "2026-11-31T08:10:42Z",
    "2026-02-29T08:10:42Z",
    "1900-02-29T08:10:42Z",
    "2026-11-21T24:00:00Z",
    "2026-11-21T08:60:42Z",
    "2026-11-21T08:10:61Z",
    "+026-11-21T08:10:42Z",
    "2026-11-21T-8:10:42Z",
    "2026/11/21T08:10:42Z",
    "2026-11-21_08:10:42Z",
    "tomorrow",
};

static void test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        int64_t got = 0;
        if (!rfc3339_parse(slice_str(good[i].text), &got))
            fail_msg("%s is refused", good[i].text);
        assert_int_equal(got, good[i].unix_ms);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t got;
        if (rfc3339_parse(slice_str(bad[i]), &got))
            fail_msg("%s is taken", bad[i]);
    }
    assert_false(rfc3339_parse(slice_of("2026-11-21T08:10:42\0", 20), &(int64_t){0}));
    assert_false(rfc3339_parse(slice_of("2026-11-21\00008:10:42Z", 20), &(int64_t){0}));
}

static void test_format(void **state)
{
    char out[RFC3339_SIZE];

    (void)state;
    rfc3339_format(1795248642123, out);
    assert_string_equal(out, "2026-11-21T08:10:42.123Z");
    rfc3339_format(0, out);
    assert_string_equal(out, "1970-01-01T00:00:00.000Z");
    rfc3339_format(-1, out);
    assert_string_equal(out, "1969-12-31T23:59:59.999Z");
    rfc3339_format(-86400000, out);
    assert_string_equal(out, "1969-12-31T00:00:00.000Z");
    rfc3339_format(INT64_MIN, out);
    assert_string_equal(out, "0000-01-01T00:00:00.000Z");
    rfc3339_format(INT64_MAX, out);
    assert_string_equal(out, "9999-12-31T23:59:59.999Z");
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int64_t ms = -62167219200000; ms <= 253402300799999; ms += 86399999LL * 97) {
        char text[RFC3339_SIZE];
        int64_t back;
        rfc3339_format(ms, text);
        assert_true(rfc3339_parse(slice_str(text), &back));
        assert_int_equal(back, ms);
    }
}

/* Counts the days of the calendar one by one. */
static void test_civil(void **state)
{
    static const unsigned length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t days = clock_days_from_civil(1600, 1, 1);

    (void)state;
    assert_int_equal(clock_days_from_civil(1970, 1, 1), 0);
    for (int64_t year = 1600; year < 2400; year++) {
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        for (unsigned month = 1; month <= 12; month++)
            for (unsigned day = 1; day <= length[month - 1] + (leap && month == 2); day++) {
                int64_t y;
                unsigned m, d;
                clock_civil_from_days(days, &y, &m, &d);
                if (clock_days_from_civil(year, month, day) != days || y != year || m != month ||
                    d != day)
                    fail_msg("%d-%u-%u", (int)year, month, day);
                days++;
            }
    }
}

static void test_clocks_go_on(void **state)
{
    uint64_t us = clock_monotonic_us(), ms = clock_monotonic_ms();

    (void)state;
    assert_true(ms >= us / 1000 && ms - us / 1000 < 10000);
    assert_true(clock_monotonic_us() >= us);
    assert_true(clock_unix_ms() > 1700000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),        cmocka_unit_test(test_format),
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_civil),
        cmocka_unit_test(test_clocks_go_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
