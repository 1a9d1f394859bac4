"""How long a mail takes, exactly: from the record's being in Kafka to the relay's 250, at a given rate; and from the
group's assignment to the first mail of a backlog. Every mail is timed by the publisher (call, acknowledgement) and by a
sink of our own (its 250), with one clock, independently of the service's metrics.

  bench/run.sh --latency --rounds 5
"""

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from bench import BIN, Bench, CountingSink, metrics
from lib_process import free_port, release_port, wait_for

RELAY_MAILS, FULL_MAILS = 500, 20000


class TimedSink:
    def __init__(self, count):
        self.process = subprocess.Popen([str(BIN / "bench_timed_sink"), str(count)], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def instants(self, timeout):
        """Microseconds by the event's number; waits until all mails are there."""
        lines = self.process.communicate(timeout=timeout)[0].split("\n")[:-1]
        assert self.process.returncode == 0, "the sink failed"
        found = {int(number): int(us) for number, us in (line.split() for line in lines)}
        assert len(found) == len(lines), "%d mails came twice" % (len(lines) - len(found))
        return found

    def destroy(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def spread(values):
    return {"p50": percentile(values, 0.5), "p90": percentile(values, 0.9), "p99": percentile(values, 0.99),
            "p99.9": percentile(values, 0.999), "max": max(values)}


def service(bench, topic, sink):
    port = free_port()
    return bench.service(topic, sink, port, **bench.extra), port


def idle(port):
    """Every partition is assigned and worked on."""
    try:
        return metrics(port).count("email_consumer_lag{")
    except OSError:
        return 0


def run_rate(bench, rate, seconds):
    """Milliseconds of every mail: from Kafka's acknowledgement, and from the call."""
    count, topic = int(rate * seconds), bench.new_topic()
    bench.redis.client.flushall()
    sink, file = TimedSink(count), bench.folder / "published"
    process, port = service(bench, topic, sink)
    try:
        wait_for(lambda: idle(port) == bench.args.partitions, 60, "the group", interval=0.05)
        words = [str(BIN / "bench_publish"), "lib", bench.kafka.bootstrap, topic, str(count), str(int(rate)), "1",
                 str(file)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=seconds + 120)
        assert done.returncode == 0, "publishing failed: %s" % done.stdout
        taken = sink.instants(60)
        published = {int(n): (int(call), int(ack)) for n, call, ack in
                     (line.split() for line in file.read_text().splitlines())}
        bench.expect("distinct mails", len(taken), count)
        warm = range(min(count // 5, int(rate)), count)  # not the first second: connections are opened in it
        return {"acknowledged": [(taken[n] - published[n][1]) / 1000 for n in warm],
                "called": [(taken[n] - published[n][0]) / 1000 for n in warm]}
    finally:
        bench.expect("exit status", process.terminate(40), 0)
        sink.destroy()
        release_port(port)


def run_relay():
    """The sink's own time for a mail, in milliseconds: one connection, envelope and content in two round trips."""
    sink, spent = TimedSink(RELAY_MAILS), []
    content = b"Subject: x\r\n\r\n" + b"%s\r\n" % (b"x" * 70) * 38 + b".\r\n"
    try:
        with socket.create_connection(("127.0.0.1", sink.port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            replies = connection.makefile("rb")
            replies.readline()
            for number in range(RELAY_MAILS):
                begin = time.monotonic()
                connection.sendall(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<user%d@example.com>\r\nDATA\r\n" % number)
                for _ in range(3):
                    replies.readline()
                connection.sendall(content)
                replies.readline()
                spent.append((time.monotonic() - begin) * 1000)
        sink.instants(10)
        return spent
    finally:
        sink.destroy()


def assigned_us(log):
    """When the last partitions were assigned, by the service's log and CLOCK_MONOTONIC."""
    offset = time.time() - time.monotonic()
    found = [json.loads(line) for line in log.read_text().splitlines() if '"Kafka partitions assigned"' in line]
    assert found, "the log tells of no assignment"
    instant = datetime.fromisoformat(found[-1]["time"].replace("Z", "+00:00")).timestamp()
    return (instant - offset) * 1e6


def run_start(bench, topic, count=200):
    """Milliseconds from the process' start, and from the assignment, to the first mail of a backlog."""
    bench.publish("lib", topic, count)
    sink = TimedSink(count)
    begin = time.monotonic()
    process, port = service(bench, topic, sink)
    try:
        first = min(sink.instants(60).values())
        joined = assigned_us(bench.folder / ("service-%d.log" % port))
        return {"start": first / 1000 - begin * 1000, "assigned": (first - joined) / 1000}
    finally:
        bench.expect("exit status", process.terminate(40), 0)
        sink.destroy()
        release_port(port)


def run_starts(bench):
    """Of a group without a committed offset, and of the same again."""
    topic = bench.new_topic()
    bench.redis.client.flushall()
    return run_start(bench, topic), run_start(bench, topic)


def fifth_of_full_rate(bench):
    topic = bench.new_topic()
    bench.publish("lib", topic, FULL_MAILS)
    return bench.run_service(topic, FULL_MAILS, CountingSink)["rate"] / 5


def row(name, rounds):
    print("%-34s" % name, "  ".join("%s %7.2f" % (part, statistics.median(r[part] for r in rounds))
                                    for part in rounds[0]))


def measure(bench):
    args = bench.args
    bench.publish("raw", bench.new_topic(), 100)  # a new broker's first producer waits for its coordinator
    rate = args.rate or fifth_of_full_rate(bench)
    runs = [run_rate(bench, rate, args.seconds) for _ in range(args.rounds)]
    print("milliseconds, %.0f events/s, medians of %d rounds" % (rate, args.rounds))
    row("in Kafka to the relay's 250", [spread(run["acknowledged"]) for run in runs])
    row("the call to the relay's 250", [spread(run["called"]) for run in runs])
    row("the relay alone", [spread(run_relay())])
    starts = [run_starts(bench) for _ in range(args.rounds)]
    for number, group in enumerate(("new group", "known group")):
        for since in ("start", "assigned"):
            values = [start[number][since] for start in starts]
            name = "%s, %s to first mail" % (group, since)
            print("%-34s median %.0f  most %.0f" % (name, statistics.median(values), max(values)))
    print("checks: %s" % ("; ".join(bench.problems) or "ok"))


def main():
    parser = argparse.ArgumentParser(prog="bench/run.sh --latency", description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=float,
                        help="events a second (a fifth of the rate at which a backlog is worked off)")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="for the service")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="email-service-latency-"))
    folder.chmod(0o755)
    bench = None
    try:
        bench = Bench(args, folder)
        bench.extra = dict(pair.split("=", 1) for pair in args.set)
        measure(bench)
        return 1 if bench.problems else 0
    finally:
        if bench:
            bench.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
