"""Kafka: away at the start, stopped and restarted, frozen, topics missing. Each on a broker of its own."""

import json

from lib_process import holds_for, wait_for
from lib_stack import event



def test_down_at_start(own_kafka, own_kafka_stack):
    stack = own_kafka_stack
    message_id = stack.publish_new()
    own_kafka.stop()
    service = stack.start(ready=False)
    service.wait_not_ready()
    health = service.http("/health")
    assert health.status == 503 and health.json()["kafka"] == "disconnected"
    wait_for(lambda: service.http("/health").json()["redis"] == "connected", 10, "Redis, which is there")
    own_kafka.start()
    service.wait_ready()
    stack.wait_mark(message_id)
    assert service.http("/health").status == 200


def test_stopped_and_restarted_under_load(own_kafka, own_kafka_stack):
    """Killed and restarted with mails and dead letters under way: nothing lost, nothing doubled."""
    stack = own_kafka_stack
    stack.smtp.delay("dot", 0.02)
    service = stack.start()
    good = [event(text="ref-%d-end" % i) for i in range(300)]
    bad = [event(to="nobody") for _ in range(30)]
    mixed = [e for i in range(30) for e in good[i * 10:i * 10 + 10] + [bad[i]]]
    stack.publish(*mixed)
    service.wait_log("Email sent successfully", count=40)
    own_kafka.kill()
    wait_for(lambda: service.http("/health").json()["kafka"] == "disconnected", 20, "the loss being seen")
    own_kafka.start()
    service.wait_ready(timeout=60)
    stack.wait_committed(timeout=60)
    assert len(stack.mails()) == 300
    assert len({m.data for m in stack.mails()}) == 300
    # Those whose offset was not committed when the group was lost may be there twice; none is missing.
    letters = stack.dead_letters()
    assert {json.loads(x.value)["messageID"] for x in letters} == {e["messageID"] for e in bad}
    assert len(letters) <= 60
    assert service.metric("email_kafka_up") == 1


def test_frozen(own_kafka, own_kafka_stack):
    stack = own_kafka_stack
    service = stack.start()
    stack.wait_mark(stack.publish_new())
    own_kafka.freeze()
    holds_for(lambda: service.status("/live") == 200, 1, "the loop turning", interval=0.1)
    own_kafka.thaw()
    message_id = stack.publish_new()
    stack.wait_mark(message_id, timeout=40)
    stack.wait_committed(timeout=40)


def test_stops_in_order_with_kafka_away(own_kafka, own_kafka_stack):
    stack = own_kafka_stack
    service = stack.start(SHUTDOWN_TIMEOUT_SECONDS=3)
    stack.wait_mark(stack.publish_new())
    own_kafka.kill()
    assert service.terminate(timeout=15) == 0
    own_kafka.start()


def test_topic_missing_at_start(bare_stack):
    stack = bare_stack
    stack.kafka.create_topic(stack.dlq_topic)
    service = stack.start(ready=False)
    service.wait_not_ready()
    assert service.status("/live") == 200
    wait_for(lambda: stack.topic in service.http("/ready").body
             or "topic" in service.http("/ready").body.lower(), 20, "the reason at /ready")
    stack.kafka.create_topic(stack.topic)
    message_id = stack.publish_new()
    stack.wait_mark(message_id, timeout=40)
    service.wait_ready()


def test_dlq_topic_missing(bare_stack):
    """No dead letter can be written: its event is not committed, others go on, and it is written once it can be."""
    stack = bare_stack
    stack.kafka.create_topic(stack.topic, 1)
    service = stack.start()
    stack.publish(event(to="nobody"))
    message_id = stack.publish_new()
    stack.wait_mark(message_id)
    holds_for(lambda: stack.committed()[0] == 0, 1.2, "the dead event uncommitted", interval=0.3)
    assert service.status("/live") == 200
    stack.kafka.create_topic(stack.dlq_topic, 1)
    [letter] = stack.wait_dead_letters(1, timeout=60)
    assert letter.reason == "invalid_event"
    stack.wait_committed()
    assert len(stack.mails()) == 1


def test_partitions_added_while_running(stack):
    from confluent_kafka.admin import AdminClient, NewPartitions
    service = stack.start(KAFKA_CONFIG_TOPIC_METADATA_REFRESH_INTERVAL_MS=500)
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    for future in admin.create_partitions([NewPartitions(stack.topic, 5)]).values():
        future.result(10)
    wait_for(lambda: len(service.stats()["kafka"]["partitions"]) == 5, 30, "five partitions")
    stack.publish(event(), partition=4)
    stack.wait_mails(1)


def test_two_groups_share_nothing_but_redis(stack):
    """Another group's service reads the same events and finds every one sent already."""
    first = stack.start()
    events = [event() for _ in range(20)]
    stack.publish(*events)
    first.wait_log("Marked email as processed", count=20)
    second = stack.start(KAFKA_CONSUMER_GROUP=stack.group + "-other")
    second.wait_log("Duplicate email event detected, skipping", count=20)
    assert len(stack.mails()) == 20
