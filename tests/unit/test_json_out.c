#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/json_in.h"
#include "base/json_out.h"
#include "base/utf8.h"

static void string(struct slice text, const char *wanted)
{
    struct buf b;

    buf_init(&b);
    json_out_string(&b, text);
    assert_string_equal(b.ptr, wanted);
    buf_cleanup(&b);
}

static void test_strings(void **state)
{
    (void)state;
    string(slice_of(NULL, 0), "null");
    string(slice_str(""), "\"\"");
    string(slice_str("plain / text"), "\"plain / text\"");
    string(slice_str("\"\\\b\f\n\r\t"), "\"\\\"\\\\\\b\\f\\n\\r\\t\"");
    string(slice_of("a\0b", 3), "\"a\\u0000b\"");
    string(slice_str("\x01\x1f\x7f"), "\"\\u0001\\u001f\\u007f\"");
    string(slice_str("\xc3\xbc\xf0\x9f\x98\x80"), "\"\xc3\xbc\xf0\x9f\x98\x80\"");
    string(slice_str("\xc2\x9b"
                     "31m \xe2\x80\xae \xe2\x80\xa8 \xe2\x81\xa9"),
           "\"\\u009b31m \\u202e \\u2028 \\u2069\"");
    string(slice_str("a\xff\xc3"), "\"a\xef\xbf\xbd\xef\xbf\xbd\"");
}

/* Byte by byte, by the letter of json_out.h. */
static void write_plainly(struct buf *b, struct slice text)
{
    static const char shorts[] = "\bb\ff\nn\rr\tt\"\"\\\\";

    buf_add_char(b, '"');
    while (text.len) {
        const unsigned char c = (unsigned char)text.ptr[0];
        const char *found = c ? strchr(shorts, c) : NULL;
        uint32_t code = 0;
        const unsigned len = utf8_decode(text, &code);

        if (!len)
            buf_add_str(b, "\xef\xbf\xbd");
        else if (found && (found - shorts) % 2 == 0)
            buf_addf(b, "\\%c", found[1]);
        else if (utf8_is_unsafe(code))
            buf_addf(b, "\\u%04x", (unsigned)code);
        else
            buf_add(b, text.ptr, len);
        text = slice_of(text.ptr + (len ? len : 1), text.len - (len ? len : 1));
    }
    buf_add_char(b, '"');
}

/* What was written is read as what it says. */
static void read_back(struct slice written, struct slice said)
{
    struct json_in_error fault;
    struct json_in *array;
    struct buf json = {0};
    struct arena arena;

    arena_init(&arena);
    buf_add_char(&json, '[');
    buf_add_slice(&json, written);
    buf_add_char(&json, ']');
    array = json_in_parse(&arena, buf_slice(&json), 1, &fault);
    assert_non_null(array);
    assert_true(slice_equal(array->first->text, said));
    arena_cleanup(&arena);
    buf_cleanup(&json);
}

static void test_any_string(void **state)
{
    static const char *const pieces[] = {"plain text of some length, ",
                                         "a",
                                         "\"",
                                         "\\",
                                         "\n",
                                         "\x7f",
                                         "\x01",
                                         "\xc3\xbc",
                                         "\xe2\x80\xae",
                                         "\xf0\x9f\x98\x80",
                                         "\xff",
                                         "\xe2\x80",
                                         "~ !"};
    uint64_t seed = 88172645463325252u;
    struct buf text = {0}, wanted = {0}, found = {0};

    (void)state;
    for (int round = 0; round < 20000; round++) {
        bool good;
        buf_clear(&text);
        buf_clear(&wanted);
        buf_clear(&found);
        for (size_t n = seed % 60; n > 0; n--) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            buf_add_str(&text, pieces[seed % (sizeof(pieces) / sizeof(*pieces))]);
        }
        seed++;
        write_plainly(&wanted, buf_slice(&text));
        good = json_out_string(&found, buf_slice(&text));
        assert_string_equal(found.ptr, wanted.ptr);
        assert_int_equal(found.len, wanted.len);
        assert_int_equal(good, utf8_valid(buf_slice(&text)));
        if (good)
            read_back(buf_slice(&found), buf_slice(&text));
    }
    buf_cleanup(&text);
    buf_cleanup(&wanted);
    buf_cleanup(&found);
}

static void test_foreign_json(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b);
    json_out_json(&b, slice_str("{\"\xc2\x9b\":\"\xc3\xbc\xe2\x80\xae\\n\"}"));
    assert_string_equal(b.ptr, "{\"\\u009b\":\"\xc3\xbc\\u202e\\n\"}");
    buf_cleanup(&b);
}

static void test_object(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b);
    json_out_comma(&b);
    buf_add_char(&b, '{');
    json_out_field_str(&b, "a", slice_str("x,"));
    json_out_field_i64(&b, "b", INT64_MIN);
    json_out_name(&b, "c");
    buf_add_char(&b, '[');
    json_out_comma(&b);
    json_out_string(&b, slice_str("{"));
    json_out_comma(&b);
    json_out_string(&b, slice_of(NULL, 0));
    buf_add_char(&b, ']');
    json_out_field_bool(&b, "d\"", true);
    json_out_name(&b, "e");
    buf_add_str(&b, "{}");
    json_out_field_bool(&b, "f", false);
    buf_add_char(&b, '}');
    assert_string_equal(b.ptr, "{\"a\":\"x,\",\"b\":-9223372036854775808,\"c\":[\"{\",null],"
                               "\"d\\\"\":true,\"e\":{},\"f\":false}");
    buf_cleanup(&b);
}

/* Whatever the bytes, the result is one line of JSON that another parser reads. */
static void test_any_bytes(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b);
    for (unsigned n = 0; n < 0x10000; n++) {
        char bytes[] = {'a', (char)(n >> 8), (char)n, 'b'};
        json_t *read;
        buf_clear(&b);
        json_out_string(&b, slice_of(bytes, sizeof(bytes)));
        assert_null(strpbrk(b.ptr, "\r\n"));
        read = json_loadb(b.ptr, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        if (!read)
            fail_msg("%04x", n);
        if (utf8_valid(slice_of(bytes, sizeof(bytes)))) {
            assert_int_equal(json_string_length(read), sizeof(bytes));
            assert_memory_equal(json_string_value(read), bytes, sizeof(bytes));
        }
        json_decref(read);
    }
    buf_cleanup(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),      cmocka_unit_test(test_any_string),
        cmocka_unit_test(test_foreign_json), cmocka_unit_test(test_object),
        cmocka_unit_test(test_any_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
