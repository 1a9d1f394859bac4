#include "letter.h"

#include <stdio.h>

#include "base/clock.h"
#include "email/event.h"

static const char redriven_name[] = "dlq-redriven";

static struct slice header(const struct record *record, const char *name)
{
    for (size_t i = record->headers_len; i > 0; i--) /* the last one counts */
        if (slice_is(record->headers[i - 1].name, name))
            return record->headers[i - 1].value;
    return slice_of(NULL, 0);
}

/* 0 where it is no number; nobody but us writes these. */
static uint64_t number(struct slice text)
{
    uint64_t value = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9' || value > UINT32_MAX)
            return 0;
        value = value * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    return value;
}

bool letter_read(struct arena *arena, const struct record *record, struct letter *out)
{
    struct event event;
    struct error err = {0};
    enum event_status status = event_decode(arena, record->value, SIZE_MAX, &event, &err);

    *out = (struct letter){
        .partition = record->partition,
        .offset = record->offset,
        .failed_at_unix_ms = record->timestamp_unix_ms,
        .reason = header(record, "dlq-reason"),
        .error = header(record, "dlq-error"),
        .smtp_reply = header(record, "dlq-smtp-reply"),
        .recipients = header(record, "dlq-recipients"),
        .attempts = number(header(record, "dlq-attempts")),
        .redriven = number(header(record, redriven_name)),
        .whole = !header(record, "dlq-truncated").ptr,
        .message_id = event.message_id,
    };
    if (status == EVENT_OK)
        out->type = event.type;
    if (!rfc3339_parse(header(record, "dlq-failed-at"), &out->failed_at_unix_ms))
        out->failed_at_unix_ms = record->timestamp_unix_ms;
    return status != EVENT_NO_MEMORY;
}

static bool reason_matches(const struct letter *letter, const struct text_list *wanted)
{
    for (size_t i = 0; i < wanted->len; i++)
        if (slice_is(letter->reason, wanted->items[i]))
            return true;
    return wanted->len == 0;
}

bool letter_matches(const struct letter *letter, const struct options *o)
{
    return reason_matches(letter, &o->reason) &&
           (!o->since.set || letter->failed_at_unix_ms >= o->since.unix_ms) &&
           (!o->until.set || letter->failed_at_unix_ms < o->until.unix_ms) &&
           (!o->type || slice_is(letter->type, o->type)) &&
           (!o->message_id || slice_is(letter->message_id, o->message_id));
}

static const char *text_of(struct arena *arena, const char *format, ...) BASE_PRINTF(2, 3);

static const char *text_of(struct arena *arena, const char *format, ...)
{
    char text[320];
    struct slice copy;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    copy = arena_copy(arena, slice_str(text));
    return copy.ptr ? copy.ptr : "out of memory";
}

/* What --force overrides: the event would only come back. */
static const char *hopeless(struct arena *arena, const struct letter *letter,
                            const struct record *record, const struct options *o,
                            size_t max_event_bytes, int64_t now_unix_ms)
{
    struct event event;
    struct error err = {0};

    if (letter->redriven >= o->max_redrives)
        return text_of(arena, "redriven %llu times already (--max-redrives %llu)",
                       (unsigned long long)letter->redriven, (unsigned long long)o->max_redrives);
    if (slice_is(letter->reason, "invalid_event"))
        return "the event is invalid, and would fail again";
    if (event_decode(arena, record->value, max_event_bytes, &event, &err) != EVENT_OK)
        return text_of(arena, "the event would fail again: %s", err.text);
    if (event.has_expires_at && event.expires_at_unix_ms <= now_unix_ms)
        return "the event has expired, and would never be sent";
    return NULL;
}

const char *letter_obstacle(struct arena *arena, const struct letter *letter,
                            const struct record *record, const struct options *o,
                            size_t max_event_bytes, int64_t now_unix_ms)
{
    const struct slice topic = header(record, "dlq-topic");
    const struct slice partition = header(record, "dlq-partition");
    const struct slice offset = header(record, "dlq-offset");

    if (!letter->whole)
        return text_of(arena,
                       "the event was too large for the dead letter queue and is cut; whole, it "
                       "was at %.*s, partition %.*s, offset %.*s",
                       SLICE_ARG(topic), SLICE_ARG(partition), SLICE_ARG(offset));
    return o->force ? NULL : hopeless(arena, letter, record, o, max_event_bytes, now_unix_ms);
}

bool letter_redrive_headers(struct arena *arena, const struct letter *letter,
                            const struct record *record, const struct record_header **headers,
                            size_t *len)
{
    struct record_header *kept =
        arena_alloc(arena, (record->headers_len + 1) * sizeof(struct record_header));
    char text[24];
    struct slice count;

    snprintf(text, sizeof(text), "%llu", (unsigned long long)letter->redriven + 1);
    count = arena_copy(arena, slice_str(text));
    if (!kept || !count.ptr)
        return false;
    *len = 0;
    for (size_t i = 0; i < record->headers_len; i++) {
        const struct slice name = record->headers[i].name;
        if (name.len < 4 || memcmp(name.ptr, "dlq-", 4) != 0)
            kept[(*len)++] = record->headers[i];
    }
    kept[(*len)++] = (struct record_header){slice_str(redriven_name), count};
    *headers = kept;
    return true;
}
