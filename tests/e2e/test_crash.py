"""kill -9 at the worst moments: everything is delivered; doubled only where nobody can know better."""

import os
import signal

from lib_process import holds_for, wait_for
from lib_stack import event


def test_killed_during_a_retry(stack):
    stack.smtp.reject("mail", "451 4.3.0 later")
    service = stack.start(EMAIL_MAX_ATTEMPTS=1000)
    events = [event() for _ in range(20)]
    stack.publish(*events)
    service.wait_log("Email delivery failed, will retry", count=30)
    service.kill()
    stack.smtp.accept()
    stack.start()
    stack.wait_committed()
    assert len(stack.mails()) == len({m.data for m in stack.mails()}) == 20
    for e in events:
        stack.wait_mark(e["messageID"])


def test_killed_before_the_dot(stack):
    """The claim of the dead delays the event by at most its lease."""
    stack.smtp.hold("data")
    service = stack.start()
    message_id = stack.publish_new()
    stack.smtp.wait_held("data")
    assert stack.mark(message_id).startswith("C|")
    service.kill()
    stack.smtp.accept()
    stack.start()
    stack.wait_mark(message_id)
    assert len(stack.mails()) == 1


def crash_before_the_mark(stack, service, message_id):
    """The 250 comes when Redis is gone, and the service is gone before Redis is back.

    Frozen would not do: the mark would wait in Redis' socket and be written when it wakes up.
    """
    stack.redis.persist()
    stack.redis.kill()
    stack.smtp.accept()
    service.wait_log("Email sent successfully", messageID=message_id)
    service.kill()
    stack.redis.start()


def test_killed_between_the_250_and_the_mark(stack):
    """The one window in which a mail is doubled: and then byte for byte, with the same Message-ID."""
    stack.smtp.hold("dot")
    service = stack.start(IDEMPOTENCY_LEASE_SECONDS=2)
    message_id = stack.publish_new()
    stack.smtp.wait_held("dot")
    assert stack.mark(message_id).startswith("D|"), "the fence is up before the dot"
    crash_before_the_mark(stack, service, message_id)

    again = stack.start(IDEMPOTENCY_LEASE_SECONDS=2)
    stack.wait_mark(message_id, timeout=40)
    first, second = stack.mails()
    assert first.data == second.data
    assert len(again.logs("Email sent successfully", messageID=message_id)) == 1
    stack.wait_committed()
    assert not stack.dead_letters()


def test_killed_between_the_250_and_the_mark_parked(stack):
    """With SMTP_AMBIGUOUS_POLICY=park it is not even doubled then, but handed to a person."""
    stack.smtp.hold("dot")
    service = stack.start(IDEMPOTENCY_LEASE_SECONDS=2, SMTP_AMBIGUOUS_POLICY="park")
    message_id = stack.publish_new()
    stack.smtp.wait_held("dot")
    crash_before_the_mark(stack, service, message_id)
    stack.start(IDEMPOTENCY_LEASE_SECONDS=2, SMTP_AMBIGUOUS_POLICY="park")
    [letter] = stack.wait_dead_letters(1, timeout=40)
    assert letter.reason == "ambiguous"
    assert len(stack.mails()) == 1
    stack.wait_committed()


def test_killed_after_the_mark_before_the_commit(stack):
    """One event without an outcome at the head of its partition keeps the others from being committed."""
    stack.smtp.reject("rcpt", "450 4.2.1 busy", recipient="slow@example.com")
    service = stack.start(EMAIL_MAX_ATTEMPTS=1000)
    stack.publish(event(to="slow@example.com"), *[event() for _ in range(50)], partition=0)
    service.wait_log("Marked email as processed", count=50)
    service.kill()
    assert sum(stack.committed().values()) == 0
    stack.smtp.accept()
    again = stack.start()
    again.wait_log("Duplicate email event detected, skipping", count=50)
    stack.wait_committed()
    assert len(stack.mails()) == 51


def test_mark_is_written_when_redis_comes_back(stack):
    """Frozen after the fence, without a crash: sent once, marked late, committed."""
    stack.smtp.hold("dot")
    service = stack.start()
    message_id = stack.publish_new()
    stack.smtp.wait_held("dot")
    stack.redis.freeze()
    stack.smtp.accept()
    service.wait_log("Email sent successfully", messageID=message_id)
    service.wait_not_ready()
    stack.redis.thaw()
    stack.wait_mark(message_id)
    stack.wait_committed()
    assert len(stack.mails()) == 1


def test_killed_again_and_again_under_load(stack):
    """Nothing is lost, whatever happens; what is doubled is what stood between its dot and its mark."""
    stack.smtp.delay("dot", 0.05)
    events = [event() for _ in range(400)]
    stack.publish(*events)
    at_risk = 0
    for _ in range(3):
        service = stack.start(IDEMPOTENCY_LEASE_SECONDS=1, SMTP_MAX_CONNECTIONS=5)
        service.wait_log("Email sent successfully", count=30)
        service.kill()
        at_risk += sum(1 for k in stack.redis.client.keys("email:sent:*")
                       if (stack.redis.client.get(k) or "").startswith("D|"))
    stack.smtp.accept()
    stack.start(IDEMPOTENCY_LEASE_SECONDS=1)
    stack.wait_committed(timeout=60)
    for e in events:
        stack.wait_mark(e["messageID"])
    mails = stack.mails()
    assert len({m.data for m in mails}) == 400
    assert len(mails) <= 400 + at_risk
    assert not stack.dead_letters()


def test_own_uncommitted_records_after_being_lost(stack):
    """Frozen beyond its session, thrown out of the group, woken up: it gets its own records again and goes on."""
    service = stack.start(IDEMPOTENCY_LEASE_SECONDS=1)
    stack.wait_mark(stack.publish_new())
    stack.smtp.hold("data")
    message_id = stack.publish_new()
    stack.smtp.wait_held("data")
    service.freeze()
    wait_for(lambda: stack.mark(message_id) is None, 10, "the lease's end")
    os.kill(service.process.pid, signal.SIGCONT)
    stack.smtp.accept()
    stack.wait_mark(message_id, timeout=40)
    assert len(stack.mails(message_id)) == 1
    stack.wait_committed(timeout=40)
    holds_for(lambda: len(stack.mails(message_id)) == 1, 0.4)
