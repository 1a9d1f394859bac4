"""Kafka: offsets that jump, topics that vanish, brokers that refuse, members that are thrown out."""

import json
import shutil
import socket
import struct
import subprocess

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from lib_process import holds_for, wait_for
from lib_stack import event


def delete_records(stack, partition, before):
    """DeleteRecords, version 1, by hand: Debian 12's Python client has no call for it."""
    def text(value):
        return struct.pack("!h", len(value)) + value.encode()

    body = (struct.pack("!hhi", 21, 1, 7) + text("tests") + struct.pack("!i", 1) + text(stack.topic)
            + struct.pack("!iiqi", 1, partition, before, 10000))
    host, port = stack.kafka.bootstrap.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        connection.sendall(struct.pack("!i", len(body)) + body)
        answer = connection.makefile("rb")
        size, = struct.unpack("!i", answer.read(4))
        low_watermark, error = struct.unpack("!qh", answer.read(size)[-10:])
    assert (low_watermark, error) == (before, 0)


def commit_as_group(stack, offsets):
    """Sets the group's offsets while it has no member."""
    consumer = Consumer({"bootstrap.servers": stack.kafka.bootstrap, "group.id": stack.group,
                         "enable.auto.commit": False})
    try:
        done = consumer.commit(offsets=[TopicPartition(stack.topic, p, o) for p, o in offsets.items()],
                               asynchronous=False)
        assert all(t.error is None for t in done), done
    finally:
        consumer.close()


def each_once(stack, events):
    for e in events:
        stack.wait_mark(e["messageID"], timeout=40)
    mails = stack.mails()
    assert len(mails) == len({m.data for m in mails}) == len(events)
    assert not stack.dead_letters()


# ---- offsets ----


def test_offsets_reset_to_the_beginning(stack):
    """A long topic is read again from its start: every event is a duplicate, no mail goes out twice."""
    events = [event() for _ in range(2000)]
    stack.publish(*events)
    first = stack.start()
    stack.wait_committed(timeout=60)
    assert first.terminate() == 0
    assert len(stack.mails()) == 2000

    commit_as_group(stack, {0: 0, 1: 0, 2: 0})
    again = stack.start()
    again.wait_log("Duplicate email event detected, skipping", count=2000, timeout=60)
    stack.wait_committed(timeout=60)
    counted = again.stats()["events"]
    assert (counted["consumed"], counted["duplicates"], counted["sent"]) == (2000, 2000, 0)
    assert len(stack.mails()) == 2000
    assert not stack.dead_letters()


def test_offsets_beyond_the_end(stack):
    """Committed offsets that the topic does not have (any more): from the start, duplicates are skipped, new ones sent."""
    events = [event() for _ in range(30)]
    stack.publish(*events)
    first = stack.start()
    stack.wait_committed()
    assert first.terminate() == 0
    commit_as_group(stack, {p: end + 1000 for p, end in stack.kafka.end_offsets(stack.topic).items()})
    late = [event() for _ in range(30)]
    stack.publish(*late)
    again = stack.start()
    again.wait_log("Duplicate email event detected, skipping", count=30, timeout=40)
    each_once(stack, events + late)
    stack.wait_committed()


def test_records_deleted_under_us(stack):
    """Retention takes records that nobody had read yet: the rest is delivered, and said so by the lag alone."""
    stack.publish(*[event() for _ in range(30)], partition=0)
    delete_records(stack, partition=0, before=20)
    service = stack.start()
    stack.wait_committed()
    assert len(stack.mails()) == 10
    wait_for(lambda: service.metric("email_consumer_lag", partition=0) == 0, 10, "no lag")


def test_topic_deleted_and_created_again(stack):
    """Its offsets begin at 0 again: what is in the new one is delivered, and none of the old one twice."""
    service = stack.start(KAFKA_CONFIG_TOPIC_METADATA_REFRESH_INTERVAL_MS=300)
    # More on each partition than the new one will hold, so that no old position exists in it.
    old = [event() for _ in range(27)]
    for partition in range(3):
        stack.publish(*old[partition * 9:partition * 9 + 9], partition=partition)
    each_once(stack, old)
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    for future in admin.delete_topics([stack.topic], operation_timeout=15).values():
        future.result(20)
    wait_for(lambda: stack.topic not in stack.kafka.topics(), 20, "the topic's end")
    wait_for(lambda: "topic" in service.http("/ready").body or service.logs("Kafka consumer is in trouble"), 20,
             "the loss being seen")
    assert service.status("/live") == 200
    stack.kafka.create_topic(stack.topic, 3)
    new = [event() for _ in range(20)]
    for partition in range(3):
        stack.publish(*new[partition * 7:partition * 7 + 7], partition=partition)
    each_once(stack, old + new)
    service.wait_ready(timeout=40)
    stack.wait_committed(timeout=40)


def test_aborted_transactions(stack):
    """Events of a transaction that was aborted are never sent, those of a committed one are; the gaps block nothing."""
    producer = Producer({"bootstrap.servers": stack.kafka.bootstrap, "transactional.id": stack.group})
    producer.init_transactions(20)
    good = [event() for _ in range(10)]
    for n, e in enumerate(good):
        for value, commit in ((event(), False), (e, True)):
            producer.begin_transaction()
            producer.produce(stack.topic, json.dumps(value).encode(), partition=n % 3)
            assert producer.flush(20) == 0
            (producer.commit_transaction if commit else producer.abort_transaction)(20)
    service = stack.start()
    each_once(stack, good)
    last = event()
    stack.publish(last, partition=0)
    each_once(stack, good + [last])
    wait_for(lambda: service.metric("email_in_flight") == 0, 10, "all done")
    # The records that end a transaction are never handed out: the lag may stand at one a partition, but does not grow.
    assert service.metric("email_consumer_lag") <= 3


# ---- records ----


def test_compressed_records(stack):
    """Every codec that Kafka has."""
    stack.start()
    events = []
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        batch = [event(text="%s-%d-end %s" % (codec, n, "again and " * 200)) for n in range(20)]
        producer = Producer({"bootstrap.servers": stack.kafka.bootstrap, "compression.type": codec, "linger.ms": 50})
        for e in batch:
            producer.produce(stack.topic, json.dumps(e).encode())
        assert producer.flush(20) == 0
        events += batch
    each_once(stack, events)
    stack.wait_committed()


def test_odd_record_headers(stack):
    """Hundreds of them, empty, binary, null, twice, and forged dead-letter headers: no harm, and kept where they are true."""
    headers = [("n-%d" % n, b"v") for n in range(500)] + [
        ("empty", b""), ("null", None), ("binary", bytes(range(256))), ("twice", b"1"), ("twice", b"2"),
        ("long", b"x" * 50000), ("dlq-reason", b"rejected"), ("dlq-offset", b"-1"), ("dlq-attempts", b"9"),
        ("dlq-redriven", b"lots")]
    stack.start()
    message_id = stack.publish(event(), headers=headers)
    stack.wait_mark(message_id)
    stack.publish(event(to="nobody"), headers=headers)
    [letter] = stack.wait_dead_letters(1)
    kept = [h for h in letter.headers if not h[0].startswith("dlq-")]
    assert kept == [h for h in headers if not h[0].startswith("dlq-")]
    assert letter.reason == "invalid_event" and letter.dlq["attempts"] == "0" and int(letter.dlq["offset"]) >= 0
    assert len([h for h in letter.headers if h[0] == "dlq-reason"]) == 1, "a forged reason would mislead"
    stack.wait_committed()


def test_poison_pill_again_and_again(stack):
    """The same bad record a thousand times: a dead letter each, nothing stops, what lies between is delivered."""
    service = stack.start()
    good = [event() for _ in range(20)]
    values = []
    for e in good:
        values += [b'{"messageID":"poison","to":"nobody"}'] * 50 + [e]
    stack.publish(*values, key=b"poison")
    each = stack.wait_dead_letters(1000, timeout=60)
    assert {letter.reason for letter in each} == {"invalid_event"} and len(each) == 1000
    assert len({(letter.dlq["partition"], letter.dlq["offset"]) for letter in each}) == 1000
    stack.wait_committed()
    assert len(stack.mails()) == 20
    assert service.status("/ready") == 200


# ---- the group ----


def test_fenced_instance(stack):
    """Two instances with one group.instance.id: the first is fenced and ends with exit status 1; the second delivers."""
    stack.smtp.hold("data", times=1)
    first = stack.start(KAFKA_CONFIG_GROUP_INSTANCE_ID="static")
    message_id = stack.publish_new()
    stack.smtp.wait_held("data")
    second = stack.start(ready=False, KAFKA_CONFIG_GROUP_INSTANCE_ID="static")
    assert first.wait(40) == 1
    first.wait_log("Fatal error, exiting")
    stack.smtp.accept()
    second.wait_ready()
    events = [event() for _ in range(20)]
    stack.publish(*events)
    for e in events + [{"messageID": message_id}]:
        stack.wait_mark(e["messageID"])
        assert len(stack.mails(e["messageID"])) == 1
    stack.wait_committed()


def test_loop_held_up_beyond_max_poll(stack):
    """The loop's thread alone stands still until the group goes on without it: it joins again, nothing is lost or doubled."""
    strace = shutil.which("strace")
    assert strace, "strace is missing: scripts/install-packages.sh test"
    service = stack.start(KAFKA_CONFIG_MAX_POLL_INTERVAL_MS=2000)
    stack.smtp.hold("data", times=1)
    message_id = stack.publish_new()
    stack.smtp.wait_held("data")
    # Without -f only this thread is held: librdkafka's own go on, and so does its heartbeat.
    tracer = subprocess.Popen([strace, "-qq", "-o", "/dev/null", "-p", str(service.process.pid), "-e", "trace=epoll_wait",
                               "-e", "inject=epoll_wait:delay_enter=4000000:when=1"], stderr=subprocess.PIPE, text=True)
    try:
        lost = service.wait_log("Kafka partitions lost", timeout=30)
        assert lost["count"] == 3
    finally:
        tracer.terminate()
        errors = tracer.communicate()[1]
    assert "Operation not permitted" not in errors, errors
    stack.smtp.accept()
    service.wait_ready(timeout=40)
    events = [event() for _ in range(20)]
    stack.publish(*events)
    each_once(stack, events + [{"messageID": message_id}])
    stack.wait_committed()


@pytest.mark.parametrize("stage", ["data", "dot"])
def test_partition_taken_away_while_sending(stack, stage):
    """Before the dot the attempt is given up, after it its outcome is waited for and marked; the mail goes out once."""
    stack.smtp.hold(stage)
    first = stack.start()
    ids = [stack.publish(event(), partition=p) for p in range(3)]
    stack.smtp.wait_held(stage, 3)
    second = stack.start(ready=False)
    first.wait_log("Partition is taken away", count=3, timeout=40)
    if stage == "dot":
        holds_for(lambda: not first.logs("Kafka partitions revoked"), 0.5, "waiting for the dots' replies")
    stack.smtp.accept()
    second.wait_log("Kafka partitions assigned")
    each_once(stack, [{"messageID": i} for i in ids])
    stack.wait_committed()
    sent = len(first.logs("Email sent successfully")) + len(second.logs("Email sent successfully"))
    assert sent == 3
    if stage == "dot":
        assert len(first.logs("Marked email as processed")) == 3
