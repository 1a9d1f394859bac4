#include "kafka/dead_letter.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

enum { OURS = 9 };

struct builder {
    struct arena *arena;
    struct record_header *headers;
    size_t len;
    bool failed;
};

static bool is_stale(struct slice name)
{
    return name.len >= 4 && memcmp(name.ptr, "dlq-", 4) == 0 && !slice_is(name, "dlq-redriven");
}

static void add(struct builder *b, struct slice name, struct slice value)
{
    struct slice name_copy = arena_copy(b->arena, name);
    struct slice value_copy = arena_copy(b->arena, value);

    if (!name_copy.ptr || (value.ptr && !value_copy.ptr)) {
        b->failed = true;
        return;
    }
    b->headers[b->len++] = (struct record_header){name_copy, value_copy};
}

static void add_str(struct builder *b, const char *name, const char *value)
{
    add(b, slice_str(name), slice_str(value ? value : ""));
}

static void add_number(struct builder *b, const char *name, int64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)value);
    add_str(b, name, text);
}

static void add_ours(struct builder *b, const struct dead_letter *letter)
{
    const struct record *record = letter->record;
    char failed_at[RFC3339_SIZE];

    rfc3339_format(letter->failed_at_unix_ms, failed_at);
    add_str(b, "dlq-reason", letter->reason);
    add_str(b, "dlq-error", letter->error);
    add_number(b, "dlq-attempts", letter->attempts);
    add(b, slice_str("dlq-topic"), record->topic.ptr ? record->topic : slice_str(""));
    add_number(b, "dlq-partition", record->partition);
    add_number(b, "dlq-offset", record->offset);
    add_str(b, "dlq-failed-at", failed_at);
    if (letter->smtp_reply && *letter->smtp_reply)
        add_str(b, "dlq-smtp-reply", letter->smtp_reply);
    if (letter->recipients_json)
        add_str(b, "dlq-recipients", letter->recipients_json);
}

bool dead_letter_headers(struct arena *arena, const struct dead_letter *letter,
                         const struct record_header **headers, size_t *len)
{
    const struct record *record = letter->record;
    struct builder b = {.arena = arena};

    if (record->headers_len > SIZE_MAX / sizeof(*b.headers) - OURS)
        return false;
    b.headers = arena_alloc(arena, (record->headers_len + OURS) * sizeof(*b.headers));
    if (!b.headers)
        return false;
    for (size_t i = 0; i < record->headers_len; i++)
        if (!is_stale(record->headers[i].name))
            add(&b, record->headers[i].name, record->headers[i].value);
    add_ours(&b, letter);
    *headers = b.headers;
    *len = b.len;
    return !b.failed;
}
