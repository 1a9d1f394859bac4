/* Header fields: folding, encoded-words, addresses, parameters, dates. */
#include "email/mime_fold.h"
#include "email/mime_header.h"
#include "email/mime_param.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct buf out;

static void check_header(const char *expected)
{
    assert_false(out.failed);
    assert_string_equal(buf_slice(&out).ptr, expected);
    buf_clear(&out);
}

static void check_text(const char *value, const char *expected)
{
    mime_header_text(&out, slice_str("Subject"), slice_str(value));
    check_header(expected);
}

static void check_raw(const char *value, const char *expected)
{
    mime_header_raw(&out, slice_str("X-Tag"), slice_str(value));
    check_header(expected);
}

static void test_text(void **state)
{
    (void)state;
    check_text("", "Subject:\r\n");
    check_text("Your code is 123456", "Subject: Your code is 123456\r\n");
    check_text("a=?b", "Subject: =?utf-8?Q?a=3D=3Fb?=\r\n");
    check_text(" a", "Subject: =?utf-8?Q?_a?=\r\n");
    check_text("a ", "Subject: =?utf-8?Q?a_?=\r\n");
    check_text("a  b", "Subject: =?utf-8?Q?a__b?=\r\n");
    check_text("a\tb", "Subject: =?utf-8?B?YQli?=\r\n");
    check_text("a\r\nBcc: b@example.com", "Subject: =?utf-8?Q?a=0D=0ABcc:_b@example.com?=\r\n");
    check_text("Sch\xC3\xB6ne neue Welt", "Subject: =?utf-8?Q?Sch=C3=B6ne_neue_Welt?=\r\n");
    check_text("\xE6\x97\xA5\xE6\x9C\xAC", "Subject: =?utf-8?B?5pel5pys?=\r\n");
}

static void test_text_is_folded_at_spaces(void **state)
{
    (void)state;
    check_text(
        "This subject is quite long, too long for one line of this message, folded once or twice",
        "Subject: This subject is quite long, too long for one line of this message,\r\n"
        " folded once or twice\r\n");
}

static size_t longest_line(void)
{
    size_t longest = 0, start = 0;

    for (size_t i = 0; i < out.len; i++)
        if (out.ptr[i] == '\n') {
            if (i - 1 - start > longest)
                longest = i - 1 - start;
            start = i + 1;
        }
    return longest;
}

static void test_words_are_split_between_characters(void **state)
{
    char value[4 * 200 + 1];

    (void)state;
    for (size_t i = 0; i < 200; i++)
        memcpy(value + 4 * i, "\xF0\x9F\x98\x80", 5);
    mime_header_text(&out, slice_str("Subject"), slice_str(value));
    assert_true(longest_line() <= 76);
    /* 39 bytes of base64 would fit into the first word; 36 are whole characters. */
    assert_non_null(
        strstr(out.ptr, "Subject: =?utf-8?B?8J+YgPCfmIDwn5iA8J+YgPCfmIDwn5iA8J+YgPCfmIDwn5iA?=\r\n "
                        "=?utf-8?B?8J+YgPCf"));
    buf_clear(&out);
    memset(value, 'x', sizeof(value) - 1);
    value[1] = '\t'; /* Q is shorter */
    mime_header_text(&out, slice_str("Subject"), slice_str(value));
    assert_true(longest_line() <= 76);
    assert_non_null(strstr(out.ptr, "=?utf-8?Q?x=09xxx"));
    buf_clear(&out);
}

static void test_raw(void **state)
{
    char word[1200];

    (void)state;
    check_raw("", "X-Tag:\r\n");
    check_raw("  a  b\tc ", "X-Tag: a  b\tc\r\n");
    check_raw("<https://example.com/?a=?b>", "X-Tag: <https://example.com/?a=?b>\r\n");
    check_raw("=?utf-8?q?x?=", "X-Tag: =?utf-8?B?PT91dGYtOD9xP3g/PQ==?=\r\n");
    check_raw("\xC3\xA9", "X-Tag: =?utf-8?B?w6k=?=\r\n");
    check_raw("a\r\nb: c", "X-Tag: =?utf-8?Q?a=0D=0Ab:_c?=\r\n");
    check_raw("<1111111111111111111@example.com> <2222222222222222222@example.com> <3@example.com>",
              "X-Tag: <1111111111111111111@example.com> <2222222222222222222@example.com>\r\n"
              " <3@example.com>\r\n");
    memset(word, 'w', sizeof(word));
    word[900] = '\0';
    mime_header_raw(&out, slice_str("X-Tag"), slice_str(word));
    assert_int_equal(longest_line(), 907);
    buf_clear(&out);
    word[900] = 'w';
    word[1000] = '\0';
    mime_header_raw(&out, slice_str("X-Tag"), slice_str(word));
    assert_true(longest_line() <= 76);
    buf_clear(&out);
}

static struct address address(const char *name, const char *spec)
{
    return (struct address){.name = slice_str(name),
                            .spec = slice_str(spec),
                            .local_len = (size_t)(strrchr(spec, '@') - spec)};
}

static void check_address(const char *name, const char *expected)
{
    struct address a = address(name, "a@example.com");

    mime_header_addresses(&out, slice_str("To"), &a, 1);
    check_header(expected);
}

static void test_display_names(void **state)
{
    (void)state;
    check_address("", "To: a@example.com\r\n");
    check_address("Ann Smith", "To: Ann Smith <a@example.com>\r\n");
    check_address("Smith, Ann", "To: \"Smith, Ann\" <a@example.com>\r\n");
    check_address("Ann \"A\" \\ Smith", "To: \"Ann \\\"A\\\" \\\\ Smith\" <a@example.com>\r\n");
    check_address("J\xC3\xBCrgen Meier", "To: =?utf-8?Q?J=C3=BCrgen_Meier?= <a@example.com>\r\n");
    check_address("=?utf-8?q?x?=", "To: =?utf-8?B?PT91dGYtOD9xP3g/PQ==?= <a@example.com>\r\n");
    check_address(" x", "To: =?utf-8?Q?_x?= <a@example.com>\r\n");
    check_address("x\ny", "To: =?utf-8?B?eAp5?= <a@example.com>\r\n");
    check_address("a@b <c@d>", "To: \"a@b <c@d>\" <a@example.com>\r\n");
}

static void test_long_names_are_folded(void **state)
{
    char name[256];

    (void)state;
    memset(name, 'n', 255);
    name[255] = '\0';
    struct address a = address(name, "a@example.com");
    mime_header_addresses(&out, slice_str("To"), &a, 1);
    assert_true(longest_line() <= 76);
    buf_clear(&out);
    for (size_t i = 0; i + 1 < 255; i += 2)
        memcpy(name + i, "\xC3\xA9", 3);
    a = address(name, "a@example.com");
    mime_header_addresses(&out, slice_str("To"), &a, 1);
    assert_true(longest_line() <= 76);
    buf_clear(&out);
}

static void test_address_lists_are_folded(void **state)
{
    struct address list[4] = {address("", "one.recipient@example.com"),
                              address("", "two.recipient@example.com"),
                              address("Three Recipient", "three.recipient@example.com"),
                              address("\xC3\xA9", "four@example.com")};

    (void)state;
    mime_header_addresses(&out, slice_str("To"), list, 4);
    check_header("To: one.recipient@example.com, two.recipient@example.com,\r\n"
                 " Three Recipient <three.recipient@example.com>,\r\n"
                 " =?utf-8?B?w6k=?= <four@example.com>\r\n");
}

static void check_param(const char *value, const char *expected)
{
    struct mime_fold f = mime_fold_begin(&out, slice_str("Content-Disposition"));

    mime_fold_token(&f, slice_str("attachment"));
    mime_param_write(&f, "filename", slice_str(value));
    mime_fold_end(&f);
    check_header(expected);
}

static void test_parameters(void **state)
{
    (void)state;
    check_param("a.pdf", "Content-Disposition: attachment; filename=\"a.pdf\"\r\n");
    check_param("a \"b\" \\.pdf",
                "Content-Disposition: attachment; filename=\"a \\\"b\\\" \\\\.pdf\"\r\n");
    check_param("\xC3\xA9.pdf", "Content-Disposition: attachment; filename*=utf-8''%C3%A9.pdf\r\n");
    check_param("a\r\nb", "Content-Disposition: attachment; filename*=utf-8''a%0D%0Ab\r\n");
    check_param("=?x", "Content-Disposition: attachment; filename*=utf-8''%3D%3Fx\r\n");
    check_param("123456789012345678901234567890123456789012345678901234567890.pdf",
                "Content-Disposition: attachment;\r\n"
                " filename*0*=utf-8''12345678901234567890123456789012345678901234;\r\n"
                " filename*1*=5678901234567890.pdf\r\n");
}

static void check_date(int64_t unix_ms, const char *expected)
{
    mime_header_date(&out, unix_ms);
    check_header(expected);
}

static void test_dates(void **state)
{
    (void)state;
    check_date(-1, "");
    check_date(0, "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n");
    check_date(951827696999, "Date: Tue, 29 Feb 2000 12:34:56 +0000\r\n");
    check_date(1709251199000, "Date: Thu, 29 Feb 2024 23:59:59 +0000\r\n");
    check_date(1709251200000, "Date: Fri, 01 Mar 2024 00:00:00 +0000\r\n");
    check_date(4107542400000, "Date: Mon, 01 Mar 2100 00:00:00 +0000\r\n");
    check_date(253402300799999, "Date: Fri, 31 Dec 9999 23:59:59 +0000\r\n");
    check_date(253402300800000, "");
    check_date(INT64_MAX, "");
}

static int clear(void **state)
{
    (void)state;
    buf_cleanup(&out);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_text, clear),
        cmocka_unit_test_teardown(test_text_is_folded_at_spaces, clear),
        cmocka_unit_test_teardown(test_words_are_split_between_characters, clear),
        cmocka_unit_test_teardown(test_raw, clear),
        cmocka_unit_test_teardown(test_display_names, clear),
        cmocka_unit_test_teardown(test_long_names_are_folded, clear),
        cmocka_unit_test_teardown(test_address_lists_are_folded, clear),
        cmocka_unit_test_teardown(test_parameters, clear),
        cmocka_unit_test_teardown(test_dates, clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
