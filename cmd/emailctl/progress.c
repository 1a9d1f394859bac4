#include "progress.h"

#include <stdlib.h>

/* The note: "1:", then lengths of runs from the offset on, not redriven and redriven by turns. A
 * length is written in groups of five bits, lowest first, a character each; all but the last group
 * have the sixth bit set. So thousands of letters fit into what a broker takes. */
static const char prefix[] = "1:";
static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

enum { GROUP_BITS = 5, MORE = 32, MAX_SHIFT = 55 };

static void add_length(struct buf *note, uint64_t length)
{
    for (; length >= MORE; length >>= GROUP_BITS)
        buf_add_char(note, digits[MORE + (length & (MORE - 1))]);
    buf_add_char(note, digits[length]);
}

static bool take_length(const char **at, uint64_t *length)
{
    *length = 0;
    for (unsigned shift = 0; shift <= MAX_SHIFT; shift += GROUP_BITS) {
        const char *digit = **at ? strchr(digits, **at) : NULL;
        uint64_t value;
        if (!digit)
            return false;
        (*at)++;
        value = (uint64_t)(digit - digits);
        *length |= (value & (MORE - 1)) << shift;
        if (value < MORE)
            return true;
    }
    return false;
}

static void set_run(struct progress *p, int64_t from, uint64_t length)
{
    int64_t to = length < (uint64_t)(p->high - from) ? from + (int64_t)length : p->high;

    for (int64_t offset = from; offset < to; offset++)
        progress_set(p, offset, true);
}

static bool read_note(struct progress *p, int64_t offset, const char *note, struct error *err)
{
    const char *at = note + sizeof(prefix) - 1;
    bool done = false;

    if (strncmp(note, prefix, sizeof(prefix) - 1) != 0)
        return error_set(err, "the redrive's progress was written by another version");
    while (*at && offset < p->high) {
        uint64_t length;
        if (!take_length(&at, &length))
            return error_set(err, "the redrive's progress is unreadable");
        if (done)
            set_run(p, offset, length);
        offset = length < (uint64_t)(p->high - offset) ? offset + (int64_t)length : p->high;
        done = !done;
    }
    return true;
}

bool progress_init(struct progress *p, int64_t low, int64_t high, int64_t offset, const char *note,
                   struct error *err)
{
    *p = (struct progress){.low = low, .high = high};
    p->done = calloc((size_t)(high - low) + 1, 1);
    if (!p->done)
        return error_set(err, "out of memory");
    if (offset < 0 || offset > high)
        return true;
    if (offset > low)
        set_run(p, low, (uint64_t)(offset - low));
    return !*note || read_note(p, offset, note, err);
}

void progress_cleanup(struct progress *p)
{
    free(p->done);
    *p = (struct progress){0};
}

bool progress_has(const struct progress *p, int64_t offset)
{
    return offset >= p->low && offset < p->high && p->done[offset - p->low];
}

void progress_set(struct progress *p, int64_t offset, bool done)
{
    if (offset >= p->low && offset < p->high)
        p->done[offset - p->low] = done;
}

bool progress_note(const struct progress *p, int64_t *offset, struct buf *note)
{
    const size_t begin = note->len;
    int64_t at = p->low, end = p->high;
    bool done = false;

    while (at < p->high && progress_has(p, at))
        at++;
    while (end > at && !progress_has(p, end - 1))
        end--;
    *offset = at;
    if (at < end)
        buf_add_str(note, prefix);
    while (at < end) {
        const int64_t from = at;
        while (at < end && progress_has(p, at) == done)
            at++;
        add_length(note, (uint64_t)(at - from));
        done = !done;
    }
    return !note->failed && note->len - begin <= PROGRESS_NOTE_MAX;
}
