"""What bench/run.sh runs; see there and bench/README.md."""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

from lib_kafka import KafkaClient, KafkaServer  # noqa: E402
from lib_process import Process, free_port, release_port, wait_for  # noqa: E402
from lib_redis import RedisServer  # noqa: E402
from lib_sink import SmtpSink, _program  # noqa: E402
from smtp_server import SmtpServer  # noqa: E402

BIN = Path(os.environ["EMAIL_BUILD_DIR"]) / "bin"
TICK = os.sysconf("SC_CLK_TCK")


# ---- measuring ----

def cpu_seconds(pid):
    fields = Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_mb(pid):
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/%d/status" % pid).read_text())[1]) / 1024


def machine_seconds():
    """CPU of everything, interrupts too, since loopback's work is charged to them."""
    fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:3]) + fields[5] + fields[6]) / TICK


class CountingSink(SmtpSink):
    """smtp-sink that counts what it has taken."""

    def __init__(self, folder):
        super().__init__(folder, "-c")

    def count(self):
        with open(self._log.name, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 400))
            found = re.findall(rb"mesg=\s*(\d+)\s*[\r\n]", log.read())
        return int(found[-1]) if found else 0

    def messages(self):
        return None  # it keeps none


class KeepingSink:
    """For small numbers: every mail is kept, to tell one from another."""

    def __init__(self, _folder):
        self.server = SmtpServer().start()
        self.port = self.server.port

    def count(self):
        return len(self.server.mails)

    def messages(self):
        return [re.search(rb"^Message-ID: (\S+)", m.data, re.M | re.I)[1] for m in list(self.server.mails)]

    def destroy(self):
        self.server.stop()


def metrics(port):
    with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % port, timeout=10) as answer:
        return answer.read().decode()


def percentile(text, name, part):
    """The upper bound of the histogram's bucket that holds it, in milliseconds."""
    buckets = [(float(bound), int(count)) for bound, count in
               re.findall(name + r'_bucket\{le="([^"]+)"\} (\d+)', text)]
    total = buckets[-1][1] if buckets else 0
    return next((bound * 1000 for bound, count in buckets if count >= part * total), None) if total else None


# ---- one run ----

class Bench:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.kafka = KafkaServer(folder / "kafka").start()
        self.client = KafkaClient(self.kafka.bootstrap)
        self.redis = RedisServer(folder / "redis").start()
        self.redis.client.config_set("appendfsync", "everysec")
        self.problems = []

    def close(self):
        self.redis.destroy()
        self.kafka.destroy()

    def publish(self, way, topic, count, rate=None):
        words = [str(BIN / "bench_publish"), way, self.kafka.bootstrap, topic, str(count)]
        done = subprocess.run(words + ([str(rate)] if rate else []), stdout=subprocess.PIPE, text=True, timeout=600)
        assert done.returncode == 0, "publishing failed: %s" % done.stdout
        return json.loads(done.stdout)

    def new_topic(self):
        topic = "bench-" + uuid.uuid4().hex[:8]
        self.client.create_topic(topic, self.args.partitions)
        self.client.create_topic(topic + "-dlq", 1)
        return topic

    def service(self, topic, sink, http_port):
        env = {"PATH": os.environ.get("PATH", ""), "KAFKA_BROKERS": self.kafka.bootstrap,
               "KAFKA_CONSUMER_GROUP": "group-" + topic, "KAFKA_TOPIC_EMAIL_EVENTS": topic,
               "KAFKA_TOPIC_EMAIL_DLQ": topic + "-dlq", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(self.redis.port),
               "EMAIL_MODE": "smtp", "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(sink.port), "SMTP_TLS": "none",
               "SMTP_FROM": "noreply@example.com", "SMTP_MAX_CONNECTIONS": str(self.args.connections),
               "EMAIL_SERVICE_LISTEN": "127.0.0.1", "EMAIL_SERVICE_PORT": str(http_port)}
        log = open(self.folder / "service.log", "wb")
        return Process([str(BIN / "email-service")], env=env, cwd=self.folder, stdout=log, stderr=log)

    def check(self, topic, count, sink):
        """N mails, N marks, N committed, no dead letter."""
        self.expect("mails", sink.count(), count)
        if sink.messages() is not None:
            self.expect("distinct mails", len(set(sink.messages())), count)
        marks = [v for k in self.redis.client.scan_iter("email:sent:*", 5000) for v in [self.redis.client.get(k)]]
        self.expect("marks", sum(1 for v in marks if v and json.loads(v)["state"] == "sent"), count)
        self.expect("committed", sum(self.client.wait_committed("group-" + topic, topic, 60).values()), count)
        self.expect("dead letters", sum(self.client.end_offsets(topic + "-dlq").values()), 0)

    def expect(self, what, found, wanted):
        if found != wanted:
            self.problems.append("%s: %s instead of %s" % (what, found, wanted))

    def run_service(self, topic, count, sink_type):
        """The backlog of a topic, from the first to the last mail."""
        self.redis.client.flushall()
        sink, http_port = sink_type(str(self.folder)), free_port()
        process = self.service(topic, sink, http_port)
        try:
            wait_for(lambda: sink.count() > 0, 120, "the first mail", interval=0.002)
            begin, cpu, machine, had = time.monotonic(), cpu_seconds(process.pid), machine_seconds(), sink.count()
            wait_for(lambda: sink.count() >= count, 600, lambda: "%d of %d mails" % (sink.count(), count), interval=0.005)
            wall, sent = time.monotonic() - begin, max(1, count - had)
            result = {"rate": sent / max(wall, 1e-6), "cpu_us": (cpu_seconds(process.pid) - cpu) / sent * 1e6,
                      "machine_us": (machine_seconds() - machine) / sent * 1e6, "rss_mb": peak_mb(process.pid)}
            self.check(topic, count, sink)
            self.expect("exit status", process.terminate(40), 0)
            return result
        finally:
            process.kill()
            sink.destroy()
            release_port(http_port)

    def run_source(self, count):
        sink = CountingSink(str(self.folder))
        program = Path(_program()).with_name("smtp-source")
        try:
            begin, machine = time.monotonic(), machine_seconds()
            child = subprocess.Popen([str(program), "-s", str(self.args.connections), "-m", str(count), "-l", "2600", "-d",
                                      "-f", "from@example.com", "-t", "user@example.com", "127.0.0.1:%d" % sink.port])
            ended, peak = 0, 0.0
            while not ended:  # ru_maxrss would include this program's own, from before exec
                try:
                    peak = max(peak, peak_mb(child.pid))
                except (OSError, TypeError):
                    pass  # it has ended
                ended, status, usage = os.wait4(child.pid, os.WNOHANG)
                time.sleep(0 if ended else 0.01)
            child.returncode = os.waitstatus_to_exitcode(status)
            wall = time.monotonic() - begin
            self.expect("smtp-source's exit status", child.returncode, 0)
            return {"rate": count / wall, "cpu_us": (usage.ru_utime + usage.ru_stime) / count * 1e6,
                    "machine_us": (machine_seconds() - machine) / count * 1e6, "rss_mb": peak}
        finally:
            sink.destroy()

    def run_latency(self, rate, seconds=10):
        """Record in Kafka to the relay's 250, with events coming at that rate."""
        topic = self.new_topic()
        self.redis.client.flushall()
        sink, http_port = CountingSink(str(self.folder)), free_port()
        process = self.service(topic, sink, http_port)
        try:
            wait_for(lambda: self.assigned(http_port), 60, "the group", interval=0.05)
            self.publish("lib", topic, int(rate * seconds), int(rate))
            wait_for(lambda: sink.count() >= int(rate * seconds), 60, "the mails")
            text = metrics(http_port)
            return {"p50_ms": percentile(text, "email_end_to_end_seconds", 0.5),
                    "p99_ms": percentile(text, "email_end_to_end_seconds", 0.99)}
        finally:
            process.terminate(40)
            sink.destroy()
            release_port(http_port)

    @staticmethod
    def assigned(port):
        try:
            return "email_consumer_lag{" in metrics(port)
        except OSError:
            return False


# ---- what to run ----

def check(bench):
    topic = bench.new_topic()
    bench.publish("lib", topic, bench.args.n)
    bench.run_service(topic, bench.args.n, KeepingSink)
    subprocess.run([str(BIN / "bench_micro"), "100"], check=True, stdout=subprocess.DEVNULL)
    print("%d events: %s" % (bench.args.n, "; ".join(bench.problems) or "every mail once, marked and committed"))


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def measure(bench):
    args, ours, source, ways = bench.args, [], [], {"lib": [], "raw": []}
    topic = bench.new_topic()
    bench.publish("raw", bench.new_topic(), 100)  # a new broker's first producer waits for its coordinator
    for _ in range(args.rounds):
        for way in ("raw", "lib"):
            ways[way].append(bench.publish(way, topic if way == "lib" and not ways["lib"] else bench.new_topic(), args.n))
    for number in range(args.rounds):
        for run in [lambda: ours.append(bench.run_service(topic, args.n, CountingSink)),
                    lambda: source.append(bench.run_source(args.n))][:: 1 if number % 2 else -1]:
            run()
        topic = topic if number + 1 == args.rounds else bench.new_topic()
        if number + 1 < args.rounds:
            bench.publish("lib", topic, args.n)
    print("%-16s %10s %12s %14s %8s" % ("", "mails/s", "CPU us/mail", "machine us/mail", "RSS MB"))
    for name, rows in (("email-service", ours), ("smtp-source", source)):
        print("%-16s %10.0f %12.1f %14.0f %8.1f" % (name, *(median(rows, k) for k in
                                                           ("rate", "cpu_us", "machine_us", "rss_mb"))))
    print("rate, of smtp-source's: %.2f" % statistics.median(a["rate"] / b["rate"] for a, b in zip(ours, source)))
    latency = bench.run_latency(max(10, median(ours, "rate") * 0.2))
    print("at 20 %% of that rate, record to the relay's 250: p50 <= %s ms, p99 <= %s ms" % (
        latency["p50_ms"], latency["p99_ms"]))
    for way in ("lib", "raw"):
        print("publishing, %s: %.0f events/s, %.1f us CPU" % (way, median(ways[way], "rate"), median(ways[way], "cpu_us")))
    print("producer library, of raw librdkafka's rate: %.2f" % statistics.median(
        a["rate"] / b["rate"] for a, b in zip(ways["lib"], ways["raw"])))
    print("checks: %s" % ("; ".join(bench.problems) or "ok"))


def main():
    parser = argparse.ArgumentParser(prog="bench/run.sh")
    parser.add_argument("-n", type=int, help="events (20000; with --check 300)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--micro", action="store_true", help="the pure parts alone")
    parser.add_argument("--check", action="store_true", help="correctness only")
    args = parser.parse_args()
    if args.micro:
        return subprocess.run([str(BIN / "bench_micro")]).returncode
    args.n = args.n or (300 if args.check else 20000)
    folder = Path(tempfile.mkdtemp(prefix="email-service-bench-"))
    folder.chmod(0o755)  # smtp-sink drops its privileges
    bench = None
    try:
        bench = Bench(args, folder)
        (check if args.check else measure)(bench)
        return 1 if bench.problems else 0
    finally:
        if bench:
            bench.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
