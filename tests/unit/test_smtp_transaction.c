#include "email/smtp_transaction.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

static const struct smtp_capabilities full = {
    .pipelining = true, .eightbitmime = true, .smtputf8 = true, .size = true};
static const struct smtp_capabilities plain = {0};

static struct slice recipients[100];
static struct smtp_transaction t;
static struct buf written; /* everything that was "sent" */

static struct mail new_mail(size_t n, const char *message)
{
    static const char *const names[] = {"a@example.com", "b@example.com", "c@example.com"};

    for (size_t i = 0; i < n; i++)
        recipients[i] = slice_str(names[i % 3]);
    return (struct mail){.sender = slice_str("from@example.com"),
                         .recipients = recipients,
                         .recipients_len = n,
                         .message = slice_str(message)};
}

static int setup(void **state)
{
    (void)state;
    buf_clear(&written);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    smtp_transaction_cleanup(&t);
    buf_cleanup(&written);
    return 0;
}

/* Sends what is to be sent, in pieces; what went out since the last call. */
static const char *flush_in(size_t piece)
{
    struct slice out;

    buf_clear(&written);
    while ((out = smtp_transaction_output(&t)).len) {
        const size_t len = out.len < piece ? out.len : piece;
        buf_add(&written, out.ptr, len);
        smtp_transaction_sent(&t, len);
    }
    return written.ptr ? written.ptr : "";
}

static const char *flush(void)
{
    return flush_in(SIZE_MAX);
}

static void say(const char *line)
{
    struct smtp_reply r = {.code = atoi(line), .len = strlen(line)};

    memcpy(r.text, line, r.len + 1);
    smtp_transaction_reply(&t, &r);
}

static void say_all(const char *const *lines)
{
    for (; *lines; lines++) {
        say(*lines);
        flush();
    }
}

#define SAY(...) say_all((const char *const[]){__VA_ARGS__, NULL})

static void assert_over(enum outcome_class class, enum outcome_reason reason, enum smtp_stage stage,
                        bool reusable)
{
    assert_int_equal(t.phase, SMTP_PHASE_OVER);
    assert_int_equal(t.outcome.class, class);
    assert_int_equal(t.outcome.reason, reason);
    assert_int_equal(t.outcome.stage, stage);
    assert_int_equal(t.reusable, reusable);
    assert_int_equal(smtp_transaction_output(&t).len, 0);
    assert_null(strchr(t.outcome.error, '@'));
}

/* ---- the bytes ---- */

static void test_pipelined_with_one_recipient(void **state)
{
    const struct mail mail = new_mail(1, "Subject: x\r\n\r\nhello\r\n");

    (void)state;
    smtp_transaction_begin(&t, &mail, &full);
    assert_string_equal(
        flush(), "MAIL FROM:<from@example.com> SIZE=21\r\nRCPT TO:<a@example.com>\r\nDATA\r\n");
    SAY("250 ok", "250 ok");
    assert_string_equal(flush(), "");
    say("354 go");
    assert_string_equal(flush(), "Subject: x\r\n\r\nhello\r\n");
    assert_int_equal(t.phase, SMTP_PHASE_FENCE);
    assert_string_equal(flush(), "");
    smtp_transaction_allow(&t, true);
    assert_string_equal(flush(), ".\r\n");
    say("250 2.0.0 queued");
    assert_over(OUTCOME_SENT, REASON_NONE, STAGE_DOT, true);
    assert_string_equal(t.outcome.reply, "250 2.0.0 queued");
}

static void test_several_recipients_hold_data_back(void **state)
{
    const struct mail mail = new_mail(3, "x\r\n");

    (void)state;
    smtp_transaction_begin(&t, &mail, &full);
    assert_string_equal(flush(),
                        "MAIL FROM:<from@example.com> SIZE=3\r\nRCPT TO:<a@example.com>\r\n"
                        "RCPT TO:<b@example.com>\r\nRCPT TO:<c@example.com>\r\n");
    SAY("250 ok", "250 ok", "250 ok");
    assert_string_equal(flush(), "");
    say("250 ok");
    assert_string_equal(flush(), "DATA\r\n");
}

static void test_without_pipelining(void **state)
{
    const struct mail mail = new_mail(2, "x\r\n");
    static const char *const commands[] = {"MAIL FROM:<from@example.com>\r\n",
                                           "RCPT TO:<a@example.com>\r\n",
                                           "RCPT TO:<b@example.com>\r\n", "DATA\r\n"};

    (void)state;
    smtp_transaction_begin(&t, &mail, &plain);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(flush(), commands[i]);
        assert_string_equal(flush(), "");
        say(i == 3 ? "354 go" : "250 ok");
    }
    assert_string_equal(flush(), "x\r\n");
}

static void test_utf8_parameters(void **state)
{
    struct mail mail = new_mail(1, "x\r\n");

    (void)state;
    recipients[0] = slice_str("j\xc3\xbcrgen@example.com");
    mail.utf8 = true;
    mail.sender = slice_str("");
    smtp_transaction_begin(&t, &mail, &full);
    assert_string_equal(flush(), "MAIL FROM:<> SIZE=3 BODY=8BITMIME SMTPUTF8\r\n"
                                 "RCPT TO:<j\xc3\xbcrgen@example.com>\r\nDATA\r\n");
}

static void test_dot_stuffing(void **state)
{
    static const struct {
        const char *message, *sent;
    } cases[] = {
        {".\r\n", "..\r\n"},
        {"..\r\n", "...\r\n"},
        {".a\r\n.\r\n", "..a\r\n..\r\n"},
        {"a.\r\n.b\r\n", "a.\r\n..b\r\n"},
        {"\r\n.\r\n\r\n", "\r\n..\r\n\r\n"},
        {"a\r\n\r\n", "a\r\n\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t piece = 1; piece < 12; piece++) {
            const struct mail mail = new_mail(1, cases[i].message);
            smtp_transaction_begin(&t, &mail, &full);
            flush();
            SAY("250 ok", "250 ok");
            say("354 go");
            assert_string_equal(flush_in(piece), cases[i].sent);
            assert_int_equal(t.phase, SMTP_PHASE_FENCE);
        }
}

static void test_a_large_body_is_not_copied(void **state)
{
    const size_t len = 3 * 1024 * 1024;
    char *message = malloc(len + 1);
    struct mail mail = new_mail(1, "");
    unsigned progress;

    (void)state;
    assert_non_null(message);
    memset(message, 'x', len);
    memcpy(message + len - 2, "\r\n", 3);
    mail.message = slice_of(message, len);
    smtp_transaction_begin(&t, &mail, &full);
    flush();
    SAY("250 ok", "250 ok");
    say("354 go");
    assert_ptr_equal(smtp_transaction_output(&t).ptr, message);
    progress = t.progress;
    smtp_transaction_sent(&t, 1000);
    assert_int_equal(t.progress, progress); /* a drip moves no deadline */
    assert_ptr_equal(smtp_transaction_output(&t).ptr, message + 1000);
    smtp_transaction_sent(&t, 1 << 20);
    assert_int_equal(t.progress, progress + 1);
    smtp_transaction_sent(&t, len - 1000 - (1 << 20));
    assert_int_equal(t.phase, SMTP_PHASE_FENCE);
    free(message);
}

/* ---- what is refused without asking the relay ---- */

static void refused_at_once(const struct mail *mail, const struct smtp_capabilities *relay,
                            enum outcome_reason reason)
{
    smtp_transaction_begin(&t, mail, relay);
    assert_over(OUTCOME_REJECTED, reason, STAGE_MAIL, true);
}

static void test_bad_line_ends(void **state)
{
    static const char *const messages[] = {"",         "x",        "x\n",     "x\r",
                                           "a\nb\r\n", "a\rb\r\n", "a\r\r\n", "\n",
                                           "a\r\n.\n", "a\r\n\r",  "a\n\r\n", "\r\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        const struct mail mail = new_mail(1, messages[i]);
        refused_at_once(&mail, &full, REASON_INTERNAL);
    }
}

static void test_bad_envelopes(void **state)
{
    static const char *const bad[] = {"a@b>\r\nRCPT TO:<c@d", "a\n@b", "a\r@b", "\x7f@b",
                                      "\xc3\xa4@b",           "\t@b"};
    struct mail mail;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        mail = new_mail(2, "x\r\n");
        recipients[1] = slice_str(bad[i]);
        refused_at_once(&mail, &full, REASON_INTERNAL);
        mail = new_mail(2, "x\r\n");
        mail.sender = slice_str(bad[i]);
        refused_at_once(&mail, &full, REASON_INTERNAL);
    }
    mail = new_mail(0, "x\r\n");
    refused_at_once(&mail, &full, REASON_INTERNAL);
    mail = new_mail(1, "x\r\n");
    recipients[0] = slice_of("a\0b", 3);
    refused_at_once(&mail, &full, REASON_INTERNAL);
    recipients[0] = slice_str("");
    refused_at_once(&mail, &full, REASON_INTERNAL);
}

static void test_missing_capabilities(void **state)
{
    struct mail mail = new_mail(1, "0123456789\r\n");
    struct smtp_capabilities relay = full;

    (void)state;
    relay.max_size = 11;
    refused_at_once(&mail, &relay, REASON_CAPABILITY);
    relay.max_size = 12;
    smtp_transaction_begin(&t, &mail, &relay);
    assert_int_equal(t.phase, SMTP_PHASE_ENVELOPE);
    mail.utf8 = true;
    relay.smtputf8 = false;
    refused_at_once(&mail, &relay, REASON_CAPABILITY);
    relay.smtputf8 = true;
    relay.eightbitmime = false;
    refused_at_once(&mail, &relay, REASON_CAPABILITY);
}

/* ---- refusals ---- */

static void test_mail_refused(void **state)
{
    const struct mail mail = new_mail(1, "x\r\n");

    (void)state;
    smtp_transaction_begin(&t, &mail, &full);
    flush();
    SAY("451 no", "503 no", "503 no");
    assert_over(OUTCOME_RETRY, REASON_REPLY, STAGE_MAIL, true);
    smtp_transaction_begin(&t, &mail, &plain);
    flush();
    say("550 no");
    assert_over(OUTCOME_REJECTED, REASON_REPLY, STAGE_MAIL, true);
    assert_int_equal(t.outcome.code, 550);
}

static void test_single_recipient_refused(void **state)
{
    const struct mail mail = new_mail(1, "x\r\n");

    (void)state;
    smtp_transaction_begin(&t, &mail, &full);
    flush();
    SAY("250 ok", "550 no");
    say("554 no recipients");
    assert_string_equal(flush(), "RSET\r\n");
    say("250 ok");
    assert_over(OUTCOME_REJECTED, REASON_REPLY, STAGE_RCPT, true);
}

static void test_data_accepted_without_recipients(void **state)
{
    const struct mail mail = new_mail(1, "x\r\n");

    (void)state;
    smtp_transaction_begin(&t, &mail, &full);
    flush();
    SAY("250 ok", "450 no", "354 go");
    assert_over(OUTCOME_RETRY, REASON_REPLY, STAGE_RCPT, false);
    smtp_transaction_begin(&t, &mail, &full);
    flush();
    SAY("550 no", "250 ok", "354 go");
    assert_over(OUTCOME_REJECTED, REASON_REPLY, STAGE_MAIL, false);
}

static void test_some_refused_for_good(void **state)
{
    const struct mail mail = new_mail(3, "x\r\n");

    (void)state;
    smtp_transaction_begin(&t, &mail, &full);
    flush();
    SAY("250 ok", "550 no a", "250 ok", "553 no c", "354 go");
    smtp_transaction_allow(&t, true);
    flush();
    say("250 ok");
    assert_over(OUTCOME_SENT, REASON_NONE, STAGE_DOT, true);
    assert_int_equal(t.outcome.refused_len, 2);
    assert_int_equal(t.outcome.refused[0].index, 0);
    assert_int_equal(t.outcome.refused[1].index, 2);
    assert_int_equal(t.outcome.refused[1].code, 553);
    assert_string_equal(t.outcome.refused[1].reply, "553 no c");
}

static void test_one_deferred_holds_all_back(void **state)
{
    const struct mail mail = new_mail(3, "x\r\n");

    (void)state;
    smtp_transaction_begin(&t, &mail, &full);
    flush();
    SAY("250 ok", "250 ok", "450 busy");
    assert_int_equal(t.phase, SMTP_PHASE_ENVELOPE); /* one reply is still due */
    say("550 no");
    assert_string_equal(flush(), "RSET\r\n");
    say("250 ok");
    assert_over(OUTCOME_RETRY, REASON_REPLY, STAGE_RCPT, true);
    assert_int_equal(t.outcome.code, 450);
    /* One command at a time: the rest is not asked any more. */
    smtp_transaction_begin(&t, &mail, &plain);
    flush();
    SAY("250 ok");
    say("450 busy");
    assert_string_equal(flush(), "RSET\r\n");
}

static void test_last_attempt(void **state)
{
    struct mail mail = new_mail(3, "x\r\n");

    (void)state;
    mail.last_attempt = true;
    smtp_transaction_begin(&t, &mail, &full);
    flush();
    SAY("250 ok", "250 ok", "450 busy", "550 no", "354 go");
    smtp_transaction_allow(&t, true);
    flush();
    say("250 ok");
    assert_over(OUTCOME_SENT, REASON_NONE, STAGE_DOT, true);
    assert_int_equal(t.outcome.refused_len, 2);
    assert_int_equal(t.outcome.refused[0].code, 450);
    /* Nobody accepted, somebody only for now. */
    smtp_transaction_begin(&t, &mail, &full);
    flush();
    SAY("250 ok", "550 no", "450 busy", "550 no", "250 reset");
    assert_over(OUTCOME_RETRY, REASON_REPLY, STAGE_RCPT, true);
    assert_int_equal(t.outcome.code, 450);
    smtp_transaction_begin(&t, &mail, &full);
    flush();
    SAY("250 ok", "550 no", "551 no", "552 no", "250 reset");
    assert_over(OUTCOME_REJECTED, REASON_REPLY, STAGE_RCPT, true);
    assert_int_equal(t.outcome.code, 550);
    assert_null(t.outcome.refused);
}

static void test_421_ends_the_session(void **state)
{
    const struct mail mail = new_mail(1, "x\r\n");
    static const char *const replies[] = {"250 ok", "250 ok", "354 go"};

    (void)state;
    for (size_t before = 0; before <= 3; before++) {
        smtp_transaction_begin(&t, &mail, &full);
        flush();
        for (size_t i = 0; i < before; i++)
            say(replies[i]);
        flush();
        say("421 bye");
        assert_int_equal(t.phase, SMTP_PHASE_OVER);
        assert_int_equal(t.outcome.class, OUTCOME_RETRY);
        assert_int_equal(t.outcome.code, 421);
        assert_false(t.reusable);
    }
}

static void test_rset_that_fails_keeps_the_outcome(void **state)
{
    static const char *const answers[] = {"500 what", "421 bye", "354 go"};
    const struct mail mail = new_mail(1, "x\r\n");

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        smtp_transaction_begin(&t, &mail, &full);
        flush();
        SAY("250 ok", "550 no", "503 no");
        if (i < 3)
            say(answers[i]);
        else
            smtp_transaction_fail(&t, REASON_TIMEOUT, "silent");
        assert_over(OUTCOME_REJECTED, REASON_REPLY, STAGE_RCPT, false);
        assert_int_equal(t.outcome.code, 550);
    }
}

static void test_dot_refused(void **state)
{
    static const struct {
        const char *reply;
        enum outcome_class class;
        enum outcome_reason reason;
        bool reusable;
    } cases[] = {{"250 ok", OUTCOME_SENT, REASON_NONE, true},
                 {"451 no", OUTCOME_RETRY, REASON_REPLY, true},
                 {"554 no", OUTCOME_REJECTED, REASON_REPLY, true},
                 {"421 no", OUTCOME_RETRY, REASON_REPLY, false},
                 {"354 go", OUTCOME_AMBIGUOUS, REASON_PROTOCOL, false}};
    const struct mail mail = new_mail(1, "x\r\n");

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        smtp_transaction_begin(&t, &mail, &full);
        flush();
        SAY("250 ok", "250 ok", "354 go");
        smtp_transaction_allow(&t, true);
        flush();
        say(cases[i].reply);
        assert_over(cases[i].class, cases[i].reason, STAGE_DOT, cases[i].reusable);
    }
}

/* ---- what replies may cost ---- */

static struct mail mail_with_guarded_text(size_t n)
{
    struct mail mail = new_mail(n, "x\r\n");
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(page != MAP_FAILED);
    memset(page, 'x', 4096);
    mail.text = slice_of(page, 4096);
    return mail;
}

/* From here on a search of the mail's text ends the test. */
static void forbid_search(const struct mail *mail)
{
    assert_int_equal(mprotect((void *)(uintptr_t)mail->text.ptr, mail->text.len, PROT_NONE), 0);
}

static void end_guarded(const struct mail *mail)
{
    assert_int_equal(munmap((void *)(uintptr_t)mail->text.ptr, mail->text.len), 0);
}

static void test_replies_to_be_dropped_are_not_searched(void **state)
{
    const struct mail mail = mail_with_guarded_text(100);

    (void)state;
    smtp_transaction_begin(&t, &mail, &full);
    flush();
    SAY("250 ok", "450 not xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx now");
    assert_true(t.decided);
    forbid_search(&mail);
    for (size_t i = 1; i < 100; i++)
        say(i % 2 ? "450 4.2.0 greylisted" : "550 no");
    flush();
    say("550 no reset");
    assert_over(OUTCOME_RETRY, REASON_REPLY, STAGE_RCPT, false);
    assert_string_equal(t.outcome.reply, "450 not <redacted> now");
    end_guarded(&mail);
}

/* `first` to four recipients, `second` to the next, then in turns to the others. */
static void refuse_all(const char *first, const char *second, const char *reply)
{
    struct mail mail = mail_with_guarded_text(100);

    mail.last_attempt = true;
    smtp_transaction_begin(&t, &mail, &full);
    flush();
    SAY("250 ok", first, first, first, first, second);
    forbid_search(&mail);
    for (size_t i = 5; i < 100; i++)
        say(i % 2 ? "450 4.2.0 a@b xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                  : "550 xxxxxxxxxxxxxxxxxxxxxxxx");
    flush();
    assert_string_equal(t.refused[0].reply, first);
    assert_string_equal(t.refused[4].reply, second);
    assert_string_equal(t.refused[5].reply, "450 4.2.0<redacted>");
    assert_string_equal(t.refused[6].reply, "550 <redacted>");
    say("250 ok");
    assert_over(OUTCOME_RETRY, REASON_REPLY, STAGE_RCPT, true);
    assert_string_equal(t.outcome.reply, reply);
    end_guarded(&mail);
}

static void test_few_of_many_refusals_are_searched(void **state)
{
    (void)state;
    refuse_all("550 5.1.1 no", "450 later", "450 later");
    refuse_all("450 later", "550 5.1.1 no", "450 later");
}

/* ---- the fence and losses ---- */

static void at_fence(const struct mail *mail)
{
    smtp_transaction_begin(&t, mail, &full);
    flush();
    SAY("250 ok", "250 ok", "354 go");
    assert_int_equal(t.phase, SMTP_PHASE_FENCE);
}

static void test_fence_refused(void **state)
{
    const struct mail mail = new_mail(1, "x\r\n");

    (void)state;
    at_fence(&mail);
    smtp_transaction_allow(&t, false);
    assert_over(OUTCOME_CANCELLED, REASON_FENCE, STAGE_FENCE, false);
    smtp_transaction_allow(&t, true);
    assert_over(OUTCOME_CANCELLED, REASON_FENCE, STAGE_FENCE, false);
}

static void test_permission_out_of_turn_is_no_permission(void **state)
{
    const struct mail mail = new_mail(1, "x\r\n");

    (void)state;
    smtp_transaction_begin(&t, &mail, &full);
    smtp_transaction_allow(&t, true);
    flush();
    SAY("250 ok", "250 ok", "354 go");
    assert_int_equal(t.phase, SMTP_PHASE_FENCE);
    assert_string_equal(flush(), "");
}

static void test_any_reply_during_the_fence_means_not_taken(void **state)
{
    static const char *const replies[] = {"250 ok", "451 no", "554 no", "421 bye", "354 go"};
    const struct mail mail = new_mail(1, "x\r\n");

    (void)state;
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        at_fence(&mail);
        say(replies[i]);
        assert_over(OUTCOME_RETRY, REASON_REPLY, STAGE_FENCE, false);
        /* also with the permission given and nothing of the dot written */
        at_fence(&mail);
        smtp_transaction_allow(&t, true);
        say(replies[i]);
        assert_int_equal(t.outcome.class, OUTCOME_RETRY);
        assert_false(t.reusable);
    }
}

static void test_lost_around_the_dot(void **state)
{
    const struct mail mail = new_mail(1, "x\r\n");

    (void)state;
    at_fence(&mail);
    smtp_transaction_fail(&t, REASON_LOST, "lost");
    assert_over(OUTCOME_RETRY, REASON_LOST, STAGE_FENCE, false);

    at_fence(&mail); /* permitted, nothing written */
    smtp_transaction_allow(&t, true);
    smtp_transaction_fail(&t, REASON_LOST, "lost");
    assert_over(OUTCOME_RETRY, REASON_LOST, STAGE_FENCE, false);

    at_fence(&mail); /* given to TLS, which says it took nothing */
    smtp_transaction_allow(&t, true);
    smtp_transaction_writing(&t);
    smtp_transaction_sent(&t, 0);
    smtp_transaction_fail(&t, REASON_LOST, "lost");
    assert_over(OUTCOME_AMBIGUOUS, REASON_LOST, STAGE_DOT, false);

    at_fence(&mail); /* one byte of it */
    smtp_transaction_allow(&t, true);
    smtp_transaction_sent(&t, 1);
    smtp_transaction_fail(&t, REASON_TIMEOUT, "silent");
    assert_over(OUTCOME_AMBIGUOUS, REASON_TIMEOUT, STAGE_DOT, false);
    smtp_transaction_fail(&t, REASON_LOST, "lost"); /* the first cause stays */
    assert_over(OUTCOME_AMBIGUOUS, REASON_TIMEOUT, STAGE_DOT, false);
}

static void test_writing_earlier_stages_is_not_the_dot(void **state)
{
    const struct mail mail = new_mail(1, "x\r\n");

    (void)state;
    smtp_transaction_begin(&t, &mail, &full);
    smtp_transaction_writing(&t);
    flush();
    SAY("250 ok", "250 ok");
    say("354 go");
    smtp_transaction_writing(&t);
    smtp_transaction_sent(&t, 1);
    smtp_transaction_fail(&t, REASON_LOST, "lost");
    assert_over(OUTCOME_RETRY, REASON_LOST, STAGE_BODY, false);
}

static void test_neither_yes_nor_no(void **state)
{
    const struct mail mail = new_mail(1, "x\r\n");
    static const char *const replies[] = {"250 ok", "250 ok"};

    (void)state;
    for (size_t before = 0; before <= 2; before++) {
        smtp_transaction_begin(&t, &mail, &full);
        flush();
        for (size_t i = 0; i < before; i++)
            say(replies[i]);
        say(before == 2 ? "250 ok" : "354 go");
        assert_int_equal(t.phase, SMTP_PHASE_OVER);
        assert_int_equal(t.outcome.class, OUTCOME_RETRY);
        assert_int_equal(t.outcome.reason, REASON_PROTOCOL);
        assert_false(t.reusable);
    }
}

/* ---- whatever a relay says ---- */

/* Plays a relay that answers at random, and checks what must hold on every way. */
static void play(unsigned seed)
{
    static const char *const replies[] = {"250 ok", "250 ok", "250 ok", "354 go",
                                          "354 go", "450 no", "550 no", "421 bye"};
    const size_t n = 1 + seed % 3;
    struct mail mail = new_mail(n, ".a\r\n.\r\nb\r\n");
    bool permitted = false, accepted = false;
    struct buf all = {0};

    srand(seed);
    mail.last_attempt = rand() % 2;
    smtp_transaction_begin(&t, &mail, rand() % 2 ? &full : &plain);
    while (t.phase != SMTP_PHASE_OVER) {
        const char *reply = replies[rand() % 8];
        const int dice = rand() % 20;
        buf_add_str(&all, flush_in(1 + (size_t)rand() % 30));
        if (t.phase == SMTP_PHASE_FENCE && dice < 15) {
            permitted = dice > 2;
            smtp_transaction_allow(&t, permitted);
        } else if (dice == 19) {
            smtp_transaction_fail(&t, REASON_LOST, "lost");
        } else {
            accepted = t.phase == SMTP_PHASE_DOT && reply[0] == '2'; /* the dot is out */
            say(reply);
        }
    }
    buf_add_char(&all, ' ');
    if (!permitted) {
        assert_null(strstr(all.ptr, "\r\n.\r\n"));
        assert_true(t.outcome.class != OUTCOME_SENT && t.outcome.class != OUTCOME_AMBIGUOUS);
    }
    assert_int_equal(t.outcome.class == OUTCOME_SENT, accepted);
    if (t.outcome.class == OUTCOME_SENT)
        assert_true(t.accepted > 0 && t.outcome.refused_len < n);
    if (t.outcome.class == OUTCOME_REJECTED)
        assert_true(t.outcome.code >= 500);
    if (t.outcome.class != OUTCOME_SENT)
        assert_int_equal(t.outcome.refused_len, 0);
    buf_cleanup(&all);
}

static void test_random_relays(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 30000; seed++)
        play(seed);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pipelined_with_one_recipient),
        TEST(test_several_recipients_hold_data_back),
        TEST(test_without_pipelining),
        TEST(test_utf8_parameters),
        TEST(test_dot_stuffing),
        TEST(test_a_large_body_is_not_copied),
        TEST(test_bad_line_ends),
        TEST(test_bad_envelopes),
        TEST(test_missing_capabilities),
        TEST(test_mail_refused),
        TEST(test_single_recipient_refused),
        TEST(test_data_accepted_without_recipients),
        TEST(test_some_refused_for_good),
        TEST(test_one_deferred_holds_all_back),
        TEST(test_last_attempt),
        TEST(test_421_ends_the_session),
        TEST(test_rset_that_fails_keeps_the_outcome),
        TEST(test_dot_refused),
        TEST(test_replies_to_be_dropped_are_not_searched),
        TEST(test_few_of_many_refusals_are_searched),
        TEST(test_fence_refused),
        TEST(test_permission_out_of_turn_is_no_permission),
        TEST(test_any_reply_during_the_fence_means_not_taken),
        TEST(test_lost_around_the_dot),
        TEST(test_writing_earlier_stages_is_not_the_dot),
        TEST(test_neither_yes_nor_no),
        TEST(test_random_relays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
