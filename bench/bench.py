"""What the harness and growth.py measure with: clocks, sinks, and one run of the service on servers of its own."""

import json
import os
import re
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
    """Of all threads, by the process' own clock: /proc/PID/stat counts in steps of 10 ms."""
    return time.clock_gettime((~pid << 3) | 2)


def peak_mb(pid):
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/%d/status" % pid).read_text())[1]) / 1024


def machine_seconds():
    """CPU of everything, interrupts too, since loopback's work is charged to them."""
    fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:3]) + fields[5] + fields[6]) / TICK


class CountingSink(SmtpSink):
    """smtp-sink that counts what it has taken, in a log of its own: a former sink's count is not ours."""

    def __init__(self, folder):
        super().__init__(tempfile.mkdtemp(prefix="sink-", dir=folder), "-c")

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


def stats(port, path="/stats"):
    with urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, path), timeout=10) as answer:
        return json.load(answer)


def finished(port):
    """Events with a final outcome."""
    events = stats(port)["events"]
    return events["sent"] + events["duplicates"] + events["dead_letters"]


def listens(port):
    try:
        return bool(stats(port))
    except OSError:
        return False


class Meter:
    """CPU, wall time and memory of these processes between two instants."""

    def __init__(self, *pids):
        self.pids = pids
        self.begin = self.now()

    def now(self):
        return time.monotonic(), sum(cpu_seconds(p) for p in self.pids), machine_seconds()

    def figures(self, mails):
        wall, cpu, machine = (b - a for a, b in zip(self.begin, self.now()))
        return {"rate": mails / max(wall, 1e-6), "cpu_us": cpu / mails * 1e6, "machine_us": machine / mails * 1e6,
                "rss_mb": max(peak_mb(p) for p in self.pids)}


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

    def new_topic(self, partitions=None):
        topic = "bench-" + uuid.uuid4().hex[:8]
        self.client.create_topic(topic, partitions or self.args.partitions)
        self.client.create_topic(topic + "-dlq", 1)
        return topic

    def service(self, topic, sink, http_port, **more):
        env = {"PATH": os.environ.get("PATH", ""), "KAFKA_BROKERS": self.kafka.bootstrap,
               "KAFKA_CONSUMER_GROUP": "group-" + topic, "KAFKA_TOPIC_EMAIL_EVENTS": topic,
               "KAFKA_TOPIC_EMAIL_DLQ": topic + "-dlq", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(self.redis.port),
               "EMAIL_MODE": "smtp", "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(sink.port), "SMTP_TLS": "none",
               "SMTP_FROM": "noreply@example.com", "SMTP_MAX_CONNECTIONS": str(self.args.connections),
               "EMAIL_SERVICE_LISTEN": "127.0.0.1", "EMAIL_SERVICE_PORT": str(http_port)}
        env.update({name: str(value) for name, value in more.items()})
        with open(self.folder / ("service-%d.log" % http_port), "wb") as log:
            return Process([str(BIN / "email-service")], env=env, cwd=self.folder, stdout=log, stderr=log)

    def marks(self, match="*"):
        """How many mails are marked sent."""
        redis, found = self.redis.client, 0
        keys = list(redis.scan_iter("email:sent:" + match, 10000))
        for begin in range(0, len(keys), 5000):
            values = redis.mget(keys[begin:begin + 5000])
            found += sum(1 for v in values if v and v.startswith("{") and json.loads(v)["state"] == "sent")
        return found

    def check(self, topic, records, mails, sink, marks="*"):
        """Each mail once and marked, all records committed, no dead letter. The offset is the last step."""
        self.expect("mails", sink.count(), mails)
        if sink.messages() is not None:
            self.expect("distinct mails", len(set(sink.messages())), mails)
        self.expect("committed", sum(self.client.wait_committed("group-" + topic, topic, 60).values()), records)
        self.expect("marks", self.marks(marks), mails)
        self.expect("dead letters", sum(self.client.end_offsets(topic + "-dlq").values()), 0)

    def expect(self, what, found, wanted):
        if found != wanted:
            self.problems.append("%s: %s instead of %s" % (what, found, wanted))

    def run_service(self, topic, records, sink_type, mails=None, **env):
        """The backlog of a topic, from the first to the last mail."""
        self.redis.client.flushall()
        return self.run_backlog(topic, records, sink_type, mails or records, env=env)

    def run_backlog(self, topic, records, sink_type, mails, marks="*", env=None, at_end=lambda process, port: {}):
        """mails: fewer than records where some are duplicates. at_end: more figures from the idle service."""
        sink, http_port = sink_type(str(self.folder)), free_port()
        process = self.service(topic, sink, http_port, **(env or {}))
        done = sink.count if mails else lambda: listens(http_port) and finished(http_port)
        try:
            wait_for(done, 120, "the first mail", interval=0.002)
            meter, had = Meter(process.pid), done()
            wait_for(lambda: sink.count() >= mails, 600, lambda: "%d of %d mails" % (sink.count(), mails),
                     interval=0.005)
            if mails < records:
                wait_for(lambda: finished(http_port) >= records, 600, "the duplicates", interval=0.005)
            result = meter.figures(max(1, records - had))
            self.check(topic, records, mails, sink, marks)
            result.update(at_end(process, http_port))
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
            child = subprocess.Popen([str(program), "-s", str(self.args.connections), "-m", str(count), "-l", "2600",
                                      "-d", "-f", "from@example.com", "-t", "user@example.com",
                                      "127.0.0.1:%d" % sink.port])
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
