#include "email/syntax.h"

static bool is_alnum(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* Every byte passes, and there is at least one. */
static bool all(struct slice text, bool (*pass)(unsigned char))
{
    for (size_t i = 0; i < text.len; i++)
        if (!pass((unsigned char)text.ptr[i]))
            return false;
    return text.len > 0;
}

bool syntax_is_line(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c < 0x20 || c == 0x7F)
            return false;
    }
    return true;
}

static bool is_graphic(unsigned char c)
{
    return c > 0x20 && c < 0x7F;
}

bool syntax_is_graphic(struct slice text)
{
    return all(text, is_graphic);
}

bool syntax_is_atext(unsigned char c)
{
    return is_alnum(c) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

static bool is_type_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c && strchr("_.-", c));
}

bool syntax_is_event_type(struct slice text)
{
    return all(text, is_type_char) && !strchr("_.-", text.ptr[0]);
}

static bool is_template_char(unsigned char c)
{
    return is_alnum(c) || c == '_' || c == '-';
}

bool syntax_is_template_name(struct slice text)
{
    return all(text, is_template_char);
}

bool syntax_is_locale(struct slice text)
{
    size_t subtag = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '-') {
            if (!is_alnum((unsigned char)text.ptr[i]) || ++subtag > 8)
                return false;
        } else if (subtag == 0) {
            return false;
        } else {
            subtag = 0;
        }
    }
    return subtag > 0;
}

static bool is_token_char(unsigned char c)
{
    return is_graphic(c) && !strchr("()<>@,;:\\\"/[]?=", c);
}

/* The next three move *at behind what they read. */
static bool read_token(struct slice text, size_t *at)
{
    size_t start = *at;

    while (*at < text.len && is_token_char((unsigned char)text.ptr[*at]))
        ++*at;
    return *at > start;
}

static bool read_quoted(struct slice text, size_t *at)
{
    if (*at >= text.len || text.ptr[*at] != '"')
        return false;
    for (++*at; *at < text.len; ++*at) {
        unsigned char c = (unsigned char)text.ptr[*at];
        if (c == '"') {
            ++*at;
            return true;
        }
        if (c == '\\' && ++*at < text.len)
            c = (unsigned char)text.ptr[*at];
        if (c < 0x20 || c > 0x7E)
            return false;
    }
    return false;
}

static bool read_char(struct slice text, size_t *at, char c)
{
    if (*at >= text.len || text.ptr[*at] != c)
        return false;
    ++*at;
    return true;
}

static void skip_spaces(struct slice text, size_t *at)
{
    while (read_char(text, at, ' '))
        ;
}

static bool read_parameter(struct slice text, size_t *at)
{
    skip_spaces(text, at);
    if (!read_char(text, at, ';'))
        return false;
    skip_spaces(text, at);
    return read_token(text, at) && read_char(text, at, '=') &&
           (read_token(text, at) || read_quoted(text, at));
}

bool syntax_is_content_type(struct slice text)
{
    size_t at = 0;

    if (!read_token(text, &at) || !read_char(text, &at, '/') || !read_token(text, &at))
        return false;
    while (at < text.len)
        if (!read_parameter(text, &at))
            return false;
    return true;
}

static bool starts_with_nocase(struct slice text, const char *prefix)
{
    size_t len = strlen(prefix);

    return text.len >= len &&
           syntax_compare_nocase(slice_of(text.ptr, len), slice_of(prefix, len)) == 0;
}

bool syntax_is_composite_type(struct slice content_type)
{
    return starts_with_nocase(content_type, "multipart/") ||
           starts_with_nocase(content_type, "message/");
}

static bool is_header_name_char(unsigned char c)
{
    return is_graphic(c) && c != ':';
}

bool syntax_is_header_name(struct slice text)
{
    return all(text, is_header_name_char);
}

bool syntax_is_reserved_header(struct slice name)
{
    static const char *const names[] = {"Bcc",
                                        "Cc",
                                        "Date",
                                        "Delivered-To",
                                        "DKIM-Signature",
                                        "From",
                                        "Message-ID",
                                        "MIME-Version",
                                        "Received",
                                        "Reply-To",
                                        "Return-Path",
                                        "Sender",
                                        "Subject",
                                        "To"};

    if (starts_with_nocase(name, "Content-") || starts_with_nocase(name, "Resent-"))
        return true;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (syntax_compare_nocase(name, slice_str(names[i])) == 0)
            return true;
    return false;
}

size_t syntax_longest_word(struct slice text)
{
    size_t longest = 0, word = 0;

    for (size_t i = 0; i < text.len; i++) {
        word = text.ptr[i] == ' ' ? 0 : word + 1;
        if (word > longest)
            longest = word;
    }
    return longest;
}

int syntax_compare_nocase(struct slice a, struct slice b)
{
    size_t common = a.len < b.len ? a.len : b.len;

    for (size_t i = 0; i < common; i++) {
        int difference = lower(a.ptr[i]) - lower(b.ptr[i]);
        if (difference)
            return difference;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

/* ---- base64 ---- */

enum { XX = 0x80 }; /* not in the alphabet */

static const unsigned char sextets[128] = {
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX,
    XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, 62,
    XX, XX, XX, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, XX, XX, XX, XX, XX, XX, XX, 0,
    1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
    23, 24, 25, XX, XX, XX, XX, XX, XX, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38,
    39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, XX, XX, XX, XX, XX,
};

static unsigned sextet(char c)
{
    unsigned char byte = (unsigned char)c;

    return byte < sizeof(sextets) ? sextets[byte] : XX;
}

/* The last group: one "=" stands for one byte less. */
static bool decode_padded(const char *in, unsigned char *out, size_t *out_len)
{
    unsigned a = sextet(in[0]), b = sextet(in[1]), c = sextet(in[2]);

    if (in[2] == '=') {
        if (((a | b) & XX) || (b & 0x0F))
            return false;
        out[0] = (unsigned char)(a << 2 | b >> 4);
        *out_len += 1;
        return true;
    }
    if (((a | b | c) & XX) || (c & 0x03))
        return false;
    out[0] = (unsigned char)(a << 2 | b >> 4);
    out[1] = (unsigned char)(b << 4 | c >> 2);
    *out_len += 2;
    return true;
}

bool syntax_base64_decode(struct slice text, unsigned char *out, size_t *out_len)
{
    bool padded = text.len > 0 && text.ptr[text.len - 1] == '=';
    size_t full = padded && text.len >= 4 ? text.len - 4 : text.len;

    *out_len = 0;
    if (text.len % 4 != 0)
        return false;
    for (size_t i = 0; i < full; i += 4) {
        unsigned a = sextet(text.ptr[i]), b = sextet(text.ptr[i + 1]);
        unsigned c = sextet(text.ptr[i + 2]), d = sextet(text.ptr[i + 3]);
        if ((a | b | c | d) & XX)
            return false;
        out[(*out_len)++] = (unsigned char)(a << 2 | b >> 4);
        out[(*out_len)++] = (unsigned char)(b << 4 | c >> 2);
        out[(*out_len)++] = (unsigned char)(c << 6 | d);
    }
    return !padded || decode_padded(text.ptr + full, out + *out_len, out_len);
}
