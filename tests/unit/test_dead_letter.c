#include "kafka/dead_letter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kafka/dlq_parcel.h"

#define HEADER(n, v)                                                                               \
    {                                                                                              \
        {n, sizeof(n) - 1},                                                                        \
        {                                                                                          \
            v, sizeof(v) - 1                                                                       \
        }                                                                                          \
    }

struct fixture {
    struct arena arena;
    const struct record_header *headers;
    size_t len;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    *state = f;
    return f ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    arena_cleanup(&f->arena);
    free(f);
    return 0;
}

static const struct record_header *find(const struct record_header *headers, size_t len,
                                        const char *name)
{
    const struct record_header *found = NULL;

    for (size_t i = 0; i < len; i++)
        if (slice_is(headers[i].name, name)) {
            assert_null(found); /* none comes twice in these tests */
            found = &headers[i];
        }
    return found;
}

static void expect(const struct fixture *f, const char *name, const char *value)
{
    const struct record_header *h = find(f->headers, f->len, name);

    if (!value) {
        assert_null(h);
        return;
    }
    if (!h || !slice_is(h->value, value))
        fail_msg("%s: %.*s", name, SLICE_ARG(h ? h->value : slice_str("none")));
}

static struct record a_record(void)
{
    return (struct record){.topic = slice_str("email-events"),
                           .partition = 2,
                           .offset = 123456789012,
                           .timestamp_unix_ms = -1};
}

static void all_headers(void **state)
{
    struct fixture *f = *state;
    const struct record record = a_record();
    const struct dead_letter letter = {.record = &record,
                                       .reason = "rejected",
                                       .error = "the relay refused all recipients",
                                       .attempts = 3,
                                       .failed_at_unix_ms = 1795248642123,
                                       .smtp_reply = "550 5.1.1 no such user",
                                       .recipients_json = "[\"a@example.com\"]"};

    assert_true(dead_letter_headers(&f->arena, &letter, &f->headers, &f->len));
    assert_int_equal(f->len, 9);
    expect(f, "dlq-reason", "rejected");
    expect(f, "dlq-error", "the relay refused all recipients");
    expect(f, "dlq-attempts", "3");
    expect(f, "dlq-topic", "email-events");
    expect(f, "dlq-partition", "2");
    expect(f, "dlq-offset", "123456789012");
    expect(f, "dlq-failed-at", "2026-11-21T08:10:42.123Z");
    expect(f, "dlq-smtp-reply", "550 5.1.1 no such user");
    expect(f, "dlq-recipients", "[\"a@example.com\"]");
}

static void optional_ones_left_out(void **state)
{
    struct fixture *f = *state;
    const struct record record = a_record();
    const struct dead_letter letter = {.record = &record, .reason = "expired", .smtp_reply = ""};

    assert_true(dead_letter_headers(&f->arena, &letter, &f->headers, &f->len));
    assert_int_equal(f->len, 7);
    expect(f, "dlq-error", "");
    expect(f, "dlq-attempts", "0");
    expect(f, "dlq-smtp-reply", NULL);
    expect(f, "dlq-recipients", NULL);
}

static void originals_are_kept(void **state)
{
    struct fixture *f = *state;
    const struct record_header own[] = {
        HEADER("trace", "a\0b"),     HEADER("dlq-reason", "expired"),
        HEADER("dlq-redriven", "2"), HEADER("dlq-value-xxh128", "00"),
        HEADER("DLQ-note", "kept"),  HEADER("dlq", "kept"),
        {{"absent", 6}, {NULL, 0}},  HEADER("empty", ""),
    };
    struct record record = a_record();
    const struct dead_letter letter = {.record = &record, .reason = "rejected", .error = "e"};

    record.headers = own;
    record.headers_len = sizeof(own) / sizeof(*own);
    assert_true(dead_letter_headers(&f->arena, &letter, &f->headers, &f->len));
    assert_int_equal(f->len, 6 + 7);
    assert_true(slice_equal(f->headers[0].value, slice_of("a\0b", 3)));
    assert_ptr_not_equal(f->headers[0].value.ptr, own[0].value.ptr);
    expect(f, "dlq-redriven", "2");
    expect(f, "dlq-reason", "rejected");
    expect(f, "dlq-value-xxh128", NULL);
    expect(f, "DLQ-note", "kept");
    expect(f, "dlq", "kept");
    assert_null(find(f->headers, f->len, "absent")->value.ptr);
    assert_non_null(find(f->headers, f->len, "empty")->value.ptr);
}

/* ---- making it smaller ---- */

static bool cut(struct fixture *f, struct dlq_parcel *parcel, struct dlq_cut *c)
{
    const bool smaller = dlq_parcel_cut(&f->arena, parcel, c);

    f->headers = parcel->headers;
    f->len = parcel->headers_len;
    return smaller;
}

static void value_gives_way(void **state)
{
    struct fixture *f = *state;
    const struct record_header own[] = {HEADER("trace", "1"), HEADER("dlq-reason", "rejected")};
    char *value = malloc(200000);
    struct dlq_parcel parcel = {slice_str("key"), {value, 200000}, own, 2};
    struct dlq_cut c = {0};

    assert_non_null(value);
    memset(value, 'x', 200000);
    assert_true(cut(f, &parcel, &c));
    assert_int_equal(parcel.value.len, 65536);
    assert_ptr_equal(parcel.value.ptr, value);
    expect(f, "dlq-truncated", "200000");
    assert_int_equal(find(f->headers, f->len, "dlq-value-xxh128")->value.len, 32);
    expect(f, "trace", "1");
    assert_true(cut(f, &parcel, &c));
    assert_int_equal(parcel.value.len, 32768);
    expect(f, "dlq-truncated", "200000"); /* still about the original, and only once */
    assert_int_equal(f->len, 4);
    free(value);
}

static void known_hash(void **state)
{
    struct fixture *f = *state;
    struct dlq_parcel parcel = {.value = slice_str("abc")};
    struct dlq_cut c = {0};

    assert_true(cut(f, &parcel, &c));
    assert_int_equal(parcel.value.len, 1);
    expect(f, "dlq-value-xxh128", "06b05ab6733a618578af5f94892f3950");
}

static void everything_can_go(void **state)
{
    struct fixture *f = *state;
    char *big = calloc(1, 5000);
    const struct record_header own[] = {
        {{"blob", 4}, {big, 3000}},       {{"absent", 6}, {NULL, 0}},
        HEADER("dlq-redriven", "1"),      {{"dlq-error", 9}, {big, 900}},
        HEADER("dlq-reason", "rejected"), HEADER("dlq-offset", "5"),
    };
    struct dlq_parcel parcel = {{big, 2000}, {big, 1000}, own, 6};
    struct dlq_cut c = {0};
    unsigned cuts = 0;

    assert_true(cut(f, &parcel, &c)); /* the headers are the largest part */
    assert_null(find(f->headers, f->len, "blob"));
    expect(f, "dlq-headers-dropped", "2");
    assert_int_equal(parcel.key.len, 2000);
    assert_true(cut(f, &parcel, &c));
    assert_null(parcel.key.ptr);
    expect(f, "dlq-key-dropped", "2000");
    assert_int_equal(parcel.value.len, 1000);
    while (cut(f, &parcel, &c))
        assert_in_range(++cuts, 1, 20);
    assert_int_equal(parcel.value.len, 0);
    expect(f, "dlq-truncated", "1000");
    expect(f, "dlq-reason", "rejected");
    expect(f, "dlq-offset", "5");
    expect(f, "dlq-redriven", "1");
    assert_null(find(f->headers, f->len, "dlq-error"));
    free(big);
}

static void nothing_to_cut(void **state)
{
    struct fixture *f = *state;
    struct dlq_parcel parcel = {0};
    struct dlq_cut c = {0};

    assert_false(cut(f, &parcel, &c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_headers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(optional_ones_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(originals_are_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(value_gives_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(known_hash, set_up, tear_down),
        cmocka_unit_test_setup_teardown(everything_can_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_to_cut, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
