"""SIGTERM: takes nothing new, finishes what is in flight, commits, leaves the group, exits 0."""

import os
import signal
import time

import pytest

from lib_process import wait_for
from lib_stack import event


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle(stack, number):
    service = stack.start()
    stack.wait_mark(stack.publish_new())
    begin = time.monotonic()
    assert service.terminate(number=number) == 0
    assert time.monotonic() - begin < 5
    assert stack.committed() == stack.kafka.end_offsets(stack.topic), "commits before it leaves"


def test_under_load_in_flight_mails_finish(stack):
    stack.smtp.delay("dot", 0.05)
    service = stack.start(SMTP_MAX_CONNECTIONS=5, EMAIL_MAX_IN_FLIGHT=50)
    events = [event() for _ in range(600)]
    stack.publish(*events)
    service.wait_log("Email sent successfully", count=20)
    assert service.terminate() == 0
    taken = len(stack.mails())
    assert taken < 600
    assert len(service.logs("Email sent successfully")) == taken
    assert len(service.logs("Marked email as processed")) == taken, "marked what was sent"
    assert not [v for v in map(stack.redis.client.get, stack.redis.client.keys("email:sent:*")) if not v.startswith("{")], \
        "no claim is left behind"

    # The next one goes on at once, and nothing is doubled.
    stack.smtp.accept()
    stack.start()
    stack.wait_committed(timeout=60)
    assert len(stack.mails()) == len({m.data for m in stack.mails()}) == 600


def test_waits_for_the_relay(stack):
    """The final dot is out, the relay takes its time: its 250 is waited for, marked and committed."""
    stack.smtp.hold("dot")
    service = stack.start()
    message_id = stack.publish_new()
    stack.smtp.wait_held("dot")
    os.kill(service.process.pid, signal.SIGTERM)
    service.wait_not_ready()
    assert service.process.running
    stack.smtp.accept()
    assert service.wait(15) == 0
    assert stack.mark(message_id)["state"] == "sent"
    assert stack.committed() == stack.kafka.end_offsets(stack.topic)


def test_waits_no_longer_than_it_may(stack):
    stack.smtp.hold("dot")
    service = stack.start(SHUTDOWN_TIMEOUT_SECONDS=1)
    stack.publish_new()
    stack.smtp.wait_held("dot")
    begin = time.monotonic()
    status = service.terminate()
    assert time.monotonic() - begin < 5  # leaving the group may take a little more than was left
    assert status == 0
    stack.smtp.accept()


def test_second_signal_ends_it_at_once(stack):
    stack.smtp.hold("dot")
    service = stack.start(SHUTDOWN_TIMEOUT_SECONDS=30)
    stack.publish_new()
    stack.smtp.wait_held("dot")
    os.kill(service.process.pid, signal.SIGTERM)
    service.wait_not_ready()
    begin = time.monotonic()
    os.kill(service.process.pid, signal.SIGTERM)
    service.wait(10)
    assert time.monotonic() - begin < 5
    stack.smtp.accept()


def test_waiting_retries_are_given_back(stack):
    """An event that waits for its next attempt is not waited for: the next instance takes it on at once."""
    stack.smtp.reject("mail", "451 4.3.0 later")
    service = stack.start(EMAIL_RETRY_BASE_MS=60000, EMAIL_RETRY_MAX_MS=60000)
    message_id = stack.publish_new()
    service.wait_log("Email delivery failed, will retry", messageID=message_id)
    begin = time.monotonic()
    assert service.terminate() == 0
    assert time.monotonic() - begin < 5
    assert sum(stack.committed().values()) == 0
    stack.smtp.accept()
    stack.start()
    stack.wait_mark(message_id)
    stack.wait_committed()


@pytest.mark.parametrize("away", ["redis", "relay"])
def test_with_a_server_away(stack, away):
    service = stack.start(SHUTDOWN_TIMEOUT_SECONDS=3)
    if away == "redis":
        stack.redis.freeze()
    else:
        stack.smtp.stop()
    message_id = stack.publish_new()
    service.wait_log("Email event consumed", messageID=message_id)
    assert service.terminate(timeout=12) == 0
    stack.redis.thaw()
    if away == "relay":
        stack.smtp.start()
    stack.start()
    stack.wait_mark(message_id)


def test_before_it_is_ready(stack):
    service = stack.start(ready=False)
    service.wait_log("HTTP server is listening")
    assert service.terminate(timeout=15) == 0


def test_port_taken(stack):
    first = stack.start()
    second = stack.start(ready=False, EMAIL_SERVICE_PORT=first.port)
    assert second.wait(15) in (1, 2)
    assert str(first.port) in second.stderr + second.tail()
    wait_for(lambda: first.status("/live") == 200, 5, "the first one, unharmed")
