"""Too much of everything: one key, one identity, connections, file descriptors, signals."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from lib_process import LineReader, Process, wait_for
from lib_stack import event, new_id

MANY = 10_000


def test_one_key_and_one_identity_ten_thousand_times(stack):
    """10 000 events with one record key: each sent, in order. One messageID 10 000 times: one mail."""
    subjects = ["number %d" % n for n in range(MANY)]
    stack.publish(*[event(subject=s) for s in subjects], key=b"one key", partition=0)
    again = event(subject="again")
    stack.publish(*[again] * MANY, partition=1)
    service = stack.start(EMAIL_MODE="log", LOG_LEVEL="error")

    def settled():
        counted = service.stats()["events"]
        return counted["sent"] + counted["duplicates"] == 2 * MANY

    wait_for(settled, 90, lambda: "all to be settled: %s" % service.stats()["events"], interval=0.2)
    stack.wait_committed(timeout=60)
    counted = service.stats()["events"]
    assert (counted["sent"], counted["duplicates"], counted["dead_letters"]) == (MANY + 1, MANY - 1, 0)
    mails = [line["subject"] for line in service.logs("Email")]
    assert mails.count("again") == 1
    mails.remove("again")
    assert mails == subjects
    assert service.metric("email_in_flight") == 0


def rate(stack, service, count):
    """Publishes and waits until all are sent; mails a second. Looks at the log: HTTP may be under attack."""
    begin, before = time.monotonic(), len(service.logs("Email sent successfully"))
    stack.publish(*[event() for _ in range(count)])
    wait_for(lambda: len(service.logs("Email sent successfully")) - before == count, 60, "the mails")
    return count / (time.monotonic() - begin)


def test_ten_thousand_connections(stack, sink, capsys):
    """Slow-loris, unread answers and silence on 10 000 connections at once: mails go out, probes are answered."""
    service = stack.start(SMTP_PORT=sink.port)
    rate(stack, service, 200)
    quiet = rate(stack, service, 1000)
    attack = Path(__file__).with_name("http_attack.py")
    attacker = Process([sys.executable, str(attack), str(service.port), str(MANY)], stdout=subprocess.PIPE)
    said = LineReader(attacker.popen.stdout)
    try:
        wait_for(lambda: said.lines or not attacker.running, 60, "10 000 connections", interval=0.05)
        assert said.lines == ["%d begun" % MANY], "the attacker ended"
        attacked = rate(stack, service, 1000)
        for path in ("/live", "/ready", "/health", "/metrics"):
            wait_for(lambda: service.status(path) == 200, 60, "an answer of %s beside 10 000 others" % path)
        assert service.metric("process_open_fds") < 700
        assert attacker.running
    finally:
        attacker.kill()
        said.join()
    with capsys.disabled():
        print("\nmails/s: %.0f alone, %.0f beside 10 000 connections" % (quiet, attacked))
    # The machine has other things to do, the attacker among them: a delivery that stands still is what fails here.
    assert attacked > quiet / 20
    stack.wait_committed()
    assert service.metric("email_sent_total") == 2200 and not stack.dead_letters()


def test_out_of_file_descriptors(stack):
    """No more files may be opened: connections to the relay and of HTTP clients fail, and come back; nothing is lost."""
    stack.smtp.delay("dot", 0.05)
    service = stack.start(SMTP_MAX_CONNECTIONS=20, EMAIL_MAX_ATTEMPTS=3, SMTP_OUTAGE_POLICY="hold")
    pid = service.process.pid
    in_use = len(os.listdir("/proc/%d/fd" % pid))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (in_use, hard))
    events = [event(text="n-%d-end" % n) for n in range(300)]
    stack.publish(*events)
    service.wait_log("Email event consumed")
    assert service.status("/live") == 0, "nothing can be accepted"
    service.wait_log("HTTP connections cannot be accepted for the moment")
    service.wait_log("Email delivery failed, will retry")
    assert service.process.running
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    service.wait_ready(timeout=60)
    stack.wait_committed(timeout=60)
    assert len(stack.mails()) == len({m.data for m in stack.mails()}) == 300
    assert not stack.dead_letters()


@pytest.mark.parametrize("series", range(4))
def test_sigterm_a_hundred_times_under_load(stack, series):
    """Four series of 25: stopped at any moment while mails go out; each exits with 0, no event is lost, no mail doubled."""
    stack.smtp.delay("dot", 0.005)
    env = {"KAFKA_CONFIG_HEARTBEAT_INTERVAL_MS": "100"}
    published = []
    for round_ in range(25):
        batch = [event(text="n-%d-%d-end" % (round_, n), subject="s") for n in range(40)]
        published += batch
        stack.publish(*batch)
        service = stack.start(ready=False, **env)
        # From before it has joined the group to amid the last mails.
        moment = (round_ * 4 + series) % 10
        service.wait_log("Email sent successfully" if moment else "Email service is starting",
                         count=moment * 4 or 1, timeout=40)
        assert service.terminate(number=signal.SIGTERM, timeout=20) == 0
        taken = len(service.logs("Email sent successfully"))
        assert taken == len(service.logs("Marked email as processed"))
        service.finish()
    stack.start(**env)
    stack.wait_committed(timeout=60)
    counts = Counter(m.data for m in stack.mails())
    assert len(counts) == len(published), "lost"
    assert set(counts.values()) == {1}, "doubled"
    marks = stack.redis.client.mget(["email:sent:" + e["messageID"] for e in published])
    assert {json.loads(m)["state"] for m in marks} == {"sent"}
    assert not stack.dead_letters()


def test_one_identity_from_all_sides(stack):
    """The same event on every partition, for three instances at once: one of them sends it."""
    message_id = new_id()
    services = [stack.start() for _ in range(3)]
    for partition in range(3):
        stack.publish(*[event(messageID=message_id)] * 200, partition=partition)
    stack.wait_committed(timeout=60)
    assert len(stack.mails()) == 1 and not stack.dead_letters()
    assert sum(s.stats()["events"]["duplicates"] for s in services) >= 599
