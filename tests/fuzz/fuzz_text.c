/* The encoders and small parsers under everything: UTF-8, times, base64, quoted-printable,
 * encoded-words, JSON strings; each against a decoder written for this purpose, or a naive one. */
#include "fuzz.h"

#include <jansson.h>

#include "base/clock.h"
#include "base/json_out.h"
#include "base/utf8.h"
#include "email/mime_base64.h"
#include "email/mime_body.h"
#include "email/mime_header.h"
#include "email/syntax.h"
#include "mime_reader.h"

/* ---- UTF-8 ---- */

/* RFC 3629 section 4, by its table. */
static unsigned naive_utf8(const unsigned char *s, size_t left)
{
    const unsigned char a = left > 0 ? s[0] : 0xFF, b = left > 1 ? s[1] : 0;
    const unsigned char c = left > 2 ? s[2] : 0, d = left > 3 ? s[3] : 0;
    const bool c_tail = c >= 0x80 && c <= 0xBF, d_tail = d >= 0x80 && d <= 0xBF;

    if (a < 0x80)
        return 1;
    if (a >= 0xC2 && a <= 0xDF)
        return b >= 0x80 && b <= 0xBF ? 2 : 0;
    if (a >= 0xE0 && a <= 0xEF)
        return c_tail && b >= (a == 0xE0 ? 0xA0 : 0x80) && b <= (a == 0xED ? 0x9F : 0xBF) ? 3 : 0;
    if (a >= 0xF0 && a <= 0xF4)
        return c_tail && d_tail && b >= (a == 0xF0 ? 0x90 : 0x80) && b <= (a == 0xF4 ? 0x8F : 0xBF)
                   ? 4
                   : 0;
    return 0;
}

static void check_utf8(struct slice text)
{
    bool valid = true;
    size_t at = 0;

    while (at < text.len && valid) {
        const struct slice rest = slice_of(text.ptr + at, text.len - at);
        const unsigned wanted = naive_utf8((const unsigned char *)rest.ptr, rest.len);
        REQUIRE(utf8_decode(rest, NULL) == wanted);
        valid = wanted > 0;
        at += wanted;
    }
    REQUIRE(utf8_valid(text) == valid);
}

/* ---- JSON ---- */

static void check_json_string(struct slice text)
{
    struct buf out = {0};
    json_t *read;

    json_out_string(&out, text);
    REQUIRE(!out.failed && utf8_valid(buf_slice(&out)));
    REQUIRE(syntax_is_line(buf_slice(&out)));
    read = json_loadb(out.ptr, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    REQUIRE(json_is_string(read));
    if (utf8_valid(text))
        REQUIRE(slice_equal(slice_of(json_string_value(read), json_string_length(read)), text));
    json_decref(read);
    buf_cleanup(&out);
}

/* ---- bodies ---- */

static struct slice decoded(struct arena *arena, const char *encoding, struct slice body)
{
    struct mime_entity *e = arena_alloc(arena, sizeof(*e));

    REQUIRE(e);
    e->headers_len = 1;
    e->headers[0] =
        (struct mime_field){slice_str("Content-Transfer-Encoding"), slice_str(encoding)};
    e->body = body;
    return mime_decode_body(arena, e);
}

static struct slice with_crlf(struct arena *arena, struct slice text)
{
    char *out = arena_alloc(arena, text.len * 2 + 1);
    size_t len = 0;

    REQUIRE(out);
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\n' && (i == 0 || text.ptr[i - 1] != '\r'))
            out[len++] = '\r';
        out[len++] = text.ptr[i];
    }
    return slice_of(out, len);
}

static void check_body(struct arena *arena, struct slice text, enum mime_position position)
{
    const struct mime_text_plan plan = mime_plan_text(text);
    const struct slice wanted = with_crlf(arena, text);
    struct buf out = {0};
    struct slice got;

    mime_write_text(&out, text, &plan, position);
    REQUIRE(!out.failed);
    got = decoded(arena, mime_encoding_name(plan.encoding), buf_slice(&out));
    if (position == MIME_ENDS_MESSAGE && plan.encoding == MIME_7BIT && got.len == wanted.len + 2)
        got.len -= 2;
    REQUIRE(slice_equal(got, wanted));
    if (position == MIME_WITHIN_MULTIPART)
        buf_add_str(&out, "\r\n");
    if (out.len)
        mime_check_wire(buf_slice(&out), false);
    REQUIRE(!memmem(out.ptr, out.len, "\n--=_", 5)); /* no boundary in it */
    buf_cleanup(&out);
}

static void check_base64(struct arena *arena, struct slice bytes)
{
    unsigned char *back = malloc(bytes.len + 1);
    size_t len;
    struct buf out = {0};

    REQUIRE(back);
    if (syntax_base64_decode(bytes, back, &len)) { /* what is accepted has one spelling */
        char *again = arena_alloc(arena, mime_base64_len(len) + 1);
        REQUIRE(again);
        mime_base64_put(again, (char *)back, len);
        REQUIRE(slice_equal(slice_of(again, mime_base64_len(len)), bytes));
    }
    free(back);
    mime_base64_bytes(&out, bytes);
    REQUIRE(slice_equal(decoded(arena, "base64", buf_slice(&out)), bytes));
    buf_cleanup(&out);
}

/* ---- header fields ---- */

static void check_header(struct arena *arena, struct slice value, bool raw)
{
    struct mime_entity *e = arena_alloc(arena, sizeof(*e));
    struct buf out = {0};
    struct slice got;

    REQUIRE(e);
    if (!utf8_valid(value) || !syntax_is_line(value) || (raw && syntax_longest_word(value) > 900))
        return;
    if (raw)
        mime_header_raw(&out, slice_str("X-Test"), value);
    else
        mime_header_text(&out, slice_str("Subject"), value);
    mime_check_wire(buf_slice(&out), false);
    buf_add_str(&out, "\r\n");
    REQUIRE(mime_parse(arena, buf_slice(&out), e) && e->headers_len == 1);
    got = mime_decode_words(arena, e->headers[0].value);
    while (raw && value.len && value.ptr[0] == ' ')
        value = slice_of(value.ptr + 1, value.len - 1);
    while (raw && value.len && value.ptr[value.len - 1] == ' ')
        value.len--;
    REQUIRE(slice_equal(got, value));
    buf_cleanup(&out);
}

static void check_time(struct slice text)
{
    char formatted[RFC3339_SIZE];
    int64_t at_unix_ms, again;
    uint64_t any = 0;

    memcpy(&any, text.ptr, text.len < sizeof(any) ? text.len : sizeof(any));
    rfc3339_format((int64_t)any, formatted);
    REQUIRE(rfc3339_parse(slice_str(formatted), &again));
    if (!rfc3339_parse(text, &at_unix_ms))
        return;
    rfc3339_format(at_unix_ms, formatted);
    REQUIRE(rfc3339_parse(slice_str(formatted), &again));
    if (at_unix_ms >= -62167219200000 && at_unix_ms <= 253402300799999)
        REQUIRE(again == at_unix_ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct slice text = heap_copy(slice_of((const char *)data, size));
    struct arena arena;

    arena_init(&arena);
    check_utf8(text);
    check_json_string(text);
    check_body(&arena, text, MIME_WITHIN_MULTIPART);
    check_body(&arena, text, MIME_ENDS_MESSAGE);
    check_base64(&arena, text);
    check_header(&arena, text, false);
    check_header(&arena, text, true);
    check_time(text);
    (void)syntax_is_content_type(text);
    (void)syntax_is_locale(text);
    arena_cleanup(&arena);
    heap_free(text);
    return 0;
}
