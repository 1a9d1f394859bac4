#include "idempotency/claim_object.h"

#include <errno.h>
#include <stdlib.h>

enum { MAX_DEPTH = 32, NUMBER_SIZE = 24 };

struct cursor {
    const char *at, *end;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

/* Skips white space and takes `wanted` if it comes next. */
static bool take(struct cursor *c, char wanted)
{
    skip_space(c);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool scan_string(struct cursor *c, struct slice *out)
{
    const char *start;

    if (!take(c, '"'))
        return false;
    for (start = c->at; c->at < c->end && *c->at != '"'; c->at++) {
        if ((unsigned char)*c->at < 0x20)
            return false;
        if (*c->at == '\\' && ++c->at == c->end)
            return false;
    }
    if (c->at == c->end)
        return false;
    *out = slice_of(start, (size_t)(c->at++ - start));
    return true;
}

/* A number, true, false or null: told apart by who reads the result. */
static bool scan_word(struct cursor *c, struct slice *out)
{
    const char *start;

    skip_space(c);
    for (start = c->at; c->at < c->end; c->at++) {
        char ch = *c->at;
        bool in = (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z') || ch == '-' || ch == '+' ||
                  ch == '.' || ch == 'E';
        if (!in)
            break;
    }
    *out = slice_of(start, (size_t)(c->at - start));
    if (!out->len)
        return false;
    return slice_is(*out, "true") || slice_is(*out, "false") || slice_is(*out, "null") ||
           *out->ptr == '-' || (*out->ptr >= '0' && *out->ptr <= '9');
}

static bool skip_value(struct cursor *c, unsigned depth);

static bool skip_members(struct cursor *c, char close, unsigned depth)
{
    struct slice name;

    if (take(c, close))
        return true;
    do {
        if (close == '}' && (!scan_string(c, &name) || !take(c, ':')))
            return false;
        if (!skip_value(c, depth))
            return false;
    } while (take(c, ','));
    return take(c, close);
}

static bool skip_value(struct cursor *c, unsigned depth)
{
    struct slice ignored;

    if (depth == MAX_DEPTH)
        return false;
    if (take(c, '{'))
        return skip_members(c, '}', depth + 1);
    if (take(c, '['))
        return skip_members(c, ']', depth + 1);
    if (c->at < c->end && *c->at == '"')
        return scan_string(c, &ignored);
    return scan_word(c, &ignored);
}

static int64_t read_integer(struct slice text)
{
    char digits[NUMBER_SIZE];
    char *end;
    long long value;

    if (text.len >= sizeof(digits))
        return -1;
    memcpy(digits, text.ptr, text.len);
    digits[text.len] = '\0';
    errno = 0;
    value = strtoll(digits, &end, 10);
    return errno || *end || end == digits ? -1 : value;
}

static bool read_member(struct cursor *c, struct slice name, struct claim_object *out)
{
    const struct {
        const char *name;
        struct slice *text;
        int64_t *number;
    } members[] = {
        {"state", &out->state, NULL},
        {"token", &out->token, NULL},
        {"fp", &out->fp, NULL},
        {"topic", &out->topic, NULL},
        {"reason", &out->reason, NULL},
        {"deadAt", &out->dead_at, NULL},
        {"partition", NULL, &out->partition},
        {"offset", NULL, &out->offset},
        {"published", NULL, &out->published},
    };
    const struct cursor before = *c;
    struct slice value;

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (!slice_is(name, members[i].name))
            continue;
        if (members[i].text && scan_string(c, members[i].text))
            return true;
        if (members[i].number && scan_word(c, &value)) {
            *members[i].number = read_integer(value);
            return true;
        }
        *c = before; /* of another type: as if it were absent */
    }
    return skip_value(c, 1);
}

bool claim_object_parse(struct slice text, struct claim_object *out)
{
    struct cursor c = {text.ptr, text.ptr + text.len};
    struct slice name;

    *out = (struct claim_object){.partition = -1, .offset = -1, .published = -1};
    if (!text.ptr || !take(&c, '{'))
        return false;
    if (!take(&c, '}')) {
        do {
            if (!scan_string(&c, &name) || !take(&c, ':') || !read_member(&c, name, out))
                return false;
        } while (take(&c, ','));
        if (!take(&c, '}'))
            return false;
    }
    skip_space(&c);
    return c.at == c.end;
}
