#include "base/utf8.h"

/* Bytes at the front of s that are ASCII, eight at a time. */
static size_t ascii_stride(struct slice s)
{
    size_t at = 0;
    uint64_t x;

    for (; s.len - at >= sizeof(x); at += sizeof(x)) {
        memcpy(&x, s.ptr + at, sizeof(x));
        if (x & 0x8080808080808080u)
            break;
    }
    return at;
}

static bool is_tail(unsigned char c)
{
    return (c & 0xC0) == 0x80;
}

unsigned utf8_decode(struct slice s, uint32_t *code)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    uint32_t value;
    unsigned len;

    if (s.len == 0)
        return 0;
    if (p[0] < 0x80) {
        value = p[0];
        len = 1;
    } else if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        value = p[0] & 0x1F;
        len = 2;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        value = p[0] & 0x0F;
        len = 3;
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        value = p[0] & 0x07;
        len = 4;
    } else {
        return 0;
    }
    if (s.len < len)
        return 0;
    for (unsigned i = 1; i < len; i++) {
        if (!is_tail(p[i]))
            return 0;
        value = value << 6 | (p[i] & 0x3F);
    }
    if ((len == 3 && value < 0x800) || (len == 4 && value < 0x10000) || value > 0x10FFFF ||
        (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    if (code)
        *code = value;
    return len;
}

bool utf8_is_unsafe(uint32_t code)
{
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x61C || code == 0x200E ||
           code == 0x200F || (code >= 0x2028 && code <= 0x202E) ||
           (code >= 0x2066 && code <= 0x2069);
}

bool utf8_valid(struct slice s)
{
    while (s.len) {
        const size_t ascii = s.len >= 8 && (signed char)s.ptr[0] >= 0 ? ascii_stride(s) : 0;
        const size_t len = ascii ? ascii : utf8_decode(s, NULL);
        if (!len)
            return false;
        s = slice_of(s.ptr + len, s.len - len);
    }
    return true;
}

bool utf8_is_ascii(struct slice s)
{
    for (size_t i = ascii_stride(s); i < s.len; i++)
        if ((unsigned char)s.ptr[i] >= 0x80)
            return false;
    return true;
}
