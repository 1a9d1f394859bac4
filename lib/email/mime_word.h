/* Encoded-words (RFC 2047). Pure. */
#ifndef EMAIL_MIME_WORD_H
#define EMAIL_MIME_WORD_H

#include "email/mime_fold.h"

enum mime_word_place { MIME_WORD_IN_TEXT, MIME_WORD_IN_PHRASE };

/* Writes UTF-8 text as encoded-words, in "B" or "Q", whichever is shorter for all of it. The first
 * stands on the current line, each further one on a line of its own. No word exceeds 75 characters
 * or splits a character, no line exceeds 76 (unless the field's name leaves no room for even one
 * character). */
void mime_word_write(struct mime_fold *f, struct slice text, enum mime_word_place place);

/* Whether a decoder could take part of this ASCII text for an encoded-word. */
bool mime_word_is_imitated(struct slice text);

#endif
