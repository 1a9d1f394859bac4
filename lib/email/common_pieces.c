#include "email/common_pieces.h"

#include <string.h>

static size_t symbol(char c)
{
    return c >= 0x20 && c < 0x7F ? (size_t)(c - 0x20) : PIECES_SYMBOLS - 1;
}

static uint16_t add_state(struct common_pieces *p, size_t len)
{
    p->len[++p->states] = (uint16_t)len;
    return p->states;
}

/* Of the state `from`, the part that is also reached from `at` by `c` becomes a state of its own.
 */
static uint16_t split(struct common_pieces *p, size_t at, size_t c)
{
    const uint16_t from = p->next[at][c], copy = add_state(p, p->len[at] + 1U);

    memcpy(p->next[copy], p->next[from], sizeof(p->next[copy]));
    p->link[copy] = p->link[from];
    p->link[from] = copy;
    for (; at && p->next[at][c] == from; at = p->link[at])
        p->next[at][c] = copy;
    return copy;
}

static void append(struct common_pieces *p, size_t c)
{
    const uint16_t new = add_state(p, p->len[p->last] + 1U);
    size_t at = p->last, to;

    for (; at && !p->next[at][c]; at = p->link[at])
        p->next[at][c] = new;
    p->last = new;
    if (!at) {
        p->link[new] = 1;
        return;
    }
    to = p->next[at][c];
    p->link[new] = p->len[to] == p->len[at] + 1 ? (uint16_t)to : split(p, at, c);
}

void common_pieces_index(struct common_pieces *p, const char *text, size_t len)
{
    p->text_len = len;
    p->last = add_state(p, 0);
    p->ends[0] = p->last;
    for (size_t i = 0; i < len; i++) {
        append(p, symbol(text[i]));
        p->ends[i + 1] = p->last;
    }
}

void common_pieces_follow(struct common_pieces *p, struct pieces_follower *f, char c,
                          unsigned group)
{
    const size_t s = symbol(c);

    for (; f->state && !p->next[f->state][s]; p->steps++) {
        f->state = p->link[f->state];
        f->len = p->len[f->state];
    }
    p->steps++;
    if (!f->state) {
        f->state = 1;
        return;
    }
    f->state = p->next[f->state][s];
    f->len++;
    if (f->len > p->longest[group][f->state])
        p->longest[group][f->state] = (uint16_t)f->len;
}

/* With a piece its ends were found too, which may stand at more places of the text. */
static void spread(struct common_pieces *p, uint16_t *longest)
{
    for (size_t state = 1; state <= p->states; state++)
        for (size_t at = p->link[state]; longest[state] && longest[at] < p->len[at];
             at = p->link[at])
            longest[at] = p->len[at];
}

/* What was found in the state of each place, or in one that its link leads to. */
void common_pieces_longest(struct common_pieces *p, unsigned group, uint16_t run[PIECES_MAX + 1])
{
    spread(p, p->longest[group]);
    for (size_t end = 0; end <= p->text_len; end++) {
        run[end] = 0;
        for (size_t at = p->ends[end]; at && !run[end]; at = p->link[at])
            run[end] = p->longest[group][at];
    }
}
