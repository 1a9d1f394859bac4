/* The codes that are out: one address has one valid code, for a while, for a few tries, once.
 *
 * Pure: time and randomness come from the caller. Memory is bounded: an address is forgotten when
 * neither its code nor its count of requests matters any more, and beyond max_addresses nobody new
 * is let in. Not thread-safe. */
#ifndef AUTH_CODES_H
#define AUTH_CODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CODES_DIGITS = 6, CODES_SIZE = CODES_DIGITS + 1 };

struct codes_limits {
    size_t max_addresses;
    unsigned per_address; /* codes in any window; at least 1 */
    int64_t window_ms;
    int64_t lifetime_ms; /* of a code */
    unsigned max_tries;  /* wrong ones that a code survives, plus one */
};

enum codes_verdict {
    CODES_ALLOWED,
    CODES_TOO_MANY, /* for this address */
    CODES_FULL,     /* no room for a further address */
};

struct codes;

/* NULL where memory is out. */
struct codes *codes_new(const struct codes_limits *limits);
/* NULL is fine. */
void codes_destroy(struct codes *c);

/* Six digits, all equally likely, from 32 random bits. False: these bits would favour some codes,
 * draw again. */
bool codes_make(uint32_t random, char code[CODES_SIZE]);

/* May this address get a code now? Where not, *wait_ms is the time until it may. Changes nothing
 * for the address. */
enum codes_verdict codes_check(struct codes *c, const char *address, int64_t now_ms,
                               int64_t *wait_ms);

/* This code is on its way to the address: it counts, and replaces the one before. False where
 * memory is out. */
bool codes_put(struct codes *c, const char *address, const char code[CODES_SIZE], int64_t now_ms);

/* Is this the address's code? It is used up if so. `code` has any length. */
bool codes_verify(struct codes *c, const char *address, const char *code, int64_t now_ms);

size_t codes_addresses(const struct codes *c);

#endif
