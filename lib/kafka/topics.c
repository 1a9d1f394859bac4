#include "kafka/topics.h"

#include <stdio.h>
#include <stdlib.h>

#include <librdkafka/rdkafka.h>

#include "base/clock.h"
#include "kafka/kafka_client.h"

enum { DESTROY_MS = 2000 };

struct topics_admin {
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
};

/* The reason that a connection failed for; the request itself only says that it timed out. */
static void last_error(struct topics_admin *admin, char *text, size_t size)
{
    rd_kafka_event_t *event;

    while ((event = rd_kafka_queue_poll(admin->queue, 0))) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR &&
            rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
            snprintf(text, size, "%s", rd_kafka_event_error_string(event));
        rd_kafka_event_destroy(event);
    }
}

static bool reach(struct topics_admin *admin, const char *brokers, int timeout_ms,
                  struct error *err)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t code = rd_kafka_metadata(admin->rk, 0, NULL, &metadata, timeout_ms);
    char cause[200] = "";

    if (!code) {
        rd_kafka_metadata_destroy(metadata);
        return true;
    }
    last_error(admin, cause, sizeof(cause));
    return error_set(err, "no broker of %s answered: %s", brokers,
                     *cause ? cause : rd_kafka_err2str(code));
}

struct topics_admin *topics_connect(const struct kafka_settings *kafka, int timeout_ms,
                                    struct error *err)
{
    struct topics_admin *admin = calloc(1, sizeof(*admin));
    rd_kafka_conf_t *conf = NULL;
    char text[256];

    if (!admin) {
        error_set(err, "out of memory");
        return NULL;
    }
    conf = kafka_conf_new(kafka, NULL, 0, err);
    if (!conf)
        goto failed;
    /* Log lines are left in their queue: what matters of them comes as an error event too. */
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_ERROR);
    admin->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    if (!admin->rk) {
        rd_kafka_conf_destroy(conf);
        error_set(err, "Kafka client: %s", text);
        goto failed;
    }
    rd_kafka_error_destroy(rd_kafka_sasl_background_callbacks_enable(admin->rk));
    admin->queue = rd_kafka_queue_get_main(admin->rk);
    if (reach(admin, kafka->brokers, timeout_ms, err))
        return admin;

failed:
    topics_disconnect(admin);
    return NULL;
}

void topics_disconnect(struct topics_admin *admin)
{
    if (!admin)
        return;
    if (admin->queue)
        rd_kafka_queue_destroy(admin->queue);
    kafka_handle_destroy(admin->rk, DESTROY_MS);
    free(admin);
}

/* Where creating is forbidden, the topic may have been created by those who may. */
static bool exists(struct topics_admin *admin, const char *topic, int timeout_ms)
{
    rd_kafka_topic_t *handle = rd_kafka_topic_new(admin->rk, topic, NULL);
    const struct rd_kafka_metadata *metadata;
    bool found = false;

    if (handle && !rd_kafka_metadata(admin->rk, 0, handle, &metadata, timeout_ms)) {
        found = metadata->topic_cnt == 1 && !metadata->topics[0].err &&
                metadata->topics[0].partition_cnt > 0;
        rd_kafka_metadata_destroy(metadata);
    }
    if (handle)
        rd_kafka_topic_destroy(handle);
    return found;
}

static enum topic_result outcome(struct topics_admin *admin, const char *topic, int timeout_ms,
                                 rd_kafka_event_t *event, struct error *err)
{
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
    const rd_kafka_topic_result_t **each;
    rd_kafka_resp_err_t code;
    size_t n = 0;

    if (rd_kafka_event_error(event)) {
        error_set(err, "%s", rd_kafka_event_error_string(event));
        return TOPIC_FAILED;
    }
    each = result ? rd_kafka_CreateTopics_result_topics(result, &n) : NULL;
    if (n != 1) {
        error_set(err, "the broker's answer names no topic");
        return TOPIC_FAILED;
    }
    code = rd_kafka_topic_result_error(each[0]);
    if (!code)
        return TOPIC_CREATED;
    if (code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        return TOPIC_EXISTED;
    if ((code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
         code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED) &&
        exists(admin, topic, timeout_ms))
        return TOPIC_EXISTED;
    error_set(err, "%s",
              rd_kafka_topic_result_error_string(each[0])
                  ? rd_kafka_topic_result_error_string(each[0])
                  : rd_kafka_err2str(code));
    return TOPIC_FAILED;
}

static rd_kafka_event_t *wait_result(rd_kafka_queue_t *queue, rd_kafka_event_type_t type,
                                     int timeout_ms)
{
    const uint64_t deadline_ms = clock_monotonic_ms() + (uint64_t)timeout_ms;
    rd_kafka_event_t *event;

    for (uint64_t now_ms; (now_ms = clock_monotonic_ms()) < deadline_ms;) {
        event = rd_kafka_queue_poll(queue, (int)(deadline_ms - now_ms));
        if (rd_kafka_event_type(event) == type)
            return event;
        rd_kafka_event_destroy(event);
    }
    return NULL;
}

static enum topic_result create(struct topics_admin *admin, rd_kafka_NewTopic_t *new_topic,
                                const char *topic, int timeout_ms, struct error *err)
{
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(admin->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(admin->rk);
    enum topic_result result = TOPIC_FAILED;
    rd_kafka_event_t *event;
    char text[200];

    if (rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, text, sizeof(text)) ||
        rd_kafka_AdminOptions_set_operation_timeout(options, timeout_ms, text, sizeof(text)))
        error_set(err, "%s", text);
    else {
        rd_kafka_CreateTopics(admin->rk, &new_topic, 1, options, queue);
        event = wait_result(queue, RD_KAFKA_EVENT_CREATETOPICS_RESULT, timeout_ms + 1000);
        if (event)
            result = outcome(admin, topic, timeout_ms, event, err);
        else
            error_set(err, "no answer within %d ms", timeout_ms);
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    return result;
}

enum topic_result topics_create(struct topics_admin *admin, const char *topic, int partitions,
                                int replication_factor, int timeout_ms, struct error *err)
{
    char text[200];
    rd_kafka_NewTopic_t *new_topic =
        rd_kafka_NewTopic_new(topic, partitions, replication_factor, text, sizeof(text));
    enum topic_result result;

    if (!new_topic) {
        error_set(err, "%s", text);
        return TOPIC_FAILED;
    }
    result = create(admin, new_topic, topic, timeout_ms, err);
    rd_kafka_NewTopic_destroy(new_topic);
    return result;
}

/* ---- looking ---- */

static void take_facts(const struct rd_kafka_metadata *metadata, struct topic_facts *out)
{
    const struct rd_kafka_metadata_topic *topic = &metadata->topics[0];

    *out = (struct topic_facts){
        .exists = true, .partitions = topic->partition_cnt, .brokers = metadata->broker_cnt};
    for (int i = 0; i < topic->partition_cnt; i++) {
        const struct rd_kafka_metadata_partition *p = &topic->partitions[i];
        if (i == 0 || p->replica_cnt < out->replication_factor)
            out->replication_factor = p->replica_cnt;
        out->leaderless += p->leader < 0;
    }
}

bool topics_look(struct topics_admin *admin, const char *topic, int timeout_ms,
                 struct topic_facts *out, struct error *err)
{
    rd_kafka_topic_t *handle = rd_kafka_topic_new(admin->rk, topic, NULL);
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t code;

    *out = (struct topic_facts){0};
    if (!handle)
        return error_set(err, "%s", rd_kafka_err2str(rd_kafka_last_error()));
    code = rd_kafka_metadata(admin->rk, 0, handle, &metadata, timeout_ms);
    rd_kafka_topic_destroy(handle);
    if (code)
        return error_set(err, "%s", rd_kafka_err2str(code));
    code = metadata->topic_cnt == 1 ? metadata->topics[0].err
                                    : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (!code && metadata->topics[0].partition_cnt > 0)
        take_facts(metadata, out);
    out->brokers = metadata->broker_cnt;
    rd_kafka_metadata_destroy(metadata);
    return !code || code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
           error_set(err, "%s", rd_kafka_err2str(code));
}

/* ---- deleting records ---- */

static bool records_deleted(rd_kafka_event_t *event, struct error *err)
{
    const rd_kafka_DeleteRecords_result_t *result = rd_kafka_event_DeleteRecords_result(event);
    const rd_kafka_topic_partition_list_t *each;

    if (rd_kafka_event_error(event) || !result)
        return error_set(err, "%s", rd_kafka_event_error_string(event));
    each = rd_kafka_DeleteRecords_result_offsets(result);
    for (int i = 0; i < each->cnt; i++)
        if (each->elems[i].err)
            return error_set(err, "partition %d: %s", each->elems[i].partition,
                             rd_kafka_err2str(each->elems[i].err));
    return true;
}

static bool delete_records(struct topics_admin *admin, rd_kafka_DeleteRecords_t *request,
                           int timeout_ms, struct error *err)
{
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(admin->rk, RD_KAFKA_ADMIN_OP_DELETERECORDS);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(admin->rk);
    rd_kafka_event_t *event;
    bool good = false;
    char text[200];

    if (rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, text, sizeof(text)) ||
        rd_kafka_AdminOptions_set_operation_timeout(options, timeout_ms, text, sizeof(text))) {
        error_set(err, "%s", text);
    } else {
        rd_kafka_DeleteRecords(admin->rk, &request, 1, options, queue);
        event = wait_result(queue, RD_KAFKA_EVENT_DELETERECORDS_RESULT, timeout_ms + 1000);
        good = event ? records_deleted(event, err)
                     : error_set(err, "no answer within %d ms", timeout_ms);
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    return good;
}

bool topics_delete_records(struct topics_admin *admin, const char *topic,
                           const struct topic_cut *cuts, size_t len, int timeout_ms,
                           struct error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)len);
    rd_kafka_DeleteRecords_t *request;
    bool good;

    for (size_t i = 0; i < len; i++)
        rd_kafka_topic_partition_list_add(list, topic, cuts[i].partition)->offset = cuts[i].before;
    request = rd_kafka_DeleteRecords_new(list);
    rd_kafka_topic_partition_list_destroy(list);
    good = delete_records(admin, request, timeout_ms, err);
    rd_kafka_DeleteRecords_destroy(request);
    return good;
}
