"""One instance under a steady mixture of events for a long time: memory, descriptors and threads must stay flat.

Called by scripts/soak.sh. Real Kafka and Redis, and a relay that also refuses (relay.py). The mixture: mails of different
sizes, replies 4xx and 5xx, events that are invalid, expired, published twice, or in conflict.
"""

import argparse
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from lib_kafka import KafkaClient, KafkaServer  # noqa: E402
from lib_process import LineReader, Process, free_port, port_answers, wait_for  # noqa: E402
from lib_redis import RedisServer  # noqa: E402
from lib_service import EmailService  # noqa: E402

WARM_UP = 0.25              # of the events
RSS_KB_PER_100K = 2048      # growth allowed after the warm-up, or
RSS_SHARE_PER_100K = 0.02   # … this share of it, whichever is more
FD_GROWTH, THREAD_GROWTH = 4, 1
AHEAD = 2000                # events published and not yet finished: more of them stand in memory, fetched, which is no leak
BATCH = 500
STALL_SECONDS = 180


def make_event(number):
    """The value of the number-th record, and what is to become of it."""
    kind = number % 200
    event = {"messageID": "soak-%d" % number, "type": "welcome", "to": "user-%d@example.com" % number,
             "subject": "Number %d" % number, "text": "Hello %d\n" % number + "line of text\n" * (number % 60)}
    outcome = "sent"
    if kind == 1:
        return b'{"messageID":"soak-%d","to":[]}' % number, "dead"
    if kind == 2:
        event["expiresAt"], outcome = "2020-01-01T00:00:00Z", "dead"
    elif kind in (3, 4):
        event["to"], outcome = "gone-%d@example.com" % number, "dead"
    elif kind in (5, 6, 7):
        event["to"] = "busy-%d@example.com" % number
    elif kind in (8, 9):
        event["to"] = "later-%d@example.com" % number
    elif kind in (110, 111):  # 110 numbers ago it was sent
        return make_event(number - 100)[0], "duplicate"
    elif kind == 112:
        event["messageID"], outcome = "soak-%d" % (number - 100), "dead"  # id_conflict
    if number % 10 == 0:
        content = base64.b64encode(bytes(number % 251 for _ in range(number % 30000))).decode()
        event["attachments"] = [{"filename": "a.bin", "contentType": "application/octet-stream", "content": content}]
        event["html"] = "<p>%d</p>" % number
    return json.dumps(event).encode(), outcome


class Counters:
    """What the service says it has done, from /metrics."""

    NAMES = {"sent": "email_sent_total", "dead": "email_dead_letters_total", "duplicate": "email_duplicates_total",
             "retries": "email_retries_total"}

    def __init__(self, text):
        for name, metric in self.NAMES.items():
            values = re.findall(r"^%s(?:\{[^}]*\})? (\S+)$" % metric, text, re.M)
            setattr(self, name, int(sum(float(value) for value in values)))

    @property
    def done(self):
        return self.sent + self.dead + self.duplicate


class Sample:
    FIELDS = ("seconds", "done", "rss_kb", "fds", "sockets", "threads", "redis_kb")

    def __init__(self, seconds, done, pid, redis):
        status = Path("/proc/%d/status" % pid).read_text()
        links = []
        for link in os.listdir("/proc/%d/fd" % pid):
            try:
                links.append(os.readlink("/proc/%d/fd/%s" % (pid, link)))
            except FileNotFoundError:
                pass
        self.seconds, self.done = round(seconds, 1), done
        self.rss_kb = int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
        self.threads = int(re.search(r"Threads:\s+(\d+)", status).group(1))
        self.fds, self.sockets = len(links), sum(link.startswith("socket:") for link in links)
        self.redis_kb = redis.info("memory")["used_memory"] // 1024

    def row(self):
        return [getattr(self, field) for field in self.FIELDS]


class Publisher(threading.Thread):
    def __init__(self, kafka, topic, events):
        super().__init__(daemon=True)
        self.kafka, self.topic, self.events = kafka, topic, events
        self.expected, self.published, self.done, self.error = Counter(), 0, 0, None

    def run(self):
        try:
            while self.published < self.events:
                if self.published - self.done > AHEAD:
                    time.sleep(0.05)
                    continue
                made = [make_event(n) for n in range(self.published, min(self.published + BATCH, self.events))]
                # A duplicate or a conflict has its own key: it comes on another partition, at another time.
                self.kafka.produce(self.topic, [(b"%d" % (self.published + i), value, None)
                                                for i, (value, _) in enumerate(made)])
                self.expected.update(outcome for _, outcome in made)
                self.published += len(made)
        except Exception as error:  # told by whoever waits
            self.error = error


class Soak:
    def __init__(self, folder, events):
        self.folder, self.events, self.samples, self.running = folder, events, [], []

    def start(self):
        self.kafka_server = KafkaServer(self.folder / "kafka").start()
        self.running.append(self.kafka_server.destroy)
        self.redis = RedisServer(self.folder / "redis")
        self.redis.folder.mkdir(exist_ok=True)
        self.redis.start()
        self.running.append(self.redis.kill)
        port = free_port()
        self.relay = Process([sys.executable, str(ROOT / "tests/soak/relay.py"), str(port)],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.running.append(self.relay.kill)
        self.relay_says = LineReader(self.relay.popen.stdout)
        wait_for(lambda: port_answers(port), 30, lambda: "the relay:\n" + self.relay_says.text())
        self.kafka = KafkaClient(self.kafka_server.bootstrap)
        self.kafka.create_topic("soak", 6)
        self.kafka.create_topic("soak-dlq", 1)
        self.service = EmailService(self.folder / "service", {
            "KAFKA_BROKERS": self.kafka_server.bootstrap, "KAFKA_CONSUMER_GROUP": "soak",
            "KAFKA_TOPIC_EMAIL_EVENTS": "soak", "KAFKA_TOPIC_EMAIL_DLQ": "soak-dlq", "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(self.redis.port), "EMAIL_MODE": "smtp", "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port),
            "SMTP_TLS": "none", "SMTP_FROM": "noreply@example.com", "EMAIL_RETRY_BASE_MS": "100",
        }, stdout=os.open(os.devnull, os.O_WRONLY))
        self.service.wait_ready(60)

    def stop(self):
        if getattr(self, "service", None):
            self.service.process.kill()
        for end in reversed(self.running):
            end()

    def counters(self):
        return Counters(self.service.http("/metrics", timeout=60).body)

    def run(self):
        publisher = Publisher(self.kafka, "soak", self.events)
        begin = last_progress = time.monotonic()
        publisher.start()
        while publisher.done < self.events:
            time.sleep(1)
            now, counters = time.monotonic(), self.counters()
            assert publisher.error is None, "publishing failed: %s" % publisher.error
            assert self.service.process.running, "the service ended:\n" + self.service.stderr
            if counters.done > publisher.done:
                last_progress = now
            assert now - last_progress < STALL_SECONDS, "no event finished for %d s, %d of %d are" % (
                STALL_SECONDS, counters.done, self.events)
            publisher.done = counters.done
            self.samples.append(Sample(now - begin, counters.done, self.service.process.pid, self.redis.client))
            if sys.stderr.isatty():
                print("\r%d of %d, RSS %d kB " % (counters.done, self.events, self.samples[-1].rss_kb), end="",
                      file=sys.stderr)
        self.kafka.wait_committed("soak", "soak", 60)
        self.expected, self.counted = publisher.expected, self.counters()

    # ---- the verdict ----

    def faults(self):
        steady = [s for s in self.samples if s.done >= self.events * WARM_UP]
        if len(steady) < 8:
            return ["too few samples (%d) after the warm-up: more events, please" % len(steady)]
        half = len(steady) // 2
        slope, allowed = growth_per_100k(steady), max(RSS_KB_PER_100K, RSS_SHARE_PER_100K * steady[0].rss_kb)
        found = []
        if slope > allowed:
            found.append("RSS grows by %d kB per 100 000 events, more than %d" % (slope, allowed))
        for name, allowed in (("fds", FD_GROWTH), ("threads", THREAD_GROWTH)):
            early, late = (median(getattr(s, name) for s in part) for part in (steady[:half], steady[half:]))
            if late > early + allowed:
                found.append("%s grow from %d to %d" % (name, early, late))
        for outcome in ("sent", "dead", "duplicate"):
            if getattr(self.counted, outcome) != self.expected[outcome]:
                found.append("%s: %d expected, %d counted" % (
                    outcome, self.expected[outcome], getattr(self.counted, outcome)))
        return found

    def report(self):
        steady = [s for s in self.samples if s.done >= self.events * WARM_UP]
        seconds = self.samples[-1].seconds
        figures = {
            "events": self.events, "seconds": seconds, "events_per_second": round(self.events / seconds),
            "sent": self.counted.sent, "dead_letters": self.counted.dead, "duplicates": self.counted.duplicate,
            "retries": self.counted.retries,
            "rss_kb_after_warm_up": steady[0].rss_kb if steady else None, "rss_kb_at_end": self.samples[-1].rss_kb,
            "rss_kb_peak": max(s.rss_kb for s in self.samples),
            "rss_kb_growth_per_100k_events": round(growth_per_100k(steady)) if len(steady) > 1 else None,
            "fds_min_max": [min(s.fds for s in steady), max(s.fds for s in steady)] if steady else None,
            "threads_min_max": [min(s.threads for s in steady), max(s.threads for s in steady)] if steady else None,
            "redis_kb_at_end": self.samples[-1].redis_kb,
            "redis_bytes_per_event": round(self.samples[-1].redis_kb * 1024 / self.events),
        }
        return figures


def median(values):
    values = sorted(values)
    return values[len(values) // 2]


def growth_per_100k(samples):
    """Least squares: kB of RSS by events finished."""
    n = len(samples)
    x, y = sum(s.done for s in samples) / n, sum(s.rss_kb for s in samples) / n
    spread = sum((s.done - x) ** 2 for s in samples)
    return 1e5 * sum((s.done - x) * (s.rss_kb - y) for s in samples) / spread if spread else 0.0


def main():
    parser = argparse.ArgumentParser(prog="scripts/soak.sh")
    parser.add_argument("--events", type=int, default=200000)
    parser.add_argument("--output", type=Path, required=True, help="folder for samples.csv and figures.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="email-soak-") as folder:
        os.chmod(folder, 0o755)
        soak = Soak(Path(folder), args.events)
        try:
            soak.start()
            soak.run()
        finally:
            soak.stop()
    args.output.mkdir(parents=True, exist_ok=True)
    rows = [Sample.FIELDS] + [s.row() for s in soak.samples]
    (args.output / "samples.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    figures, faults = soak.report(), soak.faults()
    (args.output / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    for fault in faults:
        print("FAILED: " + fault, file=sys.stderr)
    return 1 if faults else 0


sys.exit(main())
