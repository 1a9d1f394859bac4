#include "email/smtp_reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "email/smtp_capabilities.h"

/* Feeds all bytes in pieces of `piece`; the last state, and how many replies came. */
static enum smtp_reply_state feed(struct smtp_reply_parser *p, struct slice bytes, size_t piece,
                                  unsigned *replies)
{
    enum smtp_reply_state last = SMTP_REPLY_MORE;

    *replies = 0;
    while (bytes.len && last != SMTP_REPLY_BROKEN) {
        struct slice part = slice_of(bytes.ptr, piece < bytes.len ? piece : bytes.len);
        bytes = slice_of(bytes.ptr + part.len, bytes.len - part.len);
        while (part.len && last != SMTP_REPLY_BROKEN) {
            size_t used;
            last = smtp_reply_feed(p, part, &used);
            assert_true(used > 0 && used <= part.len);
            part = slice_of(part.ptr + used, part.len - used);
            *replies += last == SMTP_REPLY_READY;
        }
    }
    return last;
}

static void test_replies(void **state)
{
    static const struct {
        const char *bytes;
        int code;
        const char *text;
    } cases[] = {
        {"250 ok\r\n", 250, "250 ok"},
        {"250\r\n", 250, "250"},
        {"250 \r\n", 250, "250 "},
        {"250 ok\n", 250, "250 ok"},
        {"354 go ahead\r\n", 354, "354 go ahead"},
        {"550-5.1.1 no\r\n550-such\r\n550 user\r\n", 550, "550 5.1.1 no / such / user"},
        {"250-a\r\n250\r\n", 250, "250 a / "},
        {"421 a\rb\r\n", 421, "421 a\\x0Db"},
        {"421 a\r\r\n", 421, "421 a\\x0D"},
        {"599 \x1b[31m\x7f\\ \xc3\xa4\t\r\n", 599, "599 \\x1B[31m\\x7F\\x5C \\xC3\\xA4\\x09"},
        {"200 x / y\r\n", 200, "200 x / y"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t piece = 1; piece < 40; piece++) {
            struct smtp_reply_parser p;
            unsigned replies;
            smtp_reply_parser_init(&p);
            assert_int_equal(feed(&p, slice_str(cases[i].bytes), piece, &replies),
                             SMTP_REPLY_READY);
            assert_int_equal(replies, 1);
            assert_int_equal(p.reply.code, cases[i].code);
            assert_string_equal(p.reply.text, cases[i].text);
            assert_int_equal(p.reply.len, strlen(cases[i].text));
        }
}

static void test_a_nul_is_escaped(void **state)
{
    struct smtp_reply_parser p;
    unsigned replies;

    (void)state;
    smtp_reply_parser_init(&p);
    assert_int_equal(feed(&p, slice_of("250 a\0b\r\n", 9), 9, &replies), SMTP_REPLY_READY);
    assert_string_equal(p.reply.text, "250 a\\x00b");
}

static void test_not_smtp(void **state)
{
    static const char *const cases[] = {"hello\r\n",      "\r\n",          "\n",
                                        "25\r\n",         "25 ok\r\n",     "2500 ok\r\n",
                                        "199 no\r\n",     "600 no\r\n",    "250_ok\r\n",
                                        "250\tok\r\n",    " 250 ok\r\n",   "250-a\r\n251 b\r\n",
                                        "250-a\r\nb\r\n", "250-a\r\n\r\n", "-50 ok\r\n",
                                        "2\r50 ok\r\n",   "250\r ok\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t piece = 1; piece < 20; piece++) {
            struct smtp_reply_parser p;
            unsigned replies;
            size_t used;
            smtp_reply_parser_init(&p);
            assert_int_equal(feed(&p, slice_str(cases[i]), piece, &replies), SMTP_REPLY_BROKEN);
            assert_int_equal(replies, 0);
            /* and stays so */
            assert_int_equal(smtp_reply_feed(&p, slice_str("250 ok\r\n"), &used),
                             SMTP_REPLY_BROKEN);
        }
}

static void test_one_after_the_other(void **state)
{
    const struct slice bytes = slice_str("250 one\r\n550-two\r\n550 too\r\n354 three\r\n25");

    (void)state;
    for (size_t piece = 1; piece < 60; piece++) {
        struct smtp_reply_parser p;
        unsigned replies;
        smtp_reply_parser_init(&p);
        assert_int_equal(feed(&p, bytes, piece, &replies), SMTP_REPLY_MORE);
        assert_int_equal(replies, 3);
    }
}

/* Feeds `line` so many times and then `end`. */
static enum smtp_reply_state feed_many(const char *line, size_t times, const char *end)
{
    struct smtp_reply_parser p;
    enum smtp_reply_state last = SMTP_REPLY_MORE;
    unsigned replies;

    smtp_reply_parser_init(&p);
    for (size_t i = 0; i < times && last == SMTP_REPLY_MORE; i++)
        last = feed(&p, slice_str(line), 4096, &replies);
    if (last == SMTP_REPLY_MORE)
        last = feed(&p, slice_str(end), 4096, &replies);
    assert_true(p.reply.len <= OUTCOME_MAX_REPLY);
    assert_int_equal(strlen(p.reply.text), p.reply.len);
    return last;
}

static void test_bounds(void **state)
{
    char line[1024];

    (void)state;
    assert_int_equal(feed_many("250-x\r\n", SMTP_REPLY_MAX_LINES - 1, "250 x\r\n"),
                     SMTP_REPLY_READY);
    assert_int_equal(feed_many("250-x\r\n", SMTP_REPLY_MAX_LINES, "250 x\r\n"), SMTP_REPLY_BROKEN);
    assert_int_equal(feed_many("250-", 1, "x"), SMTP_REPLY_MORE);
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    /* One line, longer and longer. */
    assert_int_equal(feed_many("250 ", 1, line), SMTP_REPLY_MORE);
    {
        struct smtp_reply_parser p;
        unsigned replies;
        smtp_reply_parser_init(&p);
        assert_int_equal(feed(&p, slice_str("250 "), 9, &replies), SMTP_REPLY_MORE);
        assert_int_equal(feed(&p, slice_of(line, 1000), 1000, &replies), SMTP_REPLY_MORE);
        assert_int_equal(feed(&p, slice_of(line, 1000), 1000, &replies), SMTP_REPLY_MORE);
        assert_int_equal(p.reply.len, OUTCOME_MAX_REPLY);
        assert_int_equal(feed(&p, slice_of(line, 1000), 1000, &replies), SMTP_REPLY_BROKEN);
    }
    /* Few lines, but long ones. */
    memcpy(line, "250-", 4);
    memcpy(line + sizeof(line) - 3, "\r\n", 3);
    assert_int_equal(feed_many(line, 60, "250 x\r\n"), SMTP_REPLY_READY);
    assert_int_equal(feed_many(line, 70, "250 x\r\n"), SMTP_REPLY_BROKEN);
}

static void test_an_escape_is_not_cut(void **state)
{
    (void)state;
    for (size_t before = OUTCOME_MAX_REPLY - 12; before < OUTCOME_MAX_REPLY; before++) {
        struct smtp_reply_parser p;
        unsigned replies;
        char line[OUTCOME_MAX_REPLY + 16];
        memset(line, 'x', sizeof(line));
        memcpy(line, "550 ", 4);
        memcpy(line + before, "\x01z\r\n", 4);
        smtp_reply_parser_init(&p);
        assert_int_equal(feed(&p, slice_of(line, before + 4), 4096, &replies), SMTP_REPLY_READY);
        assert_true(p.reply.len <= OUTCOME_MAX_REPLY);
        assert_true(p.reply.len == before || strstr(p.reply.text, "\\x01"));
    }
}

/* Whatever comes: no crash, text bounded and printable. */
static void test_random_bytes(void **state)
{
    static const char alphabet[] = "2345 0-\r\n\\x\x01\xff";

    (void)state;
    srand(1);
    for (int round = 0; round < 20000; round++) {
        struct smtp_reply_parser p;
        unsigned replies;
        char bytes[64];
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = alphabet[(size_t)rand() % (sizeof(alphabet) - 1)];
        memcpy(bytes, "250-", round % 2 ? 4 : 0);
        smtp_reply_parser_init(&p);
        (void)feed(&p, slice_of(bytes, sizeof(bytes)), 1 + (size_t)rand() % 64, &replies);
        assert_true(p.reply.len <= OUTCOME_MAX_REPLY);
        for (size_t i = 0; i < p.reply.len; i++)
            assert_in_range(p.reply.text[i], 0x20, 0x7e);
    }
}

/* ---- capabilities ---- */

static struct smtp_capabilities capabilities(const char *const *lines)
{
    struct smtp_capabilities c = {0};

    for (; *lines; lines++)
        smtp_capabilities_line(&c, slice_str(*lines));
    return c;
}

static void test_capabilities(void **state)
{
    const struct smtp_capabilities c = capabilities((const char *const[]){
        "220 ready\r\n", "250-PIPELINING is my name\r\n", "250-pipelining\r\n", "250-8BITMIME\r\n",
        "250-SIZE 10240000\r\n", "250-AUTH=LOGIN\r\n", "250-SMTPUTF8\r\n",
        "250-ENHANCEDSTATUSCODES\r\n", "250 STARTTLS\r\n", NULL});

    (void)state;
    assert_true(c.pipelining && c.eightbitmime && c.size && c.auth && c.smtputf8 &&
                c.enhanced_codes && c.starttls);
    assert_int_equal(c.max_size, 10240000);
}

static void test_capabilities_of_others(void **state)
{
    const struct smtp_capabilities c = capabilities((const char *const[]){
        "250-SMTPUTF8", "250-PIPELININGX", "250-SIZED 10", "250-X8BITMIME", "250-", "250", NULL});

    (void)state;
    assert_false(c.pipelining || c.eightbitmime || c.size || c.auth || c.smtputf8 || c.starttls);
}

static void test_the_last_ehlo_counts(void **state)
{
    struct smtp_capabilities c;

    (void)state;
    c = capabilities(
        (const char *const[]){"250-a", "250-PIPELINING", "250 STARTTLS", "220 go", NULL});
    assert_false(c.pipelining || c.starttls);
    c = capabilities(
        (const char *const[]){"250-a", "250 PIPELINING", "250-a", "250 8BITMIME", NULL});
    assert_false(c.pipelining);
    assert_true(c.eightbitmime);
    c = capabilities((const char *const[]){"250-a", "250 PIPELINING", "500 what", "250 a", NULL});
    assert_false(c.pipelining); /* HELO */
    c = capabilities((const char *const[]){"250-a", "250 PIPELINING", "334 x", "235 ok", NULL});
    assert_true(c.pipelining); /* AUTH changes nothing */
}

static void test_sizes(void **state)
{
    static const struct {
        const char *line;
        uint64_t size;
    } cases[] = {{"250 SIZE", 0},
                 {"250 SIZE ", 0},
                 {"250 SIZE 0", 0},
                 {"250 SIZE x", 0},
                 {"250 SIZE -1", 0},
                 {"250 SIZE 99999999999999999999999", 0},
                 {"250 size 123  \r\n", 123}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct smtp_capabilities c =
            capabilities((const char *const[]){"250-a", cases[i].line, NULL});
        assert_true(c.size);
        assert_int_equal(c.max_size, cases[i].size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_replies),
                                       cmocka_unit_test(test_a_nul_is_escaped),
                                       cmocka_unit_test(test_not_smtp),
                                       cmocka_unit_test(test_one_after_the_other),
                                       cmocka_unit_test(test_bounds),
                                       cmocka_unit_test(test_an_escape_is_not_cut),
                                       cmocka_unit_test(test_random_bytes),
                                       cmocka_unit_test(test_capabilities),
                                       cmocka_unit_test(test_capabilities_of_others),
                                       cmocka_unit_test(test_the_last_ehlo_counts),
                                       cmocka_unit_test(test_sizes)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
