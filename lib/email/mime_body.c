#include "email/mime_body.h"

#include "email/mime_base64.h"
#include "email/mime_chars.h"
#include "email/mime_qp.h"

static bool looks_like_boundary(struct slice line)
{
    static const char start[] = "--" MIME_BOUNDARY_START;

    return line.len >= sizeof(start) - 1 && !memcmp(line.ptr, start, sizeof(start) - 1);
}

/* Counts what quoted-printable would encode; true where the line can also be sent as it is. */
static bool scan_line(struct slice line, size_t *encoded)
{
    unsigned common = MIME_7BIT_OK;
    size_t literal = 0;

    for (size_t i = 0; i < line.len; i++) {
        unsigned classes = mime_class[(unsigned char)line.ptr[i]];
        common &= classes;
        literal += (classes & MIME_QP_OK) != 0;
    }
    *encoded += line.len - literal;
    return common && line.len <= MIME_MAX_7BIT_LINE && !mime_line_start_is_unsafe(line) &&
           !looks_like_boundary(line) && !(line.len && mime_is_blank(line.ptr[line.len - 1]));
}

static bool base64_is_shorter(size_t text, size_t encoded, size_t lines)
{
    size_t quoted = text + 2 * encoded + lines;
    size_t base64 = mime_base64_len(text + lines);

    return base64 + base64 / 76 * 2 < quoted + quoted / 76 * 3;
}

struct mime_text_plan mime_plan_text(struct slice text)
{
    struct mime_text_plan plan = {.encoding = MIME_7BIT};
    struct slice rest = text;
    struct mime_text_line line = {.ended = true};
    bool as_it_is = true;

    while (mime_next_line(&rest, &line)) {
        as_it_is &= scan_line(line.text, &plan.encoded);
        plan.lines++;
    }
    if (!as_it_is)
        plan.encoding = base64_is_shorter(text.len, plan.encoded, plan.lines)
                            ? MIME_BASE64
                            : MIME_QUOTED_PRINTABLE;
    return plan;
}

static void write_7bit(struct buf *out, struct slice text, size_t lines, bool ends_message)
{
    struct mime_text_line line;
    char *end;

    if (!buf_reserve(out, text.len + lines + 2))
        return;
    end = out->ptr + out->len;
    while (mime_next_line(&text, &line)) {
        memcpy(end, line.text.ptr, line.text.len);
        end += line.text.len;
        if (line.ended || ends_message) { /* only the last one can be without */
            *end++ = '\r';
            *end++ = '\n';
        }
    }
    mime_commit(out, end);
}

void mime_write_text(struct buf *out, struct slice text, const struct mime_text_plan *plan,
                     enum mime_position position)
{
    bool ends_message = position == MIME_ENDS_MESSAGE;

    switch (plan->encoding) {
    case MIME_7BIT: write_7bit(out, text, plan->lines, ends_message); break;
    case MIME_QUOTED_PRINTABLE:
        mime_qp_text(out, text, plan->encoded, plan->lines, ends_message);
        break;
    case MIME_BASE64:
        mime_base64_text(out, text);
        if (ends_message)
            buf_add_str(out, "\r\n");
        break;
    }
}

const char *mime_encoding_name(enum mime_encoding encoding)
{
    switch (encoding) {
    case MIME_QUOTED_PRINTABLE: return "quoted-printable";
    case MIME_BASE64: return "base64";
    case MIME_7BIT: break;
    }
    return "7bit";
}
