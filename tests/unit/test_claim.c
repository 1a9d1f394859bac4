#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "idempotency/claim.h"
#include "idempotency/claim_object.h"
#include "idempotency/store.h"

#define FP "0123456789abcdef0123456789abcdef"
#define OTHER_FP "ffffffffffffffffffffffffffffffff"

static const struct coordinates here = {
    .topic = {"email-events", 12}, .partition = 2, .offset = 77};

static struct claim_value parsed(const char *text)
{
    struct claim_value value;

    claim_value_parse(slice_str(text), &value);
    return value;
}

static enum claim_decision decided(const char *text)
{
    struct claim_value value = parsed(text);

    return claim_decide(&value, slice_str("me"), slice_str(FP), &here);
}

static void test_parse_claimed(void **state)
{
    struct claim_value value = parsed("C|host-1-2|" FP);

    (void)state;
    assert_int_equal(value.kind, CLAIM_KIND_CLAIMED);
    assert_true(slice_is(value.token, "host-1-2"));
    assert_true(slice_is(value.fp, FP));
    value = parsed("C|tok");
    assert_int_equal(value.kind, CLAIM_KIND_CLAIMED);
    assert_true(slice_is(value.token, "tok"));
    assert_int_equal(value.fp.len, 0);
    assert_int_equal(parsed("C|tok|short").fp.len, 0);
    assert_int_equal(parsed("C|tok|" FP "|more").fp.len, 0);
    assert_int_equal(parsed("C|tok|0123456789abcdef0123456789abcdeg").fp.len, 0);
    assert_int_equal(parsed("C|").kind, CLAIM_KIND_CLAIMED);
}

static void test_parse_dot(void **state)
{
    struct claim_value value = parsed("D|tok|" FP "|1700000000123|2");

    (void)state;
    assert_int_equal(value.kind, CLAIM_KIND_DOT);
    assert_true(slice_is(value.token, "tok"));
    assert_true(slice_is(value.fp, FP));
    assert_int_equal(value.deadline_unix_ms, 1700000000123);
    assert_int_equal(value.takeovers, 2);
    value = parsed("D|tok||1|0");
    assert_int_equal(value.kind, CLAIM_KIND_DOT);
    assert_int_equal(value.fp.len, 0);
}

static void test_parse_unreadable(void **state)
{
    static const char *const texts[] = {"",
                                        "C",
                                        "D",
                                        "X|tok|" FP,
                                        "c|tok",
                                        "1",
                                        "D|tok",
                                        "D|tok|" FP,
                                        "D|tok|" FP "|",
                                        "D|tok|" FP "|12",
                                        "D|tok|" FP "|12|",
                                        "D|tok|" FP "|-12|0",
                                        "D|tok|" FP "|12|x",
                                        "D|tok|" FP "|12|0|0",
                                        "D|tok|" FP "|99999999999999999999|0",
                                        "D|tok|" FP "|1|4294967295",
                                        "D|tok|" FP "| 12|0",
                                        "{",
                                        "{}",
                                        "[]",
                                        "\"sent\"",
                                        "{\"state\":\"sent\"",
                                        "{\"state\":\"sent\"}x",
                                        "{\"state\":sent}",
                                        "{\"state\":\"sending\"}",
                                        "{\"state\":1}",
                                        "{'state':'sent'}",
                                        "{\"state\":\"sent\",}",
                                        "{\"state\":\"sent\" \"a\":1}",
                                        "{\"a\":{\"state\":\"sent\"}}",
                                        "{\"state\":\"sent\\",
                                        "{\"state\":\"se\nnt\"}"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct claim_value value = parsed(texts[i]);
        if (value.kind != CLAIM_KIND_UNREADABLE)
            fail_msg("'%s' is of kind %d", texts[i], (int)value.kind);
        if (decided(texts[i]) != CLAIM_DECIDE_UNREADABLE)
            fail_msg("'%s' is decided", texts[i]);
    }
    assert_int_equal(parsed("").kind, CLAIM_KIND_UNREADABLE);
}

static void test_parse_final(void **state)
{
    struct claim_value value =
        parsed(" { \"other\" : [1, {\"state\":\"dead\"}, null, true, -1.5e+3],"
               "\n\"fp\":\"" FP "\", \"state\" : \"sent\", \"x\":\"\\\"}\" } ");

    (void)state;
    assert_int_equal(value.kind, CLAIM_KIND_SENT);
    assert_true(slice_is(value.fp, FP));
    assert_int_equal(value.token.len, 0);

    value =
        parsed("{\"state\":\"dead\",\"topic\":\"t\",\"partition\":3,\"offset\":9007199254740993,"
               "\"fp\":\"" OTHER_FP "\",\"token\":\"a-b\"}");
    assert_int_equal(value.kind, CLAIM_KIND_DEAD);
    assert_true(slice_is(value.dead.topic, "t"));
    assert_int_equal(value.dead.partition, 3);
    assert_true(value.dead.offset == 9007199254740993);
    assert_true(slice_is(value.token, "a-b"));

    assert_int_equal(parsed("{\"state\":\"dead\",\"state\":\"sent\"}").kind, CLAIM_KIND_SENT);
    value = parsed("{\"state\":\"dead\",\"topic\":5,\"partition\":\"x\",\"offset\":1.5}");
    assert_int_equal(value.kind, CLAIM_KIND_DEAD);
    assert_null(value.dead.topic.ptr);
    assert_int_equal(value.dead.offset, -1);
}

static void test_nesting_is_bounded(void **state)
{
    struct claim_object object;
    char text[300];

    (void)state;
    memset(text, '[', sizeof(text));
    memcpy(text, "{\"a\":", 5);
    assert_false(claim_object_parse(slice_of(text, sizeof(text)), &object));
    assert_false(claim_object_parse(slice_of(NULL, 0), &object));
    assert_true(claim_object_parse(slice_str("{\"a\":[[[[]]]]}"), &object));
    assert_null(object.state.ptr);
}

static void test_decide(void **state)
{
    static const struct {
        const char *text;
        enum claim_decision expected;
    } cases[] = {
        {"C|me|" FP, CLAIM_DECIDE_OURS},
        {"C|you|" FP, CLAIM_DECIDE_WAIT},
        {"C|you|" OTHER_FP, CLAIM_DECIDE_CONFLICT},
        {"C|you", CLAIM_DECIDE_WAIT},
        {"C|you|nonsense", CLAIM_DECIDE_WAIT},
        {"C|me2|" FP, CLAIM_DECIDE_WAIT},
        {"D|me|" FP "|1|0", CLAIM_DECIDE_OURS},
        {"D|you|" FP "|1|0", CLAIM_DECIDE_TAKE},
        {"D|you||1|0", CLAIM_DECIDE_TAKE},
        {"D|you|" OTHER_FP "|1|0", CLAIM_DECIDE_CONFLICT},
        {"{\"state\":\"sent\"}", CLAIM_DECIDE_DUPLICATE},
        {"{\"state\":\"sent\",\"fp\":\"by hand\"}", CLAIM_DECIDE_DUPLICATE},
        {"{\"state\":\"sent\",\"fp\":\"" FP "\",\"token\":\"you\"}", CLAIM_DECIDE_DUPLICATE},
        {"{\"state\":\"sent\",\"fp\":\"" FP "\",\"token\":\"me\"}", CLAIM_DECIDE_DUPLICATE},
        {"{\"state\":\"sent\",\"fp\":\"" OTHER_FP "\"}", CLAIM_DECIDE_CONFLICT},
        {"{\"state\":\"dead\",\"topic\":\"email-events\",\"partition\":2,\"offset\":77}",
         CLAIM_DECIDE_SETTLED},
        {"{\"state\":\"dead\",\"topic\":\"email-events\",\"partition\":2,\"offset\":77,\"fp\":"
         "\"" OTHER_FP "\"}",
         CLAIM_DECIDE_SETTLED},
        {"{\"state\":\"dead\",\"topic\":\"email-events\",\"partition\":2,\"offset\":78}",
         CLAIM_DECIDE_OVER_DEAD},
        {"{\"state\":\"dead\",\"topic\":\"email-events\",\"partition\":1,\"offset\":77}",
         CLAIM_DECIDE_OVER_DEAD},
        {"{\"state\":\"dead\",\"topic\":\"email-event\",\"partition\":2,\"offset\":77}",
         CLAIM_DECIDE_OVER_DEAD},
        {"{\"state\":\"dead\",\"fp\":\"" OTHER_FP "\"}", CLAIM_DECIDE_OVER_DEAD},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (decided(cases[i].text) != cases[i].expected)
            fail_msg("%s: %d", cases[i].text, (int)decided(cases[i].text));
}

static void test_no_record_is_never_settled(void **state)
{
    const struct coordinates nowhere = {.topic = {NULL, 0}};
    struct claim_value value =
        parsed("{\"state\":\"dead\",\"topic\":null,\"partition\":0,\"offset\":0}");

    (void)state;
    assert_int_equal(claim_decide(&value, slice_str("me"), slice_str(FP), &nowhere),
                     CLAIM_DECIDE_OVER_DEAD);
}

#define PARKED                                                                                     \
    "{\"state\":\"dead\",\"deadAt\":\"1970-01-01T00:00:10.000Z\",\"reason\":\"ambiguous\","        \
    "\"topic\":\"email-events\",\"partition\":2,\"offset\":7,\"fp\":\"" FP "\"}"

/* A record that was there before the mail was parked is a copy of it; what is published afterwards,
 * or redriven, is somebody's decision. */
static void test_parked(void **state)
{
    static const struct {
        int64_t published_unix_ms;
        const char *fp;
        enum claim_decision expected;
    } cases[] = {
        {1, FP, CLAIM_DECIDE_PARKED},          {10000, FP, CLAIM_DECIDE_PARKED},
        {10001, FP, CLAIM_DECIDE_OVER_DEAD},   {0, FP, CLAIM_DECIDE_OVER_DEAD},
        {1, OTHER_FP, CLAIM_DECIDE_OVER_DEAD},
    };
    const struct claim_value value = parsed(PARKED);
    struct coordinates record = here;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        record.published_unix_ms = cases[i].published_unix_ms;
        assert_int_equal(claim_decide(&value, slice_str("me"), slice_str(cases[i].fp), &record),
                         cases[i].expected);
    }
    record = here;
    record.published_unix_ms = 1;
    record.offset = 7;
    assert_int_equal(claim_decide(&value, slice_str("me"), slice_str(FP), &record),
                     CLAIM_DECIDE_SETTLED);
}

/* A topic that is made anew, or cut, uses its offsets again: another record's mark is not this
 * one's. */
static void test_offsets_used_again(void **state)
{
    static const struct {
        const char *published;
        int64_t mine;
        int32_t partition;
        enum claim_decision expected;
    } cases[] = {
        {"10", 10, 2, CLAIM_DECIDE_SETTLED},    {"10", 11, 2, CLAIM_DECIDE_OVER_DEAD},
        {"10", 9, 2, CLAIM_DECIDE_OVER_DEAD},   {"10", -1, 2, CLAIM_DECIDE_SETTLED},
        {"null", 10, 2, CLAIM_DECIDE_SETTLED},  {"10", 10, -1, CLAIM_DECIDE_SETTLED},
        {"10", 11, -1, CLAIM_DECIDE_OVER_DEAD}, {"10", 9, -1, CLAIM_DECIDE_SETTLED},
        {"null", 9, -1, CLAIM_DECIDE_SETTLED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct coordinates record = {.topic = slice_str("email-events"),
                                           .partition = cases[i].partition,
                                           .offset = 7,
                                           .published_unix_ms = cases[i].mine};
        char text[200];
        struct claim_value value;
        snprintf(text, sizeof(text),
                 "{\"state\":\"dead\",\"topic\":\"email-events\",\"partition\":2,\"offset\":7,"
                 "\"published\":%s}",
                 cases[i].published);
        value = parsed(text);
        assert_int_equal(claim_decide(&value, slice_str("me"), slice_str(FP), &record),
                         cases[i].expected);
    }
}

/* A direct send of what Kafka may have taken: Kafka's copy is the same publication. */
static void test_unknown_record_is_settled_by_any(void **state)
{
    static const struct {
        const char *topic, *text;
        enum claim_decision expected;
    } cases[] = {
        {"email-events",
         "{\"state\":\"dead\",\"topic\":\"email-events\",\"partition\":2,\"offset\":7}",
         CLAIM_DECIDE_SETTLED},
        {"other", "{\"state\":\"dead\",\"topic\":\"email-events\",\"partition\":2,\"offset\":7}",
         CLAIM_DECIDE_OVER_DEAD},
        /* an earlier direct send's own: nothing of Kafka's */
        {"email-events",
         "{\"state\":\"dead\",\"topic\":\"email-events\",\"partition\":-1,\"offset\":-1}",
         CLAIM_DECIDE_OVER_DEAD},
        {"email-events", "{\"state\":\"dead\",\"topic\":null,\"partition\":-1,\"offset\":-1}",
         CLAIM_DECIDE_OVER_DEAD},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct coordinates somewhere = {
            .topic = slice_str(cases[i].topic), .partition = -1, .offset = -1};
        struct claim_value value = parsed(cases[i].text);
        assert_int_equal(claim_decide(&value, slice_str("me"), slice_str(FP), &somewhere),
                         cases[i].expected);
    }
}

static void test_write(void **state)
{
    struct buf b = {0};

    (void)state;
    claim_write_claimed(&b, slice_str("me"), slice_str(FP));
    assert_string_equal(b.ptr, "C|me|" FP);
    buf_clear(&b);
    claim_write_dot(&b, slice_str("me"), slice_str(FP), 1700000000123, 3);
    assert_string_equal(b.ptr, "D|me|" FP "|1700000000123|3");
    assert_int_equal(decided(b.ptr), CLAIM_DECIDE_OURS);
    buf_clear(&b);
    claim_write_sent(&b, slice_str("me"), slice_str(FP), 1700000000123, 2, 5);
    assert_string_equal(b.ptr,
                        "{\"state\":\"sent\",\"sentAt\":\"2023-11-14T22:13:20.123Z\","
                        "\"attempts\":2,\"recipients\":5,\"fp\":\"" FP "\",\"token\":\"me\"}");
    assert_int_equal(decided(b.ptr), CLAIM_DECIDE_DUPLICATE);
    buf_clear(&b);
    claim_write_dead(&b, slice_str("me"), slice_str(FP), 1700000000123, "rejected", &here);
    assert_string_equal(b.ptr,
                        "{\"state\":\"dead\",\"deadAt\":\"2023-11-14T22:13:20.123Z\",\"reason\":"
                        "\"rejected\",\"topic\":\"email-events\",\"partition\":2,\"offset\":77,"
                        "\"fp\":\"" FP "\",\"token\":\"me\"}");
    assert_int_equal(decided(b.ptr), CLAIM_DECIDE_SETTLED);
    buf_cleanup(&b);
}

static void test_wait(void **state)
{
    (void)state;
    assert_int_equal(claim_wait_ms(1000, 0), 1000);
    assert_int_equal(claim_wait_ms(1000, 250), 1250);
    assert_int_equal(claim_wait_ms(1000, 501), 1000);
    assert_int_equal(claim_wait_ms(0, 0), 50);
    assert_int_equal(claim_wait_ms(60000, 499), 5000);
    assert_int_equal(claim_wait_ms(4800, 499), 5000);
    assert_int_equal(claim_wait_ms(INT64_MAX, UINT64_MAX), 5000);
    assert_in_range(claim_wait_ms(-1, UINT64_MAX), 50, 5000);
}

static void test_tokens_differ(void **state)
{
    char a[CLAIM_TOKEN_SIZE], b[CLAIM_TOKEN_SIZE];

    (void)state;
    store_new_token(a);
    for (int i = 0; i < 1000; i++) {
        store_new_token(b);
        assert_string_not_equal(a, b);
        assert_null(strchr(b, '|'));
        assert_null(strpbrk(b, " \"\\"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_claimed),
        cmocka_unit_test(test_parse_dot),
        cmocka_unit_test(test_parse_unreadable),
        cmocka_unit_test(test_parse_final),
        cmocka_unit_test(test_nesting_is_bounded),
        cmocka_unit_test(test_decide),
        cmocka_unit_test(test_no_record_is_never_settled),
        cmocka_unit_test(test_parked),
        cmocka_unit_test(test_offsets_used_again),
        cmocka_unit_test(test_unknown_record_is_settled_by_any),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_wait),
        cmocka_unit_test(test_tokens_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
