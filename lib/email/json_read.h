/* Parsing JSON with jansson so that it never gives another text than was written, whatever memory
 * there is. Pure. */
#ifndef EMAIL_JSON_READ_H
#define EMAIL_JSON_READ_H

#include "base/error.h"
#include "base/slice.h"

struct json_t;
struct json_error_t;

/* Like json_loadb. *out_of_memory (then the result is NULL): the failure says nothing about the
 * text.
 *
 * Out of memory, jansson 2.14 drops a byte of a string or a number and goes on (lex_save ignores
 * the result of strbuffer_append_byte): an address would become another address. All that is left
 * of it is malloc's errno, which jansson clears where it converts a number. So it gets the text in
 * pieces that end where a number ends, and errno is looked at before each. */
BASE_CHECK struct json_t *json_read(struct slice text, size_t flags, struct json_error_t *fault,
                                    bool *out_of_memory);

/* Index behind the string whose content begins at `start`; text.len where it has no end. */
size_t json_string_end(struct slice text, size_t start);

#endif
