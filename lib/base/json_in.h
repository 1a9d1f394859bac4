/* Reading JSON text (RFC 8259) into a tree that lies in an arena. Pure.
 *
 * Strict: UTF-8 without a mark, no name twice in one object, no NUL in strings, no lone surrogates,
 * no number beyond a double's range. Nesting is bounded by the caller, so that no text can exhaust
 * the stack; time and memory are linear in the text's length, but for sorting an object's names.
 * The tree points into the text as well: a string without escapes is not copied. */
#ifndef BASE_JSON_IN_H
#define BASE_JSON_IN_H

#include "base/arena.h"
#include "base/error.h"

enum json_in_kind {
    JSON_IN_NULL,
    JSON_IN_BOOL,
    JSON_IN_NUMBER,
    JSON_IN_STRING,
    JSON_IN_ARRAY,
    JSON_IN_OBJECT
};

struct json_in {
    enum json_in_kind kind;
    struct slice text; /* of a string what it says; of anything else, the text as it was written */
    struct slice name; /* of an object's member, followed by a NUL that is not counted; else absent
                        */
    struct json_in *first, *next; /* an array's or object's members, in their order */
    size_t len;                   /* how many */
};

enum json_in_fault {
    JSON_IN_FAULT_NONE,
    JSON_IN_FAULT_SYNTAX,
    JSON_IN_FAULT_END,     /* ends too early */
    JSON_IN_FAULT_TRAILER, /* text after the value */
    JSON_IN_FAULT_UTF8,
    JSON_IN_FAULT_NUL,    /* \u0000 */
    JSON_IN_FAULT_TWICE,  /* a name stands twice in an object */
    JSON_IN_FAULT_NUMBER, /* too large */
    JSON_IN_FAULT_DEPTH,
    JSON_IN_FAULT_MEMORY
};

struct json_in_error {
    enum json_in_fault fault;
    size_t line, column; /* from 1; column in bytes */
};

/* NULL, with err set, where the text is not one object or array. */
BASE_CHECK struct json_in *json_in_parse(struct arena *arena, struct slice text, unsigned max_depth,
                                         struct json_in_error *err);

/* The member of that name; NULL where there is none, or `object` is none. */
const struct json_in *json_in_get(const struct json_in *object, const char *name);

#endif
