"""Every bad event value on a real topic: exactly one dead letter each, the service alive, the next event delivered."""

import json

from lib_stack import event
from test_event_schema import ROWS, row_value

BAD = [row for row in ROWS if row["verdict"] != "good"]
GOOD = [row for row in ROWS if row["verdict"] == "good"]


def test_the_table_is_long_enough():
    assert len(BAD) >= 40


def test_one_dead_letter_each(stack):
    service = stack.start()
    for row in BAD:
        stack.publish(row_value(row), key=row["name"].encode(), headers=[("row", row["name"].encode())])
    after = [event() for _ in range(30)]
    stack.publish(*after)

    stack.wait_committed(timeout=60)
    letters = stack.dead_letters()
    assert len(letters) == len(BAD)
    by_name = {letter.key.decode(): letter for letter in letters}
    assert len(by_name) == len(BAD), "one each"
    for row in BAD:
        letter = by_name[row["name"]]
        expected = row.get("reason", "invalid_event")
        assert letter.reason == expected, (row["name"], letter.dlq)
        assert letter.value == row_value(row), row["name"]
        assert letter.headers[0] == ("row", row["name"].encode())
        assert letter.dlq["attempts"] == "0"
        assert letter.dlq["topic"] == stack.topic
        assert letter.dlq["error"], row["name"]
        assert row.get("error", "") in letter.dlq["error"], (row["name"], letter.dlq["error"])
        assert {"partition", "offset", "failed-at"} <= letter.dlq.keys()
        assert not {"smtp-reply", "recipients"} & letter.dlq.keys()
    positions = {(letter.dlq["partition"], letter.dlq["offset"]) for letter in letters}
    assert len(positions) == len(BAD)
    assert len(service.logs("Email moved to dead letter queue")) == len(BAD)

    assert len(stack.mails()) == len(after)
    for e in after:
        stack.wait_mark(e["messageID"])
    # All bad rows that have a readable messageID have the same one: its mark tells of the last. The others are marked
    # by their record's place.
    marks, by_place = ({key: json.loads(stack.redis.client.get(key))["state"] for key in stack.redis.client.keys(keys)}
                       for keys in ("email:sent:*", "email:dead:*"))
    places = {"email:dead:%s/%s/%s" % (stack.topic, *position) for position in positions}
    assert by_place and set(by_place) <= places and set(by_place.values()) == {"dead"}
    assert sorted(marks.values()) == ["dead"] + ["sent"] * len(after)
    assert service.status("/live") == 200
    assert service.stats()["events"]["dead_letters"] == len(BAD)


def test_dead_letter_of_an_invalid_event_is_marked(stack):
    """Where its messageID can be read: it settles that record only, and never another mail's key."""
    service = stack.start()
    message_id = stack.publish(event(to="not an address"))
    mark = stack.wait_mark(message_id, "dead")
    assert mark["reason"] == "invalid_event" and mark["topic"] == stack.topic
    stack.publish(event(messageID=message_id))
    stack.wait_mark(message_id, "sent")
    stack.publish(event(messageID=message_id, to="not an address"))
    stack.wait_dead_letters(2)
    service.wait_log("Email moved to dead letter queue", count=2)
    assert [letter.reason for letter in stack.dead_letters()] == ["invalid_event"] * 2
    assert stack.mark(message_id)["state"] == "sent"


def test_every_good_row_is_sent(stack):
    service = stack.start()
    published = 0
    for i, row in enumerate(GOOD):
        value = json.loads(row_value(row))
        if "template" in value or "expiresAt" in value:
            continue  # dead for other reasons: test_happy has them
        value["messageID"] = "good-%d" % i
        stack.publish(value)
        published += 1
    stack.wait_committed(timeout=60)
    assert not [(x.dlq, x.value[:200]) for x in stack.dead_letters()]
    assert service.stats()["events"]["sent"] == published


def test_oversize(stack):
    """At the limit it is sent, one byte beyond it is too_large; a huge one costs no memory."""
    stack.start(EMAIL_MAX_EVENT_BYTES=20000)
    fits, beyond = event(), event()
    fits_value = json.dumps(fits).encode().ljust(20000)
    beyond_value = json.dumps(beyond).encode().ljust(20001)
    huge = json.dumps(event(text="x" * 3000000)).encode()
    stack.publish(fits_value, beyond_value, huge, b"x" * 30000)
    stack.wait_mark(fits["messageID"])
    letters = stack.wait_dead_letters(3)
    assert {letter.reason for letter in letters} == {"too_large"}
    assert sorted(letter.value for letter in letters) == sorted([beyond_value, huge, b"x" * 30000])
    stack.wait_committed()
    assert len(stack.mails()) == 1


def test_dead_letter_too_large_for_the_queue(stack):
    """A dead letter that the DLQ topic refuses is cut, and says so: it must not block its partition for ever."""
    stack.kafka.create_topic(stack.dlq_topic + "-small", 1, {"max.message.bytes": "60000"})
    stack.dlq_topic += "-small"
    stack.start(KAFKA_TOPIC_EMAIL_DLQ=stack.dlq_topic)
    value = b"not json " + b"x" * 200000
    stack.publish(value)
    message_id = stack.publish_new()
    stack.wait_mark(message_id)
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "invalid_event"
    assert letter.dlq["truncated"] == str(len(value))
    assert value.startswith(letter.value)
    stack.wait_committed()
