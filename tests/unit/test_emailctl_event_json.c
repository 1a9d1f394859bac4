/* emailctl: events narrowed to the recipients that were refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "email/event.h"
#include "event_json.h"

static void check_narrowed(const char *value, const char *refused, size_t part, const char *id,
                           const char *expected)
{
    struct arena arena = {0};
    struct slice json, new_id;
    struct event event;
    struct error err = {0};

    if (!event_json_narrow(&arena, slice_str(value), slice_str(refused), 2, part, &json, &new_id,
                           &err))
        fail_msg("%s", err.text);
    assert_true(slice_is(new_id, id));
    assert_string_equal(json.ptr, expected);
    assert_int_equal(event_decode(&arena, json, SIZE_MAX, &event, &err), EVENT_OK);
    arena_cleanup(&arena);
}

static size_t parts_of(const char *value, const char *refused)
{
    struct arena arena = {0};
    size_t parts = 99;

    assert_true(event_json_parts(&arena, slice_str(value), slice_str(refused), &parts, NULL));
    arena_cleanup(&arena);
    return parts;
}

#define BODY "\"subject\":\"s\",\"text\":\"t\""

static void test_to_and_cc(void **state)
{
    static const char value[] =
        "{\"messageID\":\"m\",\"to\":[\"A <a@x.de>\",\"b@x.de\"],"
        "\"cc\":{\"email\":\"c@X.de\",\"name\":\"C\"},\"bcc\":[\"d@x.de\"]," BODY "}";

    (void)state;
    assert_int_equal(parts_of(value, "[\"a@x.de\"]"), 1);
    check_narrowed(value, "[\"a@x.de\"]", 0, "m-r2",
                   "{\"messageID\":\"m-r2\"," BODY ",\"to\":[\"A <a@x.de>\"]}");
    check_narrowed(value, "[\"c@x.de\",\"b@x.de\",\"d@x.de\"]", 0, "m-r2",
                   "{\"messageID\":\"m-r2\"," BODY
                   ",\"to\":[\"b@x.de\"],\"cc\":[{\"email\":\"c@X.de\",\"name\":\"C\"}],"
                   "\"bcc\":[\"d@x.de\"]}");
    check_narrowed(value, "[\"c@x.de\"]", 0, "m-r2",
                   "{\"messageID\":\"m-r2\"," BODY
                   ",\"to\":[{\"email\":\"c@X.de\",\"name\":\"C\"}]}");
}

static void test_bcc_alone_is_one_event_each(void **state)
{
    static const char value[] =
        "{\"messageID\":\"m\",\"to\":\"a@x.de\",\"bcc\":[\"b@x.de\",\"c@x.de\"]," BODY "}";

    (void)state;
    assert_int_equal(parts_of(value, "[\"b@x.de\",\"c@x.de\"]"), 2);
    check_narrowed(value, "[\"b@x.de\",\"c@x.de\"]", 1, "m-r2.2",
                   "{\"messageID\":\"m-r2.2\"," BODY ",\"to\":[\"c@x.de\"]}");
    check_narrowed(value, "[\"b@x.de\"]", 0, "m-r2",
                   "{\"messageID\":\"m-r2\"," BODY ",\"to\":[\"b@x.de\"]}");
}

static void test_domains_match_as_a_labels(void **state)
{
    static const char value[] =
        "{\"messageID\":\"m\",\"to\":[\"a@B\u00fccher.example\",\"b@x.de\"]," BODY "}";

    (void)state;
    assert_int_equal(parts_of(value, "[\"a@xn--bcher-kva.example\"]"), 1);
    assert_int_equal(parts_of(value, "[\"A@xn--bcher-kva.example\"]"), 0); /* local parts differ */
    assert_int_equal(parts_of(value, "[\"nobody@x.de\", 7]"), 0);
}

static void test_what_is_no_event(void **state)
{
    static const char *const bad[][2] = {
        {"{", "[]"},
        {"[]", "[]"},
        {"", "[]"},
        {"{\"to\":\"a@x.de\"}", "{}"},
        {"{\"to\":\"a@x.de\"}", "\"a@x.de\""},
        {"{\"to\":\"a@x.de\"}", ""},
    };
    struct arena arena = {0};
    struct slice json, id;
    size_t parts;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(
            event_json_parts(&arena, slice_str(bad[i][0]), slice_str(bad[i][1]), &parts, NULL));
    assert_false(event_json_narrow(&arena, slice_str("{\"to\":\"a@x.de\"}"),
                                   slice_str("[\"a@x.de\"]"), 1, 0, &json, &id, NULL));
    arena_cleanup(&arena);
}

static void narrow_id(const char *id, uint64_t redrive, char out[EVENT_MAX_MESSAGE_ID + 1])
{
    struct arena arena = {0};
    struct slice json, new_id;
    char value[400];

    snprintf(value, sizeof(value), "{\"messageID\":\"%s\",\"to\":\"a@x.de\"," BODY "}", id);
    assert_true(event_json_narrow(&arena, slice_str(value), slice_str("[\"a@x.de\"]"), redrive, 0,
                                  &json, &new_id, NULL));
    assert_true(new_id.len <= EVENT_MAX_MESSAGE_ID);
    snprintf(out, EVENT_MAX_MESSAGE_ID + 1, "%.*s", SLICE_ARG(new_id));
    arena_cleanup(&arena);
}

static void test_long_ids_stay_short_and_apart(void **state)
{
    char id[EVENT_MAX_MESSAGE_ID + 1], first[sizeof(id)], second[sizeof(id)], other[sizeof(id)];

    (void)state;
    memset(id, 'x', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    narrow_id(id, 1, first);
    narrow_id(id, 1, second);
    assert_string_equal(first, second);
    narrow_id(id, 2, other);
    assert_string_not_equal(first, other);
    id[sizeof(id) - 2] = 'y';
    narrow_id(id, 1, other);
    assert_string_not_equal(first, other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_and_cc),
        cmocka_unit_test(test_bcc_alone_is_one_event_each),
        cmocka_unit_test(test_domains_match_as_a_labels),
        cmocka_unit_test(test_what_is_no_event),
        cmocka_unit_test(test_long_ids_stay_short_and_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
