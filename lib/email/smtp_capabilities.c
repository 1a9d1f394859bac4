#include "email/smtp_capabilities.h"

#include <strings.h>

static struct slice trim_end(struct slice line)
{
    while (line.len && strchr("\r\n \t", line.ptr[line.len - 1]))
        line.len--;
    return line;
}

/* True where the line's keyword is `name`; *rest is what follows it. */
static bool keyword(struct slice line, const char *name, struct slice *rest)
{
    const size_t len = strlen(name);

    if (line.len < len || strncasecmp(line.ptr, name, len) != 0)
        return false;
    if (line.len > len && line.ptr[len] != ' ' && line.ptr[len] != '=')
        return false; /* "AUTH=LOGIN" is an old, still seen spelling */
    *rest = line.len > len ? slice_of(line.ptr + len + 1, line.len - len - 1) : slice_of("", 0);
    return true;
}

static uint64_t read_size(struct slice digits)
{
    uint64_t value = 0;

    for (size_t i = 0; i < digits.len; i++) {
        const char c = digits.ptr[i];
        if (c < '0' || c > '9')
            return 0;
        if (value > (UINT64_MAX - 9) / 10)
            return 0; /* beyond any message: as good as no limit */
        value = value * 10 + (uint64_t)(c - '0');
    }
    return value;
}

static void take_keyword(struct smtp_capabilities *c, struct slice line)
{
    struct slice rest;

    if (keyword(line, "PIPELINING", &rest))
        c->pipelining = true;
    else if (keyword(line, "8BITMIME", &rest))
        c->eightbitmime = true;
    else if (keyword(line, "SMTPUTF8", &rest))
        c->smtputf8 = true;
    else if (keyword(line, "STARTTLS", &rest))
        c->starttls = true;
    else if (keyword(line, "AUTH", &rest))
        c->auth = true;
    else if (keyword(line, "ENHANCEDSTATUSCODES", &rest))
        c->enhanced_codes = true;
    else if (keyword(line, "SIZE", &rest)) {
        c->size = true;
        c->max_size = read_size(rest);
    }
}

void smtp_capabilities_line(struct smtp_capabilities *c, struct slice line)
{
    bool more;

    line = trim_end(line);
    if (line.len < 3)
        return;
    if (memcmp(line.ptr, "220", 3) == 0)
        *c = (struct smtp_capabilities){0};
    if (memcmp(line.ptr, "250", 3) != 0)
        return;
    more = line.len > 3 && line.ptr[3] == '-';
    if (!c->in_reply)
        *c = (struct smtp_capabilities){0}; /* the first line names the relay */
    else if (line.len > 4)
        take_keyword(c, slice_of(line.ptr + 4, line.len - 4));
    c->in_reply = more;
}
