/* The library's own thread: hears what became of the events that were published, takes what could
 * not be, falls back to sending directly, and tells the outcomes. */
#include "producer/producer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* For dots that are on their way, and for Kafka's reports, when the producer is destroyed. */
enum { GRACE_MS = 2000 };

/* ---- outcomes ---- */

bool entry_keep_json(struct entry *e, struct slice json)
{
    char *copy = malloc(json.len + 1);

    if (!copy)
        return false;
    memcpy(copy, json.ptr, json.len);
    copy[json.len] = '\0';
    e->json = slice_of(copy, json.len);
    return true;
}

void entry_free(struct entry *e)
{
    free((char *)(uintptr_t)e->json.ptr);
    free(e);
}

void entry_unlink(email_producer *p, struct entry *e)
{
    *(e->before ? &e->before->after : &p->pending_first) = e->after;
    *(e->after ? &e->after->before : &p->pending_last) = e->before;
    p->pending_len--;
    p->pending_bytes -= e->json_len;
    pthread_cond_broadcast(&p->changed);
}

/* The callback first: whoever flushes may rely on it having run. */
static void tell(email_producer *p, struct entry *e, const email_outcome *outcome)
{
    loop_undefer(p->loop, &e->item.ack_task);
    if (e->fn)
        e->fn(outcome, e->context);
    pthread_mutex_lock(&p->mutex);
    entry_unlink(p, e);
    if (p->stopping && !p->pending_first)
        loop_stop(p->loop);
    pthread_mutex_unlock(&p->mutex);
    entry_free(e);
}

static void end(email_producer *p, struct entry *e, email_result result, const char *error)
{
    const email_outcome outcome = {.result = result,
                                   .message_id = e->message_id.ptr,
                                   .error = error,
                                   .partition = -1,
                                   .offset = -1};

    if (error[0])
        log_at(result == EMAIL_UNKNOWN ? LOG_WARN : LOG_ERROR,
               result == EMAIL_UNKNOWN ? "Email event may or may not be sent"
                                       : "Email event is not sent",
               LOG_SLICE("messageID", e->message_id), LOG_STR("error", error));
    tell(p, e, &outcome);
}

static void end_published(email_producer *p, struct entry *e,
                          const struct kafka_path_report *report)
{
    const email_outcome outcome = {.result = EMAIL_PUBLISHED,
                                   .message_id = e->message_id.ptr,
                                   .error = "",
                                   .topic = p->settings.config.kafka_topic_events,
                                   .partition = report->partition,
                                   .offset = report->offset};

    log_debug("Email event published", LOG_SLICE("messageID", e->message_id),
              LOG_INT("partition", report->partition), LOG_INT("offset", report->offset));
    tell(p, e, &outcome);
}

/* Without a direct attempt: as far as Kafka alone tells. */
static void end_unpublished(email_producer *p, struct entry *e, const char *why_not_directly)
{
    char error[400];

    snprintf(error, sizeof(error), "%s%s%s", e->kafka_error, e->kafka_error[0] ? "; " : "",
             why_not_directly);
    end(p, e, e->perhaps_published ? EMAIL_UNKNOWN : EMAIL_FAILED, error);
}

/* ---- the fallback ---- */

static void on_direct(void *ctx, struct direct_item *item, enum direct_result result)
{
    struct entry *e = (struct entry *)item;
    email_producer *p = ctx;

    switch (result) {
    case DIRECT_SENT: end(p, e, EMAIL_SENT_DIRECTLY, ""); break;
    case DIRECT_SENT_BEFORE: end(p, e, EMAIL_SENT_BEFORE, ""); break;
    case DIRECT_UNKNOWN: e->perhaps_published = true; /* by the relay, that is */ /* fall through */
    case DIRECT_FAILED: end_unpublished(p, e, item->error); break;
    }
}

/* json: of an event that was with Kafka; else the entry has it. */
static void fall_back(email_producer *p, struct entry *e, struct slice json)
{
    const bool claimable = p->settings.config.redis_given;

    if (p->stopping)
        end_unpublished(p, e, "the producer was destroyed");
    else if (!p->direct)
        end_unpublished(p, e, "sending directly needs EMAIL_MODE=smtp, or a log callback");
    else if (e->perhaps_published && !claimable)
        end_unpublished(p, e, "not sent directly, because Redis is not configured");
    else if (!e->json.ptr && !entry_keep_json(e, json))
        end_unpublished(p, e, "not sent directly: out of memory");
    else {
        if (e->kafka_error[0])
            log_warn("Kafka is out of reach, sending directly",
                     LOG_SLICE("messageID", e->message_id), LOG_STR("error", e->kafka_error),
                     LOG_BOOL("perhapsPublished", e->perhaps_published));
        direct_send(p->direct, &e->item, e->key, e->json, e->perhaps_published);
    }
}

static void on_report(void *ctx, void *event, const struct kafka_path_report *report)
{
    email_producer *p = ctx;
    struct entry *e = event;

    if (report->result == KAFKA_PATH_DONE) {
        end_published(p, e, report);
        return;
    }
    e->perhaps_published = report->result == KAFKA_PATH_PERHAPS_TAKEN;
    snprintf(e->kafka_error, sizeof(e->kafka_error), "%s", report->error);
    fall_back(p, e, report->value);
}

/* ---- from the callers' threads ---- */

static void begin_stop(email_producer *p, bool all_told)
{
    if (all_told) {
        loop_stop(p->loop);
        return;
    }
    if (p->kafka_path)
        kafka_path_give_up(p->kafka_path);
    if (p->direct)
        direct_give_up(p->direct);
    loop_timer_start(p->loop, &p->grace_timer, GRACE_MS);
}

static void on_wake(void *ctx)
{
    email_producer *p = ctx;
    struct entry *e, *next;
    bool stop_now, all_told;

    pthread_mutex_lock(&p->mutex);
    e = p->submitted_first;
    p->submitted_first = p->submitted_last = NULL;
    stop_now = p->stop_requested && !p->stopping;
    p->stopping = p->stop_requested;
    pthread_mutex_unlock(&p->mutex);
    for (; e; e = next) {
        next = e->next_submitted;
        fall_back(p, e, slice_of(NULL, 0));
    }
    pthread_mutex_lock(&p->mutex);
    all_told = !p->pending_first;
    pthread_mutex_unlock(&p->mutex);
    if (stop_now)
        begin_stop(p, all_told);
}

static void on_grace_timer(void *ctx)
{
    email_producer *p = ctx;

    loop_stop(p->loop);
}

/* What has no outcome when time is up: it is with Kafka or with the relay. */
static void end_rest(email_producer *p)
{
    struct entry *next;

    for (struct entry *e = p->pending_first; e; e = next) {
        next = e->after;
        end(p, e, EMAIL_UNKNOWN, "the producer was destroyed before the outcome was known");
    }
}

/* ---- the thread ---- */

static void to_host(void *ctx, enum log_level level, struct slice line)
{
    const email_producer *p = ctx;

    if (p->settings.log)
        p->settings.log(log_level_name(level), line.ptr, p->settings.log_context);
}

static bool start_kafka_path(email_producer *p, struct error *err)
{
    const struct config *c = &p->settings.config;
    const struct kafka_path_settings settings = {
        .kafka = {.brokers = c->kafka_brokers,
                  .client_id = p->settings.client_id,
                  .properties = p->settings.properties,
                  .properties_len = c->properties_len},
        .topic = c->kafka_topic_events,
        .timeout_ms = p->settings.publish_timeout_ms,
        .max_events = p->settings.max_queued,
    };

    if (!c->enable_kafka)
        return true;
    p->kafka_path = kafka_path_new(p->loop, &settings, on_report, p, err);
    return p->kafka_path != NULL;
}

static bool start_direct(email_producer *p, struct error *err)
{
    const struct direct_settings settings = {.config = &p->settings.config,
                                             .from = p->settings.from,
                                             .host = p->settings.host,
                                             .patience_ms = p->settings.publish_timeout_ms};

    if (!p->settings.can_send_directly)
        return true;
    if (p->settings.config.enable_kafka && p->settings.config.mode == CONFIG_MODE_LOG)
        log_warn("EMAIL_MODE is log: where Kafka is out of reach, mails are written to the log "
                 "instead of being sent");
    p->direct = direct_new(p->loop, &settings, on_direct, p, err);
    return p->direct != NULL;
}

static bool start(email_producer *p, struct error *err)
{
    const struct config *c = &p->settings.config;

    log_set_sink(to_host, p);
    log_set_level(p->settings.log ? c->log_level : LOG_ERROR);
    p->loop = loop_new(err);
    if (!p->loop)
        return false;
    loop_timer_init(&p->grace_timer, on_grace_timer, p);
    loop_on_wake(p->loop, on_wake, p);
    if (!start_direct(p, err) || !start_kafka_path(p, err))
        return false;
    log_info("Email producer is ready", LOG_STR("version", EMAIL_VERSION),
             LOG_BOOL("kafka", c->enable_kafka), LOG_STR("topic", c->kafka_topic_events),
             LOG_STR("mode", c->mode == CONFIG_MODE_SMTP ? "smtp" : "log"),
             LOG_BOOL("redis", c->redis_given));
    return true;
}

static void tell_started(email_producer *p, bool good, const struct error *err)
{
    pthread_mutex_lock(&p->mutex);
    p->state = good ? PRODUCER_RUNNING : PRODUCER_FAILED;
    p->start_error = *err;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
}

/* The loop is freed by whoever joins this thread: a caller may be about to wake it. */
static void take_down(email_producer *p)
{
    kafka_path_destroy(p->kafka_path);
    direct_destroy(p->direct);
    if (p->loop)
        loop_timer_stop(p->loop, &p->grace_timer);
    log_cleanup();
}

void *producer_thread(void *arg)
{
    email_producer *p = arg;
    struct error err = {0};
    const bool good = start(p, &err);

    tell_started(p, good, &err);
    if (good && !loop_run(p->loop, &err)) {
        log_error("Email producer's event loop failed", LOG_STR("error", err.text));
        pthread_mutex_lock(&p->mutex);
        p->closing = true;
        pthread_mutex_unlock(&p->mutex);
        if (p->kafka_path)
            kafka_path_wait_left(p->kafka_path);
    }
    end_rest(p);
    take_down(p);
    return NULL;
}
