#include "base/json_in.h"

#include <endian.h>
#include <float.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/utf8.h"

enum {
    FEW_MEMBERS = 8,         /* so many names are compared with each other, more are sorted */
    SAFE_NUMBER = 300,       /* digits that fit a double without an exponent */
    FAR_EXPONENT = 100000000 /* more than any text has digits to make up for */
};

struct reader {
    const char *at, *end;
    struct arena *arena;
    unsigned depth, max_depth;
    enum json_in_fault fault; /* and `at` is where */
};

static bool fail(struct reader *r, enum json_in_fault fault)
{
    if (!r->fault)
        r->fault = fault;
    return false;
}

/* What stands where something else should. */
static bool unexpected(struct reader *r)
{
    if (r->at == r->end)
        return fail(r, JSON_IN_FAULT_END);
    if ((unsigned char)*r->at >= 0x80 &&
        !utf8_decode(slice_of(r->at, (size_t)(r->end - r->at)), NULL))
        return fail(r, JSON_IN_FAULT_UTF8);
    return fail(r, JSON_IN_FAULT_SYNTAX);
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
}

static bool take(struct reader *r, char c)
{
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

/* ---- strings ---- */

/* The quotation mark that ends the string: the first one that an even number of backslashes
 * precedes. Bodies make up most of an event, and memchr takes them in great strides. */
static const char *closing_quote(const struct reader *r)
{
    const char *quote = r->at;

    while ((quote = memchr(quote, '"', (size_t)(r->end - quote)))) {
        const char *before = quote;
        while (before > r->at && before[-1] == '\\')
            before--;
        if ((quote - before) % 2 == 0)
            return quote;
        quote++;
    }
    return NULL;
}

/* How many of the eight bytes are ASCII, no control characters and no backslashes, up to the first
 * other one. Such a byte can make those behind it look so too, never those before. */
static size_t plain_run(const char *p)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t x, backslash, special;

    memcpy(&x, p, sizeof(x));
    x = le64toh(x);
    backslash = x ^ (ones * '\\');
    special = ((x - ones * 0x20) | x | ((backslash - ones) & ~backslash)) & (ones * 0x80);
    return special ? (size_t)__builtin_ctzll(special) / 8 : sizeof(x);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Behind "\u"; the quotation mark beyond is no digit, so this never runs over the end. */
static bool take_hex4(struct reader *r, uint32_t *code)
{
    *code = 0;
    for (int i = 0; i < 4; i++) {
        const int digit = hex_digit(*r->at);
        if (digit < 0)
            return fail(r, JSON_IN_FAULT_SYNTAX);
        *code = *code << 4 | (uint32_t)digit;
        r->at++;
    }
    return true;
}

static char *put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    if (code < 0x800) {
        *to++ = (char)(0xC0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *to++ = (char)(0xE0 | code >> 12);
        } else {
            *to++ = (char)(0xF0 | code >> 18);
            *to++ = (char)(0x80 | (code >> 12 & 0x3F));
        }
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
    }
    *to++ = (char)(0x80 | (code & 0x3F));
    return to;
}

static char *take_unicode(struct reader *r, char *to)
{
    uint32_t code, low;

    if (!take_hex4(r, &code))
        return NULL;
    if (code == 0) {
        fail(r, JSON_IN_FAULT_NUL);
        return NULL;
    }
    if (code >= 0xD800 && code <= 0xDBFF) {
        if (!take(r, '\\') || !take(r, 'u') || !take_hex4(r, &low) || low < 0xDC00 ||
            low > 0xDFFF) {
            fail(r, JSON_IN_FAULT_SYNTAX);
            return NULL;
        }
        code = 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00));
    } else if (code >= 0xDC00 && code <= 0xDFFF) {
        fail(r, JSON_IN_FAULT_SYNTAX);
        return NULL;
    }
    return put_utf8(to, code);
}

/* Behind a backslash. */
static char *take_escape(struct reader *r, char *to)
{
    static const char from[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char c = *r->at;
    const char *found = c ? strchr(from, c) : NULL;

    if (c == 'u') {
        r->at++;
        return take_unicode(r, to);
    }
    if (!found) {
        unexpected(r);
        return NULL;
    }
    r->at++;
    *to++ = meant[found - from];
    return to;
}

static char *take_character(struct reader *r, const char *quote, char *to)
{
    const unsigned char c = (unsigned char)*r->at;
    unsigned len = 1;

    if (c == '\\') {
        r->at++;
        return take_escape(r, to);
    }
    if (c >= 0x80)
        len = utf8_decode(slice_of(r->at, (size_t)(quote - r->at)), NULL);
    if (c < 0x20 || len == 0) {
        unexpected(r);
        return NULL;
    }
    memcpy(to, r->at, len);
    r->at += len;
    return to + len;
}

static bool check_plain_string(struct reader *r, const char *quote)
{
    char unused[4];

    while (r->at < quote) {
        const size_t plain = quote - r->at >= 8 ? plain_run(r->at) : 0;
        r->at += plain;
        if (plain < 8 && !take_character(r, quote, unused))
            return false;
    }
    return true;
}

/* What it says is never longer than what is written. */
static bool copy_string(struct reader *r, const char *quote, struct slice *out)
{
    char *text = arena_alloc_raw(r->arena, (size_t)(quote - r->at) + 1), *to = text;

    if (!text)
        return fail(r, JSON_IN_FAULT_MEMORY);
    while (r->at < quote) {
        const size_t plain = quote - r->at >= 8 ? plain_run(r->at) : 0;
        if (plain)
            memcpy(to, r->at, 8); /* there is room, and what is too much is written over */
        to += plain;
        r->at += plain;
        if (plain < 8 && !(to = take_character(r, quote, to)))
            return false;
    }
    *to = '\0';
    *out = slice_of(text, (size_t)(to - text));
    return true;
}

static bool take_string(struct reader *r, bool is_name, struct slice *out)
{
    const char *quote = closing_quote(r);
    const char *start = r->at;
    size_t len;

    if (!quote) {
        r->at = r->end;
        return fail(r, JSON_IN_FAULT_END);
    }
    len = (size_t)(quote - start);
    if (is_name || memchr(start, '\\', len)) {
        if (!copy_string(r, quote, out))
            return false;
    } else {
        if (!check_plain_string(r, quote))
            return false;
        *out = slice_of(start, len);
    }
    r->at = quote + 1;
    return true;
}

/* ---- numbers and words ---- */

static bool take_digits(struct reader *r)
{
    const char *start = r->at;

    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return r->at > start || unexpected(r);
}

/* The decimal exponent of the first digit that isn't 0, and where that digit is; end where there is
 * none. */
static const char *first_digit(const char *at, const char *end, long *exponent)
{
    const char *point = at;

    while (point < end && *point >= '0' && *point <= '9')
        point++;
    while (at < end && (*at == '0' || *at == '.'))
        at++;
    if (at == end || *at < '1' || *at > '9')
        return end;
    *exponent = at < point ? point - at - 1 : point - at;
    return at;
}

/* Up to what is far beyond any double, however long the text is. */
static long written_exponent(const char *at, const char *end)
{
    const bool negative = at < end && *at == '-';
    long value = 0;

    if (at < end && (*at == '-' || *at == '+'))
        at++;
    for (; at < end && value < FAR_EXPONENT; at++)
        value = value * 10 + (*at - '0');
    return negative ? -value : value;
}

/* Whether the digits are below those of 2^1024 - 2^970, from where on a number is nearer to
 * infinity than to DBL_MAX; as far as so many places tell. */
static bool rounds_to_finite(const char *at, const char *end)
{
    for (const char *most = "1797693134862315807937289714053034150799"; *most; most++) {
        if (at < end && *at == '.')
            at++;
        const char digit = at < end && *at >= '0' && *at <= '9' ? *at++ : '0';
        if (digit != *most)
            return digit < *most;
    }
    return false;
}

/* By its digits: strtod goes by the locale, and wants a copy. */
static bool fits_a_double(struct reader *r, struct slice number)
{
    const char *start = number.ptr + (number.ptr[0] == '-'), *end = number.ptr + number.len;
    const char *e = start;
    long exponent = 0;

    while (e < end && *e != 'e' && *e != 'E')
        e++;
    start = first_digit(start, e, &exponent);
    if (start == e)
        return true;
    exponent += e < end ? written_exponent(e + 1, end) : 0;
    return exponent < DBL_MAX_10_EXP ||
           (exponent == DBL_MAX_10_EXP && rounds_to_finite(start, e)) ||
           fail(r, JSON_IN_FAULT_NUMBER);
}

static bool take_number(struct reader *r, struct json_in *out)
{
    const char *start = r->at;
    bool exponent = false;

    take(r, '-');
    if (!take(r, '0') && !take_digits(r))
        return false;
    if (take(r, '.') && !take_digits(r))
        return false;
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        exponent = true;
        r->at++;
        if (!take(r, '+'))
            take(r, '-');
        if (!take_digits(r))
            return false;
    }
    out->kind = JSON_IN_NUMBER;
    out->text = slice_of(start, (size_t)(r->at - start));
    return (!exponent && out->text.len < SAFE_NUMBER) || fits_a_double(r, out->text);
}

static bool take_word(struct reader *r, struct json_in *out, const char *word,
                      enum json_in_kind kind)
{
    const char *start = r->at;

    for (; *word; word++)
        if (!take(r, *word))
            return unexpected(r);
    out->kind = kind;
    out->text = slice_of(start, (size_t)(r->at - start));
    return true;
}

/* ---- arrays and objects ---- */

static bool take_value(struct reader *r, struct json_in *out);

static int compare_names(const void *a, const void *b)
{
    const struct slice left = (*(const struct json_in *const *)a)->name;
    const struct slice right = (*(const struct json_in *const *)b)->name;
    const int order = memcmp(left.ptr, right.ptr, left.len < right.len ? left.len : right.len);

    return order ? order : (left.len > right.len) - (left.len < right.len);
}

static bool twice_among_few(const struct json_in *object)
{
    for (const struct json_in *a = object->first; a; a = a->next)
        for (const struct json_in *b = a->next; b; b = b->next)
            if (slice_equal(a->name, b->name))
                return true;
    return false;
}

static bool names_are_distinct(struct reader *r, const struct json_in *object)
{
    const struct json_in **sorted;
    size_t n = 0;

    if (object->len <= FEW_MEMBERS)
        return !twice_among_few(object) || fail(r, JSON_IN_FAULT_TWICE);
    sorted = arena_alloc_raw(r->arena, object->len * sizeof(*sorted));
    if (!sorted)
        return fail(r, JSON_IN_FAULT_MEMORY);
    for (const struct json_in *m = object->first; m; m = m->next)
        sorted[n++] = m;
    qsort(sorted, n, sizeof(*sorted), compare_names);
    for (size_t i = 1; i < n; i++)
        if (slice_equal(sorted[i - 1]->name, sorted[i]->name))
            return fail(r, JSON_IN_FAULT_TWICE);
    return true;
}

static struct json_in *take_member(struct reader *r, bool named)
{
    struct json_in *member = arena_alloc(r->arena, sizeof(*member));

    if (!member) {
        fail(r, JSON_IN_FAULT_MEMORY);
        return NULL;
    }
    skip_space(r);
    if (named) {
        if (!take(r, '"')) {
            unexpected(r);
            return NULL;
        }
        if (!take_string(r, true, &member->name))
            return NULL;
        skip_space(r);
        if (!take(r, ':')) {
            unexpected(r);
            return NULL;
        }
        skip_space(r);
    }
    return take_value(r, member) ? member : NULL;
}

static bool take_members(struct reader *r, struct json_in *out, char close)
{
    struct json_in **link = &out->first;

    skip_space(r);
    if (take(r, close))
        return true;
    do {
        *link = take_member(r, out->kind == JSON_IN_OBJECT);
        if (!*link)
            return false;
        link = &(*link)->next;
        out->len++;
        skip_space(r);
    } while (take(r, ','));
    return take(r, close) || unexpected(r);
}

static bool take_container(struct reader *r, struct json_in *out)
{
    const char *start = r->at;
    const bool object = *r->at++ == '{';

    if (++r->depth > r->max_depth)
        return fail(r, JSON_IN_FAULT_DEPTH);
    out->kind = object ? JSON_IN_OBJECT : JSON_IN_ARRAY;
    if (!take_members(r, out, object ? '}' : ']'))
        return false;
    r->depth--;
    out->text = slice_of(start, (size_t)(r->at - start));
    return !object || names_are_distinct(r, out);
}

static bool take_value(struct reader *r, struct json_in *out)
{
    if (r->at == r->end)
        return fail(r, JSON_IN_FAULT_END);
    switch (*r->at) {
    case '"':
        r->at++;
        out->kind = JSON_IN_STRING;
        return take_string(r, false, &out->text);
    case '{':
    case '[': return take_container(r, out);
    case 't': return take_word(r, out, "true", JSON_IN_BOOL);
    case 'f': return take_word(r, out, "false", JSON_IN_BOOL);
    case 'n': return take_word(r, out, "null", JSON_IN_NULL);
    default: return take_number(r, out);
    }
}

/* ---- the text ---- */

static void locate(const struct reader *r, const char *start, struct json_in_error *err)
{
    *err = (struct json_in_error){.fault = r->fault, .line = 1, .column = 1};
    for (const char *c = start; c < r->at; c++) {
        err->column++;
        if (*c == '\n') {
            err->line++;
            err->column = 1;
        }
    }
}

struct json_in *json_in_parse(struct arena *arena, struct slice text, unsigned max_depth,
                              struct json_in_error *err)
{
    struct reader r = {
        .at = text.ptr, .end = text.ptr + text.len, .arena = arena, .max_depth = max_depth};
    struct json_in *root = arena_alloc(arena, sizeof(*root));

    *err = (struct json_in_error){0};
    skip_space(&r);
    if (!root)
        fail(&r, JSON_IN_FAULT_MEMORY);
    else if (r.at == r.end || (*r.at != '{' && *r.at != '['))
        unexpected(&r);
    else
        take_container(&r, root);
    if (!r.fault) {
        skip_space(&r);
        if (r.at < r.end)
            fail(&r, JSON_IN_FAULT_TRAILER);
    }
    if (!r.fault)
        return root;
    locate(&r, text.ptr, err);
    return NULL;
}

const struct json_in *json_in_get(const struct json_in *object, const char *name)
{
    const size_t len = strlen(name);

    if (!object || object->kind != JSON_IN_OBJECT)
        return NULL;
    for (const struct json_in *m = object->first; m; m = m->next)
        if (m->name.len == len && memcmp(m->name.ptr, name, len) == 0)
            return m;
    return NULL;
}
