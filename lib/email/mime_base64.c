#include "email/mime_base64.h"

#include "email/mime_chars.h"

enum { LINE_BYTES = 57 /* become 76 characters */ };

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *mime_base64_put(char *out, const char *bytes, size_t len)
{
    const unsigned char *in = (const unsigned char *)bytes;

    for (; len >= 3; len -= 3, in += 3) {
        *out++ = alphabet[in[0] >> 2];
        *out++ = alphabet[(in[0] & 3) << 4 | in[1] >> 4];
        *out++ = alphabet[(in[1] & 15) << 2 | in[2] >> 6];
        *out++ = alphabet[in[2] & 63];
    }
    if (len) {
        unsigned second = len == 2 ? in[1] : 0;
        *out++ = alphabet[in[0] >> 2];
        *out++ = alphabet[(in[0] & 3) << 4 | second >> 4];
        *out++ = len == 2 ? alphabet[(second & 15) << 2] : '=';
        *out++ = '=';
    }
    return out;
}

static char *put_crlf(char *out)
{
    *out++ = '\r';
    *out++ = '\n';
    return out;
}

static bool reserve_lines(struct buf *out, size_t bytes)
{
    return buf_reserve(out, mime_base64_len(bytes) + bytes / LINE_BYTES * 2);
}

void mime_base64_bytes(struct buf *out, struct slice bytes)
{
    char *end;

    if (!reserve_lines(out, bytes.len))
        return;
    end = out->ptr + out->len;
    while (bytes.len > LINE_BYTES) {
        end = put_crlf(mime_base64_put(end, bytes.ptr, LINE_BYTES));
        bytes.ptr += LINE_BYTES;
        bytes.len -= LINE_BYTES;
    }
    mime_commit(out, mime_base64_put(end, bytes.ptr, bytes.len));
}

static size_t count_bare_lf(struct slice text)
{
    size_t count = 0;

    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] == '\n' && (i == 0 || text.ptr[i - 1] != '\r'))
            count++;
    return count;
}

void mime_base64_text(struct buf *out, struct slice text)
{
    char line[LINE_BYTES + 1]; /* a CRLF may reach one byte beyond */
    size_t len = 0;
    char previous = '\0', *end;

    if (!reserve_lines(out, text.len + count_bare_lf(text)))
        return;
    end = out->ptr + out->len;
    for (size_t i = 0; i < text.len; i++) {
        if (len >= LINE_BYTES) {
            end = put_crlf(mime_base64_put(end, line, LINE_BYTES));
            line[0] = line[LINE_BYTES];
            len -= LINE_BYTES;
        }
        if (text.ptr[i] == '\n' && previous != '\r')
            line[len++] = '\r';
        line[len++] = previous = text.ptr[i];
    }
    if (len > LINE_BYTES) {
        end = put_crlf(mime_base64_put(end, line, LINE_BYTES));
        line[0] = line[LINE_BYTES];
        len -= LINE_BYTES;
    }
    mime_commit(out, mime_base64_put(end, line, len));
}
