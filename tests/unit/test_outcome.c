#include "email/outcome.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_classes(void **state)
{
    static const struct {
        enum smtp_stage stage;
        int code;
        enum outcome_class class;
    } cases[] = {
        {STAGE_DOT, 250, OUTCOME_SENT},       {STAGE_RCPT, 251, OUTCOME_SENT},
        {STAGE_MAIL, 451, OUTCOME_RETRY},     {STAGE_RCPT, 450, OUTCOME_RETRY},
        {STAGE_DATA, 421, OUTCOME_RETRY},     {STAGE_DOT, 452, OUTCOME_RETRY},
        {STAGE_MAIL, 550, OUTCOME_REJECTED},  {STAGE_RCPT, 550, OUTCOME_REJECTED},
        {STAGE_DATA, 554, OUTCOME_REJECTED},  {STAGE_DOT, 599, OUTCOME_REJECTED},
        {STAGE_BANNER, 554, OUTCOME_RETRY},   {STAGE_EHLO, 550, OUTCOME_RETRY},
        {STAGE_STARTTLS, 502, OUTCOME_RETRY}, {STAGE_AUTH, 535, OUTCOME_RETRY},
        {STAGE_FENCE, 550, OUTCOME_RETRY},    {STAGE_DOT, 354, OUTCOME_RETRY},
        {STAGE_DOT, 0, OUTCOME_RETRY},        {STAGE_DOT, 600, OUTCOME_RETRY},
        {STAGE_MAIL, 530, OUTCOME_RETRY},     {STAGE_MAIL, 534, OUTCOME_RETRY},
        {STAGE_MAIL, 535, OUTCOME_RETRY},     {STAGE_MAIL, 538, OUTCOME_RETRY},
        {STAGE_RCPT, 530, OUTCOME_REJECTED},  {STAGE_DOT, 535, OUTCOME_REJECTED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(outcome_of_reply(cases[i].stage, cases[i].code), cases[i].class);
}

static void test_login_wanted(void **state)
{
    (void)state;
    for (int code = 200; code < 600; code++)
        assert_int_equal(outcome_is_login_wanted(STAGE_MAIL, code),
                         code == 530 || code == 534 || code == 535 || code == 538);
    assert_false(outcome_is_login_wanted(STAGE_RCPT, 530));
}

/* The names go into metrics and logs: each one its own, of lower-case letters. */
static void check_name(const char *name, const char **seen, size_t len)
{
    assert_true(strspn(name, "abcdefghijklmnopqrstuvwxyz") == strlen(name) && *name);
    assert_string_not_equal(name, "unknown");
    for (size_t i = 0; i < len; i++)
        assert_string_not_equal(name, seen[i]);
}

static void test_names(void **state)
{
    const char *seen[64];
    size_t len = 0;

    (void)state;
    for (int i = OUTCOME_SENT; i <= OUTCOME_CANCELLED; i++) {
        seen[len] = outcome_class_name((enum outcome_class)i);
        check_name(seen[len], seen, len);
        len++;
    }
    len = 0;
    for (int i = STAGE_NONE; i <= STAGE_LOG; i++) {
        seen[len] = outcome_stage_name((enum smtp_stage)i);
        check_name(seen[len], seen, len);
        len++;
    }
    len = 0;
    for (int i = REASON_NONE; i <= REASON_INTERNAL; i++) {
        seen[len] = outcome_reason_name((enum outcome_reason)i);
        check_name(seen[len], seen, len);
        len++;
    }
    assert_string_equal(outcome_class_name((enum outcome_class)99), "unknown");
}

static void test_set(void **state)
{
    struct outcome o;
    char text[400];

    (void)state;
    memset(&o, 0xAA, sizeof(o));
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    outcome_set(&o, OUTCOME_RETRY, REASON_LOST, STAGE_DATA, "%s", text);
    assert_int_equal(o.class, OUTCOME_RETRY);
    assert_int_equal(o.reason, REASON_LOST);
    assert_int_equal(o.stage, STAGE_DATA);
    assert_int_equal(o.code, 0);
    assert_string_equal(o.reply, "");
    assert_int_equal(strlen(o.error), sizeof(o.error) - 1);
    assert_false(o.relay_down);
    assert_null(o.refused);
    assert_int_equal(o.refused_len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_classes),
                                       cmocka_unit_test(test_login_wanted),
                                       cmocka_unit_test(test_names), cmocka_unit_test(test_set)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
