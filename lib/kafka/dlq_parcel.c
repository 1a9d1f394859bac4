#include "kafka/dlq_parcel.h"

#include <stdio.h>

#include <xxhash.h>

enum { VALUE_KEPT = 65536, NOTES = 2, DETAIL_KEPT = 64 };

static bool is_ours(const struct record_header *h)
{
    return h->name.len >= 4 && memcmp(h->name.ptr, "dlq-", 4) == 0;
}

static bool is_long_detail(const struct record_header *h)
{
    return is_ours(h) && h->value.len > DETAIL_KEPT;
}

static size_t size_of_headers(const struct dlq_parcel *parcel,
                              bool (*counts)(const struct record_header *))
{
    size_t size = 0;

    for (size_t i = 0; i < parcel->headers_len; i++)
        if (counts(&parcel->headers[i]))
            size += parcel->headers[i].name.len + parcel->headers[i].value.len + 2;
    return size;
}

static bool is_original(const struct record_header *h)
{
    return !is_ours(h);
}

/* The headers that `leaves` does not name, with room for NOTES more. */
static struct record_header *keep_headers(struct arena *arena, struct dlq_parcel *parcel,
                                          bool (*leaves)(const struct record_header *))
{
    struct record_header *kept = arena_alloc(arena, (parcel->headers_len + NOTES) * sizeof(*kept));
    size_t len = 0;

    if (!kept)
        return NULL;
    for (size_t i = 0; i < parcel->headers_len; i++)
        if (!leaves || !leaves(&parcel->headers[i]))
            kept[len++] = parcel->headers[i];
    parcel->headers = kept;
    parcel->headers_len = len;
    return kept;
}

static bool note(struct arena *arena, struct dlq_parcel *parcel, struct record_header *headers,
                 const char *name, const char *text)
{
    struct slice value = arena_copy(arena, slice_str(text));

    headers[parcel->headers_len++] = (struct record_header){slice_str(name), value};
    return value.ptr != NULL;
}

static bool note_number(struct arena *arena, struct dlq_parcel *parcel,
                        struct record_header *headers, const char *name, size_t number)
{
    char text[24];

    snprintf(text, sizeof(text), "%zu", number);
    return note(arena, parcel, headers, name, text);
}

/* The notes are about the original, so they are made by the first cut only. */
static bool cut_value(struct arena *arena, struct dlq_parcel *parcel, struct dlq_cut *cut)
{
    const size_t half = parcel->value.len / 2;
    struct record_header *headers;
    XXH128_canonical_t digest;
    char hex[2 * sizeof(digest.digest) + 1];

    if (!cut->value) {
        headers = keep_headers(arena, parcel, NULL);
        XXH128_canonicalFromHash(&digest, XXH3_128bits(parcel->value.ptr, parcel->value.len));
        for (size_t i = 0; i < sizeof(digest.digest); i++)
            snprintf(hex + 2 * i, 3, "%02x", digest.digest[i]);
        if (!headers || !note_number(arena, parcel, headers, "dlq-truncated", parcel->value.len) ||
            !note(arena, parcel, headers, "dlq-value-xxh128", hex))
            return false;
        cut->value = true;
    }
    parcel->value.len = half < VALUE_KEPT ? half : VALUE_KEPT;
    return true;
}

static bool cut_headers(struct arena *arena, struct dlq_parcel *parcel, struct dlq_cut *cut)
{
    const size_t before = parcel->headers_len;
    struct record_header *headers = keep_headers(arena, parcel, is_original);

    cut->headers = true;
    return headers &&
           note_number(arena, parcel, headers, "dlq-headers-dropped", before - parcel->headers_len);
}

static bool cut_key(struct arena *arena, struct dlq_parcel *parcel, struct dlq_cut *cut)
{
    const size_t len = parcel->key.len;
    struct record_header *headers = keep_headers(arena, parcel, NULL);

    cut->key = true;
    parcel->key = (struct slice){0};
    return headers && note_number(arena, parcel, headers, "dlq-key-dropped", len);
}

/* Last of all: the readable details; reason and coordinates are short and stay. */
static bool cut_details(struct arena *arena, struct dlq_parcel *parcel, struct dlq_cut *cut)
{
    cut->details = true;
    return keep_headers(arena, parcel, is_long_detail) != NULL;
}

bool dlq_parcel_cut(struct arena *arena, struct dlq_parcel *parcel, struct dlq_cut *cut)
{
    const size_t headers = size_of_headers(parcel, is_original);
    const size_t details = size_of_headers(parcel, is_long_detail);
    const size_t value = parcel->value.len, key = parcel->key.len;

    if (value > 0 && value >= headers && value >= key)
        return cut_value(arena, parcel, cut);
    if (headers > 0 && headers >= key)
        return cut_headers(arena, parcel, cut);
    if (key > 0)
        return cut_key(arena, parcel, cut);
    return details > 0 && cut_details(arena, parcel, cut);
}
