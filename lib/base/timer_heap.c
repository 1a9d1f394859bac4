#include "base/timer_heap.h"

static bool earlier(const struct loop_timer *a, const struct loop_timer *b)
{
    return a->due_ms < b->due_ms || (a->due_ms == b->due_ms && a->seq < b->seq);
}

/* Joins two heaps, either may be NULL: the later one becomes the earlier one's first child. */
static struct loop_timer *join(struct loop_timer *a, struct loop_timer *b)
{
    struct loop_timer *later = b;

    if (!a || !b)
        return a ? a : b;
    if (earlier(b, a)) {
        later = a;
        a = b;
    }
    later->before = a;
    later->after = a->child;
    if (a->child)
        a->child->before = later;
    a->child = later;
    return a;
}

static struct loop_timer *cut_first(struct loop_timer **siblings)
{
    struct loop_timer *t = *siblings;

    if (!t)
        return NULL;
    *siblings = t->after;
    t->before = t->after = NULL;
    return t;
}

/* Makes one heap of siblings: in pairs first, then those into one, which is what keeps it at
 * O(log n) in the long run. Without recursion: there may be many. */
static struct loop_timer *join_siblings(struct loop_timer *siblings)
{
    struct loop_timer *pairs = NULL, *all = NULL;

    while (siblings) {
        struct loop_timer *one = cut_first(&siblings), *pair = join(one, cut_first(&siblings));
        pair->after = pairs;
        pairs = pair;
    }
    while (pairs)
        all = join(all, cut_first(&pairs));
    return all;
}

void timer_heap_add(struct loop_timer **first, struct loop_timer *t)
{
    t->child = t->before = t->after = NULL;
    *first = join(*first, t);
}

void timer_heap_remove(struct loop_timer **first, struct loop_timer *t)
{
    struct loop_timer *rest = join_siblings(t->child);

    if (t == *first) {
        *first = rest;
    } else {
        if (t->before->child == t)
            t->before->child = t->after;
        else
            t->before->after = t->after;
        if (t->after)
            t->after->before = t->before;
        *first = join(*first, rest);
    }
    t->child = t->before = t->after = NULL;
}
