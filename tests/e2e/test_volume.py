"""Thousands of events through Postfix's smtp-sink: everything adds up."""

import json

from lib_process import wait_for
from lib_stack import event

COUNT = 5000


def test_volume(stack, sink):
    """Mixed with duplicates and invalid ones; few connections for many mails."""
    events = [event(to="user%d@example.com" % (i % 97)) for i in range(COUNT)]
    duplicates = events[::10]
    invalid = [event(to="nobody") for _ in range(100)]
    stack.kafka.produce(stack.topic, [
        (e["to"].encode(), json.dumps(e).encode(), None) for e in events + duplicates + invalid])
    service = stack.start(SMTP_PORT=sink.port)
    stack.wait_committed(timeout=90)

    counted = service.stats()["events"]
    assert counted["consumed"] == COUNT + len(duplicates) + len(invalid)
    assert counted["sent"] == COUNT
    assert counted["duplicates"] == len(duplicates)
    assert counted["dead_letters"] == len(invalid)
    assert counted["retries"] == 0
    assert len(stack.dead_letters()) == len(invalid)
    marks = [json.loads(v) for v in stack.redis.client.mget(["email:sent:" + e["messageID"] for e in events])]
    assert {m["state"] for m in marks} == {"sent"}
    states = [json.loads(v)["state"] for v in stack.redis.client.mget(stack.redis.client.keys("email:sent:*"))]
    assert states.count("sent") == COUNT and set(states) <= {"sent", "dead"}
    wait_for(lambda: service.http("/health").json()["idempotency_records"] == COUNT, 10, "the records counted")
    assert service.stats()["smtp"]["sessions_opened"] <= 60, "connections are reused"
    assert service.stats()["window"]["in_flight"] == 0
    assert sum(service.metric("email_consumer_lag", partition=p) for p in range(3)) == 0


def test_window_bounds_what_is_taken(stack):
    """A topic that is far ahead of the relay does not fill the memory."""
    stack.smtp.hold("mail")
    stack.publish(*[event() for _ in range(500)])
    service = stack.start(EMAIL_MAX_IN_FLIGHT=20)
    stack.smtp.wait_held("mail")
    wait_for(lambda: service.stats()["window"]["in_flight"] == 20, 10, "the window being full")
    assert len(service.logs("Email event consumed")) == 20
    stack.smtp.accept()
    stack.wait_mails(500)
    stack.wait_committed()


def test_window_bounds_bytes(stack):
    stack.smtp.hold("mail")
    stack.publish(*[event(text="x" * 50000) for _ in range(30)])
    service = stack.start(EMAIL_MAX_IN_FLIGHT_BYTES=200000, EMAIL_MAX_EVENT_BYTES=100000)
    stack.smtp.wait_held("mail")
    wait_for(lambda: service.stats()["window"]["in_flight"] >= 3, 10, "the window filling")
    assert service.stats()["window"]["in_flight_bytes"] <= 300000
    assert service.stats()["window"]["in_flight"] <= 6
    stack.smtp.accept()
    stack.wait_mails(30)
    stack.wait_committed()
