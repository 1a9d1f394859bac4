/* Fences and sent marks of one tick travel together: each key must fare as if it were alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/loop.h"
#include "idempotency/store.h"
#include "redis_fixture.h"

enum { MANY = 200, PATIENCE_MS = 30000 };

static struct redis_server server;

struct one {
    char id[24];
    struct claim claim;
    int answers;
    struct claim_answer claimed;
    enum store_answer answer;
};

struct fixture {
    struct loop *loop;
    struct store *store;
    struct one all[MANY];
};

static void on_claim(void *ctx, const struct claim_answer *answer)
{
    struct one *o = ctx;

    o->answers++;
    o->claimed = *answer;
}

static void on_store(void *ctx, enum store_answer answer)
{
    struct one *o = ctx;

    o->answers++;
    o->answer = answer;
}

static void await(struct fixture *f, struct one *o)
{
    const uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

    while (!o->answers && clock_monotonic_ms() < end_ms)
        assert_true(loop_tick(f->loop, 20, NULL));
    assert_int_equal(o->answers, 1);
    o->answers = 0;
}

static void await_all(struct fixture *f)
{
    for (int i = 0; i < MANY; i++)
        await(f, &f->all[i]);
}

static void renew_identity(struct one *o)
{
    o->claim.message_id = slice_str(o->id);
    store_new_token(o->claim.token);
    snprintf(o->claim.fp, sizeof(o->claim.fp), "0123456789abcdef0123456789abcdef");
}

static void claim_all(struct fixture *f)
{
    for (int i = 0; i < MANY; i++)
        store_claim(f->store, &f->all[i].claim, on_claim, &f->all[i]);
    await_all(f);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(f->all[i].claimed.verdict, CLAIM_WON);
}

static void fence_all(struct fixture *f)
{
    for (int i = 0; i < MANY; i++)
        store_fence(f->store, &f->all[i].claim, on_store, &f->all[i]);
    await_all(f);
}

static void mark_sent(struct fixture *f, struct one *o)
{
    const struct sent_mark mark = {1700000000123, 1, 1};

    store_mark_sent(f->store, &o->claim, &mark, on_store, o);
}

static void mark_all(struct fixture *f)
{
    for (int i = 0; i < MANY; i++)
        mark_sent(f, &f->all[i]);
    await_all(f);
}

static int64_t records(struct fixture *f)
{
    struct store_state state;

    store_state(f->store, &state);
    return state.records;
}

/* How often Redis has run a script. */
static long script_calls(void)
{
    redisReply *info = REDIS_ASK(&server, "INFO", "commandstats");
    const char *stat = strstr(info->str, "cmdstat_evalsha:calls=");
    const long calls = stat ? strtol(stat + strlen("cmdstat_evalsha:calls="), NULL, 10) : 0;

    freeReplyObject(info);
    return calls;
}

static void test_a_tick_leaves_in_few_calls(void **state)
{
    struct fixture *f = *state;
    long before;

    claim_all(f);
    before = script_calls();
    fence_all(f);
    mark_all(f);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(f->all[i].answer, STORE_DONE);
    assert_in_range(script_calls() - before, 2, 20); /* the count of records among them */
    assert_int_equal(records(f), MANY);
}

/* Every seventh key is gone, another's, of another type, or sent already. */
static void test_every_key_has_its_own_answer(void **state)
{
    struct fixture *f = *state;
    char key[64];

    claim_all(f);
    for (int i = 0; i < MANY; i += 7) {
        snprintf(key, sizeof(key), "email:sent:%s", f->all[i].id);
        REDIS_DO(&server, "DEL", key);
        if (i % 4 == 1)
            REDIS_DO(&server, "SET", key, "C|somebody|0123456789abcdef0123456789abcdef");
        else if (i % 4 == 2)
            REDIS_DO(&server, "RPUSH", key, "a list");
        else if (i % 4 == 3)
            REDIS_DO(&server, "SET", key, "{\"state\":\"sent\",\"token\":\"somebody\"}");
    }
    fence_all(f);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(f->all[i].answer, i % 7 ? STORE_DONE : STORE_LOST);
    mark_all(f);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(f->all[i].answer, i % 7 == 0 && i % 4 == 3 ? STORE_LOST : STORE_DONE);
}

static void test_fenced_twice_stays_ours(void **state)
{
    struct fixture *f = *state;

    claim_all(f);
    fence_all(f);
    fence_all(f);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(f->all[i].answer, STORE_DONE);
}

static void test_nothing_overtakes_a_batch(void **state)
{
    struct fixture *f = *state;
    struct one *first = &f->all[0], *twin = &f->all[1], *other = &f->all[2];

    claim_all(f);
    fence_all(f);
    memcpy(twin->id, first->id, sizeof(twin->id));
    renew_identity(twin);
    mark_sent(f, first);
    store_claim(f->store, &twin->claim, on_claim, twin);
    store_fence(f->store, &other->claim, on_store, other);
    await(f, first);
    await(f, twin);
    await(f, other);
    assert_int_equal(first->answer, STORE_DONE);
    assert_int_equal(twin->claimed.verdict, CLAIM_DUPLICATE); /* the mark was there before it */
    assert_int_equal(other->answer, STORE_DONE);

    store_fence(f->store, &other->claim, on_store, other);
    store_release(f->store, &other->claim, on_store, &f->all[3]);
    await(f, other);
    await(f, &f->all[3]);
    assert_int_equal(other->answer, STORE_DONE);
    assert_int_equal(f->all[3].answer, STORE_DONE);
    store_fence(f->store, &other->claim, on_store, other);
    await(f, other);
    assert_int_equal(other->answer, STORE_LOST); /* released, and it stayed so */
}

static void test_one_key_twice_in_a_batch(void **state)
{
    struct fixture *f = *state;
    struct one *first = &f->all[0], *twin = &f->all[1];
    struct store_state after;

    claim_all(f);
    memcpy(twin->id, first->id, sizeof(twin->id));
    renew_identity(twin);
    mark_sent(f, first);
    mark_sent(f, twin);
    await(f, first);
    await(f, twin);
    assert_int_equal(first->answer, STORE_DONE);
    assert_int_equal(twin->answer, STORE_LOST); /* the first 250's mark stays */
    store_state(f->store, &after);
    assert_int_equal(after.late_marks, 1);
    assert_int_equal(after.records, 1);
}

static void test_forgotten_scripts_are_brought(void **state)
{
    struct fixture *f = *state;

    claim_all(f);
    REDIS_DO(&server, "SCRIPT", "FLUSH");
    fence_all(f);
    REDIS_DO(&server, "SCRIPT", "FLUSH");
    mark_all(f);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(f->all[i].answer, STORE_DONE);
}

static void test_a_refusal_is_everybodys(void **state)
{
    struct fixture *f = *state;

    claim_all(f);
    REDIS_DO(&server, "CONFIG", "SET", "maxmemory", "1");
    fence_all(f);
    REDIS_DO(&server, "CONFIG", "SET", "maxmemory", "0");
    for (int i = 0; i < MANY; i++)
        assert_int_equal(f->all[i].answer, STORE_UNAVAILABLE);
}

static void test_a_lost_connection_is_everybodys(void **state)
{
    struct fixture *f = *state;

    claim_all(f);
    kill(server.pid, SIGSTOP);
    for (int i = 0; i < MANY; i++)
        store_fence(f->store, &f->all[i].claim, on_store, &f->all[i]);
    assert_true(loop_tick(f->loop, 5, NULL)); /* they are on their way */
    redis_server_kill(&server);
    await_all(f);
    assert_true(redis_server_launch(&server, NULL));
    for (int i = 0; i < MANY; i++)
        assert_int_equal(f->all[i].answer, STORE_UNAVAILABLE);
}

/* ---- */

static int setup(void **state)
{
    const struct store_settings settings = {.host = "127.0.0.1",
                                            .port = server.port,
                                            .lease_ms = 60000,
                                            .ttl_ms = 600000,
                                            .timeout_ms = 10000};
    struct fixture *f = calloc(1, sizeof(*f));
    struct store_state now = {0};

    assert_non_null(f);
    REDIS_DO(&server, "FLUSHALL");
    f->loop = loop_new(NULL);
    assert_non_null(f->loop);
    f->store = redis_store_new(f->loop, &settings, NULL);
    assert_non_null(f->store);
    for (int i = 0; (!now.up || now.records < 0) && i < 1000; i++) {
        assert_true(loop_tick(f->loop, 10, NULL));
        store_state(f->store, &now);
    }
    assert_true(now.up);
    for (int i = 0; i < MANY; i++) {
        snprintf(f->all[i].id, sizeof(f->all[i].id), "mail-%d", i);
        renew_identity(&f->all[i]);
    }
    *state = f;
    return 0;
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

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_tick_leaves_in_few_calls), TEST(test_every_key_has_its_own_answer),
        TEST(test_fenced_twice_stays_ours),    TEST(test_nothing_overtakes_a_batch),
        TEST(test_one_key_twice_in_a_batch),   TEST(test_forgotten_scripts_are_brought),
        TEST(test_a_refusal_is_everybodys),    TEST(test_a_lost_connection_is_everybodys),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
