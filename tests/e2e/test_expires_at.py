"""An event past expiresAt is never sent: not where it was composed in time and had to wait for the relay either."""

import time
from datetime import datetime, timedelta, timezone

from lib_process import wait_for
from lib_stack import event


def soon(seconds):
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_it_passes_while_the_relay_is_slow(stack):
    service = stack.start()
    stack.wait_mark(stack.publish_new())
    stack.smtp.hold("data", times=1)
    message_id = stack.publish_new(expiresAt=soon(3))
    stack.smtp.wait_held("data")
    expired = time.monotonic() + 3
    wait_for(lambda: time.monotonic() > expired, 10, "expiresAt to pass")
    stack.smtp.accept()
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "expired" and letter.dlq["attempts"] == "0"
    assert letter.dlq["error"].startswith("expiresAt")
    stack.wait_mark(message_id, "dead")
    stack.wait_mark(stack.publish_new(expiresAt=soon(60)))
    stack.wait_committed()
    assert not stack.mails(message_id) and len(stack.mails()) == 2
    assert not service.logs("Email delivery failed, will retry")


def test_it_passes_while_it_waits_for_its_turn(stack):
    """A bound of mails a second: what is not sent in time is dead, and nothing is both."""
    service = stack.start(SMTP_MAX_RATE_PER_SECOND=4)
    stack.wait_mark(stack.publish_new())
    began = datetime.now(timezone.utc)
    events = [event(expiresAt=soon(4)) for _ in range(60)]
    stack.publish(*events)
    stack.wait_committed(timeout=60)
    letters = stack.dead_letters()
    assert {letter.reason for letter in letters} == {"expired"}
    sent = [e["messageID"] for e in events if stack.mails(e["messageID"])]
    assert len(sent) + len(letters) == 60 and 4 <= len(sent) < 40
    assert all(len(stack.mails(message_id)) == 1 for message_id in sent)
    for message_id in sent:
        [line] = service.logs("Email sent successfully", messageID=message_id)
        assert datetime.fromisoformat(line["time"].replace("Z", "+00:00")) < began + timedelta(seconds=8)
