/* UTF-8 (RFC 3629). Pure. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdint.h>

#include "base/slice.h"

/* Length in bytes (1–4) of the well-formed sequence at the start of s, with its code point; 0 where
 * it is ill-formed (overlong, surrogate, beyond U+10FFFF, cut off) or s is empty. code may be NULL.
 */
unsigned utf8_decode(struct slice s, uint32_t *code);

/* Must it not reach a terminal as it is? Control characters (C1 too: U+009B begins an escape
 * sequence), line and paragraph separators, and the marks that turn the direction of writing
 * around, with which a line can show something else than it says. */
bool utf8_is_unsafe(uint32_t code);

bool utf8_valid(struct slice s);
bool utf8_is_ascii(struct slice s);

#endif
