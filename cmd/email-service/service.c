#include "service.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "http.h"
#include "kafka/consumer.h"
#include "kafka/dead_letter.h"
#include "kafka/mock_broker.h"
#include "manager.h"
#include "pages.h"
#include "delivery/delivery_settings.h"
#include "delivery/pipeline.h"

enum {
    REVOKE_GRACE_MS =
        5000, /* for mails whose final dot is on its way when their partition is taken */
    CANCEL_GRACE_MS = 2000,  /* the same, at the end of SHUTDOWN_TIMEOUT_SECONDS */
    CLOSE_TIMEOUT_MS = 6000, /* for the last commit and for leaving the group */
    WATCHDOG_S = 20,         /* beyond all of these: the process ends whatever holds it */
};

enum phase { PHASE_RUNNING, PHASE_DRAINING, PHASE_CANCELLING, PHASE_CLOSING, PHASE_STOPPED };

struct service {
    const struct service_options *options;
    const struct config *config;
    struct loop *loop;
    struct metrics metrics;
    struct process_stats process;
    struct mock_broker *mock;
    struct store *store;
    struct transport *transport;
    struct dlq *dlq;
    struct consumer *consumer;
    struct pipeline *pipeline;
    struct http *http;
    struct manager manager;

    const char *brokers;
    struct kafka_property *properties;
    char host[128], instance[160], client_id[192];
    struct partition_state *partitions;
    size_t partitions_cap;
    int64_t started_unix_ms;

    enum phase phase;
    struct loop_timer phase_timer, manager_timer;
    int exit_code;
};

/* ---- shutdown: drain, cancel, close, stop ---- */

static void on_watchdog(int signo)
{
    static const char text[] =
        "{\"level\":\"error\",\"msg\":\"Shutdown took too long, exiting\"}\n";

    (void)signo;
    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
        _exit(1);
    _exit(1);
}

static void start_watchdog(const struct service *s)
{
    struct sigaction action = {.sa_handler = on_watchdog};

    sigaction(SIGALRM, &action, NULL);
    alarm((unsigned)s->config->shutdown_timeout_s + WATCHDOG_S);
}

static void enter_phase(struct service *s, enum phase phase, uint64_t at_most_ms)
{
    s->phase = phase;
    if (at_most_ms)
        loop_timer_start(s->loop, &s->phase_timer, at_most_ms);
    else
        loop_timer_stop(s->loop, &s->phase_timer);
}

static void stop(struct service *s)
{
    enter_phase(s, PHASE_STOPPED, 0);
    loop_stop(s->loop);
}

static void close_consumer(struct service *s)
{
    if (s->exit_code) { /* a fatal error: there is no group to leave in order */
        stop(s);
        return;
    }
    enter_phase(s, PHASE_CLOSING, CLOSE_TIMEOUT_MS);
    transport_shutdown(s->transport);
    consumer_close(s->consumer);
}

/* Part of SHUTDOWN_TIMEOUT_SECONDS, not on top of it. */
static uint64_t grace_ms(const struct service *s)
{
    const uint64_t quarter_ms = s->config->shutdown_timeout_s * 1000 / 4;

    return quarter_ms < CANCEL_GRACE_MS ? quarter_ms : CANCEL_GRACE_MS;
}

static void cancel_all(struct service *s)
{
    log_warn("Giving up what has not reached the relay");
    enter_phase(s, PHASE_CANCELLING, grace_ms(s));
    pipeline_cancel(s->pipeline);
}

static void on_phase_timer(void *ctx)
{
    struct service *s = ctx;

    switch (s->phase) {
    case PHASE_DRAINING: cancel_all(s); break;
    case PHASE_CANCELLING: close_consumer(s); break;
    case PHASE_CLOSING:
        log_warn("Kafka did not answer the last commit in time, leaving without it");
        stop(s);
        break;
    case PHASE_RUNNING:
    case PHASE_STOPPED: break;
    }
}

static void on_pipeline_empty(void *ctx)
{
    struct service *s = ctx;

    if (s->phase == PHASE_DRAINING || s->phase == PHASE_CANCELLING)
        close_consumer(s);
}

static void on_signal(void *ctx, int signo)
{
    struct service *s = ctx;
    struct pipeline_counts counts;

    if (s->phase == PHASE_DRAINING) {
        cancel_all(s); /* the second signal: no more patience */
        return;
    }
    if (s->phase != PHASE_RUNNING)
        return;
    pipeline_counts(s->pipeline, &counts);
    manager_tell(&s->manager, "STOPPING=1", "finishing what is under way");
    log_info("Shutting down", LOG_STR("signal", signo == SIGINT ? "SIGINT" : "SIGTERM"),
             LOG_INT("inFlight", counts.in_flight));
    start_watchdog(s);
    /* The rest is for the dots that are out, and for leaving the group. */
    enter_phase(s, PHASE_DRAINING, s->config->shutdown_timeout_s * 1000 - 2 * grace_ms(s));
    consumer_stop_taking(s->consumer);
    pipeline_drain(s->pipeline);
}

static void on_fatal(void *ctx, const char *reason)
{
    struct service *s = ctx;

    log_error("Fatal error, exiting", LOG_STR("error", reason));
    manager_tell(&s->manager, "STOPPING=1", "a fatal error, see the log");
    s->exit_code = 1;
    if (s->phase == PHASE_CANCELLING)
        return;
    /* Kafka is lost, but dots that are out may still get their reply and their mark. */
    start_watchdog(s);
    consumer_stop_taking(s->consumer);
    enter_phase(s, PHASE_CANCELLING, grace_ms(s));
    pipeline_drain(s->pipeline);
    pipeline_cancel(s->pipeline);
}

/* ---- the parts' callbacks ---- */

static size_t on_room(void *ctx)
{
    struct service *s = ctx;

    return pipeline_room(s->pipeline);
}

static void on_record(void *ctx, const struct record *record)
{
    struct service *s = ctx;

    pipeline_take(s->pipeline, record);
}

static void on_revoking(void *ctx, int32_t partition, uint64_t generation, bool lost)
{
    struct service *s = ctx;

    log_info("Partition is taken away", LOG_INT("partition", partition), LOG_BOOL("lost", lost));
    pipeline_revoke(s->pipeline, partition, generation);
}

static void on_closed(void *ctx)
{
    stop(ctx);
}

static void on_done(void *ctx, int32_t partition, uint64_t generation, int64_t offset)
{
    struct service *s = ctx;

    consumer_done(s->consumer, partition, generation, offset);
}

static void on_abandoned(void *ctx, int32_t partition, uint64_t generation, int64_t offset)
{
    struct service *s = ctx;

    consumer_abandon(s->consumer, partition, generation, offset);
}

static void on_bury(void *ctx, const struct dead_letter *letter, dlq_fn fn, void *fn_ctx)
{
    struct service *s = ctx;

    dlq_produce(s->dlq, letter, fn, fn_ctx);
}

static void on_room_again(void *ctx)
{
    struct service *s = ctx;

    if (s->phase == PHASE_RUNNING)
        consumer_pump(s->consumer);
}

static void on_parts_changed(void *ctx)
{
    struct service *s = ctx;

    if (s->pipeline)
        pipeline_parts_changed(s->pipeline);
}

/* ---- HTTP ---- */

static void fill_partitions(struct service *s, struct snapshot *snapshot)
{
    size_t n = consumer_partitions(s->consumer, s->partitions, s->partitions_cap);

    if (n > s->partitions_cap) {
        struct partition_state *grown = realloc(s->partitions, n * sizeof(*grown));
        if (grown) {
            s->partitions = grown;
            s->partitions_cap = n;
            n = consumer_partitions(s->consumer, s->partitions, s->partitions_cap);
        }
    }
    snapshot->partitions = s->partitions;
    snapshot->partitions_len = n < s->partitions_cap ? n : s->partitions_cap;
}

static void fill_snapshot(struct service *s, struct snapshot *out)
{
    const struct config *c = s->config;
    struct pipeline_counts counts;

    pipeline_counts(s->pipeline, &counts);
    *out = (struct snapshot){
        .now_unix_ms = clock_unix_ms(),
        .started_unix_ms = s->started_unix_ms,
        .version = EMAIL_VERSION,
        .instance = s->instance,
        .mode = c->mode == CONFIG_MODE_SMTP ? "smtp" : "log",
        .events_topic = c->kafka_topic_events,
        .dlq_topic = c->kafka_topic_dlq,
        .ttl_hours = (unsigned)c->ttl_hours,
        .dev = c->dev,
        .shutting_down = s->phase != PHASE_RUNNING,
        .in_flight = counts.in_flight,
        .in_flight_bytes = counts.in_flight_bytes,
        .max_in_flight = c->max_in_flight,
        .max_in_flight_bytes = c->max_in_flight_bytes,
        .retry_waiting = counts.retry_waiting,
        .log_dropped_lines = log_dropped_lines(),
    };
    consumer_state(s->consumer, &out->kafka);
    dlq_state(s->dlq, &out->dlq);
    store_state(s->store, &out->redis);
    transport_state(s->transport, &out->smtp);
    fill_partitions(s, out);
}

/* ---- the service manager ---- */

static const char *status_of(struct service *s)
{
    struct snapshot snapshot;

    fill_snapshot(s, &snapshot);
    return snapshot.shutting_down      ? "finishing what is under way"
           : snapshot_ready(&snapshot) ? "ready"
                                       : "not ready, /ready says why";
}

/* From the loop, so that a loop that hangs is missed. */
static void on_manager_timer(void *ctx)
{
    struct service *s = ctx;

    manager_tell(&s->manager, "WATCHDOG=1", status_of(s));
    loop_timer_start(s->loop, &s->manager_timer, s->manager.period_ms);
}

/* Ready as soon as it runs: what it waits for then (Kafka, Redis) it waits for by itself. */
static void tell_manager_ready(struct service *s)
{
    if (s->manager.fd < 0)
        return;
    manager_tell(&s->manager, "READY=1", status_of(s));
    loop_timer_start(s->loop, &s->manager_timer, s->manager.period_ms);
}

static void on_request(void *ctx, const char *path, struct http_answer *answer)
{
    struct service *s = ctx;
    struct snapshot snapshot;

    fill_snapshot(s, &snapshot);
    if (strcmp(path, "/metrics") == 0)
        process_stats_read(&s->process); /* nobody else wants to know, and it costs system calls */
    snapshot.process = s->process;
    answer->status =
        pages_render(path, &snapshot, &s->metrics, &answer->body, &answer->content_type);
}

static bool start_http(struct service *s, struct error *err)
{
    const struct config *c = s->config;
    const char *shown = strcmp(c->http_listen, "0.0.0.0") == 0 ? "127.0.0.1" : c->http_listen;
    char url[320];

    s->http = http_new(s->loop, c->http_listen, (unsigned)c->http_port, NULL, on_request, s, err);
    if (!s->http)
        return false;
    snprintf(url, sizeof(url), strchr(shown, ':') ? "http://[%s]:%u/" : "http://%s:%u/", shown,
             http_port(s->http));
    log_info("HTTP server is listening", LOG_STR("address", c->http_listen),
             LOG_INT("port", http_port(s->http)), LOG_STR("url", url),
             LOG_STR("host", c->service_host));
    return true;
}

/* ---- making the parts ---- */

static bool start_mock(struct service *s, struct error *err)
{
    const struct config *c = s->config;

    s->brokers = c->kafka_brokers;
    if (!c->dev)
        return true;
    s->mock = mock_broker_start(err);
    if (!s->mock ||
        !mock_broker_create_topic(s->mock, c->kafka_topic_events, (int)c->kafka_partitions, err) ||
        !mock_broker_create_topic(s->mock, c->kafka_topic_dlq, (int)c->kafka_partitions, err))
        return false;
    s->brokers = mock_broker_bootstrap(s->mock);
    log_info("In-process Kafka is ready", LOG_STR("bootstrap", s->brokers),
             LOG_STR("topic", c->kafka_topic_events),
             LOG_STR("note", "for trying out: nothing outlives this process, and at most 5 MB a "
                             "partition are kept"));
    return true;
}

static bool start_store(struct service *s, struct error *err)
{
    const struct config *c = s->config;
    struct store_settings settings = delivery_store_settings(c);

    settings.changed = on_parts_changed;
    settings.changed_ctx = s;
    if (c->fail_open)
        log_warn("IDEMPOTENCY_FAIL_OPEN is set: mails are sent although Redis is out of reach, and "
                 "may go "
                 "out twice");
    s->store = c->dev ? memory_store_new(s->loop, &settings, err)
                      : redis_store_new(s->loop, &settings, err);
    return s->store != NULL;
}

static bool start_transport(struct service *s, struct error *err)
{
    const struct config *c = s->config;
    struct smtp_settings settings = delivery_smtp_settings(c, s->host);

    settings.changed = on_parts_changed;
    settings.changed_ctx = s;
    s->transport = c->mode == CONFIG_MODE_SMTP ? smtp_transport_new(s->loop, &settings, err)
                                               : log_transport_new(s->loop, err);
    return s->transport != NULL;
}

static bool fill_kafka(struct service *s, struct kafka_settings *out, struct error *err)
{
    const struct config *c = s->config;

    s->properties = calloc(c->properties_len + 1, sizeof(*s->properties));
    if (!s->properties)
        return error_set(err, "out of memory");
    for (size_t i = 0; i < c->properties_len; i++)
        s->properties[i] = (struct kafka_property){c->properties[i].name, c->properties[i].value};
    *out = (struct kafka_settings){.brokers = s->brokers,
                                   .client_id = s->client_id,
                                   .properties = s->properties,
                                   .properties_len = c->properties_len};
    return true;
}

static bool start_pipeline(struct service *s, struct error *err)
{
    const struct config *c = s->config;
    const struct pipeline_settings settings = {
        .policy = delivery_policy(c),
        .message = {.from = s->options->from},
        .max_event_bytes = c->max_event_bytes,
        .max_in_flight = c->max_in_flight,
        .max_in_flight_bytes = c->max_in_flight_bytes,
        .max_active = delivery_max_active(c),
    };
    const struct pipeline_parts parts = {.loop = s->loop,
                                         .store = s->store,
                                         .transport = s->transport,
                                         .bury = on_bury,
                                         .bury_ctx = s,
                                         .metrics = &s->metrics};
    static const struct pipeline_callbacks callbacks = {.done = on_done,
                                                        .abandoned = on_abandoned,
                                                        .room_again = on_room_again,
                                                        .empty = on_pipeline_empty};

    s->pipeline = pipeline_new(&settings, &parts, &callbacks, s, err);
    return s->pipeline != NULL;
}

static bool start_kafka(struct service *s, struct error *err)
{
    static const struct consumer_callbacks callbacks = {.room = on_room,
                                                        .record = on_record,
                                                        .revoking = on_revoking,
                                                        .fatal = on_fatal,
                                                        .closed = on_closed};
    struct consumer_settings settings = {.group = s->config->kafka_group,
                                         .topic = s->config->kafka_topic_events,
                                         .revoke_grace_ms = REVOKE_GRACE_MS,
                                         .window = s->config->max_in_flight};

    if (!fill_kafka(s, &settings.kafka, err))
        return false;
    s->dlq = dlq_new(s->loop, &settings.kafka, s->config->kafka_topic_dlq, on_fatal, s, err);
    if (!s->dlq || !start_pipeline(s, err))
        return false;
    s->consumer = consumer_new(s->loop, &settings, &callbacks, s, err);
    return s->consumer != NULL;
}

static void flush_log(void *ctx)
{
    (void)ctx;
    log_flush();
}

static void name_instance(struct service *s)
{
    if (gethostname(s->host, sizeof(s->host) - 1) < 0 || !s->host[0])
        snprintf(s->host, sizeof(s->host), "localhost");
    snprintf(s->instance, sizeof(s->instance), "%s-%d", s->host, (int)getpid());
    snprintf(s->client_id, sizeof(s->client_id), "email-service-%s", s->instance);
}

/* Each connection is a file descriptor: take what the system allows. */
static void raise_fd_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            log_warn("The limit of open files could not be raised");
    }
}

static bool start(struct service *s, struct error *err)
{
    const struct config *c = s->config;

    signal(SIGPIPE, SIG_IGN);
    raise_fd_limit();
    name_instance(s);
    metrics_init(&s->metrics);
    process_stats_init(&s->process);
    s->started_unix_ms = clock_unix_ms();
    s->loop = loop_new(err);
    if (!s->loop || !manager_open(&s->manager, err))
        return false;
    loop_timer_init(&s->phase_timer, on_phase_timer, s);
    loop_timer_init(&s->manager_timer, on_manager_timer, s);
    if (!loop_at_tick_end(s->loop, flush_log, NULL) ||
        !loop_on_signal(s->loop, SIGTERM, on_signal, s, err) ||
        !loop_on_signal(s->loop, SIGINT, on_signal, s, err))
        return false;
    log_info("Email service is starting", LOG_STR("version", EMAIL_VERSION),
             LOG_STR("mode", c->mode == CONFIG_MODE_SMTP ? "smtp" : "log"),
             LOG_STR("topic", c->kafka_topic_events), LOG_STR("group", c->kafka_group),
             LOG_STR("instance", s->instance));
    /* HTTP before Kafka: a process whose port is taken must not join the group first. */
    return start_mock(s, err) && start_store(s, err) && start_transport(s, err) &&
           start_http(s, err) && start_kafka(s, err);
}

static bool run(struct service *s, struct error *err)
{
    tell_manager_ready(s);
    return loop_run(s->loop, err);
}

/* Consumers before what they use; the pipeline after those that call it back. */
static void take_down(struct service *s)
{
    http_destroy(s->http);
    consumer_destroy(s->consumer);
    dlq_destroy(s->dlq);
    transport_destroy(s->transport);
    store_destroy(s->store);
    pipeline_destroy(s->pipeline);
    mock_broker_stop(s->mock);
    if (s->loop) {
        loop_timer_stop(s->loop, &s->phase_timer);
        loop_timer_stop(s->loop, &s->manager_timer);
    }
    manager_close(&s->manager);
    loop_destroy(s->loop);
    free(s->properties);
    free(s->partitions);
}

int service_run(const struct service_options *options)
{
    struct service s = {.options = options, .config = options->config};
    struct error err = {0};

    if (!start(&s, &err) || !run(&s, &err)) {
        log_error("Email service cannot run", LOG_STR("error", err.text));
        s.exit_code = 1;
    }
    take_down(&s);
    log_info("Email service has stopped", LOG_INT("exitCode", s.exit_code));
    log_drain(1000);
    return s.exit_code;
}
