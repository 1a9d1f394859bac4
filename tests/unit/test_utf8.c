#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/utf8.h"

/* The plain definition of RFC 3629, to compare with. */
static unsigned encode(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

static void test_every_code_point(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x200000; code++) {
        bool valid = code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
        char bytes[4];
        unsigned len = encode(code, bytes);
        uint32_t got = 0;
        if (utf8_decode(slice_of(bytes, len), &got) != (valid ? len : 0) || (valid && got != code))
            fail_msg("U+%04X", code);
        if (utf8_decode(slice_of(bytes, len - 1), NULL) != 0)
            fail_msg("U+%04X cut off", code);
    }
}

/* Of all sequences of three bytes exactly those are taken that encode a code point. */
static void test_every_three_bytes(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < 0x1000000; n++) {
        char bytes[3] = {(char)(n >> 16), (char)(n >> 8), (char)n}, again[4];
        uint32_t code = 0;
        unsigned len = utf8_decode(slice_of(bytes, 3), &code);
        if (len > 3 || (len && (encode(code, again) != len || memcmp(again, bytes, len) != 0)))
            fail_msg("%06X", n);
    }
}

static void test_strings(void **state)
{
    (void)state;
    assert_true(utf8_valid(slice_str("")));
    assert_true(utf8_valid(slice_of(NULL, 0)));
    assert_true(utf8_valid(slice_str("a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80")));
    assert_true(utf8_valid(slice_of("a\0b", 3)));
    assert_false(utf8_valid(slice_str("a\x80")));
    assert_false(utf8_valid(slice_str("\xc0\xaf")));
    assert_false(utf8_valid(slice_str("\xe0\x80\xaf")));
    assert_false(utf8_valid(slice_str("\xf0\x80\x80\xaf")));
    assert_false(utf8_valid(slice_str("\xed\xa0\x80")));
    assert_false(utf8_valid(slice_str("\xf4\x90\x80\x80")));
    assert_false(utf8_valid(slice_str("\xf8\x88\x80\x80\x80")));
    assert_false(utf8_valid(slice_str("\xe2\x82")));
    assert_false(utf8_valid(slice_str("\xff")));
    assert_true(utf8_is_ascii(slice_str("a\x7f")));
    assert_false(utf8_is_ascii(slice_str("a\x80")));
    assert_int_equal(utf8_decode(slice_of(NULL, 0), NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point),
        cmocka_unit_test(test_every_three_bytes),
        cmocka_unit_test(test_strings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
