"""A dead letter that was written and marked is not written again when its record is redelivered."""

from confluent_kafka.admin import AdminClient

from lib_process import wait_for
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


def test_offsets_used_again(stack):
    """A topic that is made anew uses its offsets again: the marks of the old one's records are not the new one's."""
    stack.smtp.reject("rcpt", "550 5.1.1 nobody here", recipient="new@example.com")
    service = stack.start()
    again = event(to="new@example.com")
    stack.publish(again, b"{not JSON", partition=0)
    stack.wait_dead_letters(2)
    stack.wait_committed()
    service.finish()
    stack.smtp.accept()
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    for done in admin.delete_topics([stack.topic], operation_timeout=15).values():
        done.result(20)
    wait_for(lambda: stack.topic not in stack.kafka.topics(), 20, "the topic's end")
    stack.kafka.create_topic(stack.topic, 3)
    stack.publish(again, b"not JSON either", partition=0)
    stack.group += "-anew"
    stack.start(KAFKA_CONSUMER_GROUP=stack.group)
    stack.wait_committed()
    assert [mail.recipients for mail in stack.mails()] == [["new@example.com"]]
    assert [letter.value for letter in stack.dead_letters()][2:] == [b"not JSON either"]
