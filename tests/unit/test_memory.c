/* Memory that runs out anywhere in the pure parts: the answer is "out of memory", or the very
 * result that there is with enough of it; never another result, a crash or a leak. Each allocation
 * of ours and of jansson's fails in turn, alone and with all that follow. (The producer library has
 * a test of its own, test_producer_memory.c. libidn2 has no hook.) */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <unistd.h>

#include "base/config.h"
#include "base/json_in.h"
#include "email/event.h"
#include "email/message.h"
#include "email/smtp_transaction.h"
#include "event_json.h"
#include "idempotency/claim.h"
#include "kafka/dead_letter.h"
#include "kafka/tracker.h"
#include "letter.h"
#include "plain_text.h"

/* ---- allocations that fail ---- */

/* The linker makes every call of ours to malloc one to __wrap_malloc, see CMakeLists.txt. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);

static size_t allocations;           /* since the trial began */
static size_t fail_first, fail_last; /* from 1; 0: none fails */

static bool fails(void)
{
    allocations++;
    if (allocations < fail_first || allocations > fail_last)
        return false;
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

/* One run of the code under test, which cleans up behind itself. True: it said that it succeeded,
 * and `result` is what it made; false: it said that memory is out. */
/* Many small blocks, so that there are many allocations to fail. */
#define SMALL_ARENA ((struct arena){.first_block = 16})

typedef bool (*trial_fn)(struct buf *result);

static bool run(trial_fn trial, size_t first, size_t last, char **result)
{
    struct buf made = {0};
    bool good;

    allocations = 0;
    fail_first = first;
    fail_last = last;
    good = trial(&made);
    fail_first = fail_last = 0;
    *result = good ? __real_strdup(made.ptr ? made.ptr : "") : NULL;
    buf_cleanup(&made);
    return good;
}

/* What a trial tells of its result must itself not run out of memory. */
static size_t pause_failing(void)
{
    const size_t last = fail_last;

    fail_last = 0;
    return last;
}

static void check(trial_fn trial, size_t first, size_t last, const char *wanted)
{
    char *got;

    if (run(trial, first, last, &got) && strcmp(got, wanted) != 0)
        fail_msg("allocations %zu to %zu fail, and the result is\n%s\ninstead of\n%s", first, last,
                 got, wanted);
    free(got);
}

static void sweep(trial_fn trial, size_t at_least)
{
    char *wanted, *got;
    size_t all;

    assert_true(run(trial, 0, 0, &wanted));
    all = allocations;
    assert_true(all >= at_least);
    for (size_t n = 1; n <= all; n++) {
        check(trial, n, n, wanted);
        check(trial, n, SIZE_MAX, wanted);
    }
    assert_false(run(trial, 1, SIZE_MAX, &got));
    free(wanted);
}

/* ---- an event, decoded and composed ---- */

/* Numbers of all lengths: jansson clears errno where it reads one. */
static const char event_json[] =
    "{\"messageID\":\"m-1\",\"type\":\"welcome\",\"to\":[\"Ann <ann@example.com>\",\"bob@example."
    "com\"],\"cc\":{\"email\":\"cc@example.com\",\"name\":\"C\"},\"from\":\"S "
    "<s@example.com>\",\"subject\":\"Hello, this subject is long enough for the lexer's buffer to "
    "grow\",\"text\":\"t\xc3\xa4xt\",\"html\":\"<p>a body that is longer than everything before it "
    "in this event, so that the buffer has to grow again, and again: "
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "</p>\",\"headers\":{\"X-B\":\"1\",\"X-A\":\"2\"},\"attachments\":[{\"filename\":\"a\","
    "\"contentType\":\"a/b\",\"content\":\"QUJD\",\"contentID\":\"i\"}],\"createdAt\":"
    "\"2026-11-21T08:10:42Z\",\"metadata\":{\"k\":[1,23456789012345678,-1.5e3,0]},\"n\":7}";

static const char template_json[] =
    "{\"messageID\":\"m-1\",\"to\":\"a@example.com\",\"template\":\"t\",\"data\":{\"name\":\"a "
    "name "
    "that is longer than sixteen bytes\",\"sum\":12345678901234567,\"price\":9.990000000001,"
    "\"list\":[1,2,300000000000000000,\"text that is longer than all numbers and names\",4]}}";

static bool decode(struct arena *arena, struct event *ev, const char *json)
{
    struct error err = {0};
    const enum event_status status = event_decode(arena, slice_str(json), SIZE_MAX, ev, &err);

    if (status != EVENT_OK && (status != EVENT_NO_MEMORY || !err.set))
        fail_msg("status %d, \"%s\"", status, err.text);
    return status == EVENT_OK;
}

static bool decode_trial(struct buf *result, const char *json)
{
    struct arena arena = SMALL_ARENA;
    struct event ev;
    const bool good = decode(&arena, &ev, json);

    pause_failing();
    if (good)
        buf_addf(result, "%s %.*s", ev.fingerprint, SLICE_ARG(ev.data));
    arena_cleanup(&arena);
    return good;
}

static bool decode_event(struct buf *result)
{
    return decode_trial(result, event_json);
}

static bool decode_template(struct buf *result)
{
    return decode_trial(result, template_json);
}

static void tell_tree(struct buf *out, const struct json_in *value)
{
    buf_addf(out, "%.*s=", SLICE_ARG(value->name));
    if (value->first)
        for (const struct json_in *m = value->first; m; m = m->next)
            tell_tree(out, m);
    else
        buf_addf(out, "%.*s ", SLICE_ARG(value->text));
}

static bool read_tree(struct buf *result)
{
    struct arena arena = SMALL_ARENA;
    struct json_in_error fault;
    const struct json_in *root =
        json_in_parse(&arena, slice_str(event_json), EVENT_MAX_JSON_DEPTH, &fault);

    pause_failing();
    assert_true(root || fault.fault == JSON_IN_FAULT_MEMORY);
    if (root)
        tell_tree(result, root);
    arena_cleanup(&arena);
    return root != NULL;
}

static bool compose(struct buf *result)
{
    const struct message_settings settings = {
        .from = {.spec = slice_str("noreply@example.com"), .local_len = 7}};
    struct arena arena = SMALL_ARENA;
    struct error err = {0};
    struct event ev;
    struct message m;
    bool good = decode(&arena, &ev, event_json);

    message_init(&m);
    if (good)
        good = message_compose(&m, &ev, &settings, 0, &err) || !err.set;
    pause_failing();
    buf_add_slice(result, buf_slice(&m.bytes));
    message_cleanup(&m);
    arena_cleanup(&arena);
    return good;
}

/* ---- configuration ---- */

static char folder[] = "/tmp/test-memory-XXXXXX";

static int enter_folder(void **state)
{
    FILE *file;

    (void)state;
    if (!mkdtemp(folder) || chdir(folder) != 0 || !(file = fopen(".env", "w")))
        return -1;
    fputs("EMAIL_MAX_ATTEMPTS=7\nexport SMTP_FROM=\"a@b.example\"\nKAFKA_CONFIG_SASL_USERNAME=u\n",
          file);
    fclose(file);
    if (!(file = fopen("secret", "w")))
        return -1;
    fputs("pass\n", file);
    return fclose(file);
}

static int leave_folder(void **state)
{
    (void)state;
    return unlink(".env") || unlink("secret") || chdir("/") || rmdir(folder);
}

static void tell_config(struct buf *out, const struct config *c)
{
    buf_addf(out, "%s %s %s %s %s %s ", c->kafka_brokers, c->redis_host, c->redis_password,
             c->smtp_host, c->smtp_from, c->smtp_password);
    buf_addf(out, "%u %u %llu %d", c->mode, c->smtp_tls, (unsigned long long)c->max_attempts,
             c->redis_given);
    for (size_t i = 0; i < c->properties_len; i++)
        buf_addf(out, " %s=%s", c->properties[i].name, c->properties[i].value);
}

static bool load_config(struct buf *result)
{
    char *argv[] = {(char *)(uintptr_t) "program",
                    (char *)(uintptr_t) "--kafka-config=security.protocol=sasl_ssl",
                    (char *)(uintptr_t) "--smtp-host=relay.example"};
    /* So much that the arena needs several blocks. */
    static char large[8][1500] = {
        "KAFKA_CONFIG_SASL_JAAS_CONFIG=",  "KAFKA_CONFIG_SSL_KEY_PEM=",
        "KAFKA_CONFIG_SSL_CA_PEM=",        "KAFKA_CONFIG_SSL_CERTIFICATE_PEM=",
        "KAFKA_CONFIG_CLIENT_ID=",         "KAFKA_CONFIG_CLIENT_RACK=",
        "KAFKA_CONFIG_SSL_CIPHER_SUITES=", "KAFKA_CONFIG_DEBUG="};
    char *environment[] = {large[0],
                           large[1],
                           large[2],
                           large[3],
                           large[4],
                           large[5],
                           large[6],
                           large[7],
                           (char *)(uintptr_t) "EMAIL_MODE=smtp",
                           (char *)(uintptr_t) "REDIS_URL=redis://u:p%41ss@redis.example:6380/1",
                           (char *)(uintptr_t) "SMTP_USER=u",
                           (char *)(uintptr_t) "SMTP_PASSWORD_FILE=secret",
                           (char *)(uintptr_t) "KAFKA_CONFIG_SASL_MECHANISMS=PLAIN",
                           (char *)(uintptr_t) "KAFKA_CONFIG_SASL_PASSWORD_FILE=secret",
                           NULL};
    const struct config_sources sources = {
        .program = CONFIG_SERVICE, .argc = 3, .argv = argv, .environ = environment};
    struct buf mistakes = {0};
    struct config c;
    enum config_result outcome;

    for (size_t i = 0; i < 8; i++)
        memset(large[i] + strlen(large[i]), 'x', sizeof(large[i]) - 1 - strlen(large[i]));
    outcome = config_load(&c, &sources, &mistakes);
    pause_failing();
    if (outcome == CONFIG_OK)
        tell_config(result, &c);
    assert_int_equal(outcome == CONFIG_OK, mistakes.len == 0 && !mistakes.failed);
    buf_cleanup(&mistakes);
    config_cleanup(&c);
    return outcome == CONFIG_OK;
}

/* ---- claims ---- */

static bool write_marks(struct buf *result)
{
    const struct coordinates record = {.topic = slice_str("topic"), .partition = 1, .offset = 2};
    const struct slice token = slice_str("t"), fp = slice_str("0123456789abcdef0123456789abcdef");
    struct buf out = {0};
    bool good;

    claim_write_claimed(&out, token, fp);
    claim_write_dot(&out, token, fp, 3, 4);
    claim_write_sent(&out, token, fp, 5, 6, 7);
    claim_write_dead(&out, token, fp, 8, "rejected", &record);
    good = !out.failed;
    pause_failing();
    buf_add_slice(result, buf_slice(&out));
    buf_cleanup(&out);
    return good;
}

/* ---- SMTP ---- */

static void say(struct smtp_transaction *t, const char *line)
{
    struct smtp_reply reply = {.code = atoi(line), .len = strlen(line)};

    memcpy(reply.text, line, reply.len + 1);
    smtp_transaction_reply(t, &reply);
}

static size_t take_output(struct smtp_transaction *t, struct buf *to)
{
    const size_t last = pause_failing();
    struct slice out;

    fail_last = last;
    while ((out = smtp_transaction_output(t)).len) {
        pause_failing();
        buf_add_slice(to, out);
        fail_last = last;
        smtp_transaction_sent(t, out.len);
    }
    return to->len;
}

/* Five recipients are refused and one is taken; lines that begin with dots have to be stuffed. */
static bool send_mail(struct buf *result)
{
    static const char *const replies[] = {"250 ok", "550 a", "550 b", "550 c",
                                          "550 d",  "550 e", "250 f", "354 go"};
    static const struct smtp_capabilities caps = {.pipelining = true, .size = true};
    struct slice recipients[6];
    const struct mail mail = {.sender = slice_str("from@example.com"),
                              .recipients = recipients,
                              .recipients_len = 6,
                              .message = slice_str("Subject: x\r\n\r\n.a\r\n..\r\nb\r\n")};
    struct smtp_transaction t = {0};
    bool sent;

    for (size_t i = 0; i < 6; i++)
        recipients[i] = slice_str("a-recipient-with-a-long-address@example.com");
    smtp_transaction_begin(&t, &mail, &caps);
    for (size_t i = 0; i < 8 && t.phase != SMTP_PHASE_OVER; i++) {
        take_output(&t, result);
        say(&t, replies[i]);
    }
    take_output(&t, result);
    smtp_transaction_allow(&t, true);
    take_output(&t, result);
    if (t.phase == SMTP_PHASE_DOT)
        say(&t, "250 taken");
    take_output(&t, result);
    pause_failing();
    sent = t.outcome.class == OUTCOME_SENT;
    assert_int_equal(t.phase, SMTP_PHASE_OVER);
    if (!sent) {
        assert_int_equal(t.outcome.class, OUTCOME_RETRY);
        assert_int_equal(t.outcome.reason, REASON_INTERNAL);
    }
    buf_addf(result, "refused %zu", t.outcome.refused_len);
    smtp_transaction_cleanup(&t);
    return sent;
}

/* ---- Kafka ---- */

static const struct record_header own_headers[] = {
    {{"trace", 5}, {"1", 1}}, {{"dlq-reason", 10}, {"old", 3}}, {{"dlq-redriven", 12}, {"2", 1}}};

static struct record dead_record(void)
{
    return (struct record){.topic = slice_str("topic"),
                           .partition = 1,
                           .offset = 2,
                           .key = slice_str("k"),
                           .value = slice_str(event_json),
                           .headers = own_headers,
                           .headers_len = 3};
}

static void tell_headers(struct buf *out, const struct record_header *headers, size_t len)
{
    for (size_t i = 0; i < len; i++)
        buf_addf(out, "%.*s=%.*s ", SLICE_ARG(headers[i].name), SLICE_ARG(headers[i].value));
}

static bool dead_letter(struct buf *result)
{
    const struct record record = dead_record();
    const struct dead_letter letter = {.record = &record,
                                       .reason = "rejected",
                                       .error = "why",
                                       .attempts = 3,
                                       .smtp_reply = "550 no",
                                       .recipients_json = "[\"a@b\"]"};
    const struct record_header *headers;
    struct arena arena = SMALL_ARENA;
    size_t len;
    const bool good = dead_letter_headers(&arena, &letter, &headers, &len);

    pause_failing();
    if (good)
        tell_headers(result, headers, len);
    arena_cleanup(&arena);
    return good;
}

/* What could not begin has not begun. */
static bool track(struct buf *result)
{
    struct tracker *t = tracker_new();
    int64_t begun = 0;

    while (t && begun < 300 && tracker_begin(t, begun))
        begun++;
    if (t) {
        assert_int_equal(tracker_under_way(t), begun);
        for (int64_t i = begun - 1; i >= 0; i--)
            assert_true(tracker_done(t, i));
        assert_int_equal(tracker_watermark(t), begun ? begun : -1);
    }
    tracker_destroy(t);
    pause_failing();
    buf_add_i64(result, begun);
    return begun == 300;
}

/* ---- emailctl ---- */

static bool read_letter(struct buf *result)
{
    const struct record record = dead_record();
    const struct record_header *headers;
    struct arena arena = SMALL_ARENA;
    struct letter letter;
    size_t len = 0;
    const bool good = letter_read(&arena, &record, &letter) &&
                      letter_redrive_headers(&arena, &letter, &record, &headers, &len);

    pause_failing();
    if (good) {
        buf_addf(result, "%.*s %.*s %llu ", SLICE_ARG(letter.message_id), SLICE_ARG(letter.type),
                 (unsigned long long)letter.redriven);
        tell_headers(result, headers, len);
    }
    arena_cleanup(&arena);
    return good;
}

static bool narrow(struct buf *result)
{
    const struct slice refused = slice_str("[\"bob@example.com\",\"cc@example.com\"]");
    struct arena arena = SMALL_ARENA;
    struct slice json = {NULL, 0}, id = {NULL, 0};
    struct error err = {0};
    size_t parts = 0;
    const bool good =
        event_json_parts(&arena, slice_str(event_json), refused, &parts, &err) &&
        event_json_narrow(&arena, slice_str(event_json), refused, 1, 0, &json, &id, &err);

    pause_failing();
    assert_int_equal(good, !err.set);
    if (good)
        buf_addf(result, "%zu %.*s %.*s", parts, SLICE_ARG(id), SLICE_ARG(json));
    arena_cleanup(&arena);
    return good;
}

static bool build(struct buf *result)
{
    const char *to[] = {"a@example.com", "b@example.com"}, *header[] = {"X-A: 1", "X-B: 2"};
    const struct event_file file = {.name = "dir/a.pdf", .content = slice_str("some content")};
    const struct options o = {.to = {to, 2},
                              .header = {header, 2},
                              .subject = "s",
                              .data = "{\"number\":12345678901234567,\"text\":\"of some length\"}",
                              .expires_in_s = 60};
    const struct event_inputs in = {.o = &o,
                                    .message_id = "m-1",
                                    .text = slice_str("text"),
                                    .html = slice_of(NULL, 0),
                                    .attachments = &file,
                                    .attachments_len = 1};
    struct arena arena = SMALL_ARENA;
    struct slice json = {NULL, 0};
    struct error err = {0};
    const bool good = event_json_build(&arena, &in, &json, &err);

    pause_failing();
    assert_int_equal(good, !err.set);
    buf_addf(result, "%.*s", SLICE_ARG(json));
    arena_cleanup(&arena);
    return good;
}

static bool render(struct buf *result)
{
    struct table table;
    struct buf out = {0};
    bool good;

    table_init(&table, 2);
    for (int i = 0; i < 40; i++)
        table_cell(&table, slice_str("a cell of some length"));
    good = table_render(&table, &out);
    table_cleanup(&table);
    pause_failing();
    buf_add_slice(result, buf_slice(&out));
    buf_cleanup(&out);
    return good;
}

/* ---- all of them ---- */

static void test_decode(void **state)
{
    (void)state;
    sweep(read_tree, 8);
    sweep(decode_event, 4);
    sweep(decode_template, 20);
}

static void test_compose(void **state)
{
    (void)state;
    sweep(compose, 6);
}

static void test_config(void **state)
{
    (void)state;
    sweep(load_config, 5);
}

static void test_claims(void **state)
{
    (void)state;
    sweep(write_marks, 3);
}

static void test_smtp(void **state)
{
    (void)state;
    sweep(send_mail, 3);
}

static void test_kafka(void **state)
{
    (void)state;
    sweep(dead_letter, 1);
    sweep(track, 3);
}

static void test_emailctl(void **state)
{
    (void)state;
    sweep(read_letter, 4);
    sweep(narrow, 50);
    sweep(build, 50);
    sweep(render, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_compose),
        cmocka_unit_test_setup_teardown(test_config, enter_folder, leave_folder),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_smtp),
        cmocka_unit_test(test_kafka),
        cmocka_unit_test(test_emailctl),
    };

    json_set_alloc_funcs(__wrap_malloc, free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
