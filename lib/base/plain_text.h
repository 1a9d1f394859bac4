/* Text of unknown origin (dead letters, a broker's errors, arguments) on a terminal. Pure. */
#ifndef BASE_PLAIN_TEXT_H
#define BASE_PLAIN_TEXT_H

#include "base/buf.h"

/* What utf8_is_unsafe, and ill-formed UTF-8, become "?": nothing moves the cursor or the eye. Line
 * breaks and tabs stay where `lines` says so. */
void plain_text(struct buf *out, struct slice text, bool lines);

#endif
