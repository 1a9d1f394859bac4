#include "delivery/delivery_settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* What is worked on waits under a claim: enough to keep the connections busy, and with a bound of
 * mails a second not much more than goes out soon. */
static void test_max_active(void **state)
{
    static const struct {
        unsigned mode, connections, rate;
        size_t most;
    } cases[] = {
        {CONFIG_MODE_SMTP, 20, 0, 76},       {CONFIG_MODE_SMTP, 1, 0, 19},
        {CONFIG_MODE_SMTP, 1000, 0, 3016},   {CONFIG_MODE_SMTP, 1000, 10, 120},
        {CONFIG_MODE_SMTP, 20, 1, 12},       {CONFIG_MODE_SMTP, 20, 2, 24},
        {CONFIG_MODE_SMTP, 20, 1000, 76},    {CONFIG_MODE_SMTP, 20, 1000000, 76},
        {CONFIG_MODE_SMTP, 1000, 500, 2000}, {CONFIG_MODE_LOG, 20, 1, 256},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct config c = {.mode = cases[i].mode,
                                 .smtp_max_connections = cases[i].connections,
                                 .smtp_max_rate = cases[i].rate};
        assert_int_equal(delivery_max_active(&c), cases[i].most);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_max_active)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
