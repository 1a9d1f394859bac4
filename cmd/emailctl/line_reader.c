#include "line_reader.h"

#include <errno.h>

enum line_read line_reader_next(struct line_reader *r, struct slice *line)
{
    bool too_long = false;
    int c = EOF;

    buf_clear(&r->line);
    errno = 0;
    while ((c = getc_unlocked(r->from)) != EOF && c != '\n') {
        r->bytes++;
        if (r->line.len > r->max)
            too_long = true;
        else
            buf_add_char(&r->line, (char)c);
    }
    r->bytes += c == '\n';
    if (c == EOF && ferror(r->from))
        return LINE_FAILED;
    if (c == EOF && r->line.len == 0)
        return LINE_END;
    if (r->line.failed) {
        errno = ENOMEM;
        return LINE_FAILED;
    }
    r->number++;
    *line = buf_slice(&r->line);
    if (line->len && line->ptr[line->len - 1] == '\r')
        line->len--;
    return too_long || line->len > r->max ? LINE_TOO_LONG : LINE_READ;
}

void line_reader_cleanup(struct line_reader *r)
{
    buf_cleanup(&r->line);
}
