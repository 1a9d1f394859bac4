#include "pages.h"

#include "base/clock.h"
#include "base/json_out.h"
#include "pages_metrics.h"
#include "pages_status.h"

#include <stdio.h>

enum { STATUS_OK = 200, STATUS_UNAVAILABLE = 503 };

typedef unsigned (*page_fn)(const struct snapshot *s, const struct metrics *m, struct buf *body);

/* ---- pieces of JSON ---- */

static void object_begin(struct buf *b, const char *name)
{
    json_out_name(b, name);
    buf_add_char(b, '{');
}

static void object_end(struct buf *b)
{
    buf_add_char(b, '}');
}

static void field_u64(struct buf *b, const char *name, uint64_t value)
{
    json_out_name(b, name);
    buf_add_u64(b, value);
}

static void field_text(struct buf *b, const char *name, const char *text)
{
    json_out_field_str(b, name, slice_str(text));
}

static void field_time(struct buf *b, const char *name, int64_t unix_ms)
{
    char text[RFC3339_SIZE];

    rfc3339_format(unix_ms, text);
    field_text(b, name, text);
}

/* Unknown until the store has answered once. */
static void field_records(struct buf *b, const struct snapshot *s)
{
    if (s->redis.records >= 0) {
        json_out_field_i64(b, "idempotency_records", s->redis.records);
        return;
    }
    json_out_name(b, "idempotency_records");
    buf_add_str(b, "null");
}

/* ---- /health, /live, /ready ---- */

static const char *connected(bool up)
{
    return up ? "connected" : "disconnected";
}

static unsigned health(const struct snapshot *s, const struct metrics *m, struct buf *b)
{
    bool healthy = s->redis.up && s->kafka.up;

    (void)m;
    buf_add_char(b, '{');
    field_text(b, "status", healthy ? "healthy" : "unhealthy");
    field_text(b, "service", "email-service");
    field_text(b, "redis", connected(s->redis.up));
    field_text(b, "kafka", connected(s->kafka.up));
    field_records(b, s);
    field_time(b, "timestamp", s->now_unix_ms);
    buf_add_str(b, "}\n");
    return healthy ? STATUS_OK : STATUS_UNAVAILABLE;
}

static unsigned live(const struct snapshot *s, const struct metrics *m, struct buf *b)
{
    (void)s;
    (void)m;
    buf_add_str(b, "{\"status\":\"alive\"}\n");
    return STATUS_OK;
}

static void reason(struct buf *b, const char *what, const char *error)
{
    char text[320];

    snprintf(text, sizeof(text), "%s%s%s", what, *error ? ": " : "", error);
    json_out_comma(b);
    json_out_string(b, slice_str(text));
}

static void add_reasons(struct buf *b, const struct snapshot *s)
{
    if (s->shutting_down)
        reason(b, "shutting down", "");
    if (!s->kafka.up)
        reason(b, "kafka unreachable", s->kafka.error);
    else if (s->kafka.assigned == 0)
        reason(b, "no partitions assigned yet", s->kafka.error);
    if (!s->redis.up)
        reason(b, "redis unreachable", s->redis.error);
    if (!s->smtp.up)
        reason(b, "relay in outage", s->smtp.error);
}

static unsigned ready(const struct snapshot *s, const struct metrics *m, struct buf *b)
{
    (void)m;
    if (snapshot_ready(s)) {
        buf_add_str(b, "{\"status\":\"ready\"}\n");
        return STATUS_OK;
    }
    buf_add_str(b, "{\"status\":\"not ready\",\"reasons\":[");
    add_reasons(b, s);
    buf_add_str(b, "]}\n");
    return STATUS_UNAVAILABLE;
}

/* ---- /stats ---- */

static void add_service(struct buf *b, const struct snapshot *s)
{
    int64_t uptime_ms = s->now_unix_ms - s->started_unix_ms;

    field_text(b, "service", "email-service");
    field_text(b, "version", s->version);
    field_text(b, "instance", s->instance);
    field_text(b, "mode", s->mode);
    json_out_field_bool(b, "dev", s->dev);
    json_out_field_bool(b, "shutting_down", s->shutting_down);
    field_time(b, "started_at", s->started_unix_ms);
    json_out_field_i64(b, "uptime_seconds", uptime_ms > 0 ? uptime_ms / 1000 : 0);
}

static void add_events(struct buf *b, const struct metrics *m)
{
    object_begin(b, "events");
    field_u64(b, "consumed", m->consumed);
    field_u64(b, "sent", m->sent);
    field_u64(b, "duplicates", m->duplicates);
    field_u64(b, "retries", m->retries_total);
    field_u64(b, "dead_letters", m->dead_total);
    field_u64(b, "ambiguous", m->ambiguous);
    object_end(b);
}

static void add_reasons_counted(struct buf *b, const struct metrics *m)
{
    object_begin(b, "retries");
    for (int i = REASON_NONE + 1; i < METRICS_RETRY_REASONS; i++)
        field_u64(b, outcome_reason_name((enum outcome_reason)i), m->retries[i]);
    object_end(b);
    object_begin(b, "dead_letters");
    for (int i = 0; i < DEAD_REASONS; i++)
        field_u64(b, dead_reason_name((enum dead_reason)i), m->dead[i]);
    object_end(b);
}

static void add_window(struct buf *b, const struct snapshot *s)
{
    object_begin(b, "window");
    field_u64(b, "in_flight", s->in_flight);
    field_u64(b, "in_flight_bytes", s->in_flight_bytes);
    field_u64(b, "max_in_flight", s->max_in_flight);
    field_u64(b, "max_in_flight_bytes", s->max_in_flight_bytes);
    field_u64(b, "retry_waiting", s->retry_waiting);
    object_end(b);
}

static void add_partition(struct buf *b, const struct partition_state *p)
{
    json_out_comma(b);
    buf_add_char(b, '{');
    json_out_field_i64(b, "partition", p->partition);
    json_out_field_i64(b, "lag", p->lag);
    json_out_field_i64(b, "watermark", p->watermark);
    field_u64(b, "under_way", p->under_way);
    object_end(b);
}

static void add_kafka(struct buf *b, const struct snapshot *s)
{
    object_begin(b, "kafka");
    json_out_field_bool(b, "up", s->kafka.up);
    field_text(b, "error", s->kafka.error);
    field_text(b, "events_topic", s->events_topic);
    field_text(b, "dlq_topic", s->dlq_topic);
    field_u64(b, "dlq_waiting", s->dlq.waiting);
    field_u64(b, "rebalances", s->kafka.rebalances);
    json_out_field_i64(b, "lag", snapshot_lag(s));
    json_out_name(b, "partitions");
    buf_add_char(b, '[');
    for (size_t i = 0; i < s->partitions_len; i++)
        add_partition(b, &s->partitions[i]);
    buf_add_char(b, ']');
    object_end(b);
}

static void add_redis(struct buf *b, const struct snapshot *s)
{
    object_begin(b, "redis");
    json_out_field_bool(b, "up", s->redis.up);
    field_text(b, "error", s->redis.error);
    field_text(b, "eviction_policy", s->redis.eviction_policy);
    json_out_field_bool(b, "evicts", s->redis.evicts);
    field_u64(b, "unreadable_keys", s->redis.unreadable);
    field_u64(b, "late_marks", s->redis.late_marks);
    object_end(b);
}

static void add_smtp(struct buf *b, const struct snapshot *s)
{
    object_begin(b, "smtp");
    json_out_field_bool(b, "up", s->smtp.up);
    field_text(b, "error", s->smtp.error);
    field_u64(b, "idle", s->smtp.idle);
    field_u64(b, "busy", s->smtp.busy);
    field_u64(b, "connecting", s->smtp.connecting);
    field_u64(b, "waiting", s->smtp.waiting);
    field_u64(b, "sessions_opened", s->smtp.sessions_opened);
    object_end(b);
}

static void add_duration(struct buf *b, const char *name, const struct histogram *h)
{
    object_begin(b, name);
    field_u64(b, "count", h->count);
    json_out_name(b, "sum");
    buf_addf(b, "%.6f", h->sum);
    object_end(b);
}

static unsigned stats(const struct snapshot *s, const struct metrics *m, struct buf *b)
{
    buf_add_char(b, '{');
    field_records(b, s);
    field_u64(b, "ttl_hours", s->ttl_hours);
    add_service(b, s);
    add_events(b, m);
    add_reasons_counted(b, m);
    add_window(b, s);
    add_kafka(b, s);
    add_redis(b, s);
    add_smtp(b, s);
    add_duration(b, "delivery_seconds", &m->delivery);
    add_duration(b, "end_to_end_seconds", &m->end_to_end);
    object_begin(b, "log");
    field_u64(b, "dropped_lines", s->log_dropped_lines);
    object_end(b);
    buf_add_str(b, "}\n");
    return STATUS_OK;
}

/* ---- by path ---- */

static unsigned metrics_page(const struct snapshot *s, const struct metrics *m, struct buf *b)
{
    pages_metrics(s, m, b);
    return STATUS_OK;
}

static unsigned status_page(const struct snapshot *s, const struct metrics *m, struct buf *b)
{
    pages_status(s, m, b);
    return STATUS_OK;
}

static const struct page {
    const char *path;
    const char *content_type;
    page_fn fn;
} pages[] = {
    {"/", "text/html; charset=utf-8", status_page},
    {"/health", "application/json", health},
    {"/live", "application/json", live},
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", metrics_page},
    {"/ready", "application/json", ready},
    {"/stats", "application/json", stats},
};

unsigned pages_render(const char *path, const struct snapshot *s, const struct metrics *m,
                      struct buf *body, const char **content_type)
{
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        if (strcmp(path, pages[i].path) == 0) {
            *content_type = pages[i].content_type;
            return pages[i].fn(s, m, body);
        }
    return 0;
}
