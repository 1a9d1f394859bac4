"""A real Apache Kafka for the tests: one KRaft node from the jars that tests/kafka/pom.xml names."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
import uuid
import xml.etree.ElementTree as ElementTree
from collections import namedtuple
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lib_process import Process, free_port, release_port, wait_for

POM = Path(__file__).resolve().parent.parent / "kafka" / "pom.xml"

Record = namedtuple("Record", "partition offset key value headers")


def cache_dir():
    chosen = os.environ.get("EMAIL_TEST_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "email-service-tests"


def _kafka_version():
    pom = ElementTree.parse(POM).getroot()
    return pom.find(".//{*}properties/{*}kafka.version").text


def kafka_jars():
    """The folder with the jars; filled from Maven's repository by whoever comes first."""
    cache = cache_dir()
    jars = cache / ("kafka-" + _kafka_version())
    if jars.is_dir():
        return jars
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():
            filling = Path(tempfile.mkdtemp(prefix="filling-", dir=cache))
            try:
                _copy_jars(filling)
                filling.chmod(0o755)
                filling.rename(jars)
            finally:
                shutil.rmtree(filling, ignore_errors=True)
    return jars


def _copy_jars(folder):
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies",
               "-DincludeScope=runtime", "-DoutputDirectory=%s" % folder]
    env = dict(os.environ, MAVEN_OPTS="-XX:-UsePerfData")  # no /tmp/hsperfdata_* left behind
    for attempt in range(1, 4):
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode == 0 and any(folder.glob("kafka_2.13-*.jar")):
            return
        time.sleep(0.4 * attempt)
    raise RuntimeError("cannot fetch the Kafka jars with Maven:\n" + done.stdout)


class KafkaServer:
    """One broker and controller in a process of its own. Ports and data stay over stop, kill and restart."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port, self._controller_port = free_port(), free_port()
        self.bootstrap = "127.0.0.1:%d" % self.port
        self.process = None
        self._classpath = str(kafka_jars() / "*")
        self._config = self.folder / "server.properties"
        self._log = self.folder / "server.log"

    def _java(self, *args):
        # One compiler tier and the serial collector: a third of the CPU that a broker's start costs otherwise.
        return ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData",
                "-Djava.io.tmpdir=%s" % self.folder, "-Djava.awt.headless=true",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", self._classpath, *args]

    def _write_config(self):
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": "1@127.0.0.1:%d" % self._controller_port,
            "listeners": "PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d" % (
                self.port, self._controller_port),
            "advertised.listeners": "PLAINTEXT://" + self.bootstrap,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "3",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "group.coordinator.append.linger.ms": "0",
            "log.cleaner.enable": "false",
            "message.max.bytes": "4194304",
            "replica.fetch.max.bytes": "4194304",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "num.recovery.threads.per.data.dir": "1",
            "controlled.shutdown.enable": "false",
            # A killed broker that comes back waits for its own old session to end.
            "broker.session.timeout.ms": "1500",
            "broker.heartbeat.interval.ms": "300",
        }
        self._config.write_text("".join("%s=%s\n" % item for item in lines.items()))

    def start(self, wait=True):
        if not self._config.exists():
            self._write_config()
            formatted = subprocess.run(
                self._java("kafka.tools.StorageTool", "format", "-t", "ZW1haWwtc2VydmljZS10ZQ",
                           "-c", str(self._config)),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert formatted.returncode == 0, formatted.stdout
        with open(self._log, "ab") as log:
            self.process = Process(self._java("kafka.Kafka", str(self._config)), cwd=self.folder,
                                   stdout=log, stderr=log)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout=60):
        wait_until_ready(self.bootstrap, timeout, lambda: self.process.running, self.log_tail)

    def log_tail(self):
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-40:])

    def stop(self):
        if self.process:
            self.process.terminate(timeout=30)

    def kill(self):
        self.process.kill()

    def freeze(self):
        self.process.freeze()

    def thaw(self):
        self.process.thaw()

    def destroy(self):
        if self.process:
            self.process.kill()
        for port in (self.port, self._controller_port):
            release_port(port)
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_until_ready(bootstrap, timeout=60, alive=lambda: True, log_tail=lambda: ""):
    """Waits until the broker answers with itself as a member of the cluster."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200})

    def ready():
        assert alive(), "Kafka ended:\n" + log_tail()
        try:
            return len(admin.list_topics(timeout=1).brokers) == 1
        except KafkaException:
            return False

    wait_for(ready, timeout, lambda: "Kafka at %s:\n%s" % (bootstrap, log_tail()))


class KafkaClient:
    """What the tests do with a broker, ours or the mock one of --dev."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self._settings = {"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200}
        self._producer = None

    def create_topic(self, topic, partitions=3, config=None):
        admin = AdminClient(self._settings)
        for future in admin.create_topics([NewTopic(topic, partitions, 1, config=config or {})],
                                          operation_timeout=15).values():
            future.result(20)
        # The controller has it; the broker that is asked for it may learn of it a moment later.
        wait_for(lambda: self.topics().get(topic) == partitions, 20, "topic %s in the broker's metadata" % topic)

    def topics(self):
        """Name → number of partitions."""
        found = AdminClient(self._settings).list_topics(timeout=10).topics
        return {name: len(topic.partitions) for name, topic in found.items()}

    def produce(self, topic, records, partition=None):
        """Sends (key, value, headers) triples, or bare values, in order; waits until the broker has all."""
        if self._producer is None:
            self._producer = Producer(dict(self._settings, **{
                "message.max.bytes": 4000000, "linger.ms": 2, "enable.idempotence": True,
                # Records without a key go to all partitions, not in long runs to one.
                "sticky.partitioning.linger.ms": 0,
                "queue.buffering.max.messages": 200000}))
        failures = []

        def delivered(error, _message):
            if error is not None:
                failures.append(error)

        for record in records:
            key, value, headers = record if isinstance(record, tuple) else (None, record, None)
            more = {} if partition is None else {"partition": partition}
            if headers:
                more["headers"] = headers
            self._producer.produce(topic, value=value, key=key, on_delivery=delivered, **more)
        left = self._producer.flush(60)
        assert not left and not failures, "not produced: %s, %d left" % (failures, left)

    def _consumer(self, group):
        return Consumer(dict(self._settings, **{
            "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 4000000, "fetch.wait.max.ms": 20, "enable.partition.eof": True}))

    def _partitions(self, consumer, topic):
        return sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions)

    def read_all(self, topic, timeout=20):
        """Every record that is in the topic now, partition by partition."""
        consumer = self._consumer("reader-" + uuid.uuid4().hex)
        try:
            waiting = set(self._partitions(consumer, topic))
            consumer.assign([TopicPartition(topic, p, 0) for p in waiting])
            records, deadline = [], time.monotonic() + timeout
            while waiting:
                assert time.monotonic() < deadline, "cannot read %s" % topic
                message = consumer.poll(0.5)
                if message is None:
                    continue
                if message.error():
                    if message.error().code() == KafkaError._PARTITION_EOF:
                        waiting.discard(message.partition())
                    continue
                records.append(Record(message.partition(), message.offset(), message.key(),
                                      message.value(), message.headers() or []))
            return sorted(records, key=lambda r: (r.partition, r.offset))
        finally:
            consumer.close()

    def end_offsets(self, topic):
        consumer = self._consumer("reader-" + uuid.uuid4().hex)
        try:
            return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1]
                    for p in self._partitions(consumer, topic)}
        finally:
            consumer.close()

    def committed(self, group, topic):
        """Partition → committed offset; 0 where none is committed yet."""
        consumer = self._consumer(group)
        try:
            partitions = [TopicPartition(topic, p) for p in self._partitions(consumer, topic)]
            return {t.partition: max(t.offset, 0) for t in consumer.committed(partitions, timeout=10)}
        finally:
            consumer.close()

    def wait_committed(self, group, topic, timeout=30):
        """Waits until the group has committed the topic's end."""
        end = self.end_offsets(topic)
        seen = {}

        def at_end():
            seen.update(self.committed(group, topic))
            return seen == end

        wait_for(at_end, timeout, lambda: "offsets %s to be committed, stand at %s" % (end, seen),
                 interval=0.1)
        return end
