#include "base/json_out.h"

#include <endian.h>
#include <stdint.h>

#include "base/utf8.h"

enum {
    CHUNK = 512,     /* bytes that are written at once */
    LONGEST = 6 * 4, /* what a character that begins in a chunk can become */
    STRIDE = 8
};

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
}

/* Copies eight bytes, and returns how many of them stand for themselves; to[…] has room for all.
 * A byte that needs attention can make those behind it look so too, never those before. */
static size_t copy_stride(char *to, const char *from)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t x, quote, backslash, special;

    memcpy(&x, from, STRIDE);
    memcpy(to, &x, STRIDE);
    x = le64toh(x);
    quote = x ^ (ones * '"');
    backslash = x ^ (ones * '\\');
    special = (x - ones * 0x20) | (x + ones) | x | ((quote - ones) & ~quote) |
              ((backslash - ones) & ~backslash);
    special &= ones * 0x80;
    return special ? (size_t)__builtin_ctzll(special) / 8 : STRIDE;
}

static char *put_code(char *to, uint32_t code)
{
    static const char digits[] = "0123456789abcdef";

    *to++ = '\\';
    *to++ = 'u';
    for (int shift = 12; shift >= 0; shift -= 4)
        *to++ = digits[code >> shift & 15];
    return to;
}

static char short_escape(unsigned char c)
{
    switch (c) {
    case '\b': return 'b';
    case '\f': return 'f';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\t': return 't';
    case '"':
    case '\\': return (char)c;
    default: return '\0';
    }
}

static char *put_ascii(char *to, unsigned char c)
{
    const char letter = short_escape(c);

    if (!letter)
        return put_code(to, c);
    *to++ = '\\';
    *to++ = letter;
    return to;
}

/* Writes one character that needs attention, and moves *from behind it. */
static char *put_special(char *to, struct slice *from, bool *good)
{
    uint32_t code = 0;
    unsigned len = 1;

    if ((unsigned char)from->ptr[0] < 0x80) {
        to = put_ascii(to, (unsigned char)from->ptr[0]);
    } else if ((len = utf8_decode(*from, &code)) == 0) {
        memcpy(to, "\xEF\xBF\xBD", 3);
        to += 3;
        len = 1;
        *good = false;
    } else if (utf8_is_unsafe(code)) { /* JSON would allow them; all are below U+10000 */
        to = put_code(to, code);
    } else {
        memcpy(to, from->ptr, len);
        to += len;
    }
    *from = slice_of(from->ptr + len, from->len - len);
    return to;
}

static char *put_character(char *to, struct slice *from, bool *good)
{
    if (!is_plain((unsigned char)from->ptr[0]))
        return put_special(to, from, good);
    *to++ = from->ptr[0];
    *from = slice_of(from->ptr + 1, from->len - 1);
    return to;
}

/* The characters that begin in the first CHUNK bytes; to[…] has room for whatever they become. */
static char *put_chunk(char *to, struct slice *from, bool *good)
{
    const char *stop = from->ptr + (from->len < CHUNK ? from->len : CHUNK);

    while (from->ptr < stop) {
        if (from->len >= STRIDE && stop - from->ptr >= STRIDE) {
            const size_t plain = copy_stride(to, from->ptr);
            to += plain;
            *from = slice_of(from->ptr + plain, from->len - plain);
            if (plain == STRIDE)
                continue;
        }
        to = put_character(to, from, good);
    }
    return to;
}

bool json_out_string(struct buf *b, struct slice text)
{
    bool good = true;

    if (!text.ptr) {
        buf_add_str(b, "null");
        return true;
    }
    buf_add_char(b, '"');
    while (text.len) {
        const size_t most = (text.len < CHUNK ? text.len : CHUNK) * 6 + LONGEST;
        if (!buf_reserve(b, most))
            return true;
        b->len = (size_t)(put_chunk(b->ptr + b->len, &text, &good) - b->ptr);
        b->ptr[b->len] = '\0';
    }
    buf_add_char(b, '"');
    return good;
}

void json_out_comma(struct buf *b)
{
    const char last = b->len ? b->ptr[b->len - 1] : ',';

    if (last != '{' && last != '[' && last != ':' && last != ',')
        buf_add_char(b, ',');
}

void json_out_name(struct buf *b, const char *name)
{
    json_out_comma(b);
    json_out_string(b, slice_str(name));
    buf_add_char(b, ':');
}

void json_out_field_str(struct buf *b, const char *name, struct slice value)
{
    json_out_name(b, name);
    json_out_string(b, value);
}

void json_out_field_i64(struct buf *b, const char *name, int64_t value)
{
    json_out_name(b, name);
    buf_add_i64(b, value);
}

void json_out_field_bool(struct buf *b, const char *name, bool value)
{
    json_out_name(b, name);
    buf_add_str(b, value ? "true" : "false");
}

void json_out_json(struct buf *b, struct slice json)
{
    while (json.len) {
        uint32_t code = 0;
        const unsigned len = utf8_decode(json, &code);
        if (len && code >= 0x7F && utf8_is_unsafe(code)) /* those below are layout */
            buf_addf(b, "\\u%04x", code);
        else
            buf_add(b, json.ptr, len ? len : 1);
        json = slice_of(json.ptr + (len ? len : 1), json.len - (len ? len : 1));
    }
}
