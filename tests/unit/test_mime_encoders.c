/* base64, quoted-printable and the choice between them, checked against plain decoders written for
 * these tests. */
#include "email/mime_base64.h"
#include "email/mime_body.h"
#include "email/mime_chars.h"
#include "email/mime_qp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t random_state;

static unsigned random_below(unsigned bound)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((random_state >> 33) % bound);
}

static void add_random_text(struct buf *out)
{
    static const char *const pieces[] = {
        "a",
        "word",
        " ",
        "  ",
        "\t",
        "\n",
        "\n",
        "\r\n",
        "\r\n",
        "\r",
        "\r\r\n",
        ".",
        "From ",
        "=",
        "=_",
        "--",
        "--=_",
        "--=_b1_mixed",
        "\xC3\xA9",
        "\xE6\x97\xA5",
        "\xF0\x9F\x98\x80",
        "\x01",
        "\x7F",
        "?=",
        "=?utf-8?q?x?=",
        "<a href=\"https://example.com/?a=b&c=d\">",
        "0123456789012345678901234567890123456789012345678901234567890123456789"};
    unsigned count = random_below(40);

    for (unsigned i = 0; i < count; i++) {
        const char *piece = pieces[random_below(sizeof(pieces) / sizeof(*pieces))];
        unsigned times = random_below(20) ? 1 : random_below(30);
        while (times--)
            buf_add_str(out, piece);
    }
}

/* What has to come back: LF becomes CRLF, all else stays. */
static void canonical(struct slice text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\n' && (i == 0 || text.ptr[i - 1] != '\r'))
            buf_add_char(out, '\r');
        buf_add_char(out, text.ptr[i]);
    }
}

static int hex_value(char c)
{
    const char *at = memchr(mime_hex, c, sizeof(mime_hex));

    assert_non_null(at);
    return (int)(at - mime_hex);
}

static void decode_qp(struct slice in, struct buf *out)
{
    for (size_t i = 0; i < in.len; i++) {
        if (in.ptr[i] != '=') {
            buf_add_char(out, in.ptr[i]);
        } else if (in.ptr[i + 1] == '\r') {
            assert_true(i + 2 < in.len && in.ptr[i + 2] == '\n');
            i += 2;
        } else {
            assert_true(i + 2 < in.len);
            buf_add_char(out, (char)(hex_value(in.ptr[i + 1]) << 4 | hex_value(in.ptr[i + 2])));
            i += 2;
        }
    }
}

static void decode_base64(struct slice in, struct buf *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    unsigned have = 0, padding = 0;

    for (size_t i = 0; i < in.len; i++) {
        const char *at = memchr(digits, in.ptr[i], 64);
        if (in.ptr[i] == '\r' || in.ptr[i] == '\n')
            continue;
        padding += in.ptr[i] == '=';
        assert_true(at || in.ptr[i] == '=');
        bits = bits << 6 | (at ? (uint32_t)(at - digits) : 0);
        have++;
        if (have % 4 == 0) {
            char bytes[3] = {(char)(bits >> 16), (char)(bits >> 8), (char)bits};
            buf_add(out, bytes, 3 - padding);
            bits = 0;
        }
    }
    assert_int_equal(have % 4, 0);
}

static void check_lines(struct slice wire, size_t longest)
{
    size_t column = 0;

    for (size_t i = 0; i < wire.len; i++) {
        char c = wire.ptr[i];
        assert_true((unsigned char)c < 0x80 && c != '\0');
        if (c == '\n')
            assert_true(i > 0 && wire.ptr[i - 1] == '\r');
        if (c == '\r') {
            assert_true(i + 1 < wire.len && wire.ptr[i + 1] == '\n');
            assert_true(column <= longest);
            assert_false(column && mime_is_blank(wire.ptr[i - 1]));
        }
        if (column == 0 && c != '\r' && c != '\n') {
            struct slice line = slice_of(wire.ptr + i, wire.len - i);
            assert_false(mime_line_start_is_unsafe(line));
            assert_false(line.len >= 4 && !memcmp(line.ptr, "--=_", 4));
        }
        column = c == '\n' ? 0 : column + (c != '\r');
    }
    assert_true(column <= longest);
}

static void check_text(struct slice text, enum mime_encoding encoding, enum mime_position position)
{
    struct mime_text_plan plan = mime_plan_text(text);
    struct buf wire, decoded, expected;

    buf_init(&wire);
    buf_init(&decoded);
    buf_init(&expected);
    plan.encoding = encoding;
    mime_write_text(&wire, text, &plan, position);
    check_lines(buf_slice(&wire), encoding == MIME_7BIT ? MIME_MAX_7BIT_LINE : 76);
    canonical(text, &expected);
    if (encoding == MIME_7BIT && position == MIME_ENDS_MESSAGE && text.len &&
        text.ptr[text.len - 1] != '\n')
        buf_add_str(&expected, "\r\n");
    if (encoding == MIME_QUOTED_PRINTABLE)
        decode_qp(buf_slice(&wire), &decoded);
    else if (encoding == MIME_BASE64)
        decode_base64(buf_slice(&wire), &decoded);
    else
        buf_add_slice(&decoded, buf_slice(&wire));
    assert_int_equal(decoded.len, expected.len);
    assert_memory_equal(buf_slice(&decoded).ptr, buf_slice(&expected).ptr, expected.len);
    if (position == MIME_ENDS_MESSAGE && wire.len)
        assert_memory_equal(wire.ptr + wire.len - 2, "\r\n", 2);
    buf_cleanup(&wire);
    buf_cleanup(&decoded);
    buf_cleanup(&expected);
}

static void test_random_texts_come_back(void **state)
{
    struct buf text;

    (void)state;
    random_state = 1;
    buf_init(&text);
    for (unsigned i = 0; i < 20000; i++) {
        enum mime_position position = i % 2 ? MIME_ENDS_MESSAGE : MIME_WITHIN_MULTIPART;
        buf_clear(&text);
        add_random_text(&text);
        check_text(buf_slice(&text), MIME_QUOTED_PRINTABLE, position);
        check_text(buf_slice(&text), MIME_BASE64, position);
        check_text(buf_slice(&text), mime_plan_text(buf_slice(&text)).encoding, position);
    }
    buf_cleanup(&text);
}

static void test_every_length_comes_back(void **state)
{
    char text[400];

    (void)state;
    for (size_t len = 0; len <= sizeof(text); len++) {
        for (unsigned variant = 0; variant < 4; variant++) {
            memset(text, "x= \n"[variant], len);
            check_text(slice_of(text, len), MIME_QUOTED_PRINTABLE, MIME_ENDS_MESSAGE);
            check_text(slice_of(text, len), MIME_QUOTED_PRINTABLE, MIME_WITHIN_MULTIPART);
            check_text(slice_of(text, len), MIME_BASE64, MIME_ENDS_MESSAGE);
            check_text(slice_of(text, len), MIME_BASE64, MIME_WITHIN_MULTIPART);
        }
    }
}

static void check_qp(const char *text, bool soft_end, const char *expected)
{
    struct buf out;

    buf_init(&out);
    mime_qp_text(&out, slice_str(text), strlen(text), strlen(text) + 1, soft_end);
    assert_string_equal(buf_slice(&out).ptr, expected);
    buf_cleanup(&out);
}

static void test_quoted_printable(void **state)
{
    (void)state;
    check_qp("", true, "");
    check_qp("a", false, "a");
    check_qp("a", true, "a=\r\n");
    check_qp("a\n", true, "a\r\n");
    check_qp("a\r\nb", false, "a\r\nb");
    check_qp("1+1=2", false, "1+1=3D2");
    check_qp("caf\xC3\xA9", false, "caf=C3=A9");
    check_qp("a \nb\t\n \n", false, "a=20\r\nb=09\r\n=20\r\n");
    check_qp("a\rb\r\r\n", false, "a=0Db=0D\r\n");
    check_qp(".\n..\na.", false, "=2E\r\n=2E.\r\na.");
    check_qp("From me\nFrom\n From x", false, "=46rom me\r\nFrom\r\n From x");
}

/* 76 columns are used to the last, and a soft break never makes a new line start that SMTP would
 * have to stuff. */
static void test_soft_breaks(void **state)
{
    char text[200] = {0};
    struct buf out;

    (void)state;
    buf_init(&out);
    memset(text, 'x', 76);
    mime_qp_text(&out, slice_str(text), 0, 1, false);
    assert_int_equal(out.len, 76);
    buf_clear(&out);
    mime_qp_text(&out, slice_str(text), 0, 1, true);
    assert_memory_equal(out.ptr + 75, "=\r\nx=\r\n", 8);
    buf_clear(&out);
    memcpy(text + 75, ".From yy", 9);
    mime_qp_text(&out, slice_str(text), 0, 1, false);
    assert_memory_equal(out.ptr + 75, "=\r\n=2EFrom yy", 14);
    buf_clear(&out);
    memcpy(text + 75, "From yy", 8);
    mime_qp_text(&out, slice_str(text), 0, 1, false);
    assert_memory_equal(out.ptr + 75, "=\r\n=46rom yy", 13);
    buf_cleanup(&out);
}

static void test_base64(void **state)
{
    static const char *const cases[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    struct buf out;

    (void)state;
    buf_init(&out);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) { /* RFC 4648 section 10 */
        buf_clear(&out);
        mime_base64_bytes(&out, slice_str(cases[i][0]));
        assert_string_equal(buf_slice(&out).ptr, cases[i][1]);
    }
    buf_cleanup(&out);
}

static void test_base64_of_all_lengths_and_bytes(void **state)
{
    char bytes[512];
    struct buf wire, decoded;

    (void)state;
    buf_init(&wire);
    buf_init(&decoded);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)i;
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        buf_clear(&wire);
        buf_clear(&decoded);
        mime_base64_bytes(&wire, slice_of(bytes, len));
        check_lines(buf_slice(&wire), 76);
        decode_base64(buf_slice(&wire), &decoded);
        assert_int_equal(decoded.len, len);
        assert_memory_equal(buf_slice(&decoded).ptr, bytes, len);
    }
    buf_cleanup(&wire);
    buf_cleanup(&decoded);
}

static enum mime_encoding chosen(const char *text)
{
    return mime_plan_text(slice_str(text)).encoding;
}

static void test_choice_of_encoding(void **state)
{
    static const char *const altered[] = {
        "a \nb\n", "a\t\nb\n", ".\n",    "a\n.b\n",        "From a\n",
        "a\rb\n",  "\x01\n",   "\x7F\n", "--=_b1_mixed\n", "\xC3\xA9 in a long enough line\n"};
    char line[MIME_MAX_7BIT_LINE + 3];

    (void)state;
    assert_int_equal(chosen(""), MIME_7BIT);
    assert_int_equal(chosen("Hello = world\r\n\n\ttab -- ok\n"), MIME_7BIT);
    assert_int_equal(chosen("no line end"), MIME_7BIT);
    for (size_t i = 0; i < sizeof(altered) / sizeof(*altered); i++)
        assert_int_not_equal(chosen(altered[i]), MIME_7BIT);
    assert_int_equal(chosen("\xC3\xA9 in a long enough line\n"), MIME_QUOTED_PRINTABLE);
    assert_int_equal(chosen("\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E\n"), MIME_BASE64);
    memset(line, 'x', sizeof(line));
    memcpy(line + MIME_MAX_7BIT_LINE, "\n", 2);
    assert_int_equal(chosen(line), MIME_7BIT);
    memcpy(line + MIME_MAX_7BIT_LINE, "x\n", 3);
    assert_int_equal(chosen(line), MIME_QUOTED_PRINTABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quoted_printable),
        cmocka_unit_test(test_soft_breaks),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_base64_of_all_lengths_and_bytes),
        cmocka_unit_test(test_choice_of_encoding),
        cmocka_unit_test(test_every_length_comes_back),
        cmocka_unit_test(test_random_texts_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
