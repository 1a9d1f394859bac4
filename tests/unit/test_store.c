/* How a store behaves, whatever is behind it: every test runs against memory and against a real
 * Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/loop.h"
#include "idempotency/claim_object.h"
#include "idempotency/memory_store.h"
#include "idempotency/store.h"
#include "redis_fixture.h"

#define FP "0123456789abcdef0123456789abcdef"
#define OTHER_FP "ffffffffffffffffffffffffffffffff"
#define ID "mail-1"

enum { LEASE_MS = 800, TTL_MS = 5000, TIMEOUT_MS = 10000, PATIENCE_MS = 30000 };

enum backend { MEMORY, REDIS };

static struct redis_server server;

struct fixture {
    enum backend backend;
    struct loop *loop;
    struct store *store;
};

/* ---- asking, and waiting for the answer ---- */

struct waiting {
    int answers;
    struct claim_answer claim;
    enum store_answer store;
};

static void on_claim(void *ctx, const struct claim_answer *answer)
{
    struct waiting *w = ctx;

    w->answers++;
    w->claim = *answer;
}

static void on_store(void *ctx, enum store_answer answer)
{
    struct waiting *w = ctx;

    w->answers++;
    w->store = answer;
}

static void turn(struct fixture *f, uint64_t ms)
{
    uint64_t end_ms = clock_monotonic_ms() + ms;

    do
        assert_true(loop_tick(f->loop, 5, NULL));
    while (clock_monotonic_ms() < end_ms);
}

static void await(struct fixture *f, const struct waiting *w, int answers)
{
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

    while (w->answers < answers && clock_monotonic_ms() < end_ms)
        assert_true(loop_tick(f->loop, 100, NULL));
    assert_int_equal(w->answers, answers);
}

static struct claim claim_at(const char *fp, int64_t offset)
{
    struct claim c = {
        .message_id = slice_str(ID),
        .record = {.topic = slice_str("email-events"), .partition = 1, .offset = offset}};

    store_new_token(c.token);
    snprintf(c.fp, sizeof(c.fp), "%s", fp);
    return c;
}

static struct claim new_claim(void)
{
    return claim_at(FP, 7);
}

static struct claim_answer ask_claim(struct fixture *f, const struct claim *c)
{
    struct waiting w = {0};

    store_claim(f->store, c, on_claim, &w);
    assert_int_equal(w.answers, 0); /* never before the return */
    await(f, &w, 1);
    return w.claim;
}

/* Looks again as it is told to, until it is not busy any more. */
static struct claim_answer insist(struct fixture *f, const struct claim *c)
{
    struct claim_answer answer;
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

    while ((answer = ask_claim(f, c)).verdict == CLAIM_BUSY && clock_monotonic_ms() < end_ms)
        turn(f, answer.wait_ms < 50 ? answer.wait_ms : 50);
    return answer;
}

typedef void (*simple_fn)(struct store *s, const struct claim *c, store_fn fn, void *ctx);

static enum store_answer ask(struct fixture *f, simple_fn fn, const struct claim *c)
{
    struct waiting w = {0};

    fn(f->store, c, on_store, &w);
    assert_int_equal(w.answers, 0);
    await(f, &w, 1);
    return w.store;
}

static void sent(struct store *s, const struct claim *c, store_fn fn, void *ctx)
{
    const struct sent_mark mark = {1700000000123, 2, 5};

    store_mark_sent(s, c, &mark, fn, ctx);
}

static void dead(struct store *s, const struct claim *c, store_fn fn, void *ctx)
{
    const struct dead_mark mark = {1700000000123, "rejected"};

    store_mark_dead(s, c, &mark, fn, ctx);
}

static struct store_state state_of(struct fixture *f)
{
    struct store_state state;

    store_state(f->store, &state);
    return state;
}

/* ---- the key, from beside the store ---- */

static void put(struct fixture *f, const char *value)
{
    if (f->backend == REDIS)
        REDIS_DO(&server, "SET", CLAIM_KEY_PREFIX ID, value, "PX", "60000");
    else
        assert_true(memory_table_set(memory_store_table(f->store), slice_str(CLAIM_KEY_PREFIX ID),
                                     slice_str(value), MEMORY_TTL, false, loop_now_ms(f->loop)));
}

/* "" where there is nothing. */
static const char *value_of(struct fixture *f)
{
    static char text[1000];

    text[0] = '\0';
    if (f->backend == REDIS) {
        redisReply *r = REDIS_ASK(&server, "GET", CLAIM_KEY_PREFIX ID);
        assert_non_null(r);
        if (r->type == REDIS_REPLY_STRING)
            snprintf(text, sizeof(text), "%s", r->str);
        freeReplyObject(r);
    } else {
        struct slice v =
            memory_table_get(memory_store_table(f->store), slice_str(CLAIM_KEY_PREFIX ID),
                             loop_now_ms(f->loop), NULL);
        snprintf(text, sizeof(text), "%.*s", SLICE_ARG(v));
    }
    return text;
}

static void assert_value(struct fixture *f, const char *prefix, const char *token)
{
    char expected[200];
    const char *value = value_of(f);

    snprintf(expected, sizeof(expected), "%s|%s|" FP, prefix, token);
    if (strncmp(value, expected, strlen(expected)) != 0)
        fail_msg("'%s' does not begin with '%s'", value, expected);
}

static void assert_object(struct fixture *f, const char *state, const char *token)
{
    struct claim_object object;

    assert_true(claim_object_parse(slice_str(value_of(f)), &object));
    assert_true(slice_is(object.state, state));
    assert_true(slice_is(object.token, token));
    assert_true(slice_is(object.fp, FP));
}

static void win(struct fixture *f, const struct claim *c)
{
    assert_int_equal(ask_claim(f, c).verdict, CLAIM_WON);
}

static void win_and_fence(struct fixture *f, const struct claim *c)
{
    win(f, c);
    assert_int_equal(ask(f, store_fence, c), STORE_DONE);
}

/* ---- claiming ---- */

static void test_one_claimant_wins(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim();
    struct claim_answer answer;

    win(f, &a);
    assert_value(f, "C", a.token);
    answer = ask_claim(f, &b);
    assert_int_equal(answer.verdict, CLAIM_BUSY);
    assert_in_range(answer.wait_ms, 50, LEASE_MS + 500);
    assert_value(f, "C", a.token);
}

static void test_an_expired_lease_is_claimed(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim();

    win(f, &a);
    assert_int_equal(insist(f, &b).verdict, CLAIM_WON);
    assert_value(f, "C", b.token);
}

static void test_a_zombie_is_stopped_before_the_dot(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim();

    win(f, &a);
    assert_int_equal(insist(f, &b).verdict, CLAIM_WON);
    assert_int_equal(ask(f, store_renew, &a), STORE_LOST);
    assert_int_equal(ask(f, store_fence, &a), STORE_LOST);
    assert_int_equal(ask(f, store_release, &a), STORE_LOST);
    assert_int_equal(ask(f, dead, &a), STORE_LOST);
    assert_int_equal(ask(f, store_renew, &b), STORE_DONE);
    assert_value(f, "C", b.token);
}

static void test_a_zombie_without_successor_is_stopped_too(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim();

    win(f, &a);
    turn(f, LEASE_MS + 100);
    assert_int_equal(ask(f, store_fence, &a), STORE_LOST);
    assert_string_equal(value_of(f), "");
}

static void test_a_repeated_claim_is_ours(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim();

    win(f, &a);
    for (int i = 0; i < 4; i++) { /* each with a fresh lease */
        turn(f, LEASE_MS / 3);
        win(f, &a);
    }
    assert_int_equal(ask_claim(f, &b).verdict, CLAIM_BUSY);
    assert_int_equal(ask(f, store_fence, &a), STORE_DONE);
}

static void test_renewing_keeps_the_claim(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim();

    win(f, &a);
    for (int i = 0; i < 4; i++) {
        turn(f, LEASE_MS / 3);
        assert_int_equal(ask(f, store_renew, &a), STORE_DONE);
        assert_int_equal(ask_claim(f, &b).verdict, CLAIM_BUSY);
    }
}

static void test_a_foreign_claim_is_waited_for(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim();
    struct claim_answer answer;

    put(f, "C|somebody");
    answer = ask_claim(f, &a);
    assert_int_equal(answer.verdict, CLAIM_BUSY);
    assert_in_range(answer.wait_ms, 50, 5000);
    put(f, "C|somebody|nonsense");
    assert_int_equal(ask_claim(f, &a).verdict, CLAIM_BUSY);
    assert_string_equal(value_of(f), "C|somebody|nonsense");
}

static void test_another_fingerprint_is_a_conflict(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), other = claim_at(OTHER_FP, 8);

    win(f, &a);
    assert_int_equal(ask_claim(f, &other).verdict, CLAIM_CONFLICT);
    assert_int_equal(ask(f, store_fence, &a), STORE_DONE);
    assert_int_equal(ask_claim(f, &other).verdict, CLAIM_CONFLICT);
    assert_int_equal(ask(f, sent, &a), STORE_DONE);
    assert_int_equal(ask_claim(f, &other).verdict, CLAIM_CONFLICT);
    assert_object(f, "sent", a.token);
}

static void test_many_at_once(void **state)
{
    enum { CLAIMANTS = 300 };
    struct fixture *f = *state;
    struct claim *claims = calloc(CLAIMANTS, sizeof(*claims));
    struct waiting *w = calloc(CLAIMANTS, sizeof(*w));
    int won = 0;

    assert_non_null(claims);
    assert_non_null(w);
    for (int i = 0; i < CLAIMANTS; i++) {
        claims[i] = new_claim();
        store_claim(f->store, &claims[i], on_claim, &w[i]);
    }
    for (int i = 0; i < CLAIMANTS; i++) {
        await(f, &w[i], 1);
        won += w[i].claim.verdict == CLAIM_WON;
        assert_true(w[i].claim.verdict == CLAIM_WON || w[i].claim.verdict == CLAIM_BUSY);
    }
    assert_int_equal(won, 1);
    free(claims);
    free(w);
}

static void test_garbage_is_busy_with_an_alarm(void **state)
{
    static const char *const garbage[] = {"", "x", "D|token", "{\"state\":\"sen",
                                          "{\"state\":\"odd\"}"};
    struct fixture *f = *state;
    struct claim a = new_claim();

    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        struct claim_answer answer;
        put(f, garbage[i]);
        answer = ask_claim(f, &a);
        assert_int_equal(answer.verdict, CLAIM_UNREADABLE);
        assert_in_range(answer.wait_ms, 50, 5000);
        assert_int_equal(state_of(f).unreadable, i + 1);
        assert_int_equal(ask(f, store_renew, &a), STORE_LOST);
        assert_int_equal(ask(f, store_fence, &a), STORE_LOST);
        assert_int_equal(ask(f, store_release, &a), STORE_LOST);
        assert_int_equal(ask(f, dead, &a), STORE_LOST);
        assert_string_equal(value_of(f), garbage[i]);
    }
    assert_true(state_of(f).up);
}

static void test_any_identity(void **state)
{
    static const char *const ids[] = {"%s%n", "a|b|c", "{x}*?[]\\\"'", ("C|me|" FP), "~"};
    struct fixture *f = *state;
    char longest[201];

    memset(longest, 'x', 200);
    longest[200] = '\0';
    for (size_t i = 0; i <= sizeof(ids) / sizeof(ids[0]); i++) {
        struct claim a = new_claim(), b = new_claim();
        a.message_id = b.message_id =
            slice_str(i < sizeof(ids) / sizeof(ids[0]) ? ids[i] : longest);
        win_and_fence(f, &a);
        assert_int_equal(ask(f, sent, &a), STORE_DONE);
        assert_int_equal(ask_claim(f, &b).verdict, CLAIM_DUPLICATE);
    }
}

/* ---- the dot ---- */

static void test_an_expired_dot_is_taken_over_and_stays_a_dot(void **state)
{
    struct fixture *f = *state;
    struct claim claims[4] = {new_claim(), new_claim(), new_claim(), new_claim()};
    char end[8];

    win_and_fence(f, &claims[0]);
    assert_value(f, "D", claims[0].token);
    for (unsigned n = 1; n < 4; n++) {
        struct claim_answer answer = ask_claim(f, &claims[n]);
        assert_int_equal(answer.verdict, CLAIM_BUSY);
        assert_in_range(answer.wait_ms, 50, LEASE_MS + 500);
        answer = insist(f, &claims[n]);
        assert_int_equal(answer.verdict, CLAIM_TAKEN_OVER);
        assert_int_equal(answer.takeovers, n);
        assert_value(f, "D", claims[n].token);
        snprintf(end, sizeof(end), "|%u", n);
        assert_string_equal(strrchr(value_of(f), '|'), end);
        assert_int_equal(ask(f, store_fence, &claims[n - 1]), STORE_LOST);
        assert_int_equal(ask(f, store_renew, &claims[n - 1]), STORE_LOST);
        assert_int_equal(ask(f, store_release, &claims[n - 1]), STORE_LOST);
        assert_int_equal(ask(f, store_fence, &claims[n]), STORE_DONE);
        assert_string_equal(strrchr(value_of(f), '|'), end); /* the fence counts no takeover */
    }
}

static void test_renewing_keeps_the_dot(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim();

    win_and_fence(f, &a);
    for (int i = 0; i < 4; i++) {
        turn(f, LEASE_MS / 3);
        assert_int_equal(ask(f, store_renew, &a), STORE_DONE);
        assert_int_equal(ask_claim(f, &b).verdict, CLAIM_BUSY);
    }
    assert_value(f, "D", a.token);
}

static void test_a_repeated_takeover_is_ours(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim();

    win_and_fence(f, &a);
    assert_int_equal(insist(f, &b).verdict, CLAIM_TAKEN_OVER);
    for (int i = 0; i < 4; i++) { /* still the first one, and with a fresh deadline */
        struct claim_answer answer = ask_claim(f, &b);
        assert_int_equal(answer.verdict, CLAIM_TAKEN_OVER);
        assert_int_equal(answer.takeovers, 1);
        turn(f, LEASE_MS / 3);
    }
    assert_int_equal(ask_claim(f, &a).verdict, CLAIM_BUSY);
}

static void test_the_dot_outlives_its_lease(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim();

    win_and_fence(f, &a);
    turn(f, LEASE_MS * 2);
    assert_value(f, "D", a.token);
    /* Nobody took it: the attempt that comes back late may still fence, and its 250 counts. */
    assert_int_equal(ask(f, store_fence, &a), STORE_DONE);
    assert_int_equal(ask_claim(f, &b).verdict, CLAIM_BUSY);
}

/* ---- marks ---- */

static void test_sent_settles(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim(), later = claim_at(FP, 99);

    win_and_fence(f, &a);
    assert_int_equal(ask(f, sent, &a), STORE_DONE);
    assert_object(f, "sent", a.token);
    assert_non_null(strstr(value_of(f), "\"sentAt\":\"2023-11-14T22:13:20.123Z\","
                                        "\"attempts\":2,\"recipients\":5,"));
    assert_int_equal(ask_claim(f, &b).verdict, CLAIM_DUPLICATE);
    assert_int_equal(ask_claim(f, &later).verdict, CLAIM_DUPLICATE);
    turn(f, LEASE_MS + 100); /* it lives for the TTL, not for the lease */
    assert_int_equal(ask_claim(f, &b).verdict, CLAIM_DUPLICATE);
    assert_int_equal(ask(f, store_release, &a), STORE_LOST);
    assert_int_equal(ask(f, dead, &a), STORE_LOST);
    assert_object(f, "sent", a.token);
}

static void test_sent_by_hand_settles(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim();

    put(f, "{\"state\": \"sent\"}");
    assert_int_equal(ask_claim(f, &a).verdict, CLAIM_DUPLICATE);
    assert_int_equal(ask(f, sent, &a), STORE_LOST);
    assert_string_equal(value_of(f), "{\"state\": \"sent\"}");
}

static void test_a_true_250_wins(void **state)
{
    static const char *const there[] = {
        "C|somebody|" FP,
        "D|somebody|" FP "|1|2",
        "D|somebody|" FP "|9000000000000|0",
        "garbage",
        "{",
        "{\"state\":\"dead\",\"topic\":\"t\",\"partition\":0,\"offset\":1}"};
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(there) / sizeof(there[0]); i++) {
        struct claim a = new_claim();
        put(f, there[i]);
        assert_int_equal(ask(f, sent, &a), STORE_DONE);
        assert_object(f, "sent", a.token);
    }
    assert_int_equal(state_of(f).late_marks, 0);
}

static void test_the_first_sent_mark_is_kept(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim();

    win_and_fence(f, &a);
    assert_int_equal(insist(f, &b).verdict, CLAIM_TAKEN_OVER);
    assert_int_equal(ask(f, sent, &a), STORE_DONE); /* late, but true */
    assert_int_equal(ask(f, sent, &b), STORE_LOST);
    assert_object(f, "sent", a.token);
    assert_int_equal(state_of(f).late_marks, 1);
    assert_int_equal(state_of(f).records, 1);
}

static void test_marking_sent_twice_counts_once(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim();

    win_and_fence(f, &a);
    assert_int_equal(ask(f, sent, &a), STORE_DONE);
    assert_int_equal(ask(f, sent, &a), STORE_DONE);
    turn(f, 1500); /* over a refresh */
    assert_int_equal(state_of(f).records, 1);
    assert_int_equal(state_of(f).late_marks, 0);
}

static void test_dead_settles_one_record(void **state)
{
    struct fixture *f = *state;
    struct claim a = claim_at(FP, 7), again = claim_at(FP, 7), mended = claim_at(OTHER_FP, 7);
    struct claim redriven = claim_at(FP, 8);

    win(f, &a);
    assert_int_equal(ask(f, dead, &a), STORE_DONE);
    assert_object(f, "dead", a.token);
    assert_non_null(strstr(value_of(f),
                           "\"deadAt\":\"2023-11-14T22:13:20.123Z\",\"reason\":\"rejected\","
                           "\"topic\":\"email-events\",\"partition\":1,\"offset\":7,"));
    assert_int_equal(ask_claim(f, &again).verdict, CLAIM_SETTLED);
    assert_int_equal(ask_claim(f, &mended).verdict, CLAIM_SETTLED);
    assert_int_equal(ask(f, dead, &a), STORE_DONE); /* its reply was lost */
    assert_int_equal(ask(f, dead, &again), STORE_LOST);
    assert_object(f, "dead", a.token);
    assert_int_equal(ask_claim(f, &redriven).verdict, CLAIM_WON);
    assert_value(f, "C", redriven.token);
    assert_int_equal(ask_claim(f, &again).verdict, CLAIM_BUSY);
}

static void test_dead_is_claimed_over_by_a_mended_event(void **state)
{
    struct fixture *f = *state;
    struct claim a = claim_at(FP, 7), mended = claim_at(OTHER_FP, 8);

    win(f, &a);
    assert_int_equal(ask(f, dead, &a), STORE_DONE);
    assert_int_equal(ask_claim(f, &mended).verdict, CLAIM_WON);
}

static void test_dead_over_our_own_or_nothing_only(void **state)
{
    static const char *const foreign[] = {"C|somebody|" FP, "D|somebody|" FP "|1|0",
                                          "{\"state\":\"sent\"}", "garbage"};
    struct fixture *f = *state;
    struct claim a = new_claim();

    assert_int_equal(ask(f, dead, &a), STORE_DONE); /* the claim has expired */
    assert_object(f, "dead", a.token);
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        put(f, foreign[i]);
        assert_int_equal(ask(f, dead, &a), STORE_LOST);
        assert_string_equal(value_of(f), foreign[i]);
    }
    a = claim_at(FP, 9);
    put(f, "{\"state\":\"dead\"}");
    win_and_fence(f, &a);
    assert_int_equal(ask(f, dead, &a), STORE_DONE); /* over our own D: parked */
    assert_object(f, "dead", a.token);
}

static void test_release_gives_up_our_own_only(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim();

    win(f, &a);
    assert_int_equal(ask(f, store_release, &b), STORE_LOST);
    assert_value(f, "C", a.token);
    assert_int_equal(ask(f, store_release, &a), STORE_DONE);
    assert_string_equal(value_of(f), "");
    assert_int_equal(ask(f, store_release, &a), STORE_LOST);
    win_and_fence(f, &b);
    assert_int_equal(ask(f, store_release, &a), STORE_LOST);
    assert_int_equal(ask(f, store_release, &b), STORE_DONE);
    assert_string_equal(value_of(f), "");
}

static void test_marks_expire(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim();
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

    win_and_fence(f, &a);
    assert_int_equal(ask(f, sent, &a), STORE_DONE);
    turn(f, TTL_MS / 2);
    assert_int_equal(ask_claim(f, &b).verdict, CLAIM_DUPLICATE);
    assert_int_equal(state_of(f).records, 1);
    while (state_of(f).records != 0 && clock_monotonic_ms() < end_ms)
        turn(f, 50);
    assert_int_equal(state_of(f).records, 0);
    assert_int_equal(ask_claim(f, &b).verdict, CLAIM_WON);
}

static void test_records_are_counted(void **state)
{
    struct fixture *f = *state;
    char id[20];

    for (int i = 0; i < 20; i++) {
        struct claim a = new_claim();
        snprintf(id, sizeof(id), "mail-%d", i + 100);
        a.message_id = slice_str(id);
        win_and_fence(f, &a);
        assert_int_equal(state_of(f).records, i); /* claims do not count */
        assert_int_equal(ask(f, sent, &a), STORE_DONE);
        assert_int_equal(state_of(f).records, i + 1); /* at once */
    }
    turn(f, 1200);
    assert_int_equal(state_of(f).records, 20);
    assert_string_equal(state_of(f).error, "");
}

/* ---- life ---- */

static void test_destroy_with_operations_under_way(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim();
    struct waiting w = {0};

    for (int i = 0; i < 50; i++) {
        store_claim(f->store, &a, on_claim, &w);
        store_renew(f->store, &a, on_store, &w);
    }
    store_destroy(f->store);
    f->store = NULL;
    turn(f, 50);
    assert_int_equal(w.answers, 0);
    store_destroy(NULL);
}

static void on_claim_destroy(void *ctx, const struct claim_answer *answer)
{
    struct fixture *f = ctx;

    assert_int_equal(answer->verdict, CLAIM_WON);
    store_destroy(f->store);
    f->store = NULL;
}

static void test_destroy_inside_a_callback(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim();
    struct waiting w = {0};

    store_claim(f->store, &a, on_claim_destroy, f);
    store_renew(f->store, &a, on_store, &w);
    for (int i = 0; f->store && i < 1000; i++)
        turn(f, 10);
    assert_null(f->store);
    turn(f, 50);
    assert_int_equal(w.answers, 0);
}

struct chain {
    struct fixture *f;
    struct claim claim;
    int left;
};

static void next_in_chain(void *ctx, enum store_answer answer)
{
    struct chain *c = ctx;

    assert_int_equal(answer, STORE_DONE);
    if (--c->left > 0)
        store_renew(c->f->store, &c->claim, next_in_chain, c);
}

static void test_asking_inside_a_callback(void **state)
{
    struct fixture *f = *state;
    struct chain c = {.f = f, .claim = new_claim(), .left = 200};

    win(f, &c.claim);
    store_renew(f->store, &c.claim, next_in_chain, &c);
    for (int i = 0; c.left > 0 && i < 1000; i++)
        turn(f, 10);
    assert_int_equal(c.left, 0);
}

static struct store_settings settings_for_tests(void)
{
    return (struct store_settings){.lease_ms = LEASE_MS,
                                   .ttl_ms = TTL_MS,
                                   .timeout_ms = TIMEOUT_MS,
                                   .host = "127.0.0.1",
                                   .port = server.port};
}

static void test_impossible_settings_are_refused(void **state)
{
    struct fixture *f = *state;
    struct store_settings s = settings_for_tests();
    struct error err = {0};

    s.ttl_ms = s.lease_ms;
    assert_null(memory_store_new(f->loop, &s, &err));
    assert_true(err.set);
    assert_null(redis_store_new(f->loop, &s, NULL));
    s = settings_for_tests();
    s.lease_ms = 0;
    assert_null(redis_store_new(f->loop, &s, NULL));
    s = settings_for_tests();
    s.tls = true;
    if (!redis_store_has_tls())
        assert_null(redis_store_new(f->loop, &s, NULL));
}

static void test_memory_is_bounded_by_the_lifetimes(void **state)
{
    struct fixture *f = *state;
    struct memory_table *table = memory_store_table(f->store);
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;
    char id[20];

    for (int i = 0; i < 2000; i++) {
        struct claim a = new_claim();
        snprintf(id, sizeof(id), "m%d", i);
        a.message_id = slice_str(id);
        win(f, &a);
        if (i % 2)
            assert_int_equal(ask(f, sent, &a), STORE_DONE);
    }
    assert_true(memory_table_size(table) >= 1000);
    while (memory_table_size(table) && clock_monotonic_ms() < end_ms)
        turn(f, 50);
    assert_int_equal(memory_table_size(table), 0);
}

/* ---- running all of it twice ---- */

static int setup(void **state, enum backend backend)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct store_settings settings = settings_for_tests();

    assert_non_null(f);
    f->backend = backend;
    f->loop = loop_new(NULL);
    assert_non_null(f->loop);
    if (backend == REDIS) {
        REDIS_DO(&server, "FLUSHALL");
        f->store = redis_store_new(f->loop, &settings, NULL);
    } else {
        f->store = memory_store_new(f->loop, &settings, NULL);
    }
    assert_non_null(f->store);
    for (int i = 0; !state_of(f).up && i < 1000; i++)
        turn(f, 10);
    assert_true(state_of(f).up);
    for (int i = 0; state_of(f).records < 0 && i < 1000; i++)
        turn(f, 10);
    *state = f;
    return 0;
}

static int setup_memory(void **state)
{
    return setup(state, MEMORY);
}

static int setup_redis(void **state)
{
    return setup(state, REDIS);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    store_destroy(f->store);
    loop_destroy(f->loop);
    free(f);
    return 0;
}

static int start_server(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    redis_server_start(&server, NULL);
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    redis_server_stop(&server);
    return 0;
}

#define BOTH(test)                                                                                 \
    {#test " (memory)", test, setup_memory, teardown, NULL},                                       \
    {                                                                                              \
#test " (redis)", test, setup_redis, teardown, NULL                                        \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_one_claimant_wins),
        BOTH(test_an_expired_lease_is_claimed),
        BOTH(test_a_zombie_is_stopped_before_the_dot),
        BOTH(test_a_zombie_without_successor_is_stopped_too),
        BOTH(test_a_repeated_claim_is_ours),
        BOTH(test_renewing_keeps_the_claim),
        BOTH(test_a_foreign_claim_is_waited_for),
        BOTH(test_another_fingerprint_is_a_conflict),
        BOTH(test_many_at_once),
        BOTH(test_garbage_is_busy_with_an_alarm),
        BOTH(test_any_identity),
        BOTH(test_an_expired_dot_is_taken_over_and_stays_a_dot),
        BOTH(test_renewing_keeps_the_dot),
        BOTH(test_a_repeated_takeover_is_ours),
        BOTH(test_the_dot_outlives_its_lease),
        BOTH(test_sent_settles),
        BOTH(test_sent_by_hand_settles),
        BOTH(test_a_true_250_wins),
        BOTH(test_the_first_sent_mark_is_kept),
        BOTH(test_marking_sent_twice_counts_once),
        BOTH(test_dead_settles_one_record),
        BOTH(test_dead_is_claimed_over_by_a_mended_event),
        BOTH(test_dead_over_our_own_or_nothing_only),
        BOTH(test_release_gives_up_our_own_only),
        BOTH(test_marks_expire),
        BOTH(test_records_are_counted),
        BOTH(test_destroy_with_operations_under_way),
        BOTH(test_destroy_inside_a_callback),
        BOTH(test_asking_inside_a_callback),
        BOTH(test_impossible_settings_are_refused),
        {"test_memory_is_bounded_by_the_lifetimes", test_memory_is_bounded_by_the_lifetimes,
         setup_memory, teardown, NULL},
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
