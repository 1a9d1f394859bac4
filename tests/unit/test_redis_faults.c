/* What a real Redis can do to the store, and how the store comes back by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/loop.h"
#include "idempotency/store.h"
#include "redis_fixture.h"

#define FP "0123456789abcdef0123456789abcdef"
#define KEY CLAIM_KEY_PREFIX "mail-1"

enum { TIMEOUT_MS = 1500, PATIENCE_MS = 30000 };

struct fixture {
    struct redis_server server;
    struct loop *loop;
    struct store *store;
    struct store_settings settings;
    int changes;
};

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

static void on_changed(void *ctx)
{
    struct fixture *f = ctx;

    f->changes++;
}

static void turn(struct fixture *f, uint64_t ms)
{
    uint64_t end_ms = clock_monotonic_ms() + ms;

    do
        assert_true(loop_tick(f->loop, 5, NULL));
    while (clock_monotonic_ms() < end_ms);
}

static struct store_state state_of(struct fixture *f)
{
    struct store_state state;

    store_state(f->store, &state);
    return state;
}

static void await_up(struct fixture *f, bool up)
{
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

    while (state_of(f).up != up && clock_monotonic_ms() < end_ms)
        turn(f, 10);
    if (state_of(f).up != up)
        fail_msg("still %s: %s", up ? "down" : "up", state_of(f).error);
    assert_true(up == (state_of(f).error[0] == '\0'));
}

static void await_error(struct fixture *f, const char *part)
{
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

    while (!strstr(state_of(f).error, part) && clock_monotonic_ms() < end_ms)
        turn(f, 10);
    if (!strstr(state_of(f).error, part))
        fail_msg("'%s' is not in '%s'", part, state_of(f).error);
    assert_false(state_of(f).up);
}

static void await(struct fixture *f, const struct waiting *w)
{
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

    while (!w->answers && clock_monotonic_ms() < end_ms)
        assert_true(loop_tick(f->loop, 20, NULL));
    assert_int_equal(w->answers, 1);
}

static struct claim new_claim(void)
{
    struct claim c = {.message_id = slice_str("mail-1"),
                      .record = {.topic = slice_str("t"), .partition = 0, .offset = 1},
                      .fp = FP};

    store_new_token(c.token);
    return c;
}

static enum claim_verdict ask_claim(struct fixture *f, const struct claim *c)
{
    struct waiting w = {0};

    store_claim(f->store, c, on_claim, &w);
    assert_int_equal(w.answers, 0);
    await(f, &w);
    return w.claim.verdict;
}

typedef void (*simple_fn)(struct store *s, const struct claim *c, store_fn fn, void *ctx);

static enum store_answer ask(struct fixture *f, simple_fn fn, const struct claim *c)
{
    struct waiting w = {0};

    fn(f->store, c, on_store, &w);
    assert_int_equal(w.answers, 0);
    await(f, &w);
    return w.store;
}

static void sent(struct store *s, const struct claim *c, store_fn fn, void *ctx)
{
    const struct sent_mark mark = {1700000000123, 1, 1};

    store_mark_sent(s, c, &mark, fn, ctx);
}

static void dead(struct store *s, const struct claim *c, store_fn fn, void *ctx)
{
    const struct dead_mark mark = {1700000000123, "rejected"};

    store_mark_dead(s, c, &mark, fn, ctx);
}

static void open_store(struct fixture *f)
{
    f->store = redis_store_new(f->loop, &f->settings, NULL);
    assert_non_null(f->store);
}

static void open_up(struct fixture *f)
{
    open_store(f);
    await_up(f, true);
}

/* One whole delivery, under a token of its own. */
static void assert_works(struct fixture *f)
{
    struct claim c = new_claim();

    REDIS_DO(&f->server, "DEL", KEY);
    assert_int_equal(ask_claim(f, &c), CLAIM_WON);
    assert_int_equal(ask(f, store_renew, &c), STORE_DONE);
    assert_int_equal(ask(f, store_fence, &c), STORE_DONE);
    assert_int_equal(ask(f, sent, &c), STORE_DONE);
    assert_int_equal(ask_claim(f, &c), CLAIM_DUPLICATE);
}

static void assert_refuses(struct fixture *f, const char *why)
{
    struct claim c = new_claim();

    assert_int_equal(ask_claim(f, &c), CLAIM_UNAVAILABLE);
    await_error(f, why);
    assert_int_equal(ask(f, store_fence, &c), STORE_UNAVAILABLE);
    assert_int_equal(ask(f, sent, &c), STORE_UNAVAILABLE);
}

/* ---- away ---- */

static void test_down_at_start(void **state)
{
    struct fixture *f = *state;
    struct claim c = new_claim();

    redis_server_kill(&f->server);
    open_store(f);
    assert_false(state_of(f).up);
    assert_int_equal(ask_claim(f, &c), CLAIM_UNAVAILABLE);
    await_error(f, "refused");
    turn(f, 500);
    assert_int_equal(f->changes, 0);
    assert_true(redis_server_launch(&f->server, NULL));
    await_up(f, true);
    turn(f, 20);
    assert_int_equal(f->changes, 1);
    assert_works(f);
}

static void test_frozen(void **state)
{
    struct fixture *f = *state;
    struct claim c = new_claim();
    uint64_t begin_ms;

    open_up(f);
    kill(f->server.pid, SIGSTOP);
    begin_ms = clock_monotonic_ms();
    assert_int_equal(ask_claim(f, &c), CLAIM_UNAVAILABLE);
    assert_in_range(clock_monotonic_ms() - begin_ms, TIMEOUT_MS / 2, TIMEOUT_MS + 2000);
    await_error(f, "no answer within");
    begin_ms = clock_monotonic_ms();
    assert_int_equal(ask_claim(f, &c), CLAIM_UNAVAILABLE); /* known to be down: at once */
    assert_in_range(clock_monotonic_ms() - begin_ms, 0, TIMEOUT_MS - 200);
    turn(f, TIMEOUT_MS * 2); /* connections to a frozen server open, and stay silent */
    assert_false(state_of(f).up);
    kill(f->server.pid, SIGCONT);
    await_up(f, true);
    /* The first try was carried out after all, its reply was lost: the same token wins. */
    assert_int_equal(ask_claim(f, &c), CLAIM_WON);
    assert_int_equal(ask(f, store_fence, &c), STORE_DONE);
}

static void test_killed_with_commands_in_flight(void **state)
{
    enum { IN_FLIGHT = 200 };
    struct fixture *f = *state;
    struct claim c = new_claim();
    struct waiting w[IN_FLIGHT] = {{0}};

    open_up(f);
    kill(f->server.pid, SIGSTOP);
    for (int i = 0; i < IN_FLIGHT; i++)
        if (i % 2)
            store_claim(f->store, &c, on_claim, &w[i]);
        else
            sent(f->store, &c, on_store, &w[i]);
    turn(f, 50);
    redis_server_kill(&f->server);
    for (int i = 0; i < IN_FLIGHT; i++) {
        await(f, &w[i]);
        if (i % 2)
            assert_int_equal(w[i].claim.verdict, CLAIM_UNAVAILABLE);
        else
            assert_int_equal(w[i].store, STORE_UNAVAILABLE);
    }
    await_up(f, false);
    assert_true(redis_server_launch(&f->server, NULL));
    await_up(f, true);
    for (int i = 0; i < IN_FLIGHT; i++)
        assert_int_equal(w[i].answers, 1);
    assert_works(f);
    assert_int_equal(f->changes, 3);
}

static void test_connection_cut_by_the_server(void **state)
{
    struct fixture *f = *state;

    open_up(f);
    for (int i = 0; i < 3; i++) {
        int changes = f->changes;
        REDIS_DO(&f->server, "CLIENT", "KILL", "TYPE", "normal");
        for (int k = 0; f->changes < changes + 2 && k < 1000; k++)
            turn(f, 10);
        await_up(f, true);
        assert_works(f);
    }
}

/* Replies that came while this process did not run must not count as late. */
static void test_a_pause_of_ours_is_no_time_out(void **state)
{
    enum { ASKED = 3000 };
    struct fixture *f = *state;
    struct claim c = new_claim();
    static struct waiting w[ASKED];

    open_up(f);
    memset(w, 0, sizeof(w));
    assert_int_equal(ask_claim(f, &c), CLAIM_WON);
    for (int i = 0; i < ASKED; i++)
        store_renew(f->store, &c, on_store, &w[i]);
    assert_true(loop_tick(f->loop, 0, NULL));
    fixture_sleep_ms(TIMEOUT_MS + 300);
    for (int i = 0; i < ASKED; i++) {
        await(f, &w[i]);
        assert_int_equal(w[i].store, STORE_DONE);
    }
    assert_true(state_of(f).up);
}

static void test_names_are_resolved(void **state)
{
    struct fixture *f = *state;

    f->settings.host = "localhost";
    open_up(f);
    assert_works(f);
    store_destroy(f->store);
    f->settings.host = "no-such-host.invalid";
    open_store(f);
    await_error(f, "cannot connect: ");
    store_destroy(f->store);
    open_store(f); /* and destroyed while it resolves */
    turn(f, 1);
}

static void serve_nonsense(struct fixture *f, const char *text, const char *error)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(any);
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), peers[64], peers_len = 0;

    assert_int_equal(bind(fd, (struct sockaddr *)&any, len), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &len), 0);
    f->settings.port = ntohs(any.sin_port);
    open_store(f);
    while (!strstr(state_of(f).error, error) && clock_monotonic_ms() < end_ms) {
        int peer = accept(fd, NULL, NULL);
        if (peer >= 0) {
            ssize_t written = write(peer, text, strlen(text));
            (void)written;
            peers[peers_len++ % 64] = peer;
        }
        turn(f, 5);
    }
    assert_non_null(strstr(state_of(f).error, error));
    assert_false(state_of(f).up);
    store_destroy(f->store);
    f->store = NULL;
    for (int i = 0; i < peers_len && i < 64; i++)
        close(peers[i]);
    close(fd);
}

static void test_something_else_listens(void **state)
{
    struct fixture *f = *state;

    serve_nonsense(f, "220 mail.example.com ESMTP\r\n", "Protocol error");
    serve_nonsense(f, "HTTP/1.1 400 Bad Request\r\n\r\n", "Protocol error");
    serve_nonsense(f, "", "no answer within");
}

/* ---- refusing ---- */

static void test_out_of_memory(void **state)
{
    struct fixture *f = *state;
    struct claim c = new_claim();

    open_up(f);
    assert_int_equal(ask_claim(f, &c), CLAIM_WON);
    REDIS_DO(&f->server, "CONFIG", "SET", "maxmemory", "1");
    assert_int_equal(ask(f, store_fence, &c), STORE_UNAVAILABLE); /* the same inside a script */
    await_error(f, "OOM");
    assert_refuses(f, "OOM");
    turn(f, 7000); /* beyond the reconnects that a lasting refusal causes */
    assert_refuses(f, "OOM");
    REDIS_DO(&f->server, "CONFIG", "SET", "maxmemory", "0");
    await_up(f, true);
    assert_works(f);
}

static void test_read_only_replica(void **state)
{
    struct fixture *f = *state;

    open_up(f);
    REDIS_DO(&f->server, "REPLICAOF", "127.0.0.1", "1");
    assert_refuses(f, "");
    turn(f, 1500);
    assert_refuses(f, "replica");
    REDIS_DO(&f->server, "REPLICAOF", "NO", "ONE");
    await_up(f, true);
    assert_works(f);
}

static void test_busy_with_a_script(void **state)
{
    struct fixture *f = *state;
    redisContext *busy = fixture_connect(f->server.port);
    int done = 0;

    open_up(f);
    REDIS_DO(&f->server, "CONFIG", "SET", "busy-reply-threshold", "50");
    assert_non_null(busy);
    redisAppendCommand(busy, "EVAL %s 0", "while true do end");
    assert_int_equal(redisBufferWrite(busy, &done), REDIS_OK);
    fixture_sleep_ms(200);
    assert_refuses(f, "BUSY");
    REDIS_DO(&f->server, "SCRIPT", "KILL");
    await_up(f, true);
    assert_works(f);
    redisFree(busy);
}

static void test_loading(void **state)
{
    static const char *const slowly[] = {"--key-load-delay", "3000",
                                         "--loading-process-events-interval-bytes", "1024", NULL};
    struct fixture *f = *state;
    char dump[100];

    open_up(f);
    REDIS_DO(&f->server, "EVAL", "for i=1,1000 do redis.call('SET','filler'..i,('x'):rep(100)) end",
             "0");
    REDIS_DO(&f->server, "SAVE");
    redis_server_kill(&f->server);
    await_up(f, false);
    assert_true(redis_server_launch(&f->server, slowly));
    await_error(f, "LOADING");
    await_up(f, true);
    assert_works(f);
    snprintf(dump, sizeof(dump), "%s/dump.rdb", f->server.dir);
    assert_int_equal(unlink(dump), 0);
}

static void test_too_many_clients(void **state)
{
    struct fixture *f = *state;
    redisContext *first = fixture_connect(f->server.port);

    assert_non_null(first);
    freeReplyObject(redisCommand(first, "CONFIG SET maxclients 1"));
    open_store(f);
    turn(f, 500); /* the error reply may be lost to the reset that follows it, so only the state
                     counts */
    assert_false(state_of(f).up);
    freeReplyObject(redisCommand(first, "CONFIG SET maxclients 100"));
    await_up(f, true);
    redisFree(first);
}

/* ---- passwords ---- */

static void test_passwords(void **state)
{
    static const char *const guarded[] = {"--requirepass", "correct horse", NULL};
    struct fixture *f = *state;

    redis_server_kill(&f->server);
    assert_true(redis_server_launch(&f->server, guarded));
    open_store(f);
    await_error(f, "NOAUTH");
    store_destroy(f->store);
    f->settings.password = "battery staple";
    open_store(f);
    await_error(f, "authentication failed: WRONGPASS");
    turn(f, 300);
    assert_null(strstr(state_of(f).error, "battery"));
    store_destroy(f->store);
    f->settings.password = "correct horse";
    open_up(f);
    store_destroy(f->store);
    f->settings.user = "default";
    open_up(f);
    store_destroy(f->store);
    f->settings.user = "nobody";
    open_store(f);
    await_error(f, "authentication failed: ");
}

static void test_password_without_need(void **state)
{
    struct fixture *f = *state;

    f->settings.password = "unneeded";
    open_store(f);
    await_error(f, "authentication failed: ");
    assert_null(strstr(state_of(f).error, "unneeded"));
}

static void test_auth_disabled_does_not_leak(void **state)
{
    static const char *const renamed[] = {"--rename-command", "AUTH", "", NULL};
    struct fixture *f = *state;

    redis_server_kill(&f->server);
    assert_true(redis_server_launch(&f->server, renamed));
    f->settings.password = "hunter2";
    open_store(f);
    await_error(f, "authentication failed: ");
    assert_null(strstr(state_of(f).error, "hunter2"));
}

static void test_password_changed_while_running(void **state)
{
    struct fixture *f = *state;
    redisContext *admin = fixture_connect(f->server.port);

    assert_non_null(admin);
    open_up(f);
    freeReplyObject(redisCommand(admin, "CONFIG SET requirepass new"));
    freeReplyObject(redisCommand(admin, "CLIENT KILL TYPE normal"));
    redisFree(admin);
    await_error(f, "NOAUTH");
    redis_server_kill(&f->server);
    assert_true(redis_server_launch(&f->server, NULL));
    await_up(f, true);
}

static void test_databases(void **state)
{
    struct fixture *f = *state;
    struct claim c = new_claim();
    redisReply *r;

    f->settings.db = 3;
    open_up(f);
    assert_int_equal(ask_claim(f, &c), CLAIM_WON);
    r = REDIS_ASK(&f->server, "EXISTS", KEY);
    assert_int_equal(r->integer, 0);
    freeReplyObject(r);
    r = REDIS_ASK(&f->server, "EVAL",
                  "redis.call('SELECT','3') return redis.call('EXISTS',KEYS[1])", "1", KEY);
    assert_int_equal(r->integer, 1);
    freeReplyObject(r);
    store_destroy(f->store);
    f->settings.db = 99;
    open_store(f);
    await_error(f, "SELECT: ");
}

/* INFO may be forbidden: the version is unknown then, and the claim goes by script as before
 * Redis 7. */
static void test_least_privileges(void **state)
{
    struct fixture *f = *state;
    struct claim a = new_claim(), b = new_claim();

    REDIS_DO(&f->server, "ACL", "SETUSER", "mailer", "on", ">secret", "~email:*", "+set", "+pttl",
             "+eval", "+evalsha", "+script|load", "+get", "+del", "+pexpire", "+time", "+hincrby",
             "+hgetall", "+hdel");
    f->settings.user = "mailer";
    f->settings.password = "secret";
    open_up(f);
    assert_int_equal(ask_claim(f, &a), CLAIM_WON);
    assert_int_equal(ask_claim(f, &a), CLAIM_WON);
    assert_int_equal(ask_claim(f, &b), CLAIM_BUSY);
    assert_works(f);
    assert_false(state_of(f).evicts);
    assert_string_equal(state_of(f).eviction_policy, "");
    assert_int_equal(state_of(f).records, 1);
    REDIS_DO(&f->server, "ACL", "SETUSER", "mailer", "-evalsha");
    assert_int_equal(ask(f, sent, &b), STORE_UNAVAILABLE);
    await_up(f, false);
}

/* ---- losing what Redis holds ---- */

static void test_scripts_flushed(void **state)
{
    struct fixture *f = *state;

    open_up(f);
    for (int i = 0; i < 3; i++) {
        REDIS_DO(&f->server, "SCRIPT", "FLUSH");
        assert_works(f);
        assert_true(state_of(f).up);
        turn(f, i == 1 ? 1500 : 0); /* with and without their having been loaded again */
    }
}

static void test_everything_flushed(void **state)
{
    struct fixture *f = *state;
    uint64_t begin_ms;

    open_up(f);
    assert_works(f);
    turn(f, 1200);
    assert_int_equal(state_of(f).records, 1);
    REDIS_DO(&f->server, "FLUSHALL");
    begin_ms = clock_monotonic_ms();
    while (state_of(f).records && clock_monotonic_ms() - begin_ms < 3000)
        turn(f, 10);
    assert_int_equal(state_of(f).records, 0);
    assert_works(f);
    assert_int_equal(state_of(f).records, 1);
}

static void test_restarted_empty(void **state)
{
    struct fixture *f = *state;

    open_up(f);
    assert_works(f);
    redis_server_kill(&f->server);
    await_up(f, false);
    assert_true(redis_server_launch(&f->server, NULL));
    await_up(f, true);
    assert_works(f); /* the scripts, too, are there again */
}

/* ---- somebody else's keys ---- */

static void test_key_of_another_type(void **state)
{
    struct fixture *f = *state;
    struct claim c = new_claim();

    open_up(f);
    REDIS_DO(&f->server, "RPUSH", KEY, "a");
    assert_int_equal(ask_claim(f, &c), CLAIM_UNREADABLE);
    assert_int_equal(state_of(f).unreadable, 1);
    assert_int_equal(ask(f, store_renew, &c), STORE_LOST);
    assert_int_equal(ask(f, store_fence, &c), STORE_LOST);
    assert_int_equal(ask(f, store_release, &c), STORE_LOST);
    assert_int_equal(ask(f, dead, &c), STORE_LOST);
    assert_true(state_of(f).up);
    assert_int_equal(ask(f, sent, &c), STORE_DONE); /* a true 250 wins */
    assert_int_equal(ask_claim(f, &c), CLAIM_DUPLICATE);
}

static void test_records_key_of_another_type(void **state)
{
    struct fixture *f = *state;

    REDIS_DO(&f->server, "SET", "email:records", "mine");
    open_up(f);
    assert_works(f);
    assert_int_equal(state_of(f).records, -1);
    REDIS_DO(&f->server, "DEL", "email:records");
    REDIS_DO(&f->server, "HSET", "email:records", "odd", "fields", "9999999999999", "x");
    turn(f, 2200);
    assert_int_equal(state_of(f).records, 0);
}

static void test_records_leave_nothing_behind(void **state)
{
    struct fixture *f = *state;
    redisReply *r;

    open_up(f);
    assert_works(f);
    r = REDIS_ASK(&f->server, "PTTL", "email:records");
    assert_in_range(r->integer, f->settings.ttl_ms, f->settings.ttl_ms + 120000);
    freeReplyObject(r);
    turn(f, 2500);
    r = REDIS_ASK(&f->server, "KEYS", "email:sent:*");
    assert_int_equal(r->elements, 1); /* the probe's key is not among the events' */
    freeReplyObject(r);
}

static void test_eviction_is_noticed(void **state)
{
    struct fixture *f = *state;

    open_up(f);
    assert_false(state_of(f).evicts);
    assert_string_equal(state_of(f).eviction_policy, "noeviction");
    store_destroy(f->store);
    REDIS_DO(&f->server, "CONFIG", "SET", "maxmemory-policy", "volatile-lru");
    open_up(f);
    assert_true(state_of(f).evicts);
    assert_string_equal(state_of(f).eviction_policy, "volatile-lru");
}

/* ---- TLS, where this build has it ---- */

static void make_certificate(struct fixture *f, char cert[100], char key[100])
{
    char command[600];

    snprintf(cert, 100, "%s/cert.pem", f->server.dir);
    snprintf(key, 100, "%s/key.pem", f->server.dir);
    snprintf(command, sizeof(command),
             "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext "
             "subjectAltName=DNS:localhost -keyout %s -out %s 2>/dev/null",
             key, cert);
    assert_int_equal(system(command), 0);
}

static void use_tls(struct fixture *f)
{
    char cert[100], key[100], port[16];
    const char *const options[] = {
        "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients",
        "no",         NULL};

    make_certificate(f, cert, key);
    redis_server_kill(&f->server);
    f->settings.port = fixture_free_port();
    snprintf(port, sizeof(port), "%u", f->settings.port);
    assert_true(redis_server_launch(&f->server, options));
    open_store(f);
    await_error(f, "certificate"); /* nobody vouches for it */
    store_destroy(f->store);
    setenv("SSL_CERT_FILE", cert, 1);
    open_store(f);
    await_error(f, "certificate"); /* it is for localhost, not for 127.0.0.1 */
    store_destroy(f->store);
    f->settings.host = "localhost";
    open_up(f);
    assert_works(f);
    unsetenv("SSL_CERT_FILE");
    unlink(cert);
    unlink(key);
}

static void test_tls(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};

    f->settings.tls = true;
    if (redis_store_has_tls()) {
        use_tls(f);
    } else {
        assert_null(redis_store_new(f->loop, &f->settings, &err));
        assert_non_null(strstr(err.text, "rediss://"));
    }
}

/* ---- life ---- */

static void test_destroy_in_any_state(void **state)
{
    struct fixture *f = *state;
    struct claim c = new_claim();
    struct waiting w = {0};

    for (int i = 0; i < 12; i++) { /* resolving, connecting, greeting, up */
        f->settings.host = i % 2 ? "localhost" : "127.0.0.1";
        open_store(f);
        for (int k = 0; k < i; k++)
            assert_true(loop_tick(f->loop, 1, NULL));
        store_claim(f->store, &c, on_claim, &w);
        store_destroy(f->store);
    }
    f->settings.host = "127.0.0.1";
    open_up(f);
    kill(f->server.pid, SIGSTOP);
    for (int i = 0; i < 100; i++)
        store_claim(f->store, &c, on_claim, &w);
    turn(f, 20);
    store_destroy(f->store);
    f->store = NULL;
    turn(f, 20);
    assert_int_equal(w.answers, 0);
}

/* ---- running it ---- */

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->loop = loop_new(NULL);
    assert_non_null(f->loop);
    redis_server_start(&f->server, NULL);
    f->settings = (struct store_settings){.lease_ms = 20000,
                                          .ttl_ms = 60000,
                                          .timeout_ms = TIMEOUT_MS,
                                          .host = "127.0.0.1",
                                          .port = f->server.port,
                                          .changed = on_changed,
                                          .changed_ctx = f};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    store_destroy(f->store);
    loop_destroy(f->loop);
    redis_server_stop(&f->server);
    free(f);
    return 0;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_down_at_start),
        TEST(test_frozen),
        TEST(test_killed_with_commands_in_flight),
        TEST(test_connection_cut_by_the_server),
        TEST(test_a_pause_of_ours_is_no_time_out),
        TEST(test_names_are_resolved),
        TEST(test_something_else_listens),
        TEST(test_out_of_memory),
        TEST(test_read_only_replica),
        TEST(test_busy_with_a_script),
        TEST(test_loading),
        TEST(test_too_many_clients),
        TEST(test_passwords),
        TEST(test_password_without_need),
        TEST(test_auth_disabled_does_not_leak),
        TEST(test_password_changed_while_running),
        TEST(test_databases),
        TEST(test_least_privileges),
        TEST(test_scripts_flushed),
        TEST(test_everything_flushed),
        TEST(test_restarted_empty),
        TEST(test_key_of_another_type),
        TEST(test_records_key_of_another_type),
        TEST(test_records_leave_nothing_behind),
        TEST(test_eviction_is_noticed),
        TEST(test_tls),
        TEST(test_destroy_in_any_state),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
