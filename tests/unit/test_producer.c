/* The producer library without Kafka: configuration, validation, direct sending in log mode, bounds
 * and the end. */
#include "producer_fixture.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/buf.h"
#include "email/event.h"
#include "producer/event_json.h"

static const char *const direct_only[] = {"ENABLE_KAFKA=false", NULL};
/* Port 1 refuses at once. */
static const char *const no_broker[] = {"KAFKA_BROKERS=127.0.0.1:1", NULL};

static email_status send_event(email_producer *p, const email_event *e, struct seen *seen)
{
    char error[EMAIL_PRODUCER_ERROR_SIZE];
    email_status status = email_producer_send(p, e, on_outcome, seen, error, sizeof(error));

    assert_int_equal(error[0] == '\0', status == EMAIL_QUEUED);
    return status;
}

/* ---- configuration ---- */

static void expect_mistake(const email_producer_options *options, const char *what)
{
    char error[EMAIL_PRODUCER_ERROR_SIZE] = "";

    assert_null(email_producer_new(options, error, sizeof(error)));
    if (!strstr(error, what))
        print_error("expected %s, got: %s\n", what, error);
    assert_non_null(strstr(error, what));
    assert_null(email_producer_new(options, NULL, 0));
}

static void test_mistakes_are_all_told(void **state)
{
    static const char *const wrong[] = {"SMTP_PORT=none", "EMAIL_MODE=smtp", "KAFKA_CONFIG_ACKS=0",
                                        NULL};
    static const char *const shapeless[] = {"SMTP_PASSWORD", NULL};
    static const char *const property[] = {"KAFKA_CONFIG_ACKS=0", NULL};
    email_producer_options options = {.struct_size = sizeof(options), .ignore_environment = 1};

    (void)state;
    options.settings = wrong;
    expect_mistake(&options, "SMTP_PORT: ");
    expect_mistake(&options, "SMTP_HOST: needed");
    expect_mistake(&options, "SMTP_FROM: needed");
    options.settings = shapeless;
    expect_mistake(&options, "not NAME=value");
    options.settings = property;
    expect_mistake(&options, "KAFKA_CONFIG_ACKS");
    options.settings = direct_only; /* and no log callback */
    expect_mistake(&options, "EMAIL_MODE: ");
    options.settings = NULL;
    options.publish_timeout_ms = -1;
    expect_mistake(&options, "publish_timeout_ms");
    options.publish_timeout_ms = 0;
    options.struct_size = 0;
    expect_mistake(&options, "struct_size");
}

static void test_settings_are_over_the_environment(void **state)
{
    static const char *const settings[] = {"SMTP_PORT=25", "REDIS_PASSWORD=x", NULL};
    email_producer_options options = {.struct_size = sizeof(options)};

    (void)state;
    setenv("SMTP_PORT", "rubbish", 1);
    setenv("REDIS_PASSWORD_FILE", "/nowhere", 1);
    setenv("EMAIL_SERVICE_PORT", "rubbish", 1); /* none of the library's business */
    expect_mistake(&options, "SMTP_PORT: ");
    options.settings = settings;
    email_producer *p = email_producer_new(&options, NULL, 0);
    assert_non_null(p);
    email_producer_destroy(p, 0);
    options.settings = NULL;
    options.ignore_environment = 1;
    p = email_producer_new(&options, NULL, 0);
    assert_non_null(p);
    email_producer_destroy(p, 0);
    unsetenv("SMTP_PORT");
    unsetenv("REDIS_PASSWORD_FILE");
    unsetenv("EMAIL_SERVICE_PORT");
}

static void test_env_file_is_read_only_with_the_environment(void **state)
{
    char folder[] = "/tmp/test-producer-XXXXXX", before[4096];
    email_producer_options options = {.struct_size = sizeof(options)};
    FILE *file;

    (void)state;
    assert_non_null(getcwd(before, sizeof(before)));
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chdir(folder), 0);
    file = fopen(".env", "w");
    assert_non_null(file);
    fputs("SMTP_PORT=rubbish\n", file);
    fclose(file);
    expect_mistake(&options, "SMTP_PORT: ");
    options.ignore_environment = 1;
    email_producer *p = email_producer_new(&options, NULL, 0);
    assert_non_null(p);
    email_producer_destroy(p, 0);
    assert_int_equal(unlink(".env"), 0);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void test_the_hosts_signals_stay_its_own(void **state)
{
    static const char *const smtp[] = {"ENABLE_KAFKA=false",    "EMAIL_MODE=smtp",
                                       "SMTP_HOST=127.0.0.1",   "SMTP_PORT=1",
                                       "SMTP_FROM=a@b.example", NULL};
    struct seen seen = SEEN_INIT;
    struct sigaction pipe_action;
    sigset_t mask;

    (void)state;
    signal(SIGPIPE, SIG_DFL);
    email_producer_destroy(start_with(smtp, &seen, 0, 0), 0);
    assert_int_equal(sigaction(SIGPIPE, NULL, &pipe_action), 0);
    assert_ptr_equal(pipe_action.sa_handler, SIG_DFL);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    for (int signo = 1; signo < 32; signo++)
        assert_int_equal(sigismember(&mask, signo), 0);
}

/* ---- validation ---- */

static void expect_invalid(email_producer *p, const email_event *e, const char *what)
{
    struct seen seen = SEEN_INIT;
    char error[EMAIL_PRODUCER_ERROR_SIZE] = "", id[EMAIL_PRODUCER_ID_SIZE];

    assert_int_equal(email_producer_send_id(p, e, on_outcome, &seen, id, error, sizeof(error)),
                     EMAIL_INVALID);
    if (!strstr(error, what))
        print_error("expected %s, got: %s\n", what, error);
    assert_non_null(strstr(error, what));
    assert_int_equal(email_producer_send(p, e, NULL, NULL, NULL, 0), EMAIL_INVALID);
    assert_int_equal(email_producer_queued(p), 0);
    assert_int_equal(seen.outcomes, 0);
}

#define EXPECT_INVALID(p, change, what)                                                            \
    do {                                                                                           \
        email_event e = good_event();                                                              \
        change;                                                                                    \
        expect_invalid(p, &e, what);                                                               \
    } while (0)

static void test_bad_events_are_refused_at_once(void **state)
{
    static const char *const nobody[] = {NULL};
    static const email_header named[] = {{"Subject", "x"}}, halved[] = {{"X-A", NULL}};
    static const email_attachment hollow[] = {{"a", "text/plain", NULL, 3, NULL}};
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(direct_only, &seen, 0, 0);

    (void)state;
    EXPECT_INVALID(p, e.struct_size = 0, "EMAIL_EVENT_INIT");
    expect_invalid(p, NULL, "EMAIL_EVENT_INIT");
    EXPECT_INVALID(p, e.to = NULL, "to");
    EXPECT_INVALID(p, (e.to = NULL, e.to_list = nobody), "to");
    EXPECT_INVALID(p, e.to = "nobody", "to");
    EXPECT_INVALID(p, e.subject = "a\r\nBcc: b@example.com", "subject");
    EXPECT_INVALID(p, e.subject = "\xff", "subject: not valid UTF-8");
    EXPECT_INVALID(p, e.text = NULL, "text");
    EXPECT_INVALID(p, e.message_id = "with space", "messageID");
    EXPECT_INVALID(p, e.message_id = "", "messageID");
    EXPECT_INVALID(p, e.type = "Not A Type", "type");
    EXPECT_INVALID(p, e.metadata_json = "{},\"bcc\":{}", "metadata");
    EXPECT_INVALID(p, e.metadata_json = "{\"a\":\"}\\\"\"} {}", "metadata");
    EXPECT_INVALID(p, e.metadata_json = "[]", "metadata");
    EXPECT_INVALID(p, e.metadata_json = "{\"a\":]}", "JSON");
    EXPECT_INVALID(p, e.metadata_json = "{\"a\":", "metadata");
    EXPECT_INVALID(p, (e.headers = named, e.headers_len = 1), "headers");
    EXPECT_INVALID(p, (e.headers = halved, e.headers_len = 1), "headers");
    EXPECT_INVALID(p, e.headers_len = 1, "headers");
    EXPECT_INVALID(p, e.attachments_len = 1, "attachments");
    EXPECT_INVALID(p, (e.attachments = hollow, e.attachments_len = 1), "attachments");
    EXPECT_INVALID(p, e.expires_in_seconds = -1, "expires");
    EXPECT_INVALID(p, e.expires_in_seconds = INT64_MAX, "expires");
    email_producer_destroy(p, 1000);
}

static void test_bad_json_is_refused_at_once(void **state)
{
    static const char *const bad[] = {"", "[]", "{}", "{\"messageID\":\"a\"}", "\xff", "{"};
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(direct_only, &seen, 0, 0);
    char error[EMAIL_PRODUCER_ERROR_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_int_equal(email_producer_send_json(p, bad[i], strlen(bad[i]), NULL, on_outcome,
                                                  &seen, error, sizeof(error)),
                         EMAIL_INVALID);
        assert_true(error[0] != '\0');
    }
    assert_int_equal(email_producer_send_json(p, NULL, 0, NULL, NULL, NULL, NULL, 0),
                     EMAIL_INVALID);
    email_producer_destroy(p, 1000);
    assert_int_equal(seen.outcomes, 0);
}

static long peak_kib(void)
{
    struct rusage usage;

    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_maxrss;
}

/* Reading it would take 64 bytes for every two. */
static void test_what_is_far_too_large_is_not_read(void **state)
{
    enum { ITEMS = 4 << 20, MOST_KIB = 200 * 1024 };
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(direct_only, &seen, 0, 0);
    email_event e = good_event();
    struct buf metadata = {0};
    long before;

    (void)state;
    buf_add_str(&metadata, "{\"a\":[0");
    for (int i = 0; i < ITEMS; i++)
        buf_add_str(&metadata, ",0");
    buf_add_str(&metadata, "]}");
    assert_false(metadata.failed);
    e.metadata_json = metadata.ptr;
    before = peak_kib();
    assert_int_equal(send_event(p, &e, &seen), EMAIL_INVALID);
    assert_in_range(peak_kib() - before, 0, MOST_KIB);
    buf_cleanup(&metadata);
    email_producer_destroy(p, 1000);
}

static bool is_valid(struct slice json, bool *has_created_at)
{
    struct arena arena;
    struct event ev;
    bool good;

    arena_init(&arena);
    good = event_decode(&arena, json, 1 << 20, &ev, NULL) == EVENT_OK;
    *has_created_at = ev.has_created_at;
    arena_cleanup(&arena);
    return good;
}

/* What email_producer_send_json relies on: whatever is valid without createdAt is so with one. */
static void test_created_at_can_be_added(void **state)
{
#define EVENT(more) " \n{\"messageID\":\"a\",\"to\":\"a@b.example\",\"subject\":\"s\"," more "}"
    static const char *const without[] = {
        EVENT("\"text\":\"t\""), EVENT("\"text\":\"{\\\"createdAt\\\":1}\""),
        EVENT("\"text\":\"t\",\"metadata\":{\"createdAt\":null}"),
        EVENT("\"text\":\"t\",\"CreatedAt\":null,\"created\\u0061t\":0")};
    static const char *const refused[] = {EVENT("\"text\":\"t\",\"createdAt\":null"),
                                          EVENT("\"text\":\"t\",\"created\\u0041t\":null")};
#undef EVENT
    bool dated;

    (void)state;
    for (size_t i = 0; i < sizeof(without) / sizeof(*without); i++) {
        struct buf completed = {0};
        assert_true(is_valid(slice_str(without[i]), &dated) && !dated);
        event_json_add_created_at(&completed, slice_str(without[i]), 1700000000000);
        assert_true(is_valid(buf_slice(&completed), &dated) && dated);
        buf_cleanup(&completed);
    }
    for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
        assert_false(is_valid(slice_str(refused[i]), &dated));
}

/* ---- direct, log mode ---- */

static void test_log_mode_writes_the_mail_to_the_callback(void **state)
{
    static const char *const more[] = {"bob@example.com", "carol@example.com", NULL};
    static const char *const hidden[] = {"eve@example.com", NULL};
    static const email_attachment attached[] = {
        {"a.bin", "application/octet-stream", "\0\1\2", 3, NULL}};
    static const email_header extra[] = {{"X-Campaign", "spring"}};
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(direct_only, &seen, 0, 0);
    email_event e = good_event();
    char id[EMAIL_PRODUCER_ID_SIZE], error[EMAIL_PRODUCER_ERROR_SIZE];

    (void)state;
    e.to_list = more;
    e.bcc_list = hidden;
    e.html = "<b>123456</b>";
    e.attachments = attached;
    e.attachments_len = 1;
    e.headers = extra;
    e.headers_len = 1;
    e.metadata_json = " {\"a\":[1,{\"b\":\"}\"}]} ";
    e.expires_in_seconds = 600;
    assert_int_equal(email_producer_send_id(p, &e, on_outcome, &seen, id, error, sizeof(error)),
                     EMAIL_QUEUED);
    assert_int_equal(email_producer_flush(p, 10000), 0);
    assert_int_equal(seen.results[EMAIL_SENT_DIRECTLY], 1);
    assert_int_equal(strlen(id), 36);
    assert_string_equal(seen.message_id, id);
    assert_string_equal(seen.error, "");
    assert_string_equal(seen.topic, "");
    assert_int_equal(seen.offset, -1);
    assert_false(pthread_equal(seen.thread, pthread_self()));
    assert_int_equal(seen.mails, 1);
    assert_non_null(strstr(seen.mail, "\"to\":[\"Ada@example.com\",\"bob@example.com\","
                                      "\"carol@example.com\",\"eve@example.com\"]"));
    assert_non_null(strstr(seen.mail, "X-Campaign: spring"));
    email_producer_destroy(p, 1000);
}

static void test_the_same_id_is_one_mail_in_one_process(void **state)
{
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(direct_only, &seen, 0, 0);
    email_event e = good_event();

    (void)state;
    e.message_id = "twice";
    assert_int_equal(send_event(p, &e, &seen), EMAIL_QUEUED);
    assert_int_equal(send_event(p, &e, &seen), EMAIL_QUEUED);
    assert_int_equal(email_producer_flush(p, 10000), 0);
    assert_int_equal(seen.results[EMAIL_SENT_DIRECTLY], 1);
    assert_int_equal(seen.results[EMAIL_SENT_BEFORE], 1);
    e.text = "something else";
    assert_int_equal(send_event(p, &e, &seen), EMAIL_QUEUED);
    assert_int_equal(email_producer_flush(p, 10000), 0);
    assert_int_equal(seen.results[EMAIL_FAILED], 1);
    assert_non_null(strstr(seen.error, "id_conflict"));
    assert_int_equal(seen.mails, 1);
    email_producer_destroy(p, 1000);
}

static void test_json_is_sent_as_given(void **state)
{
    static const char json[] = " {\"messageID\":\"j-1\",\"to\":\"a@example.com\",\"subject\":\"s\","
                               "\"text\":\"t\"}";
    static const char dated[] = "{\"messageID\":\"j-2\",\"to\":\"a@example.com\",\"subject\":\"s\","
                                "\"text\":\"t\",\"createdAt\":\"2001-02-03T04:05:06Z\"}";
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(direct_only, &seen, 0, 0);

    (void)state;
    assert_int_equal(
        email_producer_send_json(p, json, strlen(json), "k", on_outcome, &seen, NULL, 0),
        EMAIL_QUEUED);
    assert_int_equal(email_producer_flush(p, 10000), 0);
    assert_string_equal(seen.message_id, "j-1");
    assert_non_null(strstr(seen.mail, "Date: "));
    assert_int_equal(
        email_producer_send_json(p, dated, strlen(dated), NULL, on_outcome, &seen, NULL, 0),
        EMAIL_QUEUED);
    assert_int_equal(email_producer_flush(p, 10000), 0);
    assert_non_null(strstr(seen.mail, "Date: Sat, 03 Feb 2001 04:05:06"));
    assert_int_equal(seen.results[EMAIL_SENT_DIRECTLY], 2);
    email_producer_destroy(p, 1000);
}

/* There is no template of that name. */
static void test_an_unknown_template_cannot_be_sent_directly(void **state)
{
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(direct_only, &seen, 0, 0);
    email_event e = good_event();

    (void)state;
    e.text = NULL;
    e.template_name = "welcome";
    e.data_json = "{\"name\":\"Ada\"}";
    e.locale = "en";
    assert_int_equal(send_event(p, &e, &seen), EMAIL_QUEUED);
    assert_int_equal(email_producer_flush(p, 10000), 0);
    assert_int_equal(seen.results[EMAIL_FAILED], 1);
    assert_non_null(strstr(seen.error, "template_error"));
    email_producer_destroy(p, 1000);
}

/* ---- bounds and the end ---- */

static void test_queue_full_and_flush_deadline(void **state)
{
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(no_broker, NULL, 3, 60000);
    email_event e = good_event();

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(send_event(p, &e, &seen), EMAIL_QUEUED);
    assert_int_equal(send_event(p, &e, &seen), EMAIL_QUEUE_FULL);
    assert_int_equal(email_producer_queued(p), 3);
    assert_int_equal(email_producer_flush(p, 100), 3);
    assert_int_equal(email_producer_flush(p, 0), 3);
    assert_int_equal(seen.outcomes, 0);
    email_producer_destroy(p, 0);
    assert_int_equal(seen.outcomes, 3);
    assert_int_equal(seen.results[EMAIL_FAILED], 3); /* no broker ever saw them */
    assert_non_null(strstr(seen.error, "destroyed"));
}

static void test_bytes_are_bounded_too(void **state)
{
    static const char *const tight[] = {"KAFKA_BROKERS=127.0.0.1:1",
                                        "EMAIL_MAX_IN_FLIGHT_BYTES=65536",
                                        "EMAIL_MAX_EVENT_BYTES=65536", NULL};
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(tight, NULL, 0, 60000);
    email_event e = good_event();
    char text[40000];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    e.text = text;
    assert_int_equal(send_event(p, &e, &seen), EMAIL_QUEUED);
    assert_int_equal(send_event(p, &e, &seen), EMAIL_QUEUE_FULL);
    email_producer_destroy(p, 0);
}

static void test_unreachable_kafka_falls_back(void **state)
{
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(no_broker, &seen, 0, 300);
    email_event e = good_event();

    (void)state;
    assert_int_equal(send_event(p, &e, &seen), EMAIL_QUEUED);
    assert_int_equal(email_producer_flush(p, 20000), 0);
    assert_int_equal(seen.results[EMAIL_SENT_DIRECTLY], 1);
    assert_int_equal(seen.mails, 1);
    email_producer_destroy(p, 0);
}

static void test_no_way_left_is_told(void **state)
{
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(no_broker, NULL, 0, 300);
    email_event e = good_event();

    (void)state;
    assert_int_equal(send_event(p, &e, &seen), EMAIL_QUEUED);
    assert_int_equal(email_producer_flush(p, 20000), 0);
    assert_int_equal(seen.results[EMAIL_FAILED], 1);
    assert_non_null(strstr(seen.error, "EMAIL_MODE=smtp"));
    email_producer_destroy(p, 0);
}

/* Redis was named, and is away: nothing is sent without a claim, and nobody waits for ever. */
static void test_redis_out_of_reach(void **state)
{
    static const char *const closed[] = {"ENABLE_KAFKA=false", "REDIS_HOST=127.0.0.1",
                                         "REDIS_PORT=1", NULL};
    static const char *const open[] = {"ENABLE_KAFKA=false", "REDIS_HOST=127.0.0.1", "REDIS_PORT=1",
                                       "IDEMPOTENCY_FAIL_OPEN=true", NULL};
    struct seen seen = SEEN_INIT, seen_open = SEEN_INIT;
    email_producer *p = start_with(closed, &seen, 0, 500);
    email_event e = good_event();

    (void)state;
    assert_int_equal(send_event(p, &e, &seen), EMAIL_QUEUED);
    assert_int_equal(email_producer_flush(p, 20000), 0);
    assert_int_equal(seen.results[EMAIL_FAILED], 1);
    assert_non_null(strstr(seen.error, "Redis"));
    assert_int_equal(seen.mails, 0);
    email_producer_destroy(p, 0);

    p = start_with(open, &seen_open, 0, 500);
    assert_int_equal(send_event(p, &e, &seen_open), EMAIL_QUEUED);
    assert_int_equal(email_producer_flush(p, 20000), 0);
    assert_int_equal(seen_open.results[EMAIL_SENT_DIRECTLY], 1);
    email_producer_destroy(p, 0);
}

struct resender {
    email_producer *p;
    email_status first, in_flush;
    size_t left;
};

static void send_again(const email_outcome *outcome, void *context)
{
    struct resender *r = context;
    email_event e = good_event();

    (void)outcome;
    r->first = email_producer_send(r->p, &e, NULL, NULL, NULL, 0);
    r->left = email_producer_flush(r->p, -1); /* forbidden, and still no deadlock */
    email_producer_destroy(r->p, -1);         /* likewise, and ignored */
}

static void test_a_callback_may_send(void **state)
{
    struct seen seen = SEEN_INIT;
    struct resender r = {.p = start_with(direct_only, &seen, 0, 0), .first = EMAIL_INVALID};
    email_event e = good_event();

    (void)state;
    assert_int_equal(email_producer_send(r.p, &e, send_again, &r, NULL, 0), EMAIL_QUEUED);
    assert_int_equal(email_producer_flush(r.p, 10000), 0);
    assert_int_equal(email_producer_flush(r.p, 10000), 0);
    assert_int_equal(r.first, EMAIL_QUEUED);
    assert_int_equal(r.left, 2);
    assert_int_equal(seen.mails, 2);
    email_producer_destroy(r.p, 1000);
}

static void test_small_things(void **state)
{
    email_event e;

    (void)state;
    email_producer_destroy(NULL, 0);
    email_event_init(NULL);
    email_event_init(&e);
    assert_int_equal(e.struct_size, sizeof(e));
    assert_null(e.key);
    assert_string_equal(email_producer_version(), EMAIL_VERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mistakes_are_all_told),
        cmocka_unit_test(test_settings_are_over_the_environment),
        cmocka_unit_test(test_env_file_is_read_only_with_the_environment),
        cmocka_unit_test(test_the_hosts_signals_stay_its_own),
        cmocka_unit_test(test_bad_events_are_refused_at_once),
        cmocka_unit_test(test_bad_json_is_refused_at_once),
        cmocka_unit_test(test_what_is_far_too_large_is_not_read),
        cmocka_unit_test(test_created_at_can_be_added),
        cmocka_unit_test(test_log_mode_writes_the_mail_to_the_callback),
        cmocka_unit_test(test_the_same_id_is_one_mail_in_one_process),
        cmocka_unit_test(test_json_is_sent_as_given),
        cmocka_unit_test(test_an_unknown_template_cannot_be_sent_directly),
        cmocka_unit_test(test_queue_full_and_flush_deadline),
        cmocka_unit_test(test_bytes_are_bounded_too),
        cmocka_unit_test(test_unreachable_kafka_falls_back),
        cmocka_unit_test(test_no_way_left_is_told),
        cmocka_unit_test(test_redis_out_of_reach),
        cmocka_unit_test(test_a_callback_may_send),
        cmocka_unit_test(test_small_things),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
