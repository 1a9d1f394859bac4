"""email-service --dev: everything in one process, used with ordinary Kafka clients."""

import json
import subprocess

import pytest

from lib_kafka import KafkaClient
from lib_process import wait_for
from lib_service import EmailService
from lib_stack import event


@pytest.fixture
def dev(folder):
    service = EmailService(folder / "dev", {}, "--dev")
    service.bootstrap = service.wait_log("In-process Kafka is ready")["bootstrap"]
    service.wait_ready()
    yield service
    service.finish()


def test_end_to_end_with_kcat(dev):
    one, bad = event(), b'{"messageID":"bad-1","to":"nobody"}'
    lines = b"\n".join([json.dumps(one).encode()] * 2 + [bad]) + b"\n"
    subprocess.run(["kcat", "-P", "-b", dev.bootstrap, "-t", "email-events"], input=lines, check=True,
                   timeout=30)
    dev.wait_log("Email sent successfully", messageID=one["messageID"])
    dev.wait_log("Marked email as processed", messageID=one["messageID"])
    dev.wait_log("Duplicate email event detected, skipping", messageID=one["messageID"])
    dev.wait_log("Email moved to dead letter queue", messageID="bad-1")
    [letter] = KafkaClient(dev.bootstrap).read_all("email-events-dlq")
    assert letter.value == bad
    assert dict(letter.headers)["dlq-reason"] == b"invalid_event"
    events = dev.stats()["events"]
    assert (events["sent"], events["duplicates"], events["dead_letters"]) == (1, 1, 1)
    assert dev.stats()["dev"] is True


def test_with_another_client(dev):
    kafka = KafkaClient(dev.bootstrap)
    assert {"email-events", "email-events-dlq"} <= set(kafka.topics())
    events = [event() for _ in range(200)]
    kafka.produce("email-events", [(e["messageID"].encode(), json.dumps(e).encode(), None) for e in events])
    dev.wait_log("Marked email as processed", count=200)
    wait_for(lambda: dev.http("/health").json()["idempotency_records"] == 200, 10, "200 records")
    assert dev.http("/health").json()["status"] == "healthy"
    kafka.wait_committed("email-service-group", "email-events")


def test_needs_nothing_and_stops_in_order(folder):
    service = EmailService(folder / "dev", {}, "--dev")
    service.wait_log("HTTP server is listening", port=service.port)
    service.wait_ready()
    assert service.terminate(timeout=15) == 0
    service.finish()


def test_stops_while_starting(folder):
    """SIGTERM before the first assignment, which takes the mock cluster three seconds."""
    service = EmailService(folder / "dev", {}, "--dev")
    service.wait_log("In-process Kafka is ready")
    assert service.terminate(timeout=20) == 0
    service.finish()
