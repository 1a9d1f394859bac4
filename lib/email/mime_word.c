#include "email/mime_word.h"

#include "email/mime_base64.h"
#include "email/mime_chars.h"

enum {
    MAX_WORD = 75,
    OVERHEAD = 12, /* =?utf-8?Q?…?= */
    MAX_PAYLOAD = MAX_WORD - OVERHEAD,
    MAX_CHAR = 12 /* a character of 4 bytes, each as =XX */
};

static size_t q_width(char c, unsigned literal)
{
    return c == ' ' || mime_is(c, literal) ? 1 : 3;
}

static size_t q_len(struct slice text, unsigned literal)
{
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++)
        len += q_width(text.ptr[i], literal);
    return len;
}

/* How many bytes, whole characters all, fit into a payload of `room`. */
static size_t fit(struct slice text, size_t room, bool base64, unsigned literal)
{
    size_t bytes = 0, width = 0;

    while (bytes < text.len) {
        struct slice rest = slice_of(text.ptr + bytes, text.len - bytes);
        size_t len = mime_char_len(rest);
        width =
            base64 ? mime_base64_len(bytes + len) : width + q_len(slice_of(rest.ptr, len), literal);
        if (width > room)
            break;
        bytes += len;
    }
    return bytes;
}

/* Ends the word behind a space where there is one: some decoders wrongly keep the white space
 * between encoded-words, which then at least doesn't tear words apart. */
static size_t prefer_space(struct slice text, size_t bytes)
{
    const char *space = bytes < text.len ? memrchr(text.ptr, ' ', bytes) : NULL;

    return space ? (size_t)(space - text.ptr) + 1 : bytes;
}

static char *put_q(char *out, struct slice text, unsigned literal)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == ' ')
            *out++ = '_';
        else if (mime_is(text.ptr[i], literal))
            *out++ = text.ptr[i];
        else
            out = mime_put_hex(out, '=', text.ptr[i]);
    }
    return out;
}

static void put_word(struct buf *out, struct slice text, bool base64, unsigned literal)
{
    char word[1 + MAX_WORD];
    char *end = word;

    memcpy(end, base64 ? " =?utf-8?B?" : " =?utf-8?Q?", 11);
    end += 11;
    end = base64 ? mime_base64_put(end, text.ptr, text.len) : put_q(end, text, literal);
    memcpy(end, "?=", 2);
    end += 2;
    buf_add(out, word, (size_t)(end - word));
}

static size_t payload_room(const struct mime_fold *f)
{
    size_t column = mime_fold_column(f) + 1 + OVERHEAD;
    size_t room = column < MIME_FOLD_COLUMN ? MIME_FOLD_COLUMN - column : 0;

    if (room < MAX_CHAR)
        return MAX_CHAR;
    return room < MAX_PAYLOAD ? room : MAX_PAYLOAD;
}

void mime_word_write(struct mime_fold *f, struct slice text, enum mime_word_place place)
{
    unsigned literal = place == MIME_WORD_IN_TEXT ? MIME_WORD_OK : MIME_PHRASE_OK;
    bool base64 = mime_base64_len(text.len) < q_len(text, literal);

    while (text.len) {
        size_t bytes = prefer_space(text, fit(text, payload_room(f), base64, literal));
        put_word(f->out, slice_of(text.ptr, bytes), base64, literal);
        f->empty = false;
        text.ptr += bytes;
        text.len -= bytes;
        if (text.len)
            mime_fold_break(f);
    }
}

bool mime_word_is_imitated(struct slice text)
{
    return mime_find(text, "=?") != NULL;
}
