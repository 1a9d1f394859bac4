"""The log's end: closed, not read, on a full disk. Delivery goes on, and what the log loses is counted."""

import fcntl
import json
import os

import pytest

from lib_process import LineReader, holds_for, wait_for
from lib_service import EmailService
from lib_stack import event

F_SETPIPE_SZ = 1031
DROPPED = "Log lines were dropped, because stdout did not take them"


def start(stack, stdout, **env):
    """A daemon that logs to this descriptor; ours is closed."""
    merged = dict(stack.env, **{name: str(value) for name, value in env.items()})
    service = EmailService(stack.folder / ("service-%d" % len(stack.services)), merged, stdout=stdout)
    os.close(stdout)
    stack.services.append(service)
    return service.wait_ready()


def all_are_sent(stack, service, events):
    stack.publish(*events)
    stack.wait_mails(len(events), timeout=60)
    stack.wait_committed(timeout=60)
    assert len(stack.mails()) == len({m.data for m in stack.mails()}) == len(events)
    assert not stack.dead_letters()
    assert service.status("/live") == service.status("/ready") == 200


def chatty(count):
    """Events that fill the log quickly, at level debug."""
    events = [event() for _ in range(count)]
    for i, e in enumerate(events):
        e["messageID"] = ("long-%d-" % i).ljust(200, "x")
        e["text"] = "n-%06d-end\n" % i
    return events


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    if ends[0] is not None:
        os.close(ends[0])


def test_pipe_closed(stack, pipe):
    """The log's reader is gone (EPIPE, no SIGPIPE): mails go out, every line is counted as dropped, the stop is in order."""
    reader, writer = pipe
    service = start(stack, writer)
    os.close(reader)
    pipe[0] = None
    all_are_sent(stack, service, [event() for _ in range(50)])
    # Three lines an event: consumed, sent, marked. The first of them may have been written before the loss was seen.
    wait_for(lambda: service.metric("email_log_dropped_lines_total") >= 145, 10, "the drops counted")
    assert service.terminate() == 0


def test_pipe_blocked(stack, pipe):
    """A reader that hangs: mails go out, 4 MB of lines wait, those beyond are dropped, counted and told of."""
    reader, writer = pipe
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    service = start(stack, writer, LOG_LEVEL="debug")
    begin = service.metric("process_resident_memory_bytes")
    sent = 0
    while not service.metric("email_log_dropped_lines_total"):
        assert sent < 8000, "nothing is dropped"
        events = chatty(sent + 500)[sent:]
        stack.publish(*events)
        sent += len(events)
        stack.wait_mails(sent, timeout=60)
    assert sent >= 500 and service.metric("process_resident_memory_bytes") - begin < 200e6
    stack.wait_committed(timeout=60)
    assert service.status("/ready") == 200

    # Read again: whole lines, in order, and one that says how many are missing.
    fcntl.fcntl(reader, F_SETPIPE_SZ, 1 << 20)
    lines = LineReader(os.fdopen(reader, "rb"))
    pipe[0] = None

    def told():
        nonlocal sent
        stack.publish(event())
        sent += 1
        return any(DROPPED in line for line in list(lines.lines))

    wait_for(told, 30, "the drops told", interval=0.3)
    stack.wait_mails(sent)
    assert service.terminate() == 0
    lines.join()
    parsed = [json.loads(line) for line in lines.lines]
    reports = [p for p in parsed if p["msg"] == DROPPED]
    assert reports[0]["level"] == "warn" and reports[0]["droppedTotal"] == reports[0]["dropped"] > 0
    assert parsed[-1]["msg"] == "Email service has stopped"
    assert len({m.data for m in stack.mails()}) == len(stack.mails()) == sent


def test_disk_full(stack):
    """stdout on a full disk (ENOSPC): mails go out."""
    service = start(stack, os.open("/dev/full", os.O_WRONLY))
    all_are_sent(stack, service, [event() for _ in range(50)])
    assert service.terminate() == 0


@pytest.mark.parametrize("log", ["disk full", "pipe closed"])
def test_log_mode(stack, pipe, log):
    """There the log is the delivery: what it does not take is not sent, not committed, and written by the next instance."""
    reader, writer = pipe
    full = log == "disk full"
    service = start(stack, os.open("/dev/full", os.O_WRONLY) if full else writer, EMAIL_MODE="log",
                    SHUTDOWN_TIMEOUT_SECONDS=2, EMAIL_MAX_ATTEMPTS=2)
    os.close(reader)
    if full:
        os.close(writer)
    pipe[0] = None
    events = [event() for _ in range(20)]
    stack.publish(*events)
    wait_for(lambda: service.stats()["window"]["in_flight"] == 20, 10, "the events taken")
    if not full:  # a full disk may have room again, a closed pipe is tried anew
        wait_for(lambda: service.metric("email_retries_total", reason="internal") > 60, 10, "attempts")
    holds_for(lambda: service.stats()["events"]["sent"] == 0, 0.5, "nothing sent", interval=0.1)
    assert service.terminate(timeout=15) == 0
    assert not sum(stack.committed().values()) and not stack.dead_letters()

    again = stack.start(EMAIL_MODE="log")
    again.wait_log("Email sent successfully", count=20, timeout=40)
    stack.wait_committed()
    assert {e["messageID"] for e in again.logs("Email")} == {e["messageID"] for e in events}
