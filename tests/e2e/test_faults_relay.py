"""The relay: replies without measure, capabilities that come and go, names that don't resolve, large mails."""

import base64
import json
import os

import pytest

from lib_process import holds_for, wait_for
from lib_stack import event, parse

MEGABYTE = 1 << 20
HUGE = {
    "one line": b"451 " + b"x" * MEGABYTE + b"\r\n",
    "a line without end": b"451 " + b"x" * MEGABYTE,
    "many lines": b"451-" + (b"y" * 70 + b"\r\n451-") * (MEGABYTE // 76) + b"end\r\n451 end\r\n",
    "nothing but digits": b"4" * MEGABYTE,
    "nothing but line ends": b"\r\n" * (MEGABYTE // 2),
}
NASTY = (b'550 5.1.1 "},{\\"level\\":\\"error\\"} \x00\x01\x07\x08\x1b[2J\x7f\xff\xfe \xc3\xa9 \xe2\x80\xa8 %s %n ${x} </script>'
         b"\r\ndlq-reason: forged\r\n")


def sent_once(stack, message_id):
    stack.wait_mark(message_id, timeout=40)
    assert len(stack.mails(message_id)) == 1
    stack.wait_committed()


@pytest.mark.parametrize("stage", ["banner", "mail", "rcpt", "data"])
def test_megabytes_of_reply(stack, stage):
    """Cut off as no SMTP, tried again on a new connection; what is kept of it is short."""
    for reply in HUGE.values():
        stack.smtp.reject(stage, reply, raw=True, close=True, times=1)
    service = stack.start(SMTP_MAX_CONNECTIONS=1, EMAIL_MAX_ATTEMPTS=20, SMTP_TIMEOUT_SECONDS=5,
                          SMTP_CONNECT_TIMEOUT_SECONDS=5)
    memory = service.metric("process_resident_memory_bytes")
    message_id = stack.publish_new()
    sent_once(stack, message_id)
    failed = service.logs("Email delivery failed, will retry", messageID=message_id)
    assert len(failed) == len(HUGE)
    assert max(len(json.dumps(line)) for line in service.logs()) < 4096
    assert service.metric("process_resident_memory_bytes") - memory < 50e6
    assert not stack.dead_letters()


def test_megabyte_of_reply_to_the_dot(stack):
    """Neither a yes nor a no: ambiguous, and sent again after the deadline, byte for byte."""
    stack.smtp.reject("dot", HUGE["one line"], raw=True, close=True, times=1)
    service = stack.start(IDEMPOTENCY_LEASE_SECONDS=1)
    message_id = stack.publish_new()
    stack.wait_mark(message_id, timeout=40)
    first, second = stack.smtp.bodies_seen()
    assert first == second
    assert service.metric("email_ambiguous_total") == 1


def test_nasty_bytes_in_a_reply(stack):
    """The log stays one JSON object a line; the header tells the reply escaped, and nothing of it becomes a header."""
    stack.smtp.reject("mail", NASTY.replace(b"550", b"451").split(b"\r\n")[0], times=1)
    stack.smtp.reject("rcpt", NASTY, raw=True, close=True, times=1)
    service = stack.start()
    message_id = stack.publish_new()
    [letter] = stack.wait_dead_letters(1)
    reply = letter.dlq["smtp-reply"]
    assert reply.isascii() and reply.isprintable() and len(reply) <= 512
    assert reply.startswith('550 5.1.1 "},{') and "\\x1B[2J" in reply and "\\x00" in reply and "\\xC3\\xA9" in reply
    assert letter.reason == "rejected" and "forged" not in str(letter.dlq)
    service.wait_log("Email delivery failed, will retry", messageID=message_id)
    service.wait_log("Email moved to dead letter queue", messageID=message_id)
    assert not service.unparsable
    assert not any("\x1b" in json.dumps(line, ensure_ascii=False) for line in service.logs())


@pytest.mark.parametrize("stage", ["rcpt", "dot"])
def test_a_byte_a_second(stack, stage):
    """The stage's time is counted in all: half a minute of reply is cut after three seconds; others go on meanwhile."""
    stack.smtp.drip(stage, interval=1.0, text="250 2.0.0 this takes thirty seconds", times=1)
    service = stack.start(SMTP_TIMEOUT_SECONDS=3, IDEMPOTENCY_LEASE_SECONDS=1)
    message_id = stack.publish_new()
    stack.smtp.wait_seen(stage)
    others = [event() for _ in range(20)]
    stack.publish(*others)
    for e in others:
        stack.wait_mark(e["messageID"])
    failed = service.wait_log("Email delivery failed, will retry", messageID=message_id, timeout=20)
    assert failed["reason"] == "timeout" and failed["outcome"] == ("ambiguous" if stage == "dot" else "retry")
    sent_once(stack, message_id)


def test_pipelining_withdrawn(stack):
    """Offered at first, not on the next connection: each session goes by its own EHLO."""
    stack.start(SMTP_MAX_CONNECTIONS=1)
    sent_once(stack, stack.publish_new())
    assert stack.smtp.pipelined
    stack.smtp.close_idle()
    stack.smtp.capabilities.discard("PIPELINING")
    sent_once(stack, stack.publish_new())
    commands = stack.smtp.sessions[-1].commands
    assert len({c.chunk for c in commands}) == len(commands), "one command at a time"
    stack.smtp.close_idle()
    stack.smtp.capabilities.add("PIPELINING")
    sent_once(stack, stack.publish_new())
    assert not stack.dead_letters()


def test_pipelining_offered_and_not_understood(stack):
    """A relay that takes the first command of a batch and answers the others with 503: a dead letter with its words."""
    stack.smtp.reject("rcpt", "503 5.5.1 bad sequence of commands", times=1)
    stack.start()
    stack.publish_new()
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "rejected" and letter.dlq["smtp-reply"].startswith("503 5.5.1")
    sent_once(stack, stack.publish_new())


def test_host_name_does_not_resolve(stack):
    """The relay as a whole is out of reach: nobody's attempts are used up, /ready says so; another instance goes on."""
    service = stack.start(ready=False, SMTP_HOST="relay.invalid", SMTP_OUTAGE_POLICY="hold", EMAIL_MAX_ATTEMPTS=1)
    events = [event() for _ in range(20)]
    stack.publish(*events)
    service.wait_log("Email delivery failed, will retry", timeout=60)
    wait_for(lambda: "relay" in service.http("/ready").body, 60, "the outage at /ready")
    holds_for(lambda: not sum(stack.committed().values()), 0.5, "nothing committed", interval=0.1)
    assert service.terminate(timeout=20) == 0
    stack.start()
    stack.wait_committed()
    assert len(stack.mails()) == len({m.data for m in stack.mails()}) == 20
    assert not stack.dead_letters()


def test_large_attachment(stack):
    """Nearly as large as Kafka takes: comes back byte for byte, while small mails pass it by."""
    content = os.urandom(2_800_000)
    service = stack.start(EMAIL_MAX_EVENT_BYTES=4_000_000)
    large = event(attachments=[{"filename": "x.bin", "contentType": "application/octet-stream",
                                "content": base64.b64encode(content).decode()}])
    small = [event() for _ in range(20)]
    stack.publish(large, *small)
    stack.wait_mark(large["messageID"], timeout=60)
    for e in small:
        stack.wait_mark(e["messageID"])
    [mail] = stack.mails(large["messageID"])
    [attachment] = parse(mail).iter_attachments()
    assert attachment.get_content() == content
    assert max(len(line) for line in mail.data.split(b"\r\n")) <= 998
    stack.wait_committed()
    assert service.stats()["window"]["in_flight_bytes"] == 0


def test_greylisting(stack):
    """Each recipient is put off twice: the mail waits, others go on, and everybody gets it once."""
    first, second = "one@example.com", "two@example.com"
    for recipient in (first, second):
        stack.smtp.reject("rcpt", "450 4.7.1 greylisted, come back later", recipient=recipient, times=2)
    service = stack.start(EMAIL_MAX_ATTEMPTS=10)
    message_id = stack.publish_new(to=[first, second])
    other = stack.publish_new()
    stack.wait_mark(other)
    sent_once(stack, message_id)
    [mail] = stack.mails(message_id)
    assert sorted(mail.recipients) == [first, second]
    assert service.metric("email_retries_total", reason="reply") >= 2
    assert not stack.dead_letters()
