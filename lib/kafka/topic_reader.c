#include "kafka/topic_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "base/clock.h"
#include "kafka/kafka_client.h"

enum { DESTROY_MS = 2000, POLL_MS = 100 };

struct topic_reader {
    rd_kafka_t *rk;
    char *topic;
    int timeout_ms;
    struct topic_span *spans;
    int64_t *next; /* per span: offset to read next; its high where it is read */
    size_t len, current;
    bool assigned;
    rd_kafka_topic_partition_list_t *committed; /* keeps the notes */
    rd_kafka_message_t *message;                /* of the record handed out */
    struct record_header *headers;
    size_t headers_cap;
    char trouble[200]; /* why the last connection failed */
};

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct topic_reader *r = opaque;

    (void)rk;
    if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) /* which tells no cause */
        snprintf(r->trouble, sizeof(r->trouble), "%s", reason);
}

static const char *reason_of(struct topic_reader *r, rd_kafka_resp_err_t code)
{
    rd_kafka_poll(r->rk, 0); /* for on_error */
    return *r->trouble &&
                   (code == RD_KAFKA_RESP_ERR__TRANSPORT || code == RD_KAFKA_RESP_ERR__TIMED_OUT)
               ? r->trouble
               : rd_kafka_err2str(code);
}

/* ---- opening ---- */

static bool start(struct topic_reader *r, const struct kafka_settings *kafka, const char *group,
                  struct error *err)
{
    const struct kafka_property ours[] = {
        {"auto.offset.reset", "earliest"}, /* records that retention took meanwhile */
        {"check.crcs", "true"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "true"},
        {"fetch.message.max.bytes", "67108864"},
        {"fetch.wait.max.ms", "100"},
        {"group.id", group},
        {"isolation.level", "read_committed"},
        {"queued.max.messages.kbytes", "16384"},
        {"statistics.interval.ms", "0"},
    };
    rd_kafka_conf_t *conf = kafka_conf_new(kafka, ours, sizeof(ours) / sizeof(*ours), err);
    char text[256];

    if (!conf)
        return false;
    rd_kafka_conf_set_opaque(conf, r);
    rd_kafka_conf_set_error_cb(conf, on_error);
    r->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof(text));
    if (!r->rk) {
        rd_kafka_conf_destroy(conf);
        return error_set(err, "Kafka client: %s", text);
    }
    /* Fails only where the configuration asks for no such thing. */
    rd_kafka_error_destroy(rd_kafka_sasl_background_callbacks_enable(r->rk));
    return true;
}

static bool take_partitions(struct topic_reader *r, const struct rd_kafka_metadata_topic *topic,
                            struct error *err)
{
    if (topic->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || !topic->partition_cnt)
        return error_set(err, "topic %s: does not exist (create-topics creates it)", r->topic);
    if (topic->err)
        return error_set(err, "topic %s: %s", r->topic, rd_kafka_err2str(topic->err));
    r->spans = calloc((size_t)topic->partition_cnt, sizeof(*r->spans));
    r->next = calloc((size_t)topic->partition_cnt, sizeof(*r->next));
    r->committed = rd_kafka_topic_partition_list_new(topic->partition_cnt);
    if (!r->spans || !r->next || !r->committed)
        return error_set(err, "out of memory");
    r->len = (size_t)topic->partition_cnt;
    for (size_t i = 0; i < r->len; i++) {
        r->spans[i].partition = topic->partitions[i].id;
        rd_kafka_topic_partition_list_add(r->committed, r->topic, topic->partitions[i].id);
    }
    return true;
}

static bool find_partitions(struct topic_reader *r, const char *brokers, struct error *err)
{
    rd_kafka_topic_t *handle = rd_kafka_topic_new(r->rk, r->topic, NULL);
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t code;
    bool good;

    if (!handle)
        return error_set(err, "topic %s: %s", r->topic, rd_kafka_err2str(rd_kafka_last_error()));
    code = rd_kafka_metadata(r->rk, 0, handle, &metadata, r->timeout_ms);
    rd_kafka_topic_destroy(handle);
    if (code)
        return error_set(err, "no broker of %s answered: %s", brokers, reason_of(r, code));
    good = metadata->topic_cnt == 1 ? take_partitions(r, &metadata->topics[0], err)
                                    : error_set(err, "the broker's answer names no topic");
    rd_kafka_metadata_destroy(metadata);
    return good;
}

static bool find_ends(struct topic_reader *r, struct error *err)
{
    for (size_t i = 0; i < r->len; i++) {
        struct topic_span *span = &r->spans[i];
        const rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(
            r->rk, r->topic, span->partition, &span->low, &span->high, r->timeout_ms);
        if (code)
            return error_set(err, "topic %s, partition %d: %s", r->topic, span->partition,
                             reason_of(r, code));
        r->next[i] = span->low;
    }
    return true;
}

/* The broker that keeps a group's offsets is being found or is starting, as in a cluster whose
 * first group this is. librdkafka hands that on. */
static bool is_passing(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_NOT_COORDINATOR ||
           code == RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE ||
           code == RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;
}

static bool notes_are_to_come(const struct topic_reader *r, rd_kafka_resp_err_t code)
{
    for (size_t i = 0; !code && i < r->len; i++)
        code = r->committed->elems[i].err;
    return is_passing(code);
}

static rd_kafka_resp_err_t ask_for_notes(struct topic_reader *r)
{
    const uint64_t end_ms = clock_monotonic_ms() + (uint64_t)r->timeout_ms;
    rd_kafka_resp_err_t code = rd_kafka_committed(r->rk, r->committed, r->timeout_ms);

    while (notes_are_to_come(r, code) && clock_monotonic_ms() < end_ms) {
        rd_kafka_poll(r->rk, POLL_MS);
        code = rd_kafka_committed(r->rk, r->committed, r->timeout_ms);
    }
    return code;
}

static bool find_notes(struct topic_reader *r, struct error *err)
{
    const rd_kafka_resp_err_t code = ask_for_notes(r);

    if (code)
        return error_set(err, "committed offsets: %s", reason_of(r, code));
    for (size_t i = 0; i < r->len; i++) {
        const rd_kafka_topic_partition_t *p = &r->committed->elems[i];
        if (p->err)
            return error_set(err, "committed offsets: %s", rd_kafka_err2str(p->err));
        r->spans[i].note_offset = p->offset >= 0 ? p->offset : -1;
        r->spans[i].note = "";
    }
    return true;
}

/* The library's text has no NUL behind it. */
static bool end_notes(struct topic_reader *r, struct error *err)
{
    for (size_t i = 0; i < r->len; i++) {
        rd_kafka_topic_partition_t *p = &r->committed->elems[i];
        char *copy;
        if (!p->metadata_size)
            continue;
        copy = malloc(p->metadata_size + 1);
        if (!copy)
            return error_set(err, "out of memory");
        memcpy(copy, p->metadata, p->metadata_size);
        copy[p->metadata_size] = '\0';
        rd_kafka_mem_free(r->rk, p->metadata);
        p->metadata = copy; /* freed with the list */
        p->metadata_size = strlen(copy);
        r->spans[i].note = copy;
    }
    return true;
}

struct topic_reader *topic_reader_open(const struct kafka_settings *kafka, const char *topic,
                                       const char *group, int timeout_ms, struct error *err)
{
    struct topic_reader *r = calloc(1, sizeof(*r));

    if (!r || !(r->topic = strdup(topic))) {
        error_set(err, "out of memory");
        topic_reader_close(r);
        return NULL;
    }
    r->timeout_ms = timeout_ms;
    if (start(r, kafka, group, err) && find_partitions(r, kafka->brokers, err) &&
        find_ends(r, err) && find_notes(r, err) && end_notes(r, err))
        return r;
    topic_reader_close(r);
    return NULL;
}

void topic_reader_close(struct topic_reader *r)
{
    if (!r)
        return;
    if (r->message)
        rd_kafka_message_destroy(r->message);
    if (r->committed)
        rd_kafka_topic_partition_list_destroy(r->committed);
    if (r->assigned)
        rd_kafka_assign(r->rk, NULL);
    kafka_handle_destroy(r->rk, DESTROY_MS);
    free(r->headers);
    free(r->next);
    free(r->spans);
    free(r->topic);
    free(r);
}

size_t topic_reader_spans(const struct topic_reader *r, const struct topic_span **spans)
{
    *spans = r->spans;
    return r->len;
}

/* ---- reading ---- */

bool topic_reader_only(struct topic_reader *r, int32_t partition, int64_t offset)
{
    bool found = false;

    for (size_t i = 0; i < r->len; i++) {
        const bool wanted = r->spans[i].partition == partition;
        r->next[i] = !wanted || offset > r->spans[i].high ? r->spans[i].high
                     : offset > r->spans[i].low           ? offset
                                                          : r->spans[i].low;
        found = found || wanted;
    }
    return found;
}

/* One partition at a time, so that no other one's records fill the queue meanwhile. */
static bool assign_current(struct topic_reader *r, struct error *err)
{
    rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
    rd_kafka_resp_err_t code;

    rd_kafka_topic_partition_list_add(one, r->topic, r->spans[r->current].partition)->offset =
        r->next[r->current];
    code = rd_kafka_assign(r->rk, one);
    rd_kafka_topic_partition_list_destroy(one);
    r->assigned = true;
    return !code || error_set(err, "%s", rd_kafka_err2str(code));
}

static bool take_headers(struct topic_reader *r, struct record *out)
{
    rd_kafka_headers_t *headers;
    size_t count = 0;

    out->headers = NULL;
    out->headers_len = 0;
    if (rd_kafka_message_headers(r->message, &headers))
        return true; /* it has none */
    count = rd_kafka_header_cnt(headers);
    if (count > r->headers_cap) {
        struct record_header *grown = realloc(r->headers, count * sizeof(*grown));
        if (!grown)
            return false;
        r->headers = grown;
        r->headers_cap = count;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name;
        const void *value;
        size_t size;
        if (rd_kafka_header_get_all(headers, i, &name, &value, &size))
            break;
        r->headers[out->headers_len++] =
            (struct record_header){slice_str(name), slice_of(value, size)};
    }
    out->headers = r->headers;
    return true;
}

static bool take_record(struct topic_reader *r, struct record *out)
{
    const rd_kafka_message_t *m = r->message;
    rd_kafka_timestamp_type_t type;

    *out = (struct record){
        .topic = slice_str(r->topic),
        .partition = m->partition,
        .offset = m->offset,
        .timestamp_unix_ms = rd_kafka_message_timestamp(m, &type),
        .key = slice_of(m->key, m->key_len),
        .value = slice_of(m->payload, m->len),
    };
    return take_headers(r, out);
}

/* True where a record is there; at the end of its partition `next` says so. */
static bool poll_current(struct topic_reader *r, struct record *out, struct error *err)
{
    struct topic_span *span = &r->spans[r->current];
    rd_kafka_message_t *m = rd_kafka_consumer_poll(r->rk, POLL_MS);

    if (!m)
        return false;
    r->message = m;
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        if (m->partition == span->partition)
            r->next[r->current] = span->high;
    } else if (!m->err && m->partition == span->partition) {
        /* Transactions leave offsets without a record, also at the very end. */
        r->next[r->current] = m->offset + 1 > span->high ? span->high : m->offset + 1;
        if (m->offset < span->high)
            return take_record(r, out) || error_set(err, "out of memory");
    } else if (m->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
               m->err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED) {
        error_set(err, "%s", rd_kafka_message_errstr(m));
    } else if (m->err && m->err != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        snprintf(r->trouble, sizeof(r->trouble), "%s", rd_kafka_message_errstr(m));
    }
    rd_kafka_message_destroy(m);
    r->message = NULL;
    return false;
}

static bool next_partition(struct topic_reader *r)
{
    while (r->current < r->len && r->next[r->current] >= r->spans[r->current].high) {
        r->current++;
        if (r->assigned)
            rd_kafka_assign(r->rk, NULL);
        r->assigned = false;
    }
    return r->current < r->len;
}

enum topic_read topic_reader_next(struct topic_reader *r, struct record *out, struct error *err)
{
    uint64_t end_ms = clock_monotonic_ms() + (uint64_t)r->timeout_ms;
    struct error inner = {0};

    if (r->message)
        rd_kafka_message_destroy(r->message);
    r->message = NULL;
    while (next_partition(r)) {
        if (!r->assigned && !assign_current(r, err))
            return TOPIC_READ_FAILED;
        if (poll_current(r, out, &inner))
            return TOPIC_READ_RECORD;
        if (inner.set || clock_monotonic_ms() >= end_ms) {
            error_set(err, "topic %s: %s", r->topic,
                      inner.set     ? inner.text
                      : *r->trouble ? r->trouble
                                    : "no record came in time");
            return TOPIC_READ_FAILED;
        }
    }
    return TOPIC_READ_END;
}

/* ---- notes ---- */

static bool add_note(rd_kafka_topic_partition_list_t *list, const char *topic,
                     const struct topic_span *note)
{
    rd_kafka_topic_partition_t *p = rd_kafka_topic_partition_list_add(list, topic, note->partition);

    p->offset = note->note_offset;
    p->metadata = strdup(note->note); /* freed with the list */
    p->metadata_size = p->metadata ? strlen(note->note) : 0;
    return p->metadata != NULL;
}

static rd_kafka_resp_err_t committed_of(rd_kafka_event_t *event)
{
    const rd_kafka_topic_partition_list_t *each = rd_kafka_event_topic_partition_list(event);
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);

    for (int i = 0; !code && each && i < each->cnt; i++)
        code = each->elems[i].err;
    return code;
}

/* rd_kafka_commit would wait for as long as it takes. */
static rd_kafka_resp_err_t commit(struct topic_reader *r,
                                  const rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_new(r->rk);
    rd_kafka_resp_err_t code = rd_kafka_commit_queue(r->rk, list, queue, NULL, NULL);
    rd_kafka_event_t *event = code ? NULL : rd_kafka_queue_poll(queue, r->timeout_ms);

    if (!code)
        code = event ? committed_of(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    return code;
}

bool topic_reader_keep(struct topic_reader *r, const struct topic_span *notes, size_t len,
                       struct error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)len);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    bool good = true;

    for (size_t i = 0; good && i < len; i++)
        good = add_note(list, r->topic, &notes[i]) || error_set(err, "out of memory");
    if (good)
        code = commit(r, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (good && code)
        return error_set(err, "committing offsets: %s", reason_of(r, code));
    return good;
}
