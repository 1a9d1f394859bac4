"""A dead letter that was written and marked is not written again when its record is redelivered."""

from lib_stack import event


def test_records_without_a_readable_id(stack):
    """The head of the partition holds the offsets back; the marks behind it stop the redelivery."""
    stack.smtp.reject("rcpt", "450 4.2.1 busy", recipient="slow@example.com")
    service = stack.start(EMAIL_MAX_ATTEMPTS=1000)
    stack.publish(event(to="slow@example.com"), b"{not JSON", event(messageID="has a space"), b"", partition=0)
    places = ["%s/0/%d" % (stack.topic, offset) for offset in (1, 2, 3)]
    for place in places:
        mark = stack.wait_mark(place, "dead", prefix="email:dead:")
        assert mark["reason"] == "invalid_event" and mark["topic"] == stack.topic
    service.kill()
    assert sum(stack.committed().values()) == 0
    stack.smtp.accept()
    stack.start()
    stack.wait_committed()
    assert sorted(int(letter.dlq["offset"]) for letter in stack.dead_letters()) == [1, 2, 3]
    assert len(stack.mails()) == 1
