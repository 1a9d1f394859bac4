#include "kafka/mock_broker.h"

#include <stdlib.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

struct mock_broker {
    rd_kafka_t *rk; /* owns the cluster */
    rd_kafka_mock_cluster_t *cluster;
};

struct mock_broker *mock_broker_start(struct error *err)
{
    struct mock_broker *m = calloc(1, sizeof(*m));
    rd_kafka_conf_t *conf;
    char text[256] = "";

    if (!m) {
        error_set(err, "out of memory");
        return NULL;
    }
    conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, NULL); /* this handle only carries the cluster */
    if (rd_kafka_conf_set(conf, "test.mock.num.brokers", "1", text, sizeof(text)) ==
        RD_KAFKA_CONF_OK)
        m->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    if (!m->rk)
        rd_kafka_conf_destroy(conf);
    m->cluster = m->rk ? rd_kafka_handle_mock_cluster(m->rk) : NULL;
    if (m->cluster)
        return m;
    error_set(err, "in-process Kafka: %s", *text ? text : "no mock cluster");
    mock_broker_stop(m);
    return NULL;
}

const char *mock_broker_bootstrap(const struct mock_broker *m)
{
    return rd_kafka_mock_cluster_bootstraps(m->cluster);
}

bool mock_broker_create_topic(struct mock_broker *m, const char *topic, int partitions,
                              struct error *err)
{
    rd_kafka_resp_err_t code = rd_kafka_mock_topic_create(m->cluster, topic, partitions, 1);

    return !code ||
           error_set(err, "in-process Kafka: topic '%s': %s", topic, rd_kafka_err2str(code));
}

void mock_broker_stop(struct mock_broker *m)
{
    if (!m)
        return;
    if (m->rk)
        rd_kafka_destroy(m->rk);
    free(m);
}
