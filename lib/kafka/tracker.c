#include "kafka/tracker.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 64 };

enum state { UNDER_WAY, FINISHED };

struct entry {
    int64_t offset;
    int64_t before; /* one past the offset begun before this one; the offset itself where it is the
                       first */
    enum state state;
};

/* Entries are ascending by offset, and the first of them is always under way. Finished ones in the
 * middle say nothing that their successor's `before` does not, so they are swept out as soon as
 * they are the majority: memory follows what is under way, even where one offset stays behind for
 * hours. */
struct tracker {
    struct entry *entries;
    size_t head, len, cap; /* live: entries[head] … entries[head + len - 1] */
    size_t under_way;
    int64_t next; /* one past the last offset begun; -1 before that */
    bool stuck;   /* an offset was given up: the watermark stays at stuck_before */
    int64_t stuck_offset, stuck_before;
};

struct tracker *tracker_new(void)
{
    struct tracker *t = calloc(1, sizeof(*t));

    if (t)
        t->next = -1;
    return t;
}

void tracker_destroy(struct tracker *t)
{
    if (!t)
        return;
    free(t->entries);
    free(t);
}

static void sweep(struct tracker *t)
{
    size_t kept = 0;

    for (size_t i = t->head; i < t->head + t->len; i++)
        if (t->entries[i].state == UNDER_WAY)
            t->entries[kept++] = t->entries[i];
    t->head = 0;
    t->len = kept;
}

static bool make_room(struct tracker *t)
{
    size_t cap = t->cap ? t->cap * 2 : FIRST_CAP;
    struct entry *grown;

    if (t->head + t->len < t->cap)
        return true;
    if (t->under_way <= t->cap / 2) /* sliding pays for at least cap/2 further begins */
        sweep(t);
    if (t->head + t->len < t->cap)
        return true;
    if (cap > SIZE_MAX / sizeof(*grown))
        return false;
    grown = realloc(t->entries, cap * sizeof(*grown));
    if (!grown)
        return false;
    t->entries = grown;
    t->cap = cap;
    return true;
}

bool tracker_begin(struct tracker *t, int64_t offset)
{
    if (offset < 0 || offset == INT64_MAX || offset < t->next || !make_room(t))
        return false;
    t->entries[t->head + t->len++] = (struct entry){
        .offset = offset, .before = t->next < 0 ? offset : t->next, .state = UNDER_WAY};
    t->under_way++;
    t->next = offset + 1;
    return true;
}

static struct entry *find(struct tracker *t, int64_t offset)
{
    struct entry *e = t->len ? t->entries + t->head : NULL;
    size_t low = 0, high = t->len;

    if (!e || offset < e->offset)
        return NULL;
    /* Offsets differ by at least one, so it is at most this far in; without gaps it is exactly
     * there. */
    if ((uint64_t)(offset - e->offset) < high)
        high = (size_t)(offset - e->offset) + 1;
    if (e[high - 1].offset == offset)
        return &e[high - 1];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (e[middle].offset == offset)
            return &e[middle];
        if (e[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static bool finish(struct tracker *t, struct entry *e)
{
    if (!e || e->state != UNDER_WAY)
        return false;
    e->state = FINISHED;
    t->under_way--;
    while (t->len && t->entries[t->head].state == FINISHED) {
        t->head++;
        t->len--;
    }
    if (!t->len)
        t->head = 0;
    return true;
}

bool tracker_done(struct tracker *t, int64_t offset)
{
    return finish(t, find(t, offset));
}

bool tracker_abandon(struct tracker *t, int64_t offset)
{
    struct entry *e = find(t, offset);
    int64_t before = e ? e->before : 0;

    if (!finish(t, e))
        return false;
    if (!t->stuck || offset < t->stuck_offset) {
        t->stuck = true;
        t->stuck_offset = offset;
        t->stuck_before = before;
    }
    return true;
}

int64_t tracker_watermark(const struct tracker *t)
{
    const struct entry *first = t->len ? &t->entries[t->head] : NULL;

    if (t->stuck && (!first || t->stuck_offset < first->offset))
        return t->stuck_before;
    return first ? first->before : t->next;
}

size_t tracker_under_way(const struct tracker *t)
{
    return t->under_way;
}
