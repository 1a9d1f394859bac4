"""docs/producer.md's programs in Python, Node, Go and Java: each publishes one event, and its mail comes."""

import json
import re
import shutil

import jsonschema
import pytest

import lib_publishers
from lib_publishers import ADA_PARTITION, ROOT, run
from lib_stack import parse, text_of

SCHEMA = ROOT / "docs" / "email-event.schema.json"


def needs(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    return pytest.mark.skipif(bool(missing), reason="%s not installed" % ", ".join(missing))


EVERY_LANGUAGE = pytest.mark.parametrize("language", [
    "python",
    pytest.param("node", marks=needs("node")),
    pytest.param("go", marks=needs("go")),
    pytest.param("java", marks=needs("javac")),
])

@EVERY_LANGUAGE
def test_the_program_publishes_an_event_that_is_delivered(stack, folder, language):
    command = getattr(lib_publishers, language)(folder)
    service = stack.start()
    output = run(*command, env=dict(stack.env, EMAIL_EVENT_SCHEMA=str(SCHEMA)), timeout=60)

    [record] = stack.kafka.read_all(stack.topic)
    assert re.search(r"^published: partition %d, offset %d$" % (record.partition, record.offset), output, re.M), output
    assert (record.key, record.partition) == (b"ada@example.com", ADA_PARTITION)
    event = json.loads(record.value)
    jsonschema.validate(event, json.loads(SCHEMA.read_text(encoding="utf-8")))

    service.wait_log("Email sent successfully", messageID=event["messageID"])
    [mail] = stack.wait_mails(1)
    message = parse(mail)
    assert (message["To"], message["Subject"]) == ("ada@example.com", "Your code")
    assert text_of(message).strip() == "Your code is 123456."
    stack.wait_mark(event["messageID"])


@EVERY_LANGUAGE
def test_the_program_fails_where_the_topic_does_not_exist(kafka, folder, language):
    """A publisher that looks at the outcome, as the document tells it to."""
    command = getattr(lib_publishers, language)(folder)
    with pytest.raises(AssertionError):
        run(*command, env={"KAFKA_BROKERS": kafka.bootstrap, "KAFKA_TOPIC_EMAIL_EVENTS": "no-such-topic",
                           "EMAIL_EVENT_SCHEMA": str(SCHEMA)}, timeout=120)
