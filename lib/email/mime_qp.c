#include "email/mime_qp.h"

#include "email/mime_chars.h"

enum { MAX_COLUMN = 76 };

bool mime_next_line(struct slice *rest, struct mime_text_line *line)
{
    const char *lf;

    if (!rest->len)
        return false;
    lf = memchr(rest->ptr, '\n', rest->len);
    line->ended = lf != NULL;
    line->text = slice_of(rest->ptr, lf ? (size_t)(lf - rest->ptr) : rest->len);
    rest->ptr += line->text.len + line->ended;
    rest->len -= line->text.len + line->ended;
    if (line->ended && line->text.len && line->text.ptr[line->text.len - 1] == '\r')
        line->text.len--;
    return true;
}

bool mime_line_start_is_unsafe(struct slice text)
{
    return text.len && (text.ptr[0] == '.' ||
                        (text.ptr[0] == 'F' && text.len >= 5 && !memcmp(text.ptr, "From ", 5)));
}

static bool stands_for_itself(struct slice line)
{
    if (mime_line_start_is_unsafe(line) || (line.len && mime_is_blank(line.ptr[line.len - 1])))
        return false;
    for (size_t i = 0; i < line.len; i++)
        if (!mime_is(line.ptr[i], MIME_QP_OK))
            return false;
    return true;
}

static bool must_encode(struct slice rest, bool at_line_start)
{
    return !mime_is(rest.ptr[0], MIME_QP_OK) || (rest.len == 1 && mime_is_blank(rest.ptr[0])) ||
           (at_line_start && mime_line_start_is_unsafe(rest));
}

/* One line, broken softly where it is too long. max_end: how far the last character may reach. */
static char *put_line(char *out, struct slice rest, size_t max_end)
{
    size_t column = 0;

    for (; rest.len; rest.ptr++, rest.len--) {
        bool encode = must_encode(rest, column == 0);
        size_t width = encode ? 3 : 1;
        if (width > (rest.len == 1 ? max_end : MAX_COLUMN - 1) - column) {
            memcpy(out, "=\r\n", 3);
            out += 3;
            column = 0;
            encode = must_encode(rest, true);
            width = encode ? 3 : 1;
        }
        if (encode)
            out = mime_put_hex(out, '=', rest.ptr[0]);
        else
            *out++ = rest.ptr[0];
        column += width;
    }
    return out;
}

/* Each line may need a CR, its first and its last byte encoded. A soft break costs 3 bytes, comes
 * after at least 73 columns, and may need the byte after it encoded. */
static size_t bound(size_t text, size_t encoded, size_t lines)
{
    size_t content = text + 2 * encoded + 5 * lines;

    return content + content / 60 * 5 + 8;
}

void mime_qp_text(struct buf *out, struct slice text, size_t encoded, size_t lines, bool soft_end)
{
    struct mime_text_line line;
    char *end;

    if (!buf_reserve(out, bound(text.len, encoded, lines)))
        return;
    end = out->ptr + out->len;
    while (mime_next_line(&text, &line)) {
        size_t max_end = !line.ended && soft_end ? MAX_COLUMN - 1 : MAX_COLUMN;
        if (line.text.len <= max_end && stands_for_itself(line.text)) {
            memcpy(end, line.text.ptr, line.text.len);
            end += line.text.len;
        } else {
            end = put_line(end, line.text, max_end);
        }
        if (!line.ended && soft_end)
            *end++ = '=';
        if (line.ended || soft_end) {
            *end++ = '\r';
            *end++ = '\n';
        }
    }
    mime_commit(out, end);
}
