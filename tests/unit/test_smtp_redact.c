#include "email/smtp_redact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct slice recipients[] = {
    {"ada.canary@example.com", 22}, {"\"odd one\"@example.com", 21}, {"x@[192.0.2.7]", 13}};

static const char subject[] = "Your secret code for the vault is 482913";
static const char text[] =
    "Hello Ada, the code is 482913 or KX7Q.\nDo not tell https://v.example/t/abc-DEF_1\n";

static struct smtp_reply reply_of(const char *line)
{
    struct smtp_reply r = {.code = atoi(line), .len = strlen(line)};

    assert_true(r.len <= OUTCOME_MAX_REPLY);
    memcpy(r.text, line, r.len + 1);
    return r;
}

static void expect(const char *line, const char *wanted)
{
    const struct mail mail = {
        .sender = slice_str("shop@example.org"),
        .recipients = recipients,
        .recipients_len = 3,
        .message = slice_str("From: =?UTF-8?Q?K=C3=A4the_Canary?= <a@b>\r\n"
                             "Content-Disposition: attachment;\r\n"
                             " filename=\"payslip-of-ada.pdf\"\r\n\r\nQUJDREVGR0hJSktM\r\n"),
        .subject = slice_str(subject),
        .text = slice_str(text),
        .html = slice_of(NULL, 0)};
    struct smtp_reply r = reply_of(line);

    smtp_redact_mail(&r, &mail);
    assert_string_equal(r.text, wanted);
    assert_int_equal(r.len, strlen(wanted));
}

static void test_what_is_harmless_stays(void **state)
{
    static const char *const lines[] = {
        "550 5.1.1 no such user here",
        "550",
        "550 ",
        "421 4.7.0 try again later / 4.7.1 or not",
        "451 4.3.0 queue file write error (id 4BcD12xy)",
        "554 5.7.1 Message rejected: the secret is that your mail is not wanted",
        "550 5.7.123 x",
        "250 2.0.0 ok",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        expect(lines[i], lines[i]);
}

static void test_addresses(void **state)
{
    (void)state;
    expect("550 5.1.1 <ada.canary@example.com>: User unknown",
           "550 5.1.1 <redacted>: User unknown");
    expect("550 5.1.1 ADA.CANARY@EXAMPLE.COM unknown", "550 5.1.1 <redacted> unknown");
    expect("550 ada.canary at example.com", "550 ada.canary at example.com");
    expect("550 5.1.1 \"odd one\"@example.com unknown", "550 5.1.1 <redacted> unknown");
    expect("550 5.1.1 <x@[192.0.2.7]> unknown", "550 5.1.1 <redacted> unknown");
    expect("550 somebody+else@elsewhere.example, no", "550 <redacted>, no");
    expect("550 shop@example.org / 550 5.1.8 (shop@example.org)",
           "550 <redacted> / 550 5.1.8 (<redacted>)");
    expect("550 @", "550 <redacted>");
    expect("550 @@@ @ <@>", "550 <redacted> <redacted> <redacted>");
}

static void test_content(void **state)
{
    (void)state;
    expect("554 5.7.1 'Your secret code for the vault is 482913' is spam",
           "554 5.7.1 '<redacted>' is spam");
    expect("554 YOUR SECRET CODE FOR THE VAULT is spam", "554 <redacted>spam");
    expect("554 5.7.1 482913 and KX7Q seen", "554 5.7.1 <redacted> and <redacted> seen");
    expect("554 listed: https://v.example/t/abc-DEF_1", "554 listed:<redacted>");
    expect("554 payslip-of-ada.pdf is forbidden", "554 <redacted> is forbidden");
    expect("554 QUJDREVGR0hJSktM", "554 <redacted>");
    expect("554 =?UTF-8?Q?K=C3=A4the_Canary?=", "554 <redacted>");
}

static void test_short_and_foreign_texts(void **state)
{
    struct mail mail = {.sender = slice_str(""),
                        .recipients = recipients,
                        .recipients_len = 1,
                        .message = slice_str("\r\n"),
                        .subject = slice_str("Hey you")};
    struct smtp_reply r = reply_of("554 subject hey you; hey youth");

    (void)state;
    smtp_redact_mail(&r, &mail);
    assert_string_equal(r.text, "554 subject <redacted>; hey youth");
    /* As the parser writes what is not ASCII. */
    mail.subject = slice_str("Gr\xC3\xBC\xC3\x9F"
                             "e, K\xC3\xA4the!");
    r = reply_of("554 Gr\\xC3\\xBC\\xC3\\x9Fe, K\\xC3\\xA4the! no");
    smtp_redact_mail(&r, &mail);
    assert_string_equal(r.text, "554 <redacted> no");
}

/* Replacements that are longer than what they stand for must stay within the reply's bound. */
static void test_growth_is_cut(void **state)
{
    char line[OUTCOME_MAX_REPLY + 1];
    struct smtp_reply r;
    const struct mail mail = {.recipients = recipients,
                              .recipients_len = 1,
                              .message = slice_str("\r\n"),
                              .subject = slice_str("a1b2 c3d4")};

    (void)state;
    for (size_t i = 0; i < OUTCOME_MAX_REPLY; i++)
        line[i] = "554 "[i % 4];
    for (size_t i = 4; i + 2 <= OUTCOME_MAX_REPLY; i += 2)
        memcpy(line + i, " @", 2);
    line[OUTCOME_MAX_REPLY] = '\0';
    r = reply_of(line);
    smtp_redact_mail(&r, &mail);
    assert_true(r.len <= OUTCOME_MAX_REPLY && r.len == strlen(r.text));
    assert_null(strchr(r.text, '@'));
}

static void test_a_cut_word_is_hidden(void **state)
{
    const struct mail mail = {
        .recipients = recipients, .recipients_len = 1, .message = slice_str("\r\n")};
    char line[OUTCOME_MAX_REPLY + 1];
    struct smtp_reply r;

    (void)state;
    memset(line, '-', OUTCOME_MAX_REPLY);
    memcpy(line, "550 ", 4);
    memcpy(line + OUTCOME_MAX_REPLY - 8, " ada.can", 9);
    r = reply_of(line);
    smtp_redact_mail(&r, &mail);
    assert_null(strstr(r.text, "ada"));
    assert_non_null(strstr(r.text, "- "));
}

static void test_many_codes_are_hidden_unseen(void **state)
{
    const struct mail mail = {
        .recipients = recipients, .recipients_len = 1, .message = slice_str("\r\n")};
    struct smtp_reply r;
    char line[400] = "554 ";

    (void)state;
    for (int i = 0; i < 20; i++)
        snprintf(line + strlen(line), sizeof(line) - strlen(line), "x%03d ", i);
    r = reply_of(line);
    smtp_redact_mail(&r, &mail);
    assert_non_null(strstr(r.text, "x015 <redacted> <redacted> <redacted> <redacted>"));
}

static void test_logins(void **state)
{
    static const struct {
        const char *line, *user, *password, *wanted;
    } cases[] = {
        {"535 5.7.8 authentication failed", "u", "pw-very-long-secret",
         "535 5.7.8 authentication failed"},
        {"535 5.7.8 pw-very-long-secret is wrong", "u", "pw-very-long-secret",
         "535 5.7.8 <redacted> is wrong"},
        {"535 PW-VERY-LONG-SECRET", "u", "pw-very-long-secret", "535 <redacted>"},
        {"535 not hunter2!", "u", "hunter2", "535 not <redacted>!"},
        {"535 xhunter2x", "u", "hunter2", "535 x<redacted>x"},
        {"535 aHVudGVyMg==", "u", "hunter2", "535 <redacted>"},
        {"535 AHVzZXIAaHVudGVyMg==", "user", "hunter2", "535 <redacted>"},
        {"535 mailer is locked", "mailer", "hunter2", "535 <redacted> is locked"},
        {"535 me@example.com is locked", "me@example.com", "hunter2", "535 <redacted> is locked"},
        {"421 no", NULL, NULL, "421 no"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct smtp_reply r = reply_of(cases[i].line);
        smtp_redact_login(&r, cases[i].user, cases[i].password);
        assert_string_equal(r.text, cases[i].wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_harmless_stays),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_short_and_foreign_texts),
        cmocka_unit_test(test_growth_is_cut),
        cmocka_unit_test(test_a_cut_word_is_hidden),
        cmocka_unit_test(test_many_codes_are_hidden_unseen),
        cmocka_unit_test(test_logins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
