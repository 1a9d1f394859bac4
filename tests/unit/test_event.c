/* The event decoder. tests/data/events.jsonl is the table of good and bad events;
 * tests/e2e/test_event_schema.py holds the published schema against the same rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "email/event.h"
#include "email/syntax.h"

enum { MAX_EVENT_BYTES = 1048576 };

/* ---- the table ---- */

/* The bytes of the record's value: event, raw (times repeat), base64 or tombstone, filled up with
 * spaces to `pad` bytes. row_value in test_event_schema.py reads rows the same way. */
static struct slice row_value(const json_t *row, struct buf *bytes)
{
    const json_t *raw = json_object_get(row, "raw"), *coded = json_object_get(row, "base64");
    json_int_t repeat = 1, pad = json_integer_value(json_object_get(row, "pad"));

    buf_clear(bytes);
    if (json_is_true(json_object_get(row, "tombstone")))
        return slice_of(NULL, 0);
    if (json_object_get(row, "repeat"))
        repeat = json_integer_value(json_object_get(row, "repeat"));
    if (raw) {
        for (json_int_t i = 0; i < repeat; i++)
            buf_add(bytes, json_string_value(raw), json_string_length(raw));
    } else if (coded) {
        size_t len = 0;
        assert_true(buf_reserve(bytes, json_string_length(coded)));
        assert_true(
            syntax_base64_decode(slice_of(json_string_value(coded), json_string_length(coded)),
                                 (unsigned char *)bytes->ptr, &len));
        bytes->len = len;
    } else {
        char *text = json_dumps(json_object_get(row, "event"), JSON_COMPACT);
        assert_non_null(text);
        buf_add_str(bytes, text);
        free(text);
    }
    while (bytes->len < (size_t)pad)
        buf_add_char(bytes, ' ');
    assert_false(bytes->failed);
    return buf_slice(bytes);
}

static void check_row(const json_t *row, struct slice value)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    const char *verdict = json_string_value(json_object_get(row, "verdict"));
    const char *expected = json_string_value(json_object_get(row, "error"));
    const char *reason = json_string_value(json_object_get(row, "reason"));
    enum event_status wanted = strcmp(verdict, "good") == 0             ? EVENT_OK
                               : reason && !strcmp(reason, "too_large") ? EVENT_TOO_LARGE
                                                                        : EVENT_INVALID;
    struct error err = {0};
    struct arena arena;
    struct event ev;
    enum event_status got;

    arena_init(&arena);
    got = event_decode(&arena, value, MAX_EVENT_BYTES, &ev, &err);
    if (got != wanted)
        fail_msg("%s: status %d instead of %d (%s)", name, got, wanted, err.text);
    if (wanted != EVENT_OK && (!err.set || !strstr(err.text, expected)))
        fail_msg("%s: error \"%s\" instead of \"%s\"", name, err.text, expected);
    if (wanted == EVENT_OK && (err.set || strlen(ev.fingerprint) != EVENT_FINGERPRINT_LEN))
        fail_msg("%s: error \"%s\", fingerprint \"%s\"", name, err.text, ev.fingerprint);
    if (!utf8_valid(slice_str(err.text)) || strpbrk(err.text, "\r\n"))
        fail_msg("%s: the error is no line of text", name);
    arena_cleanup(&arena);
}

/* Calls `check` on every row; returns how many there were. */
static size_t each_row(void (*check)(const json_t *row, struct slice value))
{
    FILE *file = fopen(TEST_DATA_DIR "/events.jsonl", "r");
    struct buf bytes;
    char *line = NULL;
    size_t cap = 0, rows = 0;

    assert_non_null(file);
    buf_init(&bytes);
    while (getline(&line, &cap, file) > 0) {
        json_t *row = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        check(row, row_value(row, &bytes));
        json_decref(row);
        rows++;
    }
    buf_cleanup(&bytes);
    free(line);
    fclose(file);
    return rows;
}

static void test_table(void **state)
{
    (void)state;
    assert_true(each_row(check_row) > 200);
}

/* No prefix of an event is an event, and none upsets the decoder. */
static void check_prefixes(const json_t *row, struct slice value)
{
    struct arena arena;
    struct event ev;

    if (strcmp(json_string_value(json_object_get(row, "name")), "every field") != 0)
        return;
    for (size_t len = 0; len < value.len; len++) {
        char *exact =
            malloc(len + 1); /* ends where the prefix ends, so that ASan sees one byte more */
        assert_non_null(exact);
        memcpy(exact, value.ptr, len);
        exact = realloc(exact, len ? len : 1);
        assert_non_null(exact);
        arena_init(&arena);
        assert_int_equal(event_decode(&arena, slice_of(exact, len), MAX_EVENT_BYTES, &ev, NULL),
                         EVENT_INVALID);
        arena_cleanup(&arena);
        free(exact);
    }
}

static void test_prefixes(void **state)
{
    (void)state;
    each_row(check_prefixes);
}

/* ---- what an event becomes ---- */

struct decoded {
    struct arena arena;
    struct event ev;
    struct error err;
    enum event_status status;
};

static void decode(struct decoded *d, const char *json)
{
    arena_init(&d->arena);
    d->err = (struct error){0};
    d->status = event_decode(&d->arena, slice_str(json), MAX_EVENT_BYTES, &d->ev, &d->err);
}

static void decode_good(struct decoded *d, const char *json)
{
    decode(d, json);
    if (d->status != EVENT_OK)
        fail_msg("status %d: %s", d->status, d->err.text);
}

static void assert_slice(struct slice got, const char *wanted)
{
    if (!got.ptr || !slice_is(got, wanted))
        fail_msg("\"%.*s\" instead of \"%s\"", SLICE_ARG(got), wanted);
}

static void test_defaults(void **state)
{
    struct decoded d;

    (void)state;
    decode_good(
        &d, "{\"messageID\":\"m-1\",\"to\":\"Ann@Example.COM\",\"subject\":\"\",\"text\":\"\"}");
    assert_slice(d.ev.message_id, "m-1");
    assert_slice(d.ev.type, "generic");
    assert_int_equal(d.ev.to.len, 1);
    assert_slice(d.ev.to.items[0].spec, "Ann@example.com");
    assert_slice(d.ev.to.items[0].name, "");
    assert_slice(d.ev.subject, "");
    assert_slice(d.ev.text, "");
    assert_null(d.ev.html.ptr);
    assert_null(d.ev.from.spec.ptr);
    assert_null(d.ev.reply_to.spec.ptr);
    assert_null(d.ev.template_name.ptr);
    assert_null(d.ev.data.ptr);
    assert_null(d.ev.locale.ptr);
    assert_false(d.ev.has_created_at || d.ev.has_expires_at);
    assert_int_equal(d.ev.cc.len + d.ev.bcc.len + d.ev.attachments_len + d.ev.headers_len, 0);
    arena_cleanup(&d.arena);
}

static void test_addresses_and_bodies(void **state)
{
    struct decoded d;

    (void)state;
    decode_good(&d, "{\"messageID\":\"m\",\"type\":\"welcome\",\"to\":[\"Ann <ann@example.com>\","
                    "{\"email\":\"bob@b\xc3\xbc\x63her.example\",\"name\":\"Bob, Jr.\"}],"
                    "\"cc\":\"c@example.com\",\"bcc\":[\"d@example.com\"],"
                    "\"from\":{\"email\":\"shop@example.com\",\"name\":\"Shop\"},"
                    "\"replyTo\":\"help@example.com\",\"subject\":\"Gr\\u00fc\xc3\x9f\x65\","
                    "\"text\":\"a\\r\\nb\\u0001\",\"html\":\"<p>\"}");
    assert_slice(d.ev.type, "welcome");
    assert_int_equal(d.ev.to.len, 2);
    assert_slice(d.ev.to.items[0].name, "Ann");
    assert_slice(d.ev.to.items[1].name, "Bob, Jr.");
    assert_slice(d.ev.to.items[1].spec, "bob@xn--bcher-kva.example");
    assert_slice(d.ev.cc.items[0].spec, "c@example.com");
    assert_slice(d.ev.bcc.items[0].spec, "d@example.com");
    assert_slice(d.ev.from.name, "Shop");
    assert_slice(d.ev.reply_to.spec, "help@example.com");
    assert_slice(d.ev.subject, "Gr\xc3\xbc\xc3\x9f\x65");
    assert_slice(d.ev.text, "a\r\nb\x01");
    assert_slice(d.ev.html, "<p>");
    assert_int_equal(event_recipients(&d.ev), 4);
    assert_slice(event_recipient(&d.ev, 0)->spec, "ann@example.com");
    assert_slice(event_recipient(&d.ev, 2)->spec, "c@example.com");
    assert_slice(event_recipient(&d.ev, 3)->spec, "d@example.com");
    arena_cleanup(&d.arena);
}

static void test_attachments_and_headers(void **state)
{
    struct decoded d;

    (void)state;
    decode_good(&d,
                "{\"messageID\":\"m\",\"to\":\"a@example.com\",\"subject\":\"s\",\"text\":\"t\","
                "\"attachments\":[{\"filename\":\"a.bin\",\"contentType\":\"application/x; a=b\","
                "\"content\":\"AAH+/w==\"},{\"filename\":\"b\",\"contentType\":\"image/png\","
                "\"content\":\"\",\"contentID\":\"logo@x\"}],"
                "\"headers\":{\"X-b\":\"2\",\"x-A\":\"\",\"X-C\":\"\xc3\xbc\"}}");
    assert_int_equal(d.ev.attachments_len, 2);
    assert_slice(d.ev.attachments[0].filename, "a.bin");
    assert_slice(d.ev.attachments[0].content_type, "application/x; a=b");
    assert_int_equal(d.ev.attachments[0].content.len, 4);
    assert_memory_equal(d.ev.attachments[0].content.ptr, "\x00\x01\xfe\xff", 4);
    assert_null(d.ev.attachments[0].content_id.ptr);
    assert_slice(d.ev.attachments[1].content, "");
    assert_slice(d.ev.attachments[1].content_id, "logo@x");
    assert_int_equal(d.ev.headers_len, 3);
    assert_slice(d.ev.headers[0].name, "x-A");
    assert_slice(d.ev.headers[0].value, "");
    assert_slice(d.ev.headers[1].name, "X-b");
    assert_slice(d.ev.headers[1].value, "2");
    assert_slice(d.ev.headers[2].value, "\xc3\xbc");
    arena_cleanup(&d.arena);
}

static void test_template_and_times(void **state)
{
    struct decoded d;

    (void)state;
    decode_good(
        &d,
        "{\"data\":{\"z\":9.99,\"a\":{\"c\":null,\"b\":[1, \"\xc3\xbc\"]}},\"locale\":\"pt-BR\","
        "\"template\":\"code_1\",\"to\":\"a@example.com\",\"messageID\":\"m\","
        "\"createdAt\":\"1970-01-01T01:00:00.250+01:00\","
        "\"expiresAt\":\"2026-11-21T08:10:42Z\"}");
    assert_slice(d.ev.template_name, "code_1");
    assert_slice(d.ev.locale, "pt-BR");
    assert_slice(d.ev.data, "{\"a\":{\"b\":[1,\"\xc3\xbc\"],\"c\":null},\"z\":9.99}");
    assert_null(d.ev.subject.ptr);
    assert_true(d.ev.has_created_at && d.ev.has_expires_at);
    assert_int_equal(d.ev.created_at_unix_ms, 250);
    assert_int_equal(d.ev.expires_at_unix_ms, 1795248642000);
    arena_cleanup(&d.arena);

    decode_good(&d, "{\"data\":{\"a\":1},\"locale\":\"de\",\"text\":\"t\",\"subject\":\"s\","
                    "\"to\":\"a@example.com\",\"messageID\":\"m\"}");
    assert_null(d.ev.data.ptr); /* without a template neither is mailed */
    assert_null(d.ev.locale.ptr);
    arena_cleanup(&d.arena);
}

static void test_each_recipient_once(void **state)
{
    struct decoded d;

    (void)state;
    decode_good(&d, "{\"messageID\":\"m\",\"subject\":\"s\",\"text\":\"t\","
                    "\"to\":[\"a@example.com\",\"A@example.com\",\"A <a@EXAMPLE.com>\"],"
                    "\"cc\":[\"b@example.com\",\"a@example.com\"],\"bcc\":\"b@example.com\"}");
    assert_int_equal(d.ev.to.len, 3);
    assert_int_equal(d.ev.cc.len, 2);
    assert_int_equal(d.ev.bcc.len, 1);
    assert_int_equal(event_recipients(&d.ev), 3);
    assert_slice(event_recipient(&d.ev, 0)->spec, "a@example.com");
    assert_slice(event_recipient(&d.ev, 1)->spec, "A@example.com"); /* RFC 5321 section 2.4 */
    assert_slice(event_recipient(&d.ev, 2)->spec, "b@example.com");
    arena_cleanup(&d.arena);
}

/* ---- faults ---- */

static void test_bad_event_keeps_its_id(void **state)
{
    struct decoded d;

    (void)state;
    decode(&d, "{\"to\":7,\"messageID\":\"m-1\",\"subject\":\"s\",\"text\":\"t\"}");
    assert_int_equal(d.status, EVENT_INVALID);
    assert_slice(d.ev.message_id, "m-1");
    arena_cleanup(&d.arena);
    decode(&d, "{\"to\":\"a@example.com\",\"messageID\":\"m 1\",\"subject\":\"s\",\"text\":\"t\"}");
    assert_int_equal(d.status, EVENT_INVALID);
    assert_null(d.ev.message_id.ptr);
    arena_cleanup(&d.arena);
}

static void test_errors_repeat_no_content(void **state)
{
    static const char *const events[] = {
        "{\"messageID\":\"SECRET \",\"to\":\"a@example.com\"}",
        "{\"messageID\":\"m\",\"to\":\"SECRET\"}",
        "{\"messageID\":\"m\",\"to\":\"SECRET<\"}",
        "{\"messageID\":\"m\",\"to\":\"a@SECRET_.de\"}",
        "{\"messageID\":\"m\",\"to\":{\"email\":\"a@b\",\"name\":\"SECRET\\n\"}}",
        "{\"messageID\":\"m\",\"to\":\"a@b\",\"subject\":\"SECRET\\n\"}",
        "{\"messageID\":\"m\",\"to\":\"a@b\",\"createdAt\":\"SECRET\"}",
        "{\"messageID\":\"m\",\"to\":\"a@b\",\"headers\":{\"SECRET\\n\":\"\"}}",
        "{\"messageID\":\"m\",\"to\":\"a@b\",\"headers\":{\"X\":\"SECRET\\n\"}}",
        "{\"SECRET\" \"SECRET\"}",
        "{\"SECRET\":1,\"SECRET\":1}",
        "SECRET",
        "{\"messageID\":\"SECRET\\x\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        struct decoded d;
        decode(&d, events[i]);
        assert_int_equal(d.status, EVENT_INVALID);
        assert_true(d.err.set);
        assert_null(strstr(d.err.text, "SECRET"));
        arena_cleanup(&d.arena);
    }
}

/* Reading a hostile text takes many times its length; what stays with the event must not. */
static void test_what_is_not_kept_costs_nothing(void **state)
{
    static const char head[] = "{\"messageID\":\"m-1\",\"to\":\"a@example.com\",\"subject\":\"s\","
                               "\"text\":\"t\",\"metadata\":{\"a\":[1";
    enum { NUMBERS = 200000 };
    char *json = malloc(sizeof(head) + 2 * NUMBERS + 4), *end = json;
    struct arena arena;
    struct event ev;

    (void)state;
    assert_non_null(json);
    end = stpcpy(end, head);
    for (int i = 0; i < NUMBERS; i++)
        end = stpcpy(end, ",1");
    end = stpcpy(end, "]}}");
    arena_init(&arena);
    assert_int_equal(event_decode(&arena, slice_str(json), SIZE_MAX, &ev, NULL), EVENT_OK);
    assert_true(arena.used < 2048);
    arena_cleanup(&arena);
    free(json);
}

/* What an event holds on to is in its arena or in the value, and in nothing that is gone. */
static void test_all_that_is_kept_lasts(void **state)
{
    static const char json[] =
        "{\"messageID\":\"m\\u002d1\",\"to\":\"A\\u0041 "
        "<a@example.com>\",\"subject\":\"s\\u0020s\","
        "\"text\":\"t\\nt\",\"html\":\"<b>\\u00e9</b>\",\"type\":\"a\\u002eb\","
        "\"headers\":{\"X\\u002dA\":\"v\\u0020w\"},\"attachments\":[{\"filename\":\"f\\u0020g\","
        "\"contentType\":\"text\\u002fplain\",\"content\":\"aGV5\",\"contentID\":\"c\\u0064\"}]}";
    struct arena arena;
    struct event ev;

    (void)state;
    arena_init(&arena);
    assert_int_equal(event_decode(&arena, slice_str(json), SIZE_MAX, &ev, NULL), EVENT_OK);
    assert_true(slice_is(ev.message_id, "m-1"));
    assert_true(slice_is(ev.to.items[0].name, "AA"));
    assert_true(slice_is(ev.subject, "s s"));
    assert_true(slice_is(ev.text, "t\nt"));
    assert_true(slice_is(ev.html, "<b>\u00e9</b>"));
    assert_true(slice_is(ev.type, "a.b"));
    assert_true(slice_is(ev.headers[0].name, "X-A"));
    assert_true(slice_is(ev.headers[0].value, "v w"));
    assert_true(slice_is(ev.attachments[0].filename, "f g"));
    assert_true(slice_is(ev.attachments[0].content_type, "text/plain"));
    assert_true(slice_is(ev.attachments[0].content, "hey"));
    assert_true(slice_is(ev.attachments[0].content_id, "cd"));
    arena_cleanup(&arena);
}

static void test_size_bound_is_exact(void **state)
{
    const char *json = "{\"messageID\":\"m\",\"to\":\"a@b\",\"subject\":\"\",\"text\":\"\"}";
    struct error err = {0};
    struct arena arena;
    struct event ev;

    (void)state;
    arena_init(&arena);
    assert_int_equal(event_decode(&arena, slice_str(json), strlen(json), &ev, NULL), EVENT_OK);
    assert_int_equal(event_decode(&arena, slice_str(json), strlen(json) - 1, &ev, &err),
                     EVENT_TOO_LARGE);
    assert_true(err.set);
    assert_null(ev.message_id.ptr);
    arena_cleanup(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_addresses_and_bodies),
        cmocka_unit_test(test_attachments_and_headers),
        cmocka_unit_test(test_template_and_times),
        cmocka_unit_test(test_each_recipient_once),
        cmocka_unit_test(test_bad_event_keeps_its_id),
        cmocka_unit_test(test_errors_repeat_no_content),
        cmocka_unit_test(test_what_is_not_kept_costs_nothing),
        cmocka_unit_test(test_all_that_is_kept_lasts),
        cmocka_unit_test(test_size_bound_is_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
