#include "base/json_out.h"

#include <stdio.h>

#include "base/utf8.h"

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
}

/* Writes one character that needs attention and returns how many bytes of s it took. */
static size_t put_special(struct buf *b, struct slice s)
{
    static const char shorts[] = "b\bf\fn\nr\rt\t\"\"\\\\";
    unsigned char c = (unsigned char)s.ptr[0];
    uint32_t code = 0;
    unsigned len;

    for (size_t i = 0; shorts[i]; i += 2)
        if ((unsigned char)shorts[i + 1] == c) {
            char escape[2] = {'\\', shorts[i]};
            buf_add(b, escape, 2);
            return 1;
        }
    if (c < 0x20 || c == 0x7F) {
        buf_addf(b, "\\u%04x", c);
        return 1;
    }
    len = utf8_decode(s, &code);
    if (len && utf8_is_unsafe(code)) /* JSON would allow them */
        buf_addf(b, "\\u%04x", code);
    else if (len)
        buf_add(b, s.ptr, len);
    else
        buf_add_str(b, "\xEF\xBF\xBD");
    return len ? len : 1;
}

void json_out_string(struct buf *b, struct slice text)
{
    if (!text.ptr) {
        buf_add_str(b, "null");
        return;
    }
    buf_add_char(b, '"');
    while (text.len) {
        size_t n = 0;
        while (n < text.len && is_plain((unsigned char)text.ptr[n]))
            n++;
        buf_add(b, text.ptr, n);
        text = slice_of(text.ptr + n, text.len - n);
        if (text.len) {
            n = put_special(b, text);
            text = slice_of(text.ptr + n, text.len - n);
        }
    }
    buf_add_char(b, '"');
}

void json_out_comma(struct buf *b)
{
    if (b->len && !strchr("{[:,", b->ptr[b->len - 1]))
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
