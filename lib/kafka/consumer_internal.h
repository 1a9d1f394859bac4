/* The consumer's parts: consumer.c (the group's client and the public calls), consumer_records.c
 * (handing records over), consumer_fetch.c (its prefetch), consumer_rebalance.c (which partitions
 * are ours). Internal to lib/kafka.
 */
#ifndef KAFKA_CONSUMER_INTERNAL_H
#define KAFKA_CONSUMER_INTERNAL_H

#include "kafka/consumer.h"
#include "kafka/kafka_client.h"
#include "kafka/partition.h"

struct rd_kafka_topic_partition_list_s;
struct rd_kafka_topic_s;

struct consumer {
    struct kafka_client client;
    struct loop *loop;
    struct consumer_callbacks callbacks;
    void *ctx;
    char *topic;
    uint64_t revoke_grace_ms;
    size_t window;

    struct partition **partitions; /* ascending by id */
    size_t partitions_len;
    size_t turn;
    uint64_t generation; /* the last one given out */

    struct rd_kafka_topic_partition_list_s
        *leaving; /* a revocation that waits for what is under way */
    struct loop_timer grace_timer, store_timer, fetch_timer;
    struct rd_kafka_topic_s *handle; /* consumer_fetch.c; NULL where it has nothing to do */
    uint64_t fetch_due_ms;           /* of a running fetch_timer */
    struct loop_task pump_task, settle_task, closed_task;

    struct record_header *headers; /* of the record being handed over */
    size_t headers_cap;

    bool stopped, closing, closed;
    uint64_t consumed, rebalances;
    uint64_t trouble_ms; /* since when, or last repeated */
    char trouble[200];   /* what keeps us from consuming though a broker is reached */
};

/* consumer.c */
void consumer_store_watermarks(struct consumer *c);
void consumer_trouble(struct consumer *c, const char *text);

/* consumer_records.c */
/* Hands over what there is and what there is room for, as far as a tick of the loop allows. */
void consumer_take(struct consumer *c);

/* consumer_fetch.c */
void consumer_fetch_init(struct consumer *c);
void consumer_fetch_soon(struct consumer *c); /* records were taken */
void consumer_fetch_cleanup(struct consumer *c);

/* consumer_rebalance.c */
struct partition *consumer_find(const struct consumer *c, int32_t id);
void consumer_on_rebalance(struct consumer *c, struct rd_kafka_op_s *event);
/* Something of the partitions that leave has finished. */
void consumer_settle(struct consumer *c);
/* Timer and task: the partitions that leave are let go. */
void consumer_let_go(void *ctx);
/* Forgets all partitions, without a word to the group. */
void consumer_drop_all(struct consumer *c);

#endif
