"""The connection is lost after the final dot, before a reply: nobody knows whether the relay took the mail."""

import pytest

from lib_process import holds_for
from lib_stack import event


@pytest.fixture
def lossy(stack):
    """The relay takes the mail and dies before it says so, once."""
    stack.smtp.drop("dot", after=True, times=1)
    return stack


def test_resend_is_byte_identical(lossy):
    service = lossy.start(IDEMPOTENCY_LEASE_SECONDS=1)
    message_id = lossy.publish_new()
    lossy.wait_mark(message_id, timeout=40)
    first, second = lossy.mails()
    assert first.data == second.data and first.recipients == second.recipients
    lossy.wait_committed()
    assert not lossy.dead_letters()
    assert service.stats()["events"]["ambiguous"] == 1


def test_others_go_on_meanwhile(lossy):
    lossy.start(IDEMPOTENCY_LEASE_SECONDS=3, SMTP_MAX_CONNECTIONS=1)
    message_id = lossy.publish_new()
    others = [event() for _ in range(20)]
    lossy.publish(*others)
    for e in others:
        lossy.wait_mark(e["messageID"])
    lossy.wait_mark(message_id, timeout=40)


def test_no_resend_before_the_deadline(lossy):
    """The attempt may still be known to somebody who is slow: its mark D stands for its time."""
    lossy.start(IDEMPOTENCY_LEASE_SECONDS=3)
    message_id = lossy.publish_new()
    lossy.wait_mails(1)
    holds_for(lambda: len(lossy.mails()) == 1 and lossy.mark(message_id).startswith("D|"), 1.0)
    lossy.wait_mark(message_id, timeout=40)


def test_park(lossy):
    service = lossy.start(IDEMPOTENCY_LEASE_SECONDS=1, SMTP_AMBIGUOUS_POLICY="park")
    message_id = lossy.publish_new()
    [letter] = lossy.wait_dead_letters(1, timeout=40)
    assert letter.reason == "ambiguous"
    assert len(lossy.mails()) == 1
    assert lossy.wait_mark(message_id, "dead")["reason"] == "ambiguous"
    service.wait_log("Email moved to dead letter queue", messageID=message_id)
    lossy.wait_committed()


def test_resent_at_most_three_times(stack):
    stack.smtp.drop("dot", after=True)
    stack.start(IDEMPOTENCY_LEASE_SECONDS=1, EMAIL_MAX_ATTEMPTS=50)
    stack.publish_new()
    [letter] = stack.wait_dead_letters(1, timeout=60)
    assert letter.reason in ("ambiguous", "retries_exhausted")
    assert len({mail.data for mail in stack.mails()}) == 1
    assert len(stack.mails()) == 4
    stack.wait_committed()


def test_silent_after_the_dot(stack):
    """A time-out waiting for the reply to the dot is as ambiguous as a lost connection."""
    stack.smtp.hold("dot", times=1)
    service = stack.start(IDEMPOTENCY_LEASE_SECONDS=1, SMTP_TIMEOUT_SECONDS=1)
    message_id = stack.publish_new()
    stack.wait_mark(message_id, timeout=40)
    first, second = stack.smtp.bodies_seen()
    assert first == second
    assert service.stats()["events"]["ambiguous"] == 1


def test_parked_and_published_twice(lossy):
    """The second record was there before the first was parked: it is no decision to send the mail again."""
    lossy.start(IDEMPOTENCY_LEASE_SECONDS=1, SMTP_AMBIGUOUS_POLICY="park")
    twice = event()
    lossy.publish(twice, twice, key=b"one", partition=0)
    letters = lossy.wait_dead_letters(2, timeout=40)
    assert [letter.reason for letter in letters] == ["ambiguous", "ambiguous"]
    assert {letter.dlq["offset"] for letter in letters} == {"0", "1"}
    lossy.wait_committed()
    assert len(lossy.mails()) == 1

    lossy.publish(twice)  # published anew, by somebody who knows: a new attempt
    lossy.wait_mark(twice["messageID"])
    assert len(lossy.mails()) == 2
