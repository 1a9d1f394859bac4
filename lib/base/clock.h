/* Time. Only the outermost layer reads clocks; pure modules get times as parameters.
 * Instants are int64_t milliseconds since 1970-01-01T00:00:00Z ("_unix_ms") or milliseconds of a
 * monotonic clock ("_ms"). */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

enum { RFC3339_SIZE = 32 }; /* room for one formatted instant and its NUL */

uint64_t clock_monotonic_ms(void);
uint64_t clock_monotonic_us(void);
int64_t clock_unix_ms(void);

/* "2026-11-21T08:10:42.123Z" (RFC 3339, UTC). Pure. Years beyond 0–9999 are clamped. */
void rfc3339_format(int64_t unix_ms, char out[RFC3339_SIZE]);

/* Parses an RFC 3339 date-time (section 5.6): any offset, any number of fraction digits (cut to
 * ms), a leap second counts as the following second. False where it is none. Pure. */
BASE_CHECK bool rfc3339_parse(struct slice text, int64_t *unix_ms);

/* Days since 1970-01-01 of a proleptic Gregorian date and back. Pure. */
int64_t clock_days_from_civil(int64_t year, unsigned month, unsigned day);
void clock_civil_from_days(int64_t days, int64_t *year, unsigned *month, unsigned *day);

#endif
