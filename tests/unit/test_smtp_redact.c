#include "email/smtp_redact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    expect("554 YOUR SECRET CODE FOR THE VAULT is spam", "554 <redacted> spam");
    expect("554 5.7.1 482913 and KX7Q seen", "554 5.7.1 <redacted> and <redacted> seen");
    expect("554 listed: https://v.example/t/abc-DEF_1", "554 listed: <redacted>");
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

static void test_codes_of_the_mail_only(void **state)
{
    const struct mail mail = {.recipients = recipients,
                              .recipients_len = 1,
                              .message = slice_str("\r\n"),
                              .text = slice_str("x015, or x016")};
    struct smtp_reply r;
    char line[400] = "554 ";

    (void)state;
    for (int i = 0; i < 20; i++)
        snprintf(line + strlen(line), sizeof(line) - strlen(line), "x%03d ", i);
    r = reply_of(line);
    smtp_redact_mail(&r, &mail);
    assert_non_null(strstr(r.text, " x014 <redacted> <redacted> x017 "));
}

/* What relays say of their own accord, although the mail uses the same words. */
static void test_phrases_in_common_stay(void **state)
{
    static const char *const lines[] = {
        "554 5.7.1 Your message has been rejected by policy",
        ("550 5.7.26 Unauthenticated email from mail.acme-example.com is not accepted due to "
         "domain's DMARC policy"),
        "554 5.6.0 Message has two headers Content-Transfer-Encoding: see RFC 2045",
        ("550 5.7.1 This message was blocked. For more information please contact postmaster; see "
         "http://www.spamhaus.org"),
        "552 5.3.4 Message size exceeds fixed limit of 10485760",
    };
    const struct mail mail = {
        .sender = slice_str("no-reply@mail.acme-example.com"),
        .recipients = recipients,
        .recipients_len = 1,
        .subject = slice_str("Your order has been received"),
        .message = slice_str(
            "From: Acme <no-reply@mail.acme-example.com>\r\nTo: ada@example.org\r\n"
            "Subject: Your order has been received\r\n"
            "Message-ID: <x@mail.acme-example.com>\r\nMIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
            "Dear customer, your order has been received. Your message to us will be answered. If "
            "you have any questions please contact your account manager, or see "
            "http://www.acme-example.com/help for more information. This message was sent "
            "automatically.\r\n--b\r\nContent-Disposition: attachment;\r\n"
            " filename=\"the tax report.pdf\"\r\n")};

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct smtp_reply r = reply_of(lines[i]);
        smtp_redact_mail(&r, &mail);
        assert_string_equal(r.text, lines[i]);
    }
    for (size_t i = 0; i < 5; i++) {
        static const char *const pairs[][2] = {
            {"554 (please contact your account manager) is spam", "554 (<redacted>) is spam"},
            {"554 please contact your account mana", "554 <redacted>"},
            {"554 your order has been received is spam", "554 <redacted> is spam"},
            {"554 the tax report.pdf is forbidden", "554 <redacted> is forbidden"},
            {"554 <no-reply@mail.acme-example.com> listed", "554 <redacted> listed"},
        };
        struct smtp_reply r = reply_of(pairs[i][0]);
        smtp_redact_mail(&r, &mail);
        assert_string_equal(r.text, pairs[i][1]);
    }
}

/* Where the bound cuts a phrase, less of it is enough. */
static void test_a_cut_phrase_is_hidden(void **state)
{
    const struct mail mail = {.recipients = recipients,
                              .recipients_len = 1,
                              .message = slice_str("\r\n"),
                              .text = slice_str("come to the old harbour at night")};
    char line[OUTCOME_MAX_REPLY + 1];
    struct smtp_reply r;

    (void)state;
    memset(line, '-', OUTCOME_MAX_REPLY);
    memcpy(line, "550 ", 4);
    memcpy(line + OUTCOME_MAX_REPLY - 17, " come to the old ", 18);
    r = reply_of(line);
    smtp_redact_mail(&r, &mail);
    assert_null(strstr(r.text, "come"));
}

enum { LARGE = 1 << 20 };

/* `reply` against a body of LARGE characters, both `period` over and over. */
static void expect_linear(const char *period, size_t reply_len, bool hidden)
{
    static char body[LARGE];
    struct smtp_reply r = {.code = 554, .len = reply_len};
    const struct mail mail = {.message = slice_of(body, LARGE), .text = slice_of(body, LARGE)};
    const size_t len = strlen(period);
    size_t steps;

    for (size_t i = 0; i < LARGE; i++)
        body[i] = period[i % len];
    memcpy(r.text, body, reply_len);
    memcpy(r.text, "554 ", 4);
    steps = smtp_redact_mail(&r, &mail);
    /* Every character was looked at, and none more than twice on average. */
    assert_true(steps >= 2 * LARGE && steps <= 4 * LARGE);
    assert_int_equal(r.len < 20 && strstr(r.text, "<redacted>"), hidden);
}

static void test_work_is_linear(void **state)
{
    (void)state;
    expect_linear("a", 500, true);
    expect_linear("a", OUTCOME_MAX_REPLY, true);
    expect_linear(" ", 80, false); /* nothing to hide in spaces */
    expect_linear("ab", 500, true);
    expect_linear("aaaaaaaaaaaaaaaaaaab", 500, true);
    expect_linear("abaababaabaababaababa", 500, true);
    expect_linear("Dear customer, this is not for you; ", 500, true);
}

/* The body has long runs of the reply's, but always breaks off: as far as the links go. */
static void test_work_is_linear_where_runs_break(void **state)
{
    static char body[LARGE];
    struct smtp_reply r = {.code = 554, .len = 500};
    const struct mail mail = {.text = slice_of(body, LARGE)};
    size_t steps;

    (void)state;
    memset(r.text, 'a', r.len);
    memcpy(r.text, "554 ", 4);
    for (size_t i = 0; i < LARGE; i++)
        body[i] = "ab"[i % 400 == 399];
    steps = smtp_redact_mail(&r, &mail);
    assert_true(steps > LARGE && steps <= 2 * LARGE);
    assert_string_equal(r.text, "554 <redacted>");
}

/* A plain search as the standard: whatever stands in the address is found, wherever it does. */
static void test_runs_as_a_plain_search_finds_them(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < 3000; round++) {
        char word[200], line[120] = "554 ", wanted[120];
        struct slice recipient = slice_of(word, sizeof(word));
        const struct mail mail = {.recipients = &recipient, .recipients_len = 1};
        const size_t len = sizeof(line) - 1;
        bool hide[120] = {false};
        struct smtp_reply r;
        size_t n = 0;
        for (size_t i = 0; i < sizeof(word); i++)
            word[i] = "aab"[rand() % 3];
        for (size_t i = 4; i < len; i++)
            line[i] = "aab"[rand() % 3];
        for (size_t i = 4; i + REDACT_RUN <= len; i++)
            if (memmem(word, sizeof(word), line + i, REDACT_RUN))
                memset(hide + i, true, REDACT_RUN);
        for (size_t i = 0; i < len; i++)
            if (!hide[i])
                wanted[n++] = line[i];
            else if (!hide[i - 1])
                wanted[n++] = '*';
        wanted[n] = '\0';
        r = reply_of(line);
        smtp_redact_mail(&r, &mail);
        for (char *at = r.text; (at = strstr(at, "<redacted>"));) {
            *at = '*';
            memmove(at + 1, at + 10, strlen(at + 10) + 1);
        }
        assert_string_equal(r.text, wanted);
    }
}

static void test_whole(void **state)
{
    struct smtp_reply r = reply_of("554-5.7.1 a word / 554 5.7.1 another");

    (void)state;
    smtp_redact_whole(&r);
    assert_string_equal(r.text, "554-5.7.1<redacted>");
    r = reply_of("450 4.2.0 try / 4.2.1 again");
    smtp_redact_whole(&r);
    assert_string_equal(r.text, "450 4.2.0<redacted>4.2.1<redacted>");
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
        cmocka_unit_test(test_codes_of_the_mail_only),
        cmocka_unit_test(test_phrases_in_common_stay),
        cmocka_unit_test(test_a_cut_phrase_is_hidden),
        cmocka_unit_test(test_work_is_linear),
        cmocka_unit_test(test_work_is_linear_where_runs_break),
        cmocka_unit_test(test_runs_as_a_plain_search_finds_them),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_logins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
