/* What a short text (a reply) has in common with longer ones, in time linear in all of them: the
 * short text's suffix automaton. Its states stand for the text's pieces; following it along another
 * text tells, at every character, the longest piece that ends there (Blumer et al., 1985). Pure. */
#ifndef EMAIL_COMMON_PIECES_H
#define EMAIL_COMMON_PIECES_H

#include <stddef.h>
#include <stdint.h>

#include "email/outcome.h"

enum {
    PIECES_MAX = OUTCOME_MAX_REPLY,     /* characters of the short text */
    PIECES_STATES = 2 * PIECES_MAX + 1, /* 0 means "none", 1 is the root */
    PIECES_SYMBOLS = 96,                /* printable ASCII; and one for the rest */
    PIECES_GROUPS = 3                   /* of longer texts, kept apart */
};

struct common_pieces { /* private, but for `steps`; zeroed before common_pieces_index */
    uint16_t next[PIECES_STATES][PIECES_SYMBOLS];
    uint16_t link[PIECES_STATES], len[PIECES_STATES];
    uint16_t states, last;
    uint16_t ends[PIECES_MAX + 1]; /* the state of the text's first so many characters */
    uint16_t longest[PIECES_GROUPS][PIECES_STATES]; /* piece that was found in this state */
    size_t text_len;
    size_t steps; /* taken by common_pieces_follow */
};

/* A place in a longer text; begins with {.state = 1}. */
struct pieces_follower {
    size_t state, len;
};

void common_pieces_index(struct common_pieces *p, const char *text, size_t len);

/* The next character of a longer text. */
void common_pieces_follow(struct common_pieces *p, struct pieces_follower *f, char c,
                          unsigned group);

/* run[i]: how many of the characters before text[i] stand somewhere in the group's texts, in one
 * piece. */
void common_pieces_longest(struct common_pieces *p, unsigned group, uint16_t run[PIECES_MAX + 1]);

#endif
