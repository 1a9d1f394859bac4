"""The dead-letter topic refuses, cuts, or has no room: nothing is lost, and nothing stands still behind it."""

import ctypes
import json
import resource

from confluent_kafka.admin import AdminClient, ConfigResource

from lib_process import wait_for
from lib_stack import event


def alter(stack, topic, **config):
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    config = {name.replace("_", "."): value for name, value in config.items()}
    for future in admin.alter_configs([ConfigResource(ConfigResource.Type.TOPIC, topic, set_config=config)]).values():
        future.result(20)


class _Hash(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def xxh128(data):
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_128bits.restype = _Hash
    library.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    value = library.XXH3_128bits(data, len(data))
    return "%016x%016x" % (value.high, value.low)


def test_too_large_is_cut_with_pointer_and_hash(stack):
    """A refused mail that the dead-letter topic finds too large: cut, and its original is found and proven by the header."""
    alter(stack, stack.dlq_topic, max_message_bytes="30000")
    stack.smtp.reject("rcpt", "550 5.1.1 nobody", recipient="nobody@example.com")
    service = stack.start()
    others = [event() for _ in range(10)]
    large = json.dumps(event(to="nobody@example.com", text="line\n" * 100000)).encode()
    stack.publish(others[0], large, *others[1:], key=b"one key", headers=[("x", b"y" * 100)])
    [letter] = stack.wait_dead_letters(1)
    for e in others:
        stack.wait_mark(e["messageID"])
    stack.wait_committed()

    assert letter.reason == "rejected" and letter.dlq["smtp-reply"] == "550 5.1.1 nobody"
    assert large.startswith(letter.value) and 0 < len(letter.value) < 30000
    assert letter.dlq["truncated"] == str(len(large))
    assert letter.dlq["value-xxh128"] == xxh128(large)
    original = [r for r in stack.kafka.read_all(letter.dlq["topic"])
                if (str(r.partition), str(r.offset)) == (letter.dlq["partition"], letter.dlq["offset"])]
    assert [r.value for r in original] == [large]
    assert service.metric("email_dead_letters_total", reason="rejected") == 1


def test_brokers_refuse(stack):
    """A compacted topic takes no record without a key: its dead letter waits uncommitted, the rest is sent."""
    alter(stack, stack.dlq_topic, cleanup_policy="compact")
    service = stack.start()
    bad = event(to="nobody")
    stack.publish(bad, partition=0)
    good = [event() for _ in range(20)]
    stack.publish(*good)
    for e in good:
        stack.wait_mark(e["messageID"])
    refused = service.wait_log("The dead letter topic does not take an email, trying again", messageID=bad["messageID"])
    assert refused["level"] == "error" and refused["error"]
    assert stack.committed()[0] == 0 and service.status("/live") == 200
    alter(stack, stack.dlq_topic, cleanup_policy="delete")
    [letter] = stack.wait_dead_letters(1, timeout=40)
    assert json.loads(letter.value)["messageID"] == bad["messageID"]
    stack.wait_committed(timeout=40)
    assert len(stack.mails()) == 20


def test_topic_deleted_while_running(stack):
    """Dead letters wait until the topic is there again; mails go on."""
    service = stack.start(KAFKA_CONFIG_DELIVERY_TIMEOUT_MS=1500, KAFKA_CONFIG_TOPIC_METADATA_REFRESH_INTERVAL_MS=300)
    stack.publish(event(to="nobody"))
    stack.wait_dead_letters(1)
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    for future in admin.delete_topics([stack.dlq_topic], operation_timeout=15).values():
        future.result(20)
    wait_for(lambda: stack.dlq_topic not in stack.kafka.topics(), 20, "the topic's end")
    bad, good = event(to="nobody"), event()
    stack.publish(bad, good)
    stack.wait_mark(good["messageID"])
    service.wait_log("The dead letter topic does not take an email, trying again", messageID=bad["messageID"], timeout=40)
    stack.kafka.create_topic(stack.dlq_topic, 1)
    letters = stack.wait_dead_letters(1, timeout=40)
    assert {json.loads(letter.value)["messageID"] for letter in letters} == {bad["messageID"]}
    stack.wait_committed(timeout=40)


def test_brokers_disk_full(own_kafka, own_kafka_stack):
    """A broker that cannot write ends itself. With room again and restarted, everything goes on; nothing is lost."""
    stack = own_kafka_stack
    service = stack.start()
    stack.wait_mark(stack.publish_new())
    # As good as a full disk: none of its files may grow any more. The JVM ignores the signal and gets the error.
    pid = own_kafka.process.pid
    stack.smtp.delay("dot", 0.02)
    good = [event() for _ in range(100)]
    bad = [event(to="nobody") for _ in range(20)]
    stack.publish(*good)
    service.wait_log("Email sent successfully", count=20)
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    wait_for(lambda: not own_kafka.process.running, 40, "the broker's end")
    service.wait_not_ready(timeout=40)
    assert service.status("/live") == 200
    own_kafka.start()
    service.wait_ready(timeout=60)
    stack.publish(*bad)
    stack.wait_committed(timeout=60)
    for e in good:
        stack.wait_mark(e["messageID"])
    assert len(stack.mails()) == len({m.data for m in stack.mails()}) == 101
    assert {json.loads(x.value)["messageID"] for x in stack.wait_dead_letters(20)} == {e["messageID"] for e in bad}
