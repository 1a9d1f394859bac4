"""The same messageID for another mail: a mistake of the publisher that must not swallow a mail."""

import pytest

from lib_stack import event, new_id


@pytest.mark.parametrize("other", [
    {"to": "other@example.com"}, {"cc": "more@example.com"}, {"subject": "Another"}, {"text": "Another"},
    {"html": "<p>and HTML</p>"}, {"headers": {"X-A": "b"}}, {"replyTo": "r@example.com"},
    {"attachments": [{"filename": "a", "contentType": "text/plain", "content": "YQ=="}]},
], ids=lambda value: next(iter(value)))
def test_after_it_was_sent(stack, other):
    service = stack.start()
    message_id = new_id()
    stack.publish(event(messageID=message_id))
    stack.wait_mark(message_id)
    stack.publish(event(messageID=message_id, **other))
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "id_conflict"
    assert letter.dlq["error"]
    assert service.wait_log("Email moved to dead letter queue", messageID=message_id)["error"] == letter.dlq["error"]
    stack.wait_committed()
    assert len(stack.mails()) == 1
    assert stack.mark(message_id)["state"] == "sent", "the first one's mark stays"


def test_while_another_instance_sends_the_first(stack):
    """A live claim with another fingerprint is not waited for."""
    message_id = new_id()
    stack.redis.client.set("email:sent:" + message_id, "C|elsewhere-1-a-1|" + "0" * 32, px=60000)
    stack.start()
    stack.publish(event(messageID=message_id))
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "id_conflict"
    stack.wait_committed()
    assert stack.redis.client.get("email:sent:" + message_id).startswith("C|elsewhere"), "not its claim to end"


def test_while_this_instance_sends_the_first(stack):
    stack.smtp.hold("data")
    stack.start()
    message_id = new_id()
    stack.publish(event(messageID=message_id), partition=0)
    stack.smtp.wait_held("data")
    stack.publish(event(messageID=message_id, to="other@example.com"), partition=1)
    stack.smtp.accept()
    stack.wait_mark(message_id)
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "id_conflict"
    assert b"other@example.com" in letter.value
    stack.wait_committed()
    assert len(stack.mails()) == 1


def test_same_recipients_written_otherwise_are_no_conflict(stack):
    service = stack.start()
    message_id = new_id()
    stack.publish(event(messageID=message_id, to="User <user@example.com>"))
    stack.wait_mark(message_id)
    stack.publish(event(messageID=message_id, to=[{"email": "user@EXAMPLE.com", "name": "User"}]))
    service.wait_log("Duplicate email event detected, skipping", messageID=message_id)
    assert not stack.dead_letters()
