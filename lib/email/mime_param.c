#include "email/mime_param.h"

#include "email/mime_chars.h"
#include "email/mime_word.h"

#include <stdio.h>

enum {
    MAX_QUOTED = 60,
    MAX_SECTION = 44, /* leaves room for the longest name, "*NNNNN*=utf-8''" and ";" */
    MAX_PARAM = 160
};

/* Parsers disagree on white space at the ends or in runs within quoted strings, and some decode
 * encoded-words there, against RFC 2047 section 5. */
static bool can_be_quoted(struct slice value)
{
    if (value.len > MAX_QUOTED || mime_word_is_imitated(value))
        return false;
    for (size_t i = 0; i < value.len; i++) {
        bool edge = i == 0 || i == value.len - 1;
        if (value.ptr[i] == ' ' && (edge || value.ptr[i - 1] == ' '))
            return false;
        if (value.ptr[i] != ' ' && !mime_is(value.ptr[i], MIME_VISIBLE))
            return false;
    }
    return true;
}

static void write_quoted(struct mime_fold *f, const char *name, struct slice value)
{
    char param[MAX_PARAM];
    char *end = param + snprintf(param, sizeof(param), "%.16s=\"", name);

    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] == '"' || value.ptr[i] == '\\')
            *end++ = '\\';
        *end++ = value.ptr[i];
    }
    *end++ = '"';
    mime_fold_token(f, slice_of(param, (size_t)(end - param)));
}

static size_t extended_len(struct slice value)
{
    size_t len = 0;

    for (size_t i = 0; i < value.len; i++)
        len += mime_is(value.ptr[i], MIME_ATTR_OK) ? 1 : 3;
    return len;
}

static char *put_extended(char *out, struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (mime_is(value.ptr[i], MIME_ATTR_OK))
            *out++ = value.ptr[i];
        else
            out = mime_put_hex(out, '%', value.ptr[i]);
    }
    return out;
}

/* Whole characters only: decoders exist that decode section by section. */
static size_t section_bytes(struct slice value)
{
    size_t bytes = 0, width = 0;

    while (bytes < value.len) {
        struct slice rest = slice_of(value.ptr + bytes, value.len - bytes);
        size_t len = mime_char_len(rest);
        width += extended_len(slice_of(rest.ptr, len));
        if (width > MAX_SECTION)
            break;
        bytes += len;
    }
    return bytes;
}

static void write_extended(struct mime_fold *f, const char *name, struct slice value)
{
    char param[MAX_PARAM];
    bool single = extended_len(value) <= MAX_SECTION;

    for (unsigned section = 0; value.len; section++) {
        size_t bytes = section_bytes(value);
        const char *charset = section == 0 ? "utf-8''" : "";
        char *end = param;
        if (section)
            buf_add_char(f->out, ';');
        if (single)
            end += snprintf(param, sizeof(param), "%.16s*=%s", name, charset);
        else
            end += snprintf(param, sizeof(param), "%.16s*%u*=%s", name, section, charset);
        end = put_extended(end, slice_of(value.ptr, bytes));
        mime_fold_token(f, slice_of(param, (size_t)(end - param)));
        value.ptr += bytes;
        value.len -= bytes;
    }
}

void mime_param_write(struct mime_fold *f, const char *name, struct slice value)
{
    buf_add_char(f->out, ';');
    if (can_be_quoted(value))
        write_quoted(f, name, value);
    else
        write_extended(f, name, value);
}
