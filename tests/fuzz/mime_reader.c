#include "mime_reader.h"

#include <strings.h>

#include "base/utf8.h"
#include "fuzz.h"

static const char crlf[] = "\r\n";

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct slice from(struct slice s, size_t at)
{
    return slice_of(s.ptr + at, s.len - at);
}

static struct slice trim(struct slice s)
{
    while (s.len && is_blank(s.ptr[0]))
        s = from(s, 1);
    while (s.len && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

static bool begins(struct slice s, const char *with)
{
    return s.len >= strlen(with) && memcmp(s.ptr, with, strlen(with)) == 0;
}

static const char *find(struct slice s, const char *what)
{
    return s.len ? memmem(s.ptr, s.len, what, strlen(what)) : NULL;
}

static bool same_word(struct slice s, const char *word)
{
    return s.len == strlen(word) && strncasecmp(s.ptr, word, s.len) == 0;
}

/* Memory to write a result of at most `most` bytes to. */
static char *room(struct arena *arena, size_t most)
{
    char *out = arena_alloc(arena, most + 1);

    REQUIRE(out);
    return out;
}

/* ---- the wire ---- */

void mime_check_wire(struct slice bytes, bool utf8)
{
    size_t column = 0;

    for (size_t i = 0; i < bytes.len; i++) {
        const unsigned char c = (unsigned char)bytes.ptr[i];
        if (c == '\r') {
            REQUIRE(i + 1 < bytes.len && bytes.ptr[i + 1] == '\n');
        } else if (c == '\n') {
            REQUIRE(i > 0 && bytes.ptr[i - 1] == '\r');
            column = 0;
        } else {
            REQUIRE(c != '\0' && (utf8 || c < 0x80));
            REQUIRE(++column <= 998);
        }
    }
    REQUIRE(bytes.len >= 2 && memcmp(bytes.ptr + bytes.len - 2, crlf, 2) == 0);
}

/* ---- header ---- */

/* The first field, all its lines; the rest of the header. */
static struct slice take_field(struct slice *rest)
{
    struct slice left = *rest;
    size_t len = 0;

    do {
        const char *end = find(left, crlf);
        REQUIRE(end);
        len += (size_t)(end - left.ptr) + 2;
        left = from(*rest, len);
    } while (left.len && is_blank(left.ptr[0]));
    left = slice_of(rest->ptr, len - 2);
    *rest = from(*rest, len);
    return left;
}

static struct slice unfold(struct arena *arena, struct slice field)
{
    char *out = room(arena, field.len);
    size_t len = 0;

    for (size_t i = 0; i < field.len; i++)
        if (field.ptr[i] != '\r' && field.ptr[i] != '\n')
            out[len++] = field.ptr[i];
    return slice_of(out, len);
}

static bool add_field(struct arena *arena, struct slice field, struct mime_entity *out)
{
    const char *colon = memchr(field.ptr, ':', field.len);
    struct slice value;

    if (!colon || colon == field.ptr)
        return false;
    for (const char *c = field.ptr; c < colon; c++)
        if (*c <= ' ' || *c > '~')
            return false;
    REQUIRE(out->headers_len < MIME_READER_MAX_HEADERS);
    value = unfold(arena, slice_of(colon + 1, (size_t)(field.ptr + field.len - colon) - 1));
    if (value.len && value.ptr[0] == ' ')
        value = from(value, 1);
    out->headers[out->headers_len++] =
        (struct mime_field){slice_of(field.ptr, (size_t)(colon - field.ptr)), value};
    return true;
}

bool mime_parse(struct arena *arena, struct slice bytes, struct mime_entity *out)
{
    out->headers_len = 0;
    while (bytes.len && !begins(bytes, crlf))
        if (!add_field(arena, take_field(&bytes), out))
            return false;
    if (bytes.len < 2)
        return false;
    out->body = from(bytes, 2);
    return true;
}

struct slice mime_field(const struct mime_entity *entity, const char *name)
{
    struct slice found = {NULL, 0};

    for (size_t i = 0; i < entity->headers_len; i++)
        if (same_word(entity->headers[i].name, name)) {
            REQUIRE(!found.ptr);
            found = entity->headers[i].value;
        }
    return found;
}

/* ---- transfer encodings ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* =XX or %XX */
static char escaped_byte(struct slice text, size_t at)
{
    int high, low;

    REQUIRE(at + 2 < text.len);
    high = hex_digit(text.ptr[at + 1]);
    low = hex_digit(text.ptr[at + 2]);
    REQUIRE(high >= 0 && low >= 0);
    return (char)(high * 16 + low);
}

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

/* Strict but for line breaks, which only lines of 76 characters have before the last. */
static struct slice decode_base64(struct arena *arena, struct slice text)
{
    char *out = room(arena, text.len);
    size_t len = 0, column = 0, digits = 0;
    uint32_t bits = 0;
    unsigned padding = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\r') {
            REQUIRE(column == 76 || i + 2 == text.len);
            column = 0;
            i++;
            continue;
        }
        column++;
        padding += text.ptr[i] == '=';
        REQUIRE(text.ptr[i] == '=' || (base64_digit(text.ptr[i]) >= 0 && padding == 0));
        bits = bits << 6 | (text.ptr[i] == '=' ? 0 : (uint32_t)base64_digit(text.ptr[i]));
        if (++digits % 4 == 0) {
            out[len++] = (char)(bits >> 16);
            out[len++] = (char)(bits >> 8);
            out[len++] = (char)bits;
        }
        REQUIRE(column <= 76);
    }
    REQUIRE(digits % 4 == 0 && padding <= 2);
    return slice_of(out, len - padding);
}

static struct slice decode_quoted_printable(struct arena *arena, struct slice text)
{
    char *out = room(arena, text.len);
    size_t len = 0, column = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\r') {
            REQUIRE(column == 0 || !is_blank(text.ptr[i - 1]));
            column = 0;
            out[len++] = '\r';
            out[len++] = '\n';
            i++;
        } else if (text.ptr[i] != '=') {
            out[len++] = text.ptr[i];
            column++;
        } else if (begins(from(text, i + 1), crlf)) { /* a soft line break */
            column = 0;
            i += 2;
        } else {
            out[len++] = escaped_byte(text, i);
            column += 3;
            i += 2;
        }
        REQUIRE(column <= 76);
    }
    return slice_of(out, len);
}

struct slice mime_decode_body(struct arena *arena, const struct mime_entity *entity)
{
    struct slice encoding = mime_field(entity, "Content-Transfer-Encoding");

    if (same_word(encoding, "base64"))
        return decode_base64(arena, entity->body);
    if (same_word(encoding, "quoted-printable"))
        return decode_quoted_printable(arena, entity->body);
    REQUIRE(!encoding.ptr || same_word(encoding, "7bit"));
    return entity->body;
}

/* ---- encoded-words (RFC 2047) ---- */

static struct slice decode_q(struct arena *arena, struct slice text)
{
    char *out = room(arena, text.len);
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '_') {
            out[len++] = ' ';
        } else if (text.ptr[i] == '=') {
            out[len++] = escaped_byte(text, i);
            i += 2;
        } else {
            REQUIRE(text.ptr[i] != ' ' && text.ptr[i] != '?');
            out[len++] = text.ptr[i];
        }
    }
    return slice_of(out, len);
}

/* Length of the encoded-word at the start of `text`, 0 where there is none; `out` is its text. */
static size_t decode_word(struct arena *arena, struct slice text, struct slice *out)
{
    static const char q[] = "=?utf-8?Q?", b[] = "=?utf-8?B?";
    const size_t start = sizeof(q) - 1;
    const bool base64 = begins(text, b);
    const char *end;
    size_t len;

    if (!base64 && !begins(text, q))
        return 0;
    end = find(from(text, start), "?=");
    if (!end || memchr(text.ptr, ' ', (size_t)(end - text.ptr)))
        return 0;
    len = (size_t)(end - text.ptr) + 2;
    REQUIRE(len <= 75);
    *out = slice_of(text.ptr + start, len - start - 2);
    *out = base64 ? decode_base64(arena, *out) : decode_q(arena, *out);
    REQUIRE(utf8_valid(*out)); /* no word ends within a character */
    return len;
}

struct slice mime_decode_words(struct arena *arena, struct slice value)
{
    char *out = room(arena, value.len * 2);
    size_t len = 0;
    bool after_word = false;

    while (value.len) {
        struct slice word = {NULL, 0};
        size_t blanks = 0, used;
        while (blanks < value.len && is_blank(value.ptr[blanks]))
            blanks++;
        used = decode_word(arena, from(value, blanks), &word);
        if (!used || !after_word) {
            memcpy(out + len, value.ptr, blanks);
            len += blanks;
        }
        value = from(value, blanks);
        after_word = used > 0;
        if (!used) {
            while (used < value.len && !is_blank(value.ptr[used]))
                used++;
            word = slice_of(value.ptr, used);
        }
        memcpy(out + len, word.ptr, word.len);
        len += word.len;
        value = from(value, used);
    }
    return slice_of(out, len);
}

/* ---- structured fields ---- */

/* The quoted string at the start of `text`, decoded; its length in the text. */
static size_t take_quoted(struct arena *arena, struct slice text, struct slice *out)
{
    char *copy = room(arena, text.len);
    size_t len = 0, i;

    REQUIRE(text.len && text.ptr[0] == '"');
    for (i = 1; i < text.len && text.ptr[i] != '"'; i++) {
        if (text.ptr[i] == '\\')
            i++;
        REQUIRE(i < text.len);
        copy[len++] = text.ptr[i];
    }
    REQUIRE(i < text.len);
    *out = slice_of(copy, len);
    return i + 1;
}

/* Index of the next `c` outside quoted strings and angle brackets; s.len where there is none. */
static size_t find_outside(struct slice s, char c)
{
    bool quoted = false, bracketed = false;
    size_t i;

    for (i = 0; i < s.len; i++) {
        if (quoted && s.ptr[i] == '\\')
            i++;
        else if (s.ptr[i] == '"')
            quoted = !quoted;
        else if (!quoted && !bracketed && s.ptr[i] == c)
            return i;
        else if (!quoted && (s.ptr[i] == '<' || s.ptr[i] == '>'))
            bracketed = s.ptr[i] == '<';
    }
    return s.len;
}

static struct slice take_phrase(struct arena *arena, struct slice phrase)
{
    struct slice name = phrase;

    if (phrase.len && phrase.ptr[0] == '"') {
        REQUIRE(take_quoted(arena, phrase, &name) == phrase.len);
        return name;
    }
    for (size_t i = 0; i < phrase.len; i++)
        REQUIRE(!strchr("()<>[]:;@\\,.\"", phrase.ptr[i]));
    return mime_decode_words(arena, phrase);
}

static struct mime_mailbox take_mailbox(struct arena *arena, struct slice one)
{
    const size_t open = find_outside(one, '<');

    REQUIRE(one.len);
    if (open == one.len)
        return (struct mime_mailbox){.name = slice_of("", 0), .spec = one};
    REQUIRE(one.ptr[one.len - 1] == '>');
    return (struct mime_mailbox){.name = take_phrase(arena, trim(slice_of(one.ptr, open))),
                                 .spec = slice_of(one.ptr + open + 1, one.len - open - 2)};
}

size_t mime_mailboxes(struct arena *arena, struct slice value, struct mime_mailbox *out, size_t max)
{
    size_t count = 0;
    bool more = true;

    while (more) {
        const size_t comma = find_outside(value, ',');
        REQUIRE(count < max);
        out[count++] = take_mailbox(arena, trim(slice_of(value.ptr, comma)));
        more = comma < value.len;
        value = from(value, more ? comma + 1 : comma);
    }
    return count;
}

static size_t decode_percent(char *out, struct slice text)
{
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '%') {
            out[len++] = escaped_byte(text, i);
            i += 2;
        } else {
            out[len++] = text.ptr[i];
        }
    }
    return len;
}

/* RFC 2231: name*=, name*0*=, name*1*=, … in order. */
static struct slice take_extended(struct arena *arena, struct slice params, const char *name)
{
    char *out = room(arena, params.len);
    size_t len = 0;

    for (unsigned section = 0;; section++) {
        char numbered[40], single[40];
        bool found = false;
        snprintf(numbered, sizeof(numbered), "%s*%u*=", name, section);
        snprintf(single, sizeof(single), "%s*=", name);
        for (struct slice rest = params; rest.len && !found;) {
            const size_t end = find_outside(rest, ';');
            struct slice one = trim(slice_of(rest.ptr, end));
            const char *start = begins(one, numbered)                 ? numbered
                                : section == 0 && begins(one, single) ? single
                                                                      : NULL;
            rest = from(rest, end < rest.len ? end + 1 : end);
            if (!start)
                continue;
            found = true;
            one = from(one, strlen(start));
            if (section == 0) {
                REQUIRE(begins(one, "utf-8''"));
                one = from(one, 7);
            }
            len += decode_percent(out + len, one);
        }
        if (!found)
            return section ? slice_of(out, len) : slice_of(NULL, 0);
    }
}

struct slice mime_parameter(struct arena *arena, struct slice value, const char *name)
{
    const size_t semicolon = find_outside(value, ';');
    struct slice rest = from(value, semicolon < value.len ? semicolon + 1 : semicolon);
    const struct slice params = rest;
    const size_t len = strlen(name);

    while (rest.len) {
        const size_t end = find_outside(rest, ';');
        struct slice one = trim(slice_of(rest.ptr, end)), out;
        rest = from(rest, end < rest.len ? end + 1 : end);
        if (one.len <= len || strncasecmp(one.ptr, name, len) != 0 || one.ptr[len] != '=')
            continue;
        one = from(one, len + 1);
        if (one.len && one.ptr[0] == '"') {
            REQUIRE(take_quoted(arena, one, &out) == one.len);
            return out;
        }
        return one;
    }
    return take_extended(arena, params, name);
}

/* ---- multipart ---- */

size_t mime_parts(struct arena *arena, const struct mime_entity *entity, struct slice *parts,
                  size_t max)
{
    struct slice boundary = mime_parameter(arena, mime_field(entity, "Content-Type"), "boundary");
    char delimiter[80];
    struct slice rest = entity->body;
    size_t count = 0;
    const char *end;

    REQUIRE(boundary.len > 0 && boundary.len <= 70);
    snprintf(delimiter, sizeof(delimiter), "\r\n--%.*s", SLICE_ARG(boundary));
    REQUIRE(begins(rest, delimiter + 2)); /* no preamble */
    rest = from(rest, strlen(delimiter) - 2);
    while (!begins(rest, "--")) {
        REQUIRE(begins(rest, crlf) && count < max);
        rest = from(rest, 2);
        end = find(rest, delimiter);
        REQUIRE(end);
        parts[count++] = slice_of(rest.ptr, (size_t)(end - rest.ptr));
        rest = from(rest, (size_t)(end - rest.ptr) + strlen(delimiter));
    }
    REQUIRE(rest.len == 2 || (rest.len == 4 && memcmp(rest.ptr + 2, crlf, 2) == 0));
    return count;
}
