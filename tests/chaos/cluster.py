"""Everything that a run works with, wired together: three instances and a fourth place, each behind proxies of its own."""

import json
import threading
import time

from confluent_kafka import KafkaException, Producer

from lib_kafka import KafkaClient
from schedule import EXTRA_SLOT
from servers import ChaosKafka, ChaosRedis, Instance, Relay
from toxiproxy import Toxiproxy

TOPIC, DLQ, GROUP, PARTITIONS = "email-events", "email-events-dlq", "email-service-group", 6


class Cluster:
    def __init__(self, folder, seed, program, options):
        slots = EXTRA_SLOT + 1
        self.folder, self.options = folder, options
        self.kafka = ChaosKafka(folder / "kafka", slots)
        self.redis = ChaosRedis(folder / "redis")
        self.relay = Relay(folder, seed)
        self.proxies = Toxiproxy(folder / "toxiproxy.log") if options.network else None
        self.instances = [Instance(slot, folder / ("instance-%d" % slot), program, self._env(slot))
                          for slot in range(slots)]

    def _port(self, link, slot, direct):
        return self.proxies.add(link, slot, direct) if self.proxies else direct

    def _env(self, slot):
        kafka_port = self.kafka.slot_ports[slot]
        self.kafka.advertised[slot] = self._port("kafka", slot, kafka_port)
        return {
            "KAFKA_BROKERS": "127.0.0.1:%d" % self.kafka.advertised[slot],
            "KAFKA_CONSUMER_GROUP": GROUP,
            "KAFKA_TOPIC_EMAIL_EVENTS": TOPIC,
            "KAFKA_TOPIC_EMAIL_DLQ": DLQ,
            # Whoever is killed is missed after two seconds, not after ten.
            "KAFKA_CONFIG_SESSION_TIMEOUT_MS": "2000",
            "KAFKA_CONFIG_HEARTBEAT_INTERVAL_MS": "300",
            "KAFKA_CONFIG_SOCKET_TIMEOUT_MS": "4000",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(self._port("redis", slot, self.redis.port)),
            "IDEMPOTENCY_LEASE_SECONDS": str(self.options.lease),
            "EMAIL_MODE": "smtp",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self._port("relay", slot, self.relay.port)),
            "SMTP_TLS": "none",
            "SMTP_FROM": "noreply@example.com",
            "SMTP_MAX_CONNECTIONS": "10",
            "SMTP_CONNECT_TIMEOUT_SECONDS": "2",
            "SMTP_TIMEOUT_SECONDS": "3",
            "SMTP_AMBIGUOUS_POLICY": self.options.policy,
            "SMTP_OUTAGE_POLICY": "hold",
            "EMAIL_MAX_ATTEMPTS": "12",
            "EMAIL_RETRY_BASE_MS": "100",
            "EMAIL_RETRY_MAX_MS": "1500",
            "SHUTDOWN_TIMEOUT_SECONDS": "10",
        }

    def start(self):
        self.kafka.start()
        self.redis.start()
        self.relay.start()
        self.client = KafkaClient(self.kafka.bootstrap)
        self.client.create_topic(TOPIC, PARTITIONS)
        self.client.create_topic(DLQ, 1)
        for instance in self.instances[:EXTRA_SLOT]:
            instance.start()
        return self

    def open_records(self):
        """Partition → (committed, end) where they differ, and the committed offsets."""
        end, committed = self.client.end_offsets(TOPIC), self.client.committed(GROUP, TOPIC)
        return {p: (committed[p], end[p]) for p in end if committed[p] != end[p]}, committed

    def drain(self, timeout):
        """Waits until nothing is open; what is open at the end, and the committed offsets."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                still_open, committed = self.open_records()
                if not still_open or time.monotonic() > deadline:
                    return still_open, committed
            except KafkaException:  # a broker that is just back does not know all its partitions at once
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.25)

    def stop_instances(self):
        """Exit statuses after SIGTERM."""
        return {i.slot: i.leave() for i in self.instances if i.running}

    def destroy(self):
        for part in (*self.instances, self.relay, self.redis, self.kafka, self.proxies):
            if part:
                part.destroy()


PUBLICATION = "chaos-publication"  # a record's header: the number of the publication


class Publisher:
    """Publishes the plan by the clock, in a thread. Which record came to lie where is read from the topic at the end.

    One request at a time keeps the order over retries; a retry after a lost acknowledgement publishes an event twice,
    as publishers do.
    """

    def __init__(self, bootstrap, plan):
        self.plan, self.failures = plan, []
        self._producer = Producer({
            "bootstrap.servers": bootstrap, "linger.ms": 2, "log_level": 0, "reconnect.backoff.max.ms": 300,
            "acks": "all", "max.in.flight.requests.per.connection": 1, "message.timeout.ms": 0,
            "message.send.max.retries": 1000000, "socket.timeout.ms": 5000})
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self, begin):
        self._begin = begin
        self._thread.start()

    def finish(self, timeout=120):
        self._thread.join(timeout)
        left = self._producer.flush(timeout)
        if self._thread.is_alive() or left:
            self.failures.append("%d records could not be published" % left)

    def _run(self):
        for number, publication in enumerate(self.plan):
            while True:
                wait = self._begin + publication.at - time.monotonic()
                if wait <= 0:
                    break
                self._producer.poll(min(wait, 0.1))
            event = publication.event
            self._producer.produce(TOPIC, event.value, event.key, headers={PUBLICATION: str(number)},
                                   on_delivery=self._delivered)
            self._producer.poll(0)

    def _delivered(self, error, _message):
        if error is not None:
            self.failures.append("publishing: %s" % error)


def places(records):
    """(partition, offset) → number of the publication."""
    return {(r.partition, r.offset): int(dict(r.headers)[PUBLICATION]) for r in records}


def instance_logs(cluster, message):
    """How often a log message was written, by all instances."""
    count = 0
    for instance in cluster.instances:
        if instance.log.exists():
            with open(instance.log, encoding="utf-8", errors="replace") as log:
                count += sum(1 for line in log if '"msg":%s' % json.dumps(message) in line)
    return count
