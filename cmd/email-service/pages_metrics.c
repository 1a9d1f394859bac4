#include "pages_metrics.h"

#include <inttypes.h>

static void head(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_addf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void counter(struct buf *b, const char *name, uint64_t value, const char *help)
{
    head(b, name, "counter", help);
    buf_addf(b, "%s %" PRIu64 "\n", name, value);
}

static void gauge(struct buf *b, const char *name, uint64_t value, const char *help)
{
    head(b, name, "gauge", help);
    buf_addf(b, "%s %" PRIu64 "\n", name, value);
}

/* "name{label=": the value and what follows is the caller's. Values are escaped as the format asks.
 */
static void label(struct buf *b, const char *before, const char *value)
{
    buf_add_str(b, before);
    buf_add_char(b, '"');
    for (; *value; value++)
        if (*value == '\n')
            buf_add_str(b, "\\n");
        else {
            if (*value == '"' || *value == '\\')
                buf_add_char(b, '\\');
            buf_add_char(b, *value);
        }
    buf_add_char(b, '"');
}

static void sample(struct buf *b, const char *before, const char *value, uint64_t number)
{
    label(b, before, value);
    buf_addf(b, "} %" PRIu64 "\n", number);
}

static void histogram(struct buf *b, const char *name, const struct histogram *h, const char *help)
{
    uint64_t cumulative = 0;

    head(b, name, "histogram", help);
    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        cumulative += h->counts[i];
        buf_addf(b, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, histogram_bounds[i], cumulative);
    }
    buf_addf(b, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, h->count);
    buf_addf(b, "%s_sum %.6f\n%s_count %" PRIu64 "\n", name, h->sum, name, h->count);
}

static void add_events(struct buf *b, const struct metrics *m)
{
    counter(b, "email_events_consumed_total", m->consumed, "Records taken from the events topic.");
    counter(b, "email_sent_total", m->sent, "Mails that the relay accepted.");
    counter(b, "email_duplicates_total", m->duplicates,
            "Events skipped because their mail was sent before.");
    head(b, "email_retries_total", "counter",
         "Attempts that failed and are repeated, by what failed.");
    for (int i = REASON_NONE + 1; i < METRICS_RETRY_REASONS; i++)
        sample(b, "email_retries_total{reason=", outcome_reason_name((enum outcome_reason)i),
               m->retries[i]);
    head(b, "email_dead_letters_total", "counter",
         "Events moved to the dead letter queue, by reason.");
    for (int i = 0; i < DEAD_REASONS; i++)
        sample(b, "email_dead_letters_total{reason=", dead_reason_name((enum dead_reason)i),
               m->dead[i]);
    counter(b, "email_ambiguous_total", m->ambiguous,
            "Attempts whose relay was lost between the final dot and its reply.");
    histogram(b, "email_delivery_seconds", &m->delivery,
              "Time from taking an event to its final outcome.");
    histogram(b, "email_end_to_end_seconds", &m->end_to_end,
              "Time from the record's timestamp to the relay's acceptance.");
}

static void add_window(struct buf *b, const struct snapshot *s)
{
    gauge(b, "email_in_flight", s->in_flight, "Events taken and not yet finished.");
    gauge(b, "email_in_flight_limit", s->max_in_flight, "EMAIL_MAX_IN_FLIGHT.");
    gauge(b, "email_in_flight_bytes", s->in_flight_bytes,
          "Bytes of the events taken and not yet finished.");
    gauge(b, "email_in_flight_bytes_limit", s->max_in_flight_bytes, "EMAIL_MAX_IN_FLIGHT_BYTES.");
    gauge(b, "email_retry_waiting", s->retry_waiting, "Events that wait for their next attempt.");
}

static void add_kafka(struct buf *b, const struct snapshot *s)
{
    gauge(b, "email_kafka_up", s->kafka.up, "Whether a Kafka broker is reached.");
    gauge(b, "email_assigned_partitions", s->kafka.assigned,
          "Partitions of the events topic that this process works on.");
    head(b, "email_consumer_lag", "gauge",
         "Records from the committed position to the partition's end.");
    for (size_t i = 0; i < s->partitions_len; i++) {
        if (s->partitions[i].lag < 0)
            continue; /* not known yet, which is not the same as none */
        label(b, "email_consumer_lag{topic=", s->events_topic);
        buf_addf(b, ",partition=\"%" PRId32 "\"} %" PRId64 "\n", s->partitions[i].partition,
                 s->partitions[i].lag);
    }
    counter(b, "email_rebalances_total", s->kafka.rebalances, "Rebalances of the consumer group.");
    gauge(b, "email_dead_letters_waiting", s->dlq.waiting,
          "Dead letters that the broker has not acknowledged yet.");
}

static void add_redis(struct buf *b, const struct snapshot *s)
{
    gauge(b, "email_redis_up", s->redis.up, "Whether the idempotency store is reached.");
    gauge(b, "email_redis_evicting", s->redis.evicts,
          "1 where Redis may evict idempotency records (maxmemory-policy is not noeviction).");
    head(b, "email_idempotency_records", "gauge", "Mails marked sent and not yet expired.");
    if (s->redis.records >= 0)
        buf_addf(b, "email_idempotency_records %" PRId64 "\n", s->redis.records);
    else
        buf_add_str(b, "email_idempotency_records NaN\n");
    counter(b, "email_unreadable_keys_total", s->redis.unreadable,
            "Values under our Redis keys that nobody could have written by the protocol.");
    counter(b, "email_late_marks_total", s->redis.late_marks,
            "Mails found marked sent by another attempt: doubled by an ambiguous outcome.");
}

static void add_smtp(struct buf *b, const struct snapshot *s)
{
    gauge(b, "email_smtp_up", s->smtp.up, "0 while the relay as a whole is failing.");
    head(b, "email_smtp_connections", "gauge", "Sessions with the relay, by state.");
    sample(b, "email_smtp_connections{state=", "idle", s->smtp.idle);
    sample(b, "email_smtp_connections{state=", "busy", s->smtp.busy);
    sample(b, "email_smtp_connections{state=", "connecting", s->smtp.connecting);
    gauge(b, "email_smtp_waiting", s->smtp.waiting, "Mails that wait for a session.");
    counter(b, "email_smtp_sessions_opened_total", s->smtp.sessions_opened,
            "Sessions opened with the relay.");
}

static void add_service(struct buf *b, const struct snapshot *s)
{
    gauge(b, "email_ready", snapshot_ready(s), "Whether /ready answers 200.");
    counter(b, "email_log_dropped_lines_total", s->log_dropped_lines,
            "Log lines dropped because stdout did not take them.");
    head(b, "email_build_info", "gauge", "Always 1; the label tells what is running.");
    sample(b, "email_build_info{version=", s->version, 1);
}

static void seconds(struct buf *b, const char *name, const char *type, double value,
                    const char *help)
{
    head(b, name, type, help);
    buf_addf(b, "%s %.3f\n", name, value);
}

static void limit(struct buf *b, const char *name, double value, const char *help)
{
    head(b, name, "gauge", help);
    if (isinf(value))
        buf_addf(b, "%s +Inf\n", name);
    else
        buf_addf(b, "%s %.0f\n", name, value);
}

static void add_process(struct buf *b, const struct process_stats *p)
{
    seconds(b, "process_start_time_seconds", "gauge", p->start_time_seconds,
            "Start time of the process since the Unix epoch in seconds.");
    if (!p->known)
        return;
    seconds(b, "process_cpu_seconds_total", "counter", p->cpu_seconds,
            "Total user and system CPU time spent in seconds.");
    gauge(b, "process_open_fds", p->open_fds, "Number of open file descriptors.");
    limit(b, "process_max_fds", p->max_fds, "Maximum number of open file descriptors.");
    gauge(b, "process_resident_memory_bytes", p->resident_bytes, "Resident memory size in bytes.");
    gauge(b, "process_virtual_memory_bytes", p->virtual_bytes, "Virtual memory size in bytes.");
    limit(b, "process_virtual_memory_max_bytes", p->max_virtual_bytes,
          "Maximum amount of virtual memory available in bytes.");
}

void pages_metrics(const struct snapshot *s, const struct metrics *m, struct buf *body)
{
    add_events(body, m);
    add_window(body, s);
    add_kafka(body, s);
    add_redis(body, s);
    add_smtp(body, s);
    add_service(body, s);
    add_process(body, &s->process);
}
