#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/process_guard.h"

static rlim_t core_limit(void)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_CORE, &limit), 0);
    return limit.rlim_cur;
}

static void test_on_and_off(void **state)
{
    struct error err = {0};
    struct rlimit limit;

    (void)state;
    assert_true(process_guard(&err));
    assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
    assert_int_equal(core_limit(), 0);
    assert_true(process_unguard(&err));
    assert_int_equal(prctl(PR_GET_DUMPABLE), 1);
    assert_int_equal(getrlimit(RLIMIT_CORE, &limit), 0);
    assert_true(core_limit() == limit.rlim_max);
    assert_true(process_guard(NULL));
    assert_int_equal(core_limit(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_on_and_off)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
