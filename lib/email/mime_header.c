#include "email/mime_header.h"

#include "email/mime_chars.h"
#include "email/mime_fold.h"
#include "email/mime_word.h"

static bool text_survives(struct slice value, size_t longest_word)
{
    size_t word = 0;

    if (mime_word_is_imitated(value) || (value.len && value.ptr[value.len - 1] == ' '))
        return false;
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] != ' ' && !mime_is(value.ptr[i], MIME_VISIBLE))
            return false;
        if (value.ptr[i] == ' ' && word == 0)
            return false;
        word = value.ptr[i] == ' ' ? 0 : word + 1;
        if (word > longest_word)
            return false;
    }
    return true;
}

/* Cuts white space and the word after it off the value's start. */
static void take_word(struct slice *value, struct slice *space, struct slice *word)
{
    size_t blanks = 0, end;

    while (blanks < value->len && mime_is_blank(value->ptr[blanks]))
        blanks++;
    for (end = blanks; end < value->len && !mime_is_blank(value->ptr[end]);)
        end++;
    *space = slice_of(value->ptr, blanks);
    *word = slice_of(value->ptr + blanks, end - blanks);
    value->ptr += end;
    value->len -= end;
}

static struct slice trim(struct slice value)
{
    while (value.len && mime_is_blank(value.ptr[0])) {
        value.ptr++;
        value.len--;
    }
    while (value.len && mime_is_blank(value.ptr[value.len - 1]))
        value.len--;
    return value;
}

/* value has no white space at its ends. */
static void write_words(struct mime_fold *f, struct slice value)
{
    struct slice space, word;

    while (value.len) {
        take_word(&value, &space, &word);
        mime_fold_spaced(f, space.len ? space : slice_of(" ", 1), word);
    }
}

void mime_header_text(struct buf *out, struct slice name, struct slice value)
{
    struct mime_fold f = mime_fold_begin(out, name);

    if (name.len + 2 < MIME_FOLD_COLUMN && text_survives(value, MIME_FOLD_COLUMN - name.len - 2))
        write_words(&f, value);
    else
        mime_word_write(&f, value, MIME_WORD_IN_TEXT);
    mime_fold_end(&f);
}

/* Only a complete "=?…?=" counts: "=?" alone is at home in URLs. */
static bool holds_encoded_word(struct slice value)
{
    const char *start = mime_find(value, "=?");

    return start &&
           mime_find(slice_of(start + 2, (size_t)(value.ptr + value.len - start) - 2), "?=");
}

bool mime_header_is_raw(struct slice name, struct slice value)
{
    size_t room = name.len + 2 < MIME_MAX_LINE ? MIME_MAX_LINE - name.len - 2 : 0;
    struct slice space, word;

    value = trim(value);
    if (!value.len)
        return true;
    if (holds_encoded_word(value))
        return false;
    for (size_t i = 0; i < value.len; i++)
        if (!mime_is_blank(value.ptr[i]) && !mime_is(value.ptr[i], MIME_VISIBLE))
            return false;
    while (value.len) {
        take_word(&value, &space, &word);
        if (space.len + word.len > room)
            return false;
    }
    return true;
}

void mime_header_raw(struct buf *out, struct slice name, struct slice value)
{
    struct mime_fold f = mime_fold_begin(out, name);

    if (mime_header_is_raw(name, value))
        write_words(&f, trim(value));
    else
        mime_word_write(&f, trim(value), MIME_WORD_IN_TEXT);
    mime_fold_end(&f);
}

static void put_digits(char *out, unsigned value, size_t digits)
{
    while (digits) {
        out[--digits] = (char)('0' + value % 10);
        value /= 10;
    }
}

struct civil_date {
    unsigned year, month, day; /* month 1–12 */
};

/* Days since 1970-01-01 to the Gregorian calendar, in 400-year eras that start on 1 March. */
static struct civil_date civil_from_days(int64_t days)
{
    int64_t shifted = days + 719468; /* since 0000-03-01 */
    unsigned era = (unsigned)(shifted / 146097), of_era = (unsigned)(shifted % 146097);
    unsigned year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year + year / 4 - year / 100);
    unsigned month = (5 * of_year + 2) / 153; /* 0 is March */
    struct civil_date date = {.year = year + era * 400,
                              .month = month < 10 ? month + 3 : month - 9,
                              .day = of_year - (153 * month + 2) / 5 + 1};

    date.year += date.month <= 2;
    return date;
}

void mime_header_date(struct buf *out, int64_t unix_ms)
{
    static const int64_t end_of_9999_s = 253402300800;
    static const char weekdays[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char line[] = "Date: Thu, 00 Jan 0000 00:00:00 +0000\r\n";
    int64_t seconds = unix_ms / 1000;
    unsigned of_day = (unsigned)(seconds % 86400);
    struct civil_date date;

    if (unix_ms < 0 || seconds >= end_of_9999_s)
        return;
    date = civil_from_days(seconds / 86400);
    memcpy(line + 6, weekdays + seconds / 86400 % 7 * 3, 3);
    put_digits(line + 11, date.day, 2);
    memcpy(line + 14, months + (date.month - 1) * 3, 3);
    put_digits(line + 18, date.year, 4);
    put_digits(line + 23, of_day / 3600, 2);
    put_digits(line + 26, of_day / 60 % 60, 2);
    put_digits(line + 29, of_day % 60, 2);
    buf_add(out, line, sizeof(line) - 1);
}
