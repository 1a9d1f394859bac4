"""Topics that are written in transactions: what was aborted is not sent, and a partition that ends in markers, where
no record will ever come, costs nothing."""

import json
import time

from confluent_kafka import Producer

from lib_process import wait_for
from lib_stack import event

METADATA_REQUESTS = 30  # in the time below, 24 of them looks; one every 5 ms would be 600


def _producer(kafka, name):
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name, "log_level": 0})
    producer.init_transactions(30)
    return producer


def _publish(producer, topic, events, commit):
    producer.begin_transaction()
    for number, e in enumerate(events):
        producer.produce(topic, json.dumps(e).encode(), partition=number % 3)
    producer.flush(30)
    (producer.commit_transaction if commit else producer.abort_transaction)(30)


def _metadata_requests(service):
    return sum("Sent MetadataRequest" in e.get("detail", "") for e in service.logs("Kafka client"))


def test_tail_of_markers(stack):
    """The consumer sees an end beyond its last record and does not keep asking for what is there."""
    producer = _producer(stack.kafka, stack.topic)
    kept, aborted = [event() for _ in range(30)], [event() for _ in range(30)]
    _publish(producer, stack.topic, kept, True)
    _publish(producer, stack.topic, aborted, False)
    service = stack.start(LOG_LEVEL="debug", KAFKA_CONFIG_DEBUG="protocol")
    stack.wait_mails(len(kept))
    wait_for(lambda: service.stats()["events"]["sent"] == len(kept), 10, "all being counted")
    assert _metadata_requests(service) > 0, "the log names the requests"

    begin = _metadata_requests(service)
    time.sleep(3)  # nothing happens now, and that is what is looked at
    assert _metadata_requests(service) - begin <= METADATA_REQUESTS

    more = [event() for _ in range(30)]
    _publish(producer, stack.topic, more, True)
    stack.wait_mails(len(kept) + len(more))
    text = b"".join(m.data for m in stack.mails())
    assert not any(e["messageID"].encode() in text for e in aborted)
    assert all(e["messageID"].encode() in text for e in kept + more)
    assert stack.dead_letters() == []
