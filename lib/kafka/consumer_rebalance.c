#include "kafka/consumer_internal.h"

#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "base/log.h"

/* ---- partitions ---- */

static size_t place_of(const struct consumer *c, int32_t id)
{
    size_t low = 0, high = c->partitions_len;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c->partitions[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct partition *consumer_find(const struct consumer *c, int32_t id)
{
    size_t place = place_of(c, id);

    return place < c->partitions_len && c->partitions[place]->id == id ? c->partitions[place]
                                                                       : NULL;
}

static bool add(struct consumer *c, struct partition *p)
{
    struct partition **grown =
        realloc(c->partitions, (c->partitions_len + 1) * sizeof(struct partition *));
    size_t place;

    if (!grown)
        return false;
    c->partitions = grown;
    place = place_of(c, p->id);
    memmove(grown + place + 1, grown + place, (c->partitions_len - place) * sizeof(*grown));
    grown[place] = p;
    c->partitions_len++;
    return true;
}

static void drop(struct consumer *c, int32_t id)
{
    size_t place = place_of(c, id);

    if (place == c->partitions_len || c->partitions[place]->id != id)
        return;
    partition_destroy(c->partitions[place]);
    c->partitions_len--;
    memmove(c->partitions + place, c->partitions + place + 1,
            (c->partitions_len - place) * sizeof(*c->partitions));
    c->turn = 0;
}

void consumer_drop_all(struct consumer *c)
{
    while (c->partitions_len)
        drop(c, c->partitions[c->partitions_len - 1]->id);
    if (c->leaving)
        rd_kafka_topic_partition_list_destroy(c->leaving);
    c->leaving = NULL;
}

/* ---- rebalances ---- */

static bool cooperative(const struct consumer *c)
{
    const char *protocol = rd_kafka_rebalance_protocol(c->client.rk);

    return protocol && strcmp(protocol, "COOPERATIVE") == 0;
}

/* Tells librdkafka the outcome; partitions NULL: none are ours. */
static void answer(struct consumer *c, bool assign, const rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_error_t *error = NULL;
    rd_kafka_resp_err_t code;

    if (list && cooperative(c))
        error = assign ? rd_kafka_incremental_assign(c->client.rk, list)
                       : rd_kafka_incremental_unassign(c->client.rk, list);
    else {
        code = rd_kafka_assign(c->client.rk, assign ? list : NULL);
        if (code)
            error = rd_kafka_error_new(code, "%s", rd_kafka_err2str(code));
    }
    if (error)
        log_warn("Kafka assignment failed", LOG_STR("topic", c->topic),
                 LOG_STR("error", rd_kafka_error_string(error)));
    rd_kafka_error_destroy(error);
}

static bool adopt(struct consumer *c, const rd_kafka_topic_partition_list_t *list,
                  struct error *err)
{
    for (int i = 0; i < list->cnt; i++) {
        struct partition *p;
        drop(c, list->elems[i].partition);
        p = partition_new(&c->client, c->topic, list->elems[i].partition, ++c->generation, err);
        if (!p)
            return false;
        if (!add(c, p)) {
            partition_destroy(p);
            return error_set(err, "out of memory");
        }
    }
    return true;
}

static void on_assign(struct consumer *c, const rd_kafka_topic_partition_list_t *list)
{
    struct error err = {0};

    c->rebalances++;
    c->trouble[0] = '\0';
    if (c->closing) { /* the group's answer came too late */
        answer(c, true, NULL);
        return;
    }
    if (!adopt(c, list, &err)) {
        kafka_client_fail(&c->client, err.text);
        return;
    }
    answer(c, true, list);
    log_info("Kafka partitions assigned", LOG_STR("topic", c->topic), LOG_INT("count", list->cnt),
             LOG_INT("assigned", c->partitions_len));
    consumer_pump(c);
}

static size_t still_under_way(const struct consumer *c)
{
    size_t n = 0;

    for (size_t i = 0; i < c->partitions_len; i++)
        if (c->partitions[i]->leaving)
            n += tracker_under_way(c->partitions[i]->tracker);
    return n;
}

/* What could be finished is; the watermarks are stored before the partitions go, since librdkafka
 * commits them then. Where they are lost already, another member may have gone on from the
 * committed offset, and ours would only go backwards. */
static void let_go(struct consumer *c)
{
    rd_kafka_topic_partition_list_t *list = c->leaving;
    const bool lost = rd_kafka_assignment_lost(c->client.rk);
    const size_t cut_off = still_under_way(c);

    c->leaving = NULL;
    loop_timer_stop(c->loop, &c->grace_timer);
    loop_undefer(c->loop, &c->settle_task);
    if (!lost)
        consumer_store_watermarks(c);
    for (int i = 0; i < list->cnt; i++)
        drop(c, list->elems[i].partition);
    answer(c, false, list);
    log_info(lost ? "Kafka partitions lost" : "Kafka partitions revoked",
             LOG_STR("topic", c->topic), LOG_INT("count", list->cnt), LOG_INT("underWay", cut_off));
    rd_kafka_topic_partition_list_destroy(list);
}

void consumer_let_go(void *ctx)
{
    struct consumer *c = ctx;

    if (c->leaving)
        let_go(c);
}

void consumer_settle(struct consumer *c)
{
    if (c->leaving && still_under_way(c) == 0)
        loop_defer(c->loop, &c->settle_task, consumer_let_go, c);
}

static void on_revoke(struct consumer *c, const rd_kafka_topic_partition_list_t *list)
{
    const bool lost = rd_kafka_assignment_lost(c->client.rk);

    if (c->leaving) /* superseded: librdkafka asks anew only when the former answer is void */
        rd_kafka_topic_partition_list_destroy(c->leaving);
    c->leaving = rd_kafka_topic_partition_list_copy(list);
    for (int i = 0; i < list->cnt; i++) {
        struct partition *p = consumer_find(c, list->elems[i].partition);
        if (!p || p->leaving)
            continue;
        p->leaving = true;
        partition_drop_batch(p);
        c->callbacks.revoking(c->ctx, p->id, p->generation, lost);
    }
    if (lost)
        let_go(c);
    else if (still_under_way(c) == 0)
        consumer_settle(c);
    else if (c->closing) /* the caller has waited already for what it wanted to wait for */
        loop_defer(c->loop, &c->settle_task, consumer_let_go, c);
    else
        loop_timer_start(c->loop, &c->grace_timer, c->revoke_grace_ms);
}

void consumer_on_rebalance(struct consumer *c, struct rd_kafka_op_s *event)
{
    const rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(event);
    const rd_kafka_resp_err_t what = rd_kafka_event_error(event);

    if (what == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && list)
        on_assign(c, list);
    else if (what == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS && list)
        on_revoke(c, list);
    else {
        log_warn("Kafka rebalance failed", LOG_STR("topic", c->topic),
                 LOG_STR("error", rd_kafka_err2str(what)));
        answer(c, false, NULL);
    }
}
