#include "email/smtp_reply.h"

void smtp_reply_parser_init(struct smtp_reply_parser *p)
{
    p->lines = p->bytes = p->column = 0;
    p->more = p->after_cr = p->full = p->complete = p->broken = false;
    p->reply.code = 0;
    p->reply.len = 0;
    p->reply.text[0] = '\0';
}

/* All of it or nothing, so that an escape is never cut. */
static void keep(struct smtp_reply_parser *p, const char *text, size_t len)
{
    struct smtp_reply *r = &p->reply;

    if (p->full || len > OUTCOME_MAX_REPLY - r->len) {
        p->full = true;
        return;
    }
    memcpy(r->text + r->len, text, len);
    r->len += len;
    r->text[r->len] = '\0';
}

static void keep_byte(struct smtp_reply_parser *p, unsigned char c)
{
    static const char hex[] = "0123456789ABCDEF";

    if (c >= 0x20 && c < 0x7F && c != '\\')
        keep(p, (const char[]){(char)c}, 1);
    else
        keep(p, (const char[]){'\\', 'x', hex[c >> 4], hex[c & 15]}, 4);
}

/* The three digits are complete: reply-code = %x32-35 %x30-39 %x30-39, the same on each line. */
static bool take_code(struct smtp_reply_parser *p)
{
    const int code = (p->code[0] - '0') * 100 + (p->code[1] - '0') * 10 + (p->code[2] - '0');

    if (p->code[0] < '2' || p->code[0] > '5' || (p->lines && code != p->reply.code))
        return false;
    if (p->lines)
        keep(p, " / ", 3);
    else
        keep(p, p->code, 3);
    p->reply.code = code;
    return true;
}

static bool take_text(struct smtp_reply_parser *p, char c)
{
    if (p->column < 3) {
        if (c < '0' || c > '9')
            return false;
        p->code[p->column] = c;
        return p->column++ < 2 || take_code(p);
    }
    if (p->column++ == 3) {
        p->more = c == '-';
        if (p->lines == 0)
            keep(p, " ", 1);
        return c == ' ' || c == '-';
    }
    keep_byte(p, (unsigned char)c);
    return p->column <= SMTP_REPLY_MAX_LINE;
}

static bool end_line(struct smtp_reply_parser *p)
{
    if (p->column < 3)
        return false;
    p->lines++;
    p->column = 0;
    p->complete = !p->more;
    p->more = false;
    return p->lines < SMTP_REPLY_MAX_LINES || p->complete;
}

static bool take_byte(struct smtp_reply_parser *p, char c)
{
    if (++p->bytes > SMTP_REPLY_MAX_BYTES)
        return false;
    if (c == '\n') { /* a bare LF ends a line too, as everybody's clients have it */
        p->after_cr = false;
        return end_line(p);
    }
    if (p->after_cr && !take_text(p, '\r'))
        return false;
    p->after_cr = c == '\r';
    return p->after_cr || take_text(p, c);
}

enum smtp_reply_state smtp_reply_feed(struct smtp_reply_parser *p, struct slice bytes, size_t *used)
{
    *used = 0;
    if (p->complete)
        smtp_reply_parser_init(p);
    while (!p->broken && *used < bytes.len) {
        if (!take_byte(p, bytes.ptr[(*used)++]))
            p->broken = true;
        else if (p->complete)
            return SMTP_REPLY_READY;
    }
    return p->broken ? SMTP_REPLY_BROKEN : SMTP_REPLY_MORE;
}
