/* What stands in an event's Redis key, ours or anybody's: never misread, never a crash; and what we
 * write reads back. The final mark's reader is compared with a whole JSON library. */
#include "fuzz.h"

#include <jansson.h>

#include "idempotency/claim.h"
#include "idempotency/claim_object.h"

static bool within(struct slice part, struct slice whole)
{
    return !part.ptr || part.len == 0 ||
           (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len);
}

static const char fp[] = "0123456789abcdef0123456789abcdef";

/* A record that was there before the mail was parked is parked as well; one published later is not.
 */
static void check_parked(const struct claim_value *v, bool may_be)
{
    static const int64_t published_unix_ms = 1700000000000;
    const struct coordinates here = {.topic = slice_str("t"),
                                     .partition = 1,
                                     .offset = 2,
                                     .published_unix_ms = published_unix_ms};
    const enum claim_decision decision =
        claim_decide(v, slice_str("no|token"), slice_str(fp), &here);

    REQUIRE((decision == CLAIM_DECIDE_PARKED) ==
            (may_be && v->parked_unix_ms >= published_unix_ms));
}

static void check_decisions(const struct claim_value *v)
{
    const struct coordinates here = {.topic = slice_str("t"), .partition = 1, .offset = 2};
    const enum claim_decision theirs = /* a token has no bar, so that this one is nobody's */
        claim_decide(v, slice_str("no|token"), slice_str(fp), &here);
    const bool fits = !v->fp.len || slice_is(v->fp, fp);

    switch (v->kind) {
    case CLAIM_KIND_CLAIMED:
        REQUIRE(theirs == (fits ? CLAIM_DECIDE_WAIT : CLAIM_DECIDE_CONFLICT));
        break;
    case CLAIM_KIND_DOT:
        REQUIRE(theirs == (fits ? CLAIM_DECIDE_TAKE : CLAIM_DECIDE_CONFLICT));
        break;
    case CLAIM_KIND_SENT:
        REQUIRE(theirs == (fits ? CLAIM_DECIDE_DUPLICATE : CLAIM_DECIDE_CONFLICT));
        break;
    case CLAIM_KIND_DEAD:
        REQUIRE(theirs == CLAIM_DECIDE_OVER_DEAD || theirs == CLAIM_DECIDE_SETTLED);
        if (theirs == CLAIM_DECIDE_SETTLED)
            REQUIRE(slice_is(v->dead.topic, "t") && v->dead.partition == 1 && v->dead.offset == 2);
        check_parked(v, fits && theirs == CLAIM_DECIDE_OVER_DEAD);
        break;
    case CLAIM_KIND_UNREADABLE: REQUIRE(theirs == CLAIM_DECIDE_UNREADABLE); break;
    }
    if (v->kind == CLAIM_KIND_CLAIMED || v->kind == CLAIM_KIND_DOT)
        REQUIRE(claim_decide(v, v->token, slice_str(fp), &here) == CLAIM_DECIDE_OURS);
}

static bool plain(const json_t *string)
{
    const char *text = json_string_value(string);

    return !strpbrk(text, "\\\"") && strlen(text) == json_string_length(string);
}

static void check_member(const json_t *root, const char *name, struct slice got)
{
    const json_t *value = json_object_get(root, name);

    /* Escapes stay undecoded: compare what has none. */
    if (json_is_string(value) && plain(value) && got.ptr && !memchr(got.ptr, '\\', got.len))
        REQUIRE(slice_is(got, json_string_value(value)));
    if (!value)
        REQUIRE(!got.ptr);
}

static unsigned depth_of(const json_t *value)
{
    unsigned deepest = 0;
    const char *key;
    json_t *item;
    size_t i;

    json_object_foreach((json_t *)value, key, item)
    {
        const unsigned depth = depth_of(item);
        deepest = depth > deepest ? depth : deepest;
    }
    json_array_foreach(value, i, item)
    {
        const unsigned depth = depth_of(item);
        deepest = depth > deepest ? depth : deepest;
    }
    return 1 + deepest;
}

static void check_number(const json_t *root, const char *name, int64_t got)
{
    const json_t *value = json_object_get(root, name);

    if (json_is_integer(value))
        REQUIRE(got == json_integer_value(value));
    else if (!json_is_number(value))
        REQUIRE(got == -1);
}

/* What a JSON library takes for an object, ours does. (But jansson overlooks a NUL byte that stands
 * behind a number or a word.) */
static void check_object(struct slice text)
{
    json_t *root = json_loadb(text.ptr, text.len, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    struct claim_object object;

    if (!memchr(text.ptr, '\0', text.len) && json_is_object(root) && depth_of(root) < 32) {
        REQUIRE(claim_object_parse(text, &object));
        check_member(root, "state", object.state);
        check_member(root, "token", object.token);
        check_member(root, "fp", object.fp);
        check_member(root, "topic", object.topic);
        check_number(root, "partition", object.partition);
        check_number(root, "offset", object.offset);
        check_number(root, "published", object.published);
    }
    json_decref(root);
}

static void check_value(struct slice value)
{
    struct claim_value v;

    claim_value_parse(value, &v);
    REQUIRE(within(v.token, value) && within(v.fp, value) && within(v.dead.topic, value));
    REQUIRE(v.fp.len == 0 || v.fp.len == CLAIM_FP_LEN);
    REQUIRE(v.deadline_unix_ms >= 0 && v.takeovers < UINT32_MAX);
    if (v.kind == CLAIM_KIND_CLAIMED || v.kind == CLAIM_KIND_DOT)
        REQUIRE(value.len >= 2 && value.ptr[1] == '|' &&
                value.ptr[0] == (v.kind == CLAIM_KIND_DOT ? 'D' : 'C'));
    check_decisions(&v);
}

/* No '|' in tokens. */
static struct slice token_of(struct tape *t, char out[CLAIM_TOKEN_SIZE])
{
    const struct slice bytes = tape_bytes(t, tape_number(t, CLAIM_TOKEN_SIZE - 1));

    for (size_t i = 0; i < bytes.len; i++)
        out[i] = (char)('!' + (unsigned char)bytes.ptr[i] % 90);
    return slice_of(out, bytes.len);
}

static void check_written(struct tape *t)
{
    char memory[CLAIM_TOKEN_SIZE];
    const struct slice token = token_of(t, memory);
    const uint32_t takeovers = tape_number(t, 1 << 24);
    const int64_t at_unix_ms = (int64_t)tape_number(t, 1 << 24) << 19;
    const struct coordinates record = {.topic = slice_str("topic-1"),
                                       .partition = (int32_t)tape_number(t, 1 << 16),
                                       .offset = at_unix_ms};
    struct claim_value v;
    struct buf out = {0};

    switch (tape_byte(t) % 4) {
    case 0:
        claim_write_claimed(&out, token, slice_str(fp));
        claim_value_parse(buf_slice(&out), &v);
        REQUIRE(v.kind == CLAIM_KIND_CLAIMED);
        break;
    case 1:
        claim_write_dot(&out, token, slice_str(fp), at_unix_ms, takeovers);
        claim_value_parse(buf_slice(&out), &v);
        REQUIRE(v.kind == CLAIM_KIND_DOT && v.deadline_unix_ms == at_unix_ms);
        REQUIRE(v.takeovers == takeovers);
        break;
    case 2:
        claim_write_sent(&out, slice_str("t"), slice_str(fp), at_unix_ms, takeovers, 1);
        claim_value_parse(buf_slice(&out), &v);
        REQUIRE(v.kind == CLAIM_KIND_SENT);
        break;
    default:
        claim_write_dead(&out, slice_str("t"), slice_str(fp), at_unix_ms, "rejected", &record);
        claim_value_parse(buf_slice(&out), &v);
        REQUIRE(v.kind == CLAIM_KIND_DEAD && slice_equal(v.dead.topic, record.topic));
        REQUIRE(v.dead.partition == record.partition && v.dead.offset == record.offset);
        break;
    }
    REQUIRE(slice_is(v.fp, fp));
    if (v.kind == CLAIM_KIND_CLAIMED || v.kind == CLAIM_KIND_DOT)
        REQUIRE(slice_equal(v.token, token));
    check_decisions(&v);
    buf_cleanup(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tape tape = tape_of(data, size);
    const uint8_t what = size ? data[0] : 0;
    struct slice value;

    if (what == '0') { /* a digit: all that begins otherwise is a value as it is */
        tape_byte(&tape);
        check_written(&tape);
        return 0;
    }
    value = heap_copy(tape_rest(&tape));
    check_value(value);
    check_object(value);
    REQUIRE(claim_wait_ms((int64_t)size * 977 - 1, size) <= 5000);
    heap_free(value);
    return 0;
}
