"""emailctl dlq: list, show, redrive, purge."""

import json
import os
import pty
import signal
import subprocess
import time

import pytest

from lib_emailctl import bury, good, listed, run_ctl
from lib_process import holds_for, wait_for
from lib_service import SANITIZERS, program
from lib_stack import event, parse

DAY = {n: "2026-11-%02dT08:00:00Z" % n for n in range(1, 29)}


def redriven(stack):
    return stack.kafka.read_all(stack.topic)


def ids(records):
    return [json.loads(r.value)["messageID"] for r in records]


def header(record, name):
    values = [value.decode() for key, value in record.headers if key == name]
    assert len(values) <= 1
    return values[0] if values else None


# ---- list and show ----

def test_list(stack):
    assert "No dead letters" in good(run_ctl(stack, "dlq", "list"))
    bury(stack, messageID="m-2", type="welcome", failed_at=DAY[2], headers={"dlq-attempts": "5"},
         reason="retries_exhausted")
    bury(stack, b"{broken", reason="invalid_event", failed_at=DAY[1],
         headers={"dlq-error": "evil \x1b[2J\r\ntext é"})
    lines = good(run_ctl(stack, "dlq", "list")).splitlines()
    assert lines[0].split() == ["TIME", "POSITION", "REASON", "ATTEMPTS", "STATE", "TYPE", "MESSAGE-ID", "ERROR"]
    assert lines[1].split()[:7] == ["2026-11-01T08:00:00.000Z", "0:1", "invalid_event", "1", "waiting", "-", "-"]
    assert lines[1].endswith("evil ?[2J??text é")
    assert lines[2].split()[1:7] == ["0:0", "retries_exhausted", "5", "waiting", "welcome", "m-2"]
    columns = [lines[0].index(name) for name in ("POSITION", "REASON", "ATTEMPTS", "TYPE", "ERROR")]
    assert all(line[column - 1] == " " and line[column] != " " for line in lines for column in columns)


def test_list_json_and_filters(stack):
    for n, reason in ((1, "rejected"), (2, "expired"), (3, "rejected"), (4, "ambiguous")):
        bury(stack, messageID="m-%d" % n, type="t%d" % (n % 2), reason=reason, failed_at=DAY[n])
    found = listed(stack)
    assert [f["messageID"] for f in found] == ["m-1", "m-2", "m-3", "m-4"]
    assert found[0] == {"time": "2026-11-01T08:00:00.000Z", "partition": 0, "offset": 0, "reason": "rejected",
                        "attempts": 1, "type": "t1", "messageID": "m-1", "error": "550 no", "smtpReply": None,
                        "recipients": None, "redrives": 0, "redriven": False}

    def matching(*flags):
        return [f["messageID"] for f in listed(stack, *flags)]
    assert matching("--reason", "rejected") == ["m-1", "m-3"]
    assert matching("--reason", "rejected", "--reason", "expired") == ["m-1", "m-2", "m-3"]
    assert matching("--since", DAY[2]) == ["m-2", "m-3", "m-4"]
    assert matching("--since", DAY[2], "--until", DAY[4]) == ["m-2", "m-3"]
    assert matching("--type", "t0") == ["m-2", "m-4"]
    assert matching("--message-id", "m-3") == ["m-3"]
    assert matching("--limit", "2") == ["m-1", "m-2"]
    assert matching("--reason", "none") == []


def test_durations(stack):
    now = time.time()
    for hours in (1, 5):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - hours * 3600))
        bury(stack, messageID="m-%d" % hours, failed_at=stamp)
    assert [f["messageID"] for f in listed(stack, "--since", "2h")] == ["m-1"]
    assert [f["messageID"] for f in listed(stack, "--until", "2h")] == ["m-5"]


def test_show(stack):
    bury(stack, messageID="m-1", subject="Größe")
    bury(stack, b"\xff\x00", reason="invalid_event", key=None)
    for args in (("0:0",), ("--message-id", "m-1")):
        out = good(run_ctl(stack, "dlq", "show", *args))
        assert "dlq-reason: rejected" in out and "origin: a test" in out and '  "subject": "Größe"' in out
    [shown] = [json.loads(good(run_ctl(stack, "dlq", "show", "0:0", "--json")))]
    assert shown["event"]["messageID"] == "m-1" and shown["key"] == "key"
    assert {"name": "origin", "value": "a test"} in shown["headers"]
    assert "??" in good(run_ctl(stack, "dlq", "show", "0:1"))
    for wrong in (("0:2",), ("7:0",), ("--message-id", "m-9")):
        done = run_ctl(stack, "dlq", "show", *wrong)
        assert done.returncode == 1 and "no" in done.stderr


def test_topic_missing(bare_stack):
    done = run_ctl(bare_stack, "dlq", "list")
    assert done.returncode == 1 and bare_stack.dlq_topic in done.stderr


# ---- redrive ----

def test_redrive_keeps_key_headers_and_bytes(stack):
    raw = b'{ "messageID" : "m-1","to":"a@example.com" ,"subject":"\\u0041","text":"x"}'
    bury(stack, raw, headers={"dlq-redriven": "1"})
    out = good(run_ctl(stack, "dlq", "redrive", "--dry-run"))
    assert "0:0 m-1" in out and "Would redrive 1" in out and not redriven(stack)
    good(run_ctl(stack, "dlq", "redrive"))
    [record] = redriven(stack)
    assert (record.key, record.value) == (b"key", raw)
    assert sorted(record.headers) == [("dlq-redriven", b"2"), ("origin", b"a test")]


def test_redrive_is_sent(stack):
    stack.smtp.reject("rcpt", "550 no", times=1)
    stack.start()
    message_id = stack.publish_new()
    stack.wait_dead_letters(1)
    good(run_ctl(stack, "dlq", "redrive"))
    [mail] = stack.wait_mails(1)
    assert message_id.encode() in mail.data
    stack.wait_mark(message_id)


def test_redrive_twice_is_once(stack):
    for n in range(3):
        bury(stack, messageID="m-%d" % n, type="t%d" % n)
    good(run_ctl(stack, "dlq", "redrive", "--type", "t1"))
    assert ids(redriven(stack)) == ["m-1"]
    assert [f["redriven"] for f in listed(stack)] == [False, True, False]
    assert "2 dead letters" in good(run_ctl(stack, "dlq", "redrive"))
    assert "Redrove 0" in good(run_ctl(stack, "dlq", "redrive"))
    assert sorted(ids(redriven(stack))) == ["m-0", "m-1", "m-2"]
    bury(stack, messageID="m-3")
    good(run_ctl(stack, "dlq", "redrive"))
    assert sorted(ids(redriven(stack))) == ["m-0", "m-1", "m-2", "m-3"]
    good(run_ctl(stack, "dlq", "redrive", "--again", "--message-id", "m-2"))
    assert sorted(ids(redriven(stack))) == ["m-0", "m-1", "m-2", "m-2", "m-3"]


def test_redrive_limit_and_position(stack):
    for n in range(4):
        bury(stack, messageID="m-%d" % n)
    good(run_ctl(stack, "dlq", "redrive", "0:2"))
    good(run_ctl(stack, "dlq", "redrive", "--limit", "2"))
    assert sorted(ids(redriven(stack))) == ["m-0", "m-1", "m-2"]


def test_redrive_skips_what_would_fail_again(stack):
    bury(stack, b"{", reason="invalid_event")
    bury(stack, messageID="m-1", expiresAt="2020-01-01T00:00:00Z", reason="expired")
    bury(stack, messageID="m-2", headers={"dlq-redriven": "3"})
    bury(stack, messageID="m-3", headers={"dlq-redriven": "2"})
    bury(stack, event(messageID="m-4", text="x" * 5000), reason="too_large", headers={"dlq-truncated": "99999"})
    done = run_ctl(stack, "dlq", "redrive")
    assert good(done).endswith("Redrove 1 dead letters to %s, 4 skipped\n" % stack.topic)
    for why in ("invalid", "expired", "--max-redrives 3", "cut"):
        assert why in done.stderr
    assert ids(redriven(stack)) == ["m-3"]
    good(run_ctl(stack, "dlq", "redrive", "--max-redrives", "4"))
    assert sorted(ids(redriven(stack))) == ["m-2", "m-3"]
    assert "1 skipped" in good(run_ctl(stack, "dlq", "redrive", "--force"))  # what is cut stays
    records = redriven(stack)
    assert len(records) == 4 and b"{" in [r.value for r in records]
    assert "4" in [header(r, "dlq-redriven") for r in records]


def test_a_mail_that_fails_again_and_again_is_given_up(stack):
    stack.smtp.reject("rcpt", "550 no")
    stack.start()
    stack.publish_new()
    for n in range(1, 4):
        stack.wait_dead_letters(n)
        good(run_ctl(stack, "dlq", "redrive"))
    letters = stack.wait_dead_letters(4)
    assert [letter.dlq.get("redriven") for letter in letters] == [None, "1", "2", "3"]
    assert "Redrove 0 dead letters to %s, 1 skipped, 3 redriven before" % stack.topic in good(
        run_ctl(stack, "dlq", "redrive"))


def test_redrive_to_the_refused_recipients_alone(stack):
    stack.smtp.reject("rcpt", "550 no", times=1, recipient="bad@example.com")
    stack.smtp.reject("rcpt", "550 no", times=1, recipient="cc@example.com")
    stack.start()
    message_id = stack.publish_new(to=["Good <good@example.com>", {"email": "bad@Example.com", "name": "Bad"}],
                                   cc="cc@example.com", bcc=["bcc@example.com"])
    [letter] = stack.wait_dead_letters(1)
    assert sorted(json.loads(letter.dlq["recipients"])) == ["bad@example.com", "cc@example.com"]
    assert stack.wait_mails(1)[0].recipients == ["good@example.com", "bcc@example.com"]
    out = good(run_ctl(stack, "dlq", "redrive"))
    assert message_id + "-r1" in out
    mail = stack.wait_mails(2)[1]
    assert mail.recipients == ["bad@example.com", "cc@example.com"]
    assert parse(mail)["To"] == "Bad <bad@example.com>"
    stack.wait_mark(message_id + "-r1")
    # The same once more is the same mail.
    good(run_ctl(stack, "dlq", "redrive", "--again"))
    stack.wait_committed()
    holds_for(lambda: len(stack.mails()) == 2, 0.5)


def test_refused_bcc_recipients_do_not_see_each_other(stack):
    bury(stack, messageID="m-1", bcc=["b1@example.com", "b2@example.com", "b3@example.com"],
         headers={"dlq-recipients": '["b1@example.com", "b3@example.com"]'})
    good(run_ctl(stack, "dlq", "redrive"))
    values = [json.loads(r.value) for r in redriven(stack)]
    assert sorted((v["messageID"], v["to"], v.get("bcc")) for v in values) == [
        ("m-1-r1.1", ["b1@example.com"], None), ("m-1-r1.2", ["b3@example.com"], None)]


def test_redrive_rate(stack):
    for n in range(6):
        bury(stack, messageID="m-%d" % n)
    begin = time.monotonic()
    good(run_ctl(stack, "dlq", "redrive", "--rate", "5"))
    assert time.monotonic() - begin >= 1.0
    assert len(redriven(stack)) == 6


def test_dry_run_does_not_wait_for_the_rate(stack):
    for n in range(3):
        bury(stack, messageID="m-%d" % n)
    begin = time.monotonic()
    assert "Would redrive 3 dead letters" in good(run_ctl(stack, "dlq", "redrive", "--dry-run", "--rate", "1"))
    assert time.monotonic() - begin < 2 and redriven(stack) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_redrive_goes_on_where_it_was_ended(stack, how):
    stack.kafka.produce(stack.dlq_topic, [
        (b"k", json.dumps(event(messageID="m-%d" % n)).encode(), [("dlq-reason", b"rejected")]) for n in range(60)],
        partition=0)
    child = subprocess.Popen([program("emailctl"), "dlq", "redrive", "--rate", "40"],
                             env=dict(SANITIZERS, **stack.env), cwd=stack.folder, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: sum(stack.kafka.end_offsets(stack.topic).values()) >= 25, 20, interval=0.01)
        child.send_signal(how)
        child.communicate(timeout=20)
    finally:
        child.kill()
        child.wait()
    before = ids(redriven(stack))
    assert len(before) < 60
    assert child.returncode == (1 if how == signal.SIGINT else -how)
    good(run_ctl(stack, "dlq", "redrive"))
    after = ids(redriven(stack))
    assert set(after) == {"m-%d" % n for n in range(60)}
    # What was under way when it was killed may come twice, under the same messageID; no more than that.
    assert len(after) - 60 <= (0 if how == signal.SIGINT else 40)


def test_redrive_without_kafka_or_topic(stack):
    bury(stack, messageID="m-1")
    done = run_ctl(stack, "dlq", "redrive", "--timeout", "3", KAFKA_TOPIC_EMAIL_EVENTS="no-such-topic")
    assert done.returncode == 1 and "no-such-topic" in done.stderr
    good(run_ctl(stack, "dlq", "redrive"))
    assert ids(redriven(stack)) == ["m-1"]


def test_many_letters_on_several_partitions(stack):
    topic = stack.dlq_topic + "-wide"
    stack.kafka.create_topic(topic, 3)
    values = [(b"k%d" % n, json.dumps(event(messageID="m-%d" % n, type="t%d" % (n % 2))).encode(),
               [("dlq-reason", b"rejected")]) for n in range(3000)]
    stack.kafka.produce(topic, values)
    wide = {"KAFKA_TOPIC_EMAIL_DLQ": topic}
    assert "Redrove 1500 " in good(run_ctl(stack, "dlq", "redrive", "--type", "t1", **wide))
    assert "Redrove 0 " in good(run_ctl(stack, "dlq", "redrive", "--type", "t1", **wide))
    assert "Redrove 1500 " in good(run_ctl(stack, "dlq", "redrive", **wide))
    assert sorted(ids(redriven(stack))) == sorted("m-%d" % n for n in range(3000))


# ---- purge ----

def test_purge_before(stack):
    for n in (1, 2, 5, 3):
        bury(stack, messageID="m-%d" % n, failed_at=DAY[n])
    good(run_ctl(stack, "dlq", "redrive", "--message-id", "m-1"))
    flags = ("dlq", "purge", "--before", DAY[4])
    out = good(run_ctl(stack, *flags, "--dry-run"))
    assert "offsets 0 to 1, 2 letters, 1 of them not redriven" in out
    assert "1 older letters stay" in out and "Would delete 2" in out
    assert len(listed(stack)) == 4
    assert "Deleted 2 letters" in good(run_ctl(stack, *flags, "--yes"))
    assert [f["messageID"] for f in listed(stack)] == ["m-3", "m-5"]
    assert "Nothing to delete" in good(run_ctl(stack, *flags, "--yes"))


@pytest.mark.parametrize("answer, left", [("yes", 0), ("y", 1), ("", 1)])
def test_purge_asks_on_a_terminal(stack, answer, left):
    bury(stack, messageID="m-1")
    master, slave = pty.openpty()
    os.write(master, answer.encode() + b"\n")
    done = subprocess.run([program("emailctl"), "dlq", "purge", "--all"], env=dict(SANITIZERS, **stack.env),
                          cwd=stack.folder, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=60)
    os.close(slave)
    os.close(master)
    assert "Type yes" in done.stdout and len(listed(stack)) == left
    assert done.returncode == (1 if left else 0)


def test_purge_all(stack):
    for n in range(3):
        bury(stack, messageID="m-%d" % n)
    assert "Deleted 3 letters" in good(run_ctl(stack, "dlq", "purge", "--all", "--yes"))
    assert listed(stack) == []
    bury(stack, messageID="m-9")
    good(run_ctl(stack, "dlq", "redrive"))
    assert ids(redriven(stack)) == ["m-9"]


def test_scattered_beyond_memory_is_told_before_it_goes_out(stack):
    """Every other one of many letters: what cannot be remembered is not redriven."""
    stack.kafka.produce(stack.dlq_topic, [
        (b"k", json.dumps(event(messageID="m-%d" % n, type="t%d" % (n % 2))).encode(), []) for n in range(5000)],
        partition=0)
    done = run_ctl(stack, "dlq", "redrive", "--type", "t1")
    assert done.returncode == 1 and "scattered" in done.stderr
    first = ids(redriven(stack))
    assert 1500 < len(first) < 2500
    good(run_ctl(stack, "dlq", "redrive"))
    assert sorted(ids(redriven(stack))) == sorted("m-%d" % n for n in range(5000))


# ---- servers that do not answer ----

@pytest.mark.parametrize("args", [("dlq", "list"), ("dlq", "redrive"), ("dlq", "purge", "--all", "--yes"), ("check",),
                                  ("publish", "--to", "a@example.com", "--subject", "s", "--text", "t")],
                         ids=lambda args: args[-1] if len(args) < 3 else args[0] + args[1])
def test_frozen_kafka_is_given_up_on(own_kafka_stack, own_kafka, args):
    bury(own_kafka_stack, messageID="m-1")
    own_kafka.freeze()
    begin = time.monotonic()
    done = run_ctl(own_kafka_stack, *args, "--timeout", "2")
    assert time.monotonic() - begin < 15
    assert done.returncode == 1


def test_stdout_that_nobody_reads(stack):
    for n in range(3):
        bury(stack, messageID="m-%d" % n)
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        reader.wait()
        child = subprocess.run([program("emailctl"), "dlq", "redrive"], env=dict(SANITIZERS, **stack.env),
                               cwd=stack.folder, stdin=subprocess.DEVNULL, stdout=reader.stdin,
                               stderr=subprocess.PIPE, timeout=60)
    assert child.returncode == 1
    assert "Redrove 0 " in good(run_ctl(stack, "dlq", "redrive"))  # what went out was remembered
