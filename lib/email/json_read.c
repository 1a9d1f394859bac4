#include "email/json_read.h"

#include <errno.h>

#include <jansson.h>

struct feed {
    struct slice text;
    size_t at;           /* given to jansson so far */
    size_t in_string_to; /* bytes before this index are within a string */
    bool out_of_memory;
};

/* Behind the first quotation mark that an even number of backslashes precedes. Bodies make up most
 * of an event, and memchr takes them in great strides. */
size_t json_string_end(struct slice text, size_t start)
{
    const char *quote;
    size_t at = start, backslashes;

    while ((quote = memchr(text.ptr + at, '"', text.len - at))) {
        at = (size_t)(quote - text.ptr);
        for (backslashes = 0; at - backslashes > start; backslashes++)
            if (text.ptr[at - backslashes - 1] != '\\')
                break;
        at++;
        if (backslashes % 2 == 0)
            return at;
    }
    return text.len;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Whether jansson takes the number before this byte for complete. */
static bool ends_number(char c)
{
    return !is_digit(c) && c != '.' && c != 'e' && c != 'E' && c != '+' && c != '-';
}

/* The end of the next piece: of at most `room` bytes, and never beyond a number's end. */
static size_t piece_end(struct feed *f, size_t room)
{
    const struct slice text = f->text;
    const size_t last = text.len - f->at < room ? text.len : f->at + room;
    size_t end = f->at;

    while (end < last) {
        if (end < f->in_string_to) {
            end = f->in_string_to < last ? f->in_string_to : last;
            continue;
        }
        if (text.ptr[end] == '"')
            f->in_string_to = json_string_end(text, end + 1);
        else if (end > f->at && is_digit(text.ptr[end - 1]) && ends_number(text.ptr[end]))
            break;
        end++;
    }
    return end;
}

static size_t next_piece(void *to, size_t room, void *ctx)
{
    struct feed *f = ctx;
    const size_t from = f->at;

    f->out_of_memory = f->out_of_memory || errno == ENOMEM;
    if (f->out_of_memory)
        return (size_t)-1;
    f->at = piece_end(f, room);
    memcpy(to, f->text.ptr + from, f->at - from);
    return f->at - from;
}

json_t *json_read(struct slice text, size_t flags, json_error_t *fault, bool *out_of_memory)
{
    struct feed f = {.text = text.ptr ? text : slice_of("", 0)};
    enum json_error_code code;
    json_t *root;

    *fault = (json_error_t){0};
    errno = 0;
    root = json_load_callback(next_piece, &f, flags, fault);
    code = json_error_code(fault);
    *out_of_memory = f.out_of_memory || errno == ENOMEM ||
                     (!root && (code == json_error_out_of_memory || code == json_error_unknown));
    if (!*out_of_memory)
        return root;
    json_decref(root);
    return NULL;
}
