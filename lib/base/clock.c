#include "base/clock.h"

#include <time.h>

uint64_t clock_monotonic_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_monotonic_ms(void)
{
    return clock_monotonic_us() / 1000;
}

int64_t clock_unix_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Both conversions follow Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
int64_t clock_days_from_civil(int64_t year, unsigned month, unsigned day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    unsigned yoe = (unsigned)(y - era * 400);
    unsigned doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

    return era * 146097 + (int64_t)doe - 719468;
}

void clock_civil_from_days(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    unsigned doe = (unsigned)(z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;

    *day = doy - (153 * mp + 2) / 5 + 1;
    *month = mp < 10 ? mp + 3 : mp - 9;
    *year = (int64_t)yoe + era * 400 + (*month <= 2);
}

static char *put_digits(char *to, unsigned value, unsigned digits, char behind)
{
    for (unsigned i = digits; i > 0; i--, value /= 10)
        to[i - 1] = (char)('0' + value % 10);
    to[digits] = behind;
    return to + digits + 1;
}

void rfc3339_format(int64_t unix_ms, char out[RFC3339_SIZE])
{
    const int64_t first = -62167219200000, last = 253402300799999; /* years 0 to 9999 */
    int64_t ms = unix_ms < first ? first : unix_ms > last ? last : unix_ms;
    int64_t days = ms >= 0 ? ms / 86400000 : -((-ms + 86399999) / 86400000);
    unsigned rest = (unsigned)(ms - days * 86400000);
    int64_t year;
    unsigned month, day;

    clock_civil_from_days(days, &year, &month, &day);
    out = put_digits(out, (unsigned)year, 4, '-');
    out = put_digits(out, month, 2, '-');
    out = put_digits(out, day, 2, 'T');
    out = put_digits(out, rest / 3600000, 2, ':');
    out = put_digits(out, rest / 60000 % 60, 2, ':');
    out = put_digits(out, rest / 1000 % 60, 2, '.');
    out = put_digits(out, rest % 1000, 3, 'Z');
    *out = '\0';
}

/* Reads exactly `digits` decimal digits at *at. */
static bool read_number(struct slice text, size_t *at, unsigned digits, unsigned *out)
{
    *out = 0;
    if (text.len - *at < digits)
        return false;
    for (unsigned i = 0; i < digits; i++) {
        char c = text.ptr[(*at)++];
        if (c < '0' || c > '9')
            return false;
        *out = *out * 10 + (unsigned)(c - '0');
    }
    return true;
}

static bool read_char(struct slice text, size_t *at, const char *allowed)
{
    return *at < text.len && strchr(allowed, text.ptr[*at]) && text.ptr[(*at)++] != '\0';
}

static bool read_date(struct slice text, size_t *at, int64_t *days)
{
    static const unsigned char length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned year, month, day;
    unsigned leap;

    if (!read_number(text, at, 4, &year) || !read_char(text, at, "-") ||
        !read_number(text, at, 2, &month) || !read_char(text, at, "-") ||
        !read_number(text, at, 2, &day))
        return false;
    leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 ? 1 : 0;
    if (month < 1 || month > 12 || day < 1 || day > length[month - 1] + (month == 2 ? leap : 0))
        return false;
    *days = clock_days_from_civil(year, month, day);
    return true;
}

static bool read_fraction(struct slice text, size_t *at, unsigned *ms)
{
    unsigned scale = 100;
    size_t start;

    *ms = 0;
    if (!read_char(text, at, "."))
        return true; /* there is none */
    for (start = *at; *at < text.len && text.ptr[*at] >= '0' && text.ptr[*at] <= '9'; ++*at) {
        *ms += (unsigned)(text.ptr[*at] - '0') * scale;
        scale /= 10;
    }
    return *at > start;
}

static bool read_offset(struct slice text, size_t *at, int64_t *offset_ms)
{
    unsigned hours, minutes;
    bool negative;

    *offset_ms = 0;
    if (read_char(text, at, "Zz"))
        return true;
    negative = *at < text.len && text.ptr[*at] == '-';
    if (!read_char(text, at, "+-") || !read_number(text, at, 2, &hours) ||
        !read_char(text, at, ":") || !read_number(text, at, 2, &minutes) || hours > 23 ||
        minutes > 59)
        return false;
    *offset_ms = (int64_t)(hours * 60 + minutes) * 60000 * (negative ? -1 : 1);
    return true;
}

bool rfc3339_parse(struct slice text, int64_t *unix_ms)
{
    unsigned hour, minute, second, ms;
    int64_t days, offset_ms;
    size_t at = 0;

    if (!read_date(text, &at, &days) || !read_char(text, &at, "Tt ") ||
        !read_number(text, &at, 2, &hour) || !read_char(text, &at, ":") ||
        !read_number(text, &at, 2, &minute) || !read_char(text, &at, ":") ||
        !read_number(text, &at, 2, &second) || !read_fraction(text, &at, &ms) ||
        !read_offset(text, &at, &offset_ms) || at != text.len)
        return false;
    if (hour > 23 || minute > 59 || second > 60)
        return false;
    *unix_ms = days * 86400000 + (int64_t)hour * 3600000 + (int64_t)minute * 60000 +
               (int64_t)second * 1000 + ms - offset_ms;
    return true;
}
