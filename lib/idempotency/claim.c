#include "idempotency/claim.h"

#include "base/clock.h"
#include "base/json_out.h"
#include "idempotency/claim_object.h"

enum { MAX_WAIT_MS = 5000, MIN_WAIT_MS = 50, UNKNOWN_WAIT_MS = 1000, JITTER_MS = 500 };

static struct slice fingerprint(struct slice text)
{
    const struct slice none = {NULL, 0};

    if (text.len != CLAIM_FP_LEN)
        return none;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            return none;
    }
    return text;
}

/* Cuts the part before the next '|' off `rest`; the last part where there is none. */
static struct slice next_part(struct slice *rest)
{
    const char *bar = rest->len ? memchr(rest->ptr, '|', rest->len) : NULL;
    size_t len = bar ? (size_t)(bar - rest->ptr) : rest->len;
    struct slice part = slice_of(rest->ptr, len);

    *rest = bar ? slice_of(bar + 1, rest->len - len - 1) : slice_of(NULL, 0);
    return part;
}

static bool read_decimal(struct slice text, uint64_t max, uint64_t *out)
{
    *out = 0;
    if (!text.len)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)(unsigned char)text.ptr[i] - '0';
        if (digit > 9 || *out > (max - digit) / 10)
            return false;
        *out = *out * 10 + digit;
    }
    return true;
}

static void parse_claimed(struct slice rest, struct claim_value *out)
{
    out->kind = CLAIM_KIND_CLAIMED;
    out->token = next_part(&rest);
    out->fp = fingerprint(rest);
}

static void parse_dot(struct slice rest, struct claim_value *out)
{
    struct slice token = next_part(&rest), fp = next_part(&rest), deadline = next_part(&rest);
    uint64_t deadline_unix_ms, takeovers;

    /* Lua counts in doubles, so that a deadline beyond 2^53 would not survive a takeover. */
    if (!read_decimal(deadline, (uint64_t)1 << 53, &deadline_unix_ms) ||
        !read_decimal(rest, UINT32_MAX - 1, &takeovers))
        return;
    out->kind = CLAIM_KIND_DOT;
    out->token = token;
    out->fp = fingerprint(fp);
    out->deadline_unix_ms = (int64_t)deadline_unix_ms;
    out->takeovers = (uint32_t)takeovers;
}

static int64_t parked_at(const struct claim_object *object)
{
    int64_t unix_ms;

    return slice_is(object->reason, "ambiguous") && rfc3339_parse(object->dead_at, &unix_ms)
               ? unix_ms
               : 0;
}

static void parse_final(struct slice value, struct claim_value *out)
{
    struct claim_object object;

    if (!claim_object_parse(value, &object))
        return;
    if (slice_is(object.state, "sent"))
        out->kind = CLAIM_KIND_SENT;
    else if (slice_is(object.state, "dead"))
        out->kind = CLAIM_KIND_DEAD;
    else
        return;
    out->token = object.token;
    out->fp = fingerprint(object.fp);
    if (out->kind == CLAIM_KIND_DEAD)
        out->parked_unix_ms = parked_at(&object);
    if (out->kind == CLAIM_KIND_DEAD && object.partition >= INT32_MIN &&
        object.partition <= INT32_MAX)
        out->dead = (struct coordinates){.topic = object.topic,
                                         .partition = (int32_t)object.partition,
                                         .offset = object.offset,
                                         .published_unix_ms = object.published};
}

void claim_value_parse(struct slice value, struct claim_value *out)
{
    *out = (struct claim_value){.kind = CLAIM_KIND_UNREADABLE};
    if (!value.len)
        return;
    if (value.len >= 2 && memcmp(value.ptr, "C|", 2) == 0)
        parse_claimed(slice_of(value.ptr + 2, value.len - 2), out);
    else if (value.len >= 2 && memcmp(value.ptr, "D|", 2) == 0)
        parse_dot(slice_of(value.ptr + 2, value.len - 2), out);
    else
        parse_final(value, out);
}

static bool same_record(const struct coordinates *dead, const struct coordinates *record)
{
    const bool both_dated = dead->published_unix_ms > 0 && record->published_unix_ms > 0;

    if (!dead->topic.ptr || !record->topic.ptr || !slice_equal(dead->topic, record->topic))
        return false;
    if (record->partition < 0) /* not known which: any that was not there before it was published */
        return dead->partition >= 0 &&
               !(both_dated && dead->published_unix_ms < record->published_unix_ms);
    return dead->partition == record->partition && dead->offset == record->offset &&
           !(both_dated && dead->published_unix_ms != record->published_unix_ms);
}

/* A copy that was there before its mail was parked. */
static bool parked_too(const struct claim_value *found, const struct coordinates *record)
{
    return record->topic.ptr && !record->on_purpose && record->published_unix_ms > 0 &&
           record->published_unix_ms <= found->parked_unix_ms;
}

enum claim_decision claim_decide(const struct claim_value *found, struct slice token,
                                 struct slice fp, const struct coordinates *record)
{
    bool conflict = found->fp.len && !slice_equal(found->fp, fp);
    bool ours = slice_equal(found->token, token);

    switch (found->kind) {
    case CLAIM_KIND_CLAIMED:
        return ours ? CLAIM_DECIDE_OURS : conflict ? CLAIM_DECIDE_CONFLICT : CLAIM_DECIDE_WAIT;
    case CLAIM_KIND_DOT:
        return ours ? CLAIM_DECIDE_OURS : conflict ? CLAIM_DECIDE_CONFLICT : CLAIM_DECIDE_TAKE;
    case CLAIM_KIND_SENT: return conflict ? CLAIM_DECIDE_CONFLICT : CLAIM_DECIDE_DUPLICATE;
    case CLAIM_KIND_DEAD:
        if (same_record(&found->dead, record))
            return CLAIM_DECIDE_SETTLED;
        return !conflict && parked_too(found, record) ? CLAIM_DECIDE_PARKED
                                                      : CLAIM_DECIDE_OVER_DEAD;
    case CLAIM_KIND_UNREADABLE: break;
    }
    return CLAIM_DECIDE_UNREADABLE;
}

void claim_write_claimed(struct buf *out, struct slice token, struct slice fp)
{
    buf_add(out, "C|", 2);
    buf_add_slice(out, token);
    buf_add_char(out, '|');
    buf_add_slice(out, fp);
}

void claim_write_dot(struct buf *out, struct slice token, struct slice fp, int64_t deadline_unix_ms,
                     uint32_t takeovers)
{
    buf_add(out, "D|", 2);
    buf_add_slice(out, token);
    buf_add_char(out, '|');
    buf_add_slice(out, fp);
    buf_add_char(out, '|');
    buf_add_i64(out, deadline_unix_ms);
    buf_add_char(out, '|');
    buf_add_u64(out, takeovers);
}

static void write_instant(struct buf *out, const char *name, int64_t unix_ms)
{
    char text[RFC3339_SIZE];

    rfc3339_format(unix_ms, text);
    json_out_field_str(out, name, slice_str(text));
}

void claim_write_sent(struct buf *out, struct slice token, struct slice fp, int64_t sent_at_unix_ms,
                      uint32_t attempts, uint32_t recipients)
{
    buf_add_str(out, "{\"state\":\"sent\"");
    write_instant(out, "sentAt", sent_at_unix_ms);
    json_out_field_i64(out, "attempts", attempts);
    json_out_field_i64(out, "recipients", recipients);
    json_out_field_str(out, "fp", fp);
    json_out_field_str(out, "token", token);
    buf_add_char(out, '}');
}

void claim_write_dead(struct buf *out, struct slice token, struct slice fp, int64_t dead_at_unix_ms,
                      const char *reason, const struct coordinates *record)
{
    buf_add_str(out, "{\"state\":\"dead\"");
    write_instant(out, "deadAt", dead_at_unix_ms);
    json_out_field_str(out, "reason", slice_str(reason));
    json_out_field_str(out, "topic", record->topic);
    json_out_field_i64(out, "partition", record->partition);
    json_out_field_i64(out, "offset", record->offset);
    if (record->published_unix_ms > 0)
        json_out_field_i64(out, "published", record->published_unix_ms);
    json_out_field_str(out, "fp", fp);
    json_out_field_str(out, "token", token);
    buf_add_char(out, '}');
}

uint64_t claim_wait_ms(int64_t ttl_ms, uint64_t random)
{
    uint64_t left_ms = ttl_ms < 0 ? UNKNOWN_WAIT_MS : (uint64_t)ttl_ms;
    uint64_t wait_ms = left_ms > MAX_WAIT_MS ? MAX_WAIT_MS : left_ms + random % (JITTER_MS + 1);

    return wait_ms > MAX_WAIT_MS ? MAX_WAIT_MS : wait_ms < MIN_WAIT_MS ? MIN_WAIT_MS : wait_ms;
}
