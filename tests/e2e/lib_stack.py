"""Everything that one test works with: its topics, its Redis, its relay and the daemons it starts."""

import json
import uuid
from email import message_from_bytes, policy

from lib_process import wait_for
from lib_service import EmailService


def new_id():
    return "m-" + uuid.uuid4().hex


def event(**fields):
    """A good event; fields given as None are left out. Its messageID is in the text, to find the mail by."""
    message_id = fields.get("messageID") or new_id()
    value = {"messageID": message_id, "type": "verification_code", "to": "user@example.com",
             "subject": "Your code", "text": "The code is 123456.\nRef %s\n" % message_id}
    value.update(fields)
    return {name: field for name, field in value.items() if field is not None}


class DeadLetter:
    def __init__(self, record):
        self.record = record
        self.key, self.value = record.key, record.value
        self.headers = record.headers
        self.dlq = {name[4:]: text.decode() for name, text in record.headers if name.startswith("dlq-")}

    @property
    def reason(self):
        return self.dlq["reason"]


class Stack:
    def __init__(self, folder, kafka, redis, smtp):
        self.folder, self.kafka, self.redis, self.smtp = folder, kafka, redis, smtp
        unique = uuid.uuid4().hex[:12]
        self.topic, self.dlq_topic = "email-events-" + unique, "email-events-dlq-" + unique
        self.group = "group-" + unique
        self.services = []
        self.env = {
            "KAFKA_BROKERS": kafka.bootstrap,
            "KAFKA_CONSUMER_GROUP": self.group,
            "KAFKA_TOPIC_EMAIL_EVENTS": self.topic,
            "KAFKA_TOPIC_EMAIL_DLQ": self.dlq_topic,
            # A member that is killed is missed after two seconds, not after 45.
            "KAFKA_CONFIG_SESSION_TIMEOUT_MS": "2000",
            "KAFKA_CONFIG_HEARTBEAT_INTERVAL_MS": "300",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(redis.port),
            "IDEMPOTENCY_LEASE_SECONDS": "3",
            "EMAIL_MODE": "smtp",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(smtp.port),
            "SMTP_TLS": "none",
            "SMTP_FROM": "noreply@example.com",
            "SMTP_FROM_NAME": "Example",
            "SMTP_TIMEOUT_SECONDS": "10",
            "EMAIL_RETRY_BASE_MS": "50",
            "EMAIL_RETRY_MAX_MS": "300",
            "SHUTDOWN_TIMEOUT_SECONDS": "10",
        }

    def create_topics(self, partitions=3):
        self.kafka.create_topic(self.topic, partitions)
        self.kafka.create_topic(self.dlq_topic, 1)

    def start(self, *args, ready=True, **env):
        """Starts a daemon; env adds to self.env, None takes a variable out."""
        merged = dict(self.env, **{name: None if v is None else str(v) for name, v in env.items()})
        service = EmailService(self.folder / ("service-%d" % len(self.services)),
                               {n: v for n, v in merged.items() if v is not None}, *args)
        self.services.append(service)
        return service.wait_ready() if ready else service

    def publish(self, *events, key=None, partition=None, headers=None):
        """Publishes events (dicts) or raw values (bytes, None); returns the first messageID."""
        values = [json.dumps(e).encode() if isinstance(e, dict) else e for e in events]
        self.kafka.produce(self.topic, [(key, v, headers) for v in values], partition)
        return events[0].get("messageID") if isinstance(events[0], dict) else None

    def publish_new(self, **fields):
        """Publishes one good event and returns its messageID."""
        return self.publish(event(**fields))

    # ---- what became of them ----

    def mails(self, message_id=None):
        """The mails the relay took; of one event where its messageID is named in the subject or the text."""
        taken = list(self.smtp.mails)
        if message_id is None:
            return taken
        return [m for m in taken if message_id.encode() in m.data]

    def wait_mails(self, count, timeout=20):
        wait_for(lambda: len(self.smtp.mails) >= count, timeout,
                 lambda: "%d mails, %d came\n%s" % (count, len(self.smtp.mails), self.tails()))
        return list(self.smtp.mails)

    def dead_letters(self):
        return [DeadLetter(r) for r in self.kafka.read_all(self.dlq_topic)]

    def wait_dead_letters(self, count, timeout=20):
        wait_for(lambda: sum(self.kafka.end_offsets(self.dlq_topic).values()) >= count, timeout,
                 lambda: "%d dead letters\n%s" % (count, self.tails()), interval=0.05)
        return self.dead_letters()

    def wait_committed(self, timeout=30):
        try:
            return self.kafka.wait_committed(self.group, self.topic, timeout)
        except AssertionError as error:
            raise AssertionError("%s\n%s" % (error, self.tails()))

    def committed(self):
        return self.kafka.committed(self.group, self.topic)

    def mark(self, message_id, prefix="email:sent:"):
        """The dedup key's value: a dict where it is final, the raw claim where not, None where there is none."""
        value = self.redis.client.get(prefix + message_id)
        return json.loads(value) if value and value.startswith("{") else value

    def wait_mark(self, message_id, state="sent", timeout=20, prefix="email:sent:"):
        def marked():
            value = self.mark(message_id, prefix)
            return value if isinstance(value, dict) and value["state"] == state else None
        return wait_for(marked, timeout, lambda: "the %s mark of %s, there is %r\n%s" % (
            state, message_id, self.mark(message_id, prefix), self.tails()))

    def tails(self):
        return "\n".join("--- %s\n%s" % (s.folder.name, s.tail()) for s in self.services)

    def finish(self):
        errors = []
        for service in self.services:
            try:
                service.finish()
            except AssertionError as error:
                errors.append(str(error))
        assert not errors, "\n".join(errors)


def parse(mail):
    """A mail as an independent parser sees it."""
    return message_from_bytes(mail.data, policy=policy.default)


def text_of(part):
    """A text part's content with the line ends that the event had."""
    return part.get_content().replace("\r\n", "\n")
