"""A workbench: servers' share, topics and relay for one kill point after another. Several work side by side."""

import http.client
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, TopicPartition

from group_offsets import GroupOffsets
from lib_process import Process, free_port, release_port, wait_for
from lib_service import program
from lib_stack import Stack, event
from plan import Point
from reconcile import Found
from relay import Relay

LOOK_S = 0.2  # between two looks at the committed offset
END_S = 60  # for everything that follows a restart
AFTER_COMMIT_S = 0.1  # a run that is not killed goes on for so long

# What begins a new segment of system calls: a command to Redis about the event, the dead letter on its way to Kafka.
LANDMARKS = "email:sent:,email:dead:,dlq-reason"


@dataclass
class Run:
    """What kill-at reports."""

    outcome: str
    thread: str
    syscall: int
    counts: list

    @property
    def killed(self):
        return self.outcome == "killed"


@dataclass
class Trial:
    point: Point
    run: Run
    kill: Found = None
    end: Found = None
    log: str = ""


def new_event(path, message_id):
    """The value of a record that takes this path."""
    if path == "unreadable":
        return b'{"messageID": "%s", "to": ' % message_id.encode()
    more = {"subject": "Two\r\nlines"} if path == "invalid" else {}
    return json.dumps(event(messageID=message_id, to=message_id + "@example.com", **more)).encode()


class Letters:
    """The dead-letter topic of a bench, read on."""

    def __init__(self, bootstrap, topic):
        self._partition = TopicPartition(topic, 0, 0)
        self._consumer = Consumer({
            "bootstrap.servers": bootstrap, "group.id": "sweep-reader", "enable.auto.commit": False,
            "log_level": 0, "fetch.wait.max.ms": 20, "isolation.level": "read_committed"})
        self._consumer.assign([self._partition])
        self._read = []  # (event, reason)

    def of(self, message_id):
        """The reasons of the dead letters of this event that are in the topic now."""
        _, end = self._consumer.get_watermark_offsets(self._partition, timeout=20, cached=False)
        deadline = time.monotonic() + 20
        while len(self._read) < end:
            assert time.monotonic() < deadline, "the dead letters cannot be read"
            message = self._consumer.poll(0.5)
            if message is None:
                continue
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                continue
            headers = dict(message.headers())
            self._read.append((message.value(), headers["dlq-reason"].decode()))
        return [reason for value, reason in self._read if message_id.encode() in value]

    def close(self):
        self._consumer.close()


class Bench:
    def __init__(self, folder, kill_at, kafka, redis):
        self.folder, self.kill_at = Path(folder), kill_at
        self.folder.mkdir()
        self.relay = Relay(self.folder)
        self.stack = Stack(self.folder, kafka, redis, self.relay)
        self.stack.create_topics(partitions=1)
        self.port = free_port()
        self.offsets = GroupOffsets(kafka.bootstrap)
        self.letters = Letters(kafka.bootstrap, self.stack.dlq_topic)
        self.log = self.folder / "log"
        self.next_offset = 0

    def set_up(self, path, policy):
        """For the events to come."""
        self.path = path
        self.relay.behave(path)
        self.env = dict(self.stack.env, IDEMPOTENCY_LEASE_SECONDS="1", SMTP_AMBIGUOUS_POLICY=policy,
                        KAFKA_CONFIG_SESSION_TIMEOUT_MS="1000", EMAIL_SERVICE_PORT=str(self.port),
                        EMAIL_SERVICE_LISTEN="127.0.0.1")

    def destroy(self):
        self.letters.close()
        self.offsets.close()
        self.relay.stop()
        release_port(self.port)

    # ---- one event ----

    def _start(self, group, *wrapper):
        with open(self.log, "ab") as log:
            return Process([*wrapper, program("email-service")], env=dict(self.env, KAFKA_CONSUMER_GROUP=group),
                           cwd=self.folder, stdout=log, stderr=log)

    def _committed(self, group, offset):
        return self.offsets.fetch(group, self.stack.topic) > offset

    def _run_to_the_kill(self, point, group, offset):
        report = self.folder / "report"
        report.unlink(missing_ok=True)
        process = self._start(group, self.kill_at, str(report), str(point.segment), str(point.n), LANDMARKS)
        deadline, stopping = time.monotonic() + END_S, False
        while process.running:
            assert time.monotonic() < deadline, "the event does not get its outcome\n" + self.tail()
            time.sleep(0.01 if stopping else LOOK_S / 4)
            if not stopping and self._committed(group, offset):
                time.sleep(AFTER_COMMIT_S)
                stopping = True
            if stopping and process.running:
                os.kill(process.pid, signal.SIGTERM)  # to kill-at, which kills the service
        assert process.popen.wait() == 0, "kill-at failed\n" + self.tail()
        return Run(**json.loads(report.read_text()))

    def _look(self, message_id, group, offset):
        self.stack.redis.client.ping()  # so that it has read what the dead client had sent
        mark = (self.stack.mark(message_id) if self.path != "unreadable" else
                self.stack.mark("%s/0/%d" % (self.stack.topic, offset), prefix="email:dead:"))
        return Found(mark=mark, copies=self.relay.copies(message_id), dots=self.relay.dots,
                     letters=self.letters.of(message_id), committed=self._committed(group, offset))

    def _restart(self, group, offset):
        service = self._start(group)
        try:
            wait_for(lambda: self._ended(service, group, offset), END_S, "the event's outcome", interval=LOOK_S)
        except AssertionError:
            pass  # the reconciliation says what is missing
        finally:
            service.kill()

    def _ended(self, service, group, offset):
        assert service.running, "the service ended by itself"
        # Where the offset stands behind the event already, the service has to have come as far as looking for more.
        return self._committed(group, offset) and self._ready()

    def _ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def try_point(self, point, message_id):
        """Publishes an event, kills the service at this point of its way, restarts it, and looks."""
        topic = self.stack.topic
        group = "group-" + message_id
        self.relay.forget()
        self.log.write_bytes(b"")
        offset = self.next_offset
        self.stack.kafka.produce(topic, [new_event(self.path, message_id)])
        self.next_offset += 1
        self.offsets.commit(group, topic, offset)
        trial = Trial(point, self._run_to_the_kill(point, group, offset))
        self.relay.drain()
        if trial.run.outcome == "over":
            return trial
        time.sleep(0.05)  # for what the dead had on its way to Kafka
        trial.kill = self._look(message_id, group, offset)
        if trial.run.killed:
            self._restart(group, offset)
            self.relay.drain()
        trial.end = self._look(message_id, group, offset)
        trial.log = self.tail()
        return trial

    def tail(self):
        return self.log.read_text(errors="replace")[-6000:]
