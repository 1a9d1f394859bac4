"""What a mail costs as something grows: bench/run.sh --growth. Each point is a run of its own, checked like every
other; rounds are interleaved, and the median of each figure counts."""

import base64
import json
import math
import os
import statistics
import time
import uuid
import xml.etree.ElementTree as ElementTree
from typing import Callable, NamedTuple

from confluent_kafka import Producer

import plot
from bench import CountingSink, Meter, free_port, listens, release_port, stats, wait_for
from deferring_sink import DeferringSink

TEXT = "Your code is below. If you didn\u2019t ask for it, ignore this.\\n" * 8
HTML = '<p class=\\"code\\">Enter it on the sign-in page, near Z\u00fcrich.</p>\\n' * 18
EVENT_BYTES = 2200  # without an attachment


# ---- events ----

def event(message_id, to, more=""):
    return ('{"messageID":"%s","type":"verification_code","to":"%s","subject":"Your verification code 123456",'
            '"text":"%s","html":"%s"%s}' % (message_id, to, TEXT, HTML, more)).encode()


def new_prefix():
    return "growth-%s-" % uuid.uuid4().hex[:8]


def plain(count, prefix=None, more=""):
    """(key, value) of that many events for different people."""
    prefix = prefix or new_prefix()
    for n in range(count):
        to = "user%d@example.com" % n
        yield to, event("%s%d" % (prefix, n), to, more)


def publish(bench, events, partitions=None):
    """Into a new topic, which is returned."""
    topic = bench.new_topic(partitions)
    publish_into(bench, topic, events)
    return topic


def publish_into(bench, topic, events):
    failures = []
    producer = Producer({"bootstrap.servers": bench.kafka.bootstrap, "enable.idempotence": True, "linger.ms": 5,
                         "batch.size": 524288, "log_level": 0})  # as the producer library has it

    def delivered(error, _message):
        if error is not None:
            failures.append(error)

    for key, value in events:
        while True:
            try:
                producer.produce(topic, value, key, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
    left = producer.flush(120)
    assert not left and not failures, "not published: %s, %d left" % (failures[:3], left)


# ---- what grows ----

def run_backlog(bench, count):
    return bench.run_service(publish(bench, plain(count)), count, CountingSink)


# As lib/idempotency/redis_scripts.c leaves them: a mark each, and how many expire in which minute.
FILL = """
local t = redis.call('TIME')
for i = ARGV[1], ARGV[2] do
  local left = 3600000 + (i % 1440) * 60000
  redis.call('SET', 'email:sent:filled-' .. i, ARGV[3], 'PX', left)
  redis.call('HINCRBY', 'email:records', string.format('%.0f', math.ceil((t[1] * 1000 + left) / 60000) * 60000), 1)
end
redis.call('PEXPIRE', 'email:records', 90000000)
"""
MARK = json.dumps({"state": "sent", "sentAt": "2026-11-21T08:10:42.123Z", "attempts": 1, "recipients": 1,
                   "fp": "0" * 32, "token": "host-1-0123456789abcdef-1"})


def run_records(bench, records):
    count, prefix = bench.args.n, new_prefix()
    topic = publish(bench, plain(count, prefix))
    redis = bench.redis.client
    redis.flushall()
    for begin in range(0, records, 10000):
        redis.eval(FILL, 0, begin, min(begin + 10000, records) - 1, MARK)

    def at_end(process, port):
        wait_for(lambda: stats(port, "/health")["idempotency_records"] == records + count, 20, "the records counted")
        return {**http_cost(process, port, "health"), **http_cost(process, port, "stats")}

    return bench.run_backlog(topic, count, CountingSink, count, prefix + "*", at_end=at_end)


def http_cost(process, port, page, times=200):
    """One request after the other, each on a connection of its own."""
    took, meter = [], Meter(process.pid)
    for _ in range(times):
        begin = time.perf_counter()
        stats(port, "/" + page)
        took.append(time.perf_counter() - begin)
    return {page + "_ms": statistics.median(took) * 1000, page + "_max_ms": max(took) * 1000,
            page + "_cpu_us": meter.figures(times)["cpu_us"]}


def run_window(bench, window):
    topic = publish(bench, plain(bench.args.n))
    return bench.run_service(topic, bench.args.n, CountingSink, EMAIL_MAX_IN_FLIGHT=window)


def run_partitions(bench, partitions):
    return bench.run_service(publish(bench, plain(bench.args.n), partitions), bench.args.n, CountingSink)


INSTANCE_PARTITIONS = 12


def assigned(port):
    return listens(port) and len(stats(port)["kafka"]["partitions"])


def run_instances(bench, instances):
    """All have joined and stand still while the backlog is published: else the first would work it off alone."""
    count, topic = bench.args.n, publish(bench, [], INSTANCE_PARTITIONS)
    bench.redis.client.flushall()
    sink, ports, processes = CountingSink(str(bench.folder)), [], []
    try:
        for _ in range(instances):
            ports.append(free_port())
            processes.append(bench.service(topic, sink, ports[-1]))
        share = INSTANCE_PARTITIONS // instances
        wait_for(lambda: all(assigned(p) == share for p in ports), 60, "the group", 0.05)
        for process in processes:
            process.freeze()
        publish_into(bench, topic, plain(count))
        meter = Meter(*(p.pid for p in processes))
        for process in processes:
            process.thaw()
        wait_for(lambda: sink.count() >= count, 120, "the mails", interval=0.005)
        result = meter.figures(count)
        bench.check(topic, count, count, sink)
        for process in processes:
            bench.expect("exit status", process.terminate(40), 0)
        return result
    finally:
        for process in processes:
            process.kill()
        sink.destroy()
        for port in ports:
            release_port(port)


def run_attachment(bench, size):
    """So many mails that the relay gets about the same number of bytes at each size."""
    encoded = base64.b64encode(os.urandom(size)).decode()
    more = ',"attachments":[{"filename":"a.pdf","contentType":"application/pdf","content":"%s"}]' % encoded
    count = max(20, bench.args.n * 3 * EVENT_BYTES // (EVENT_BYTES + len(encoded)))
    topic = publish(bench, plain(min(bench.args.n, count), more=more if size else ""))
    return bench.run_service(topic, min(bench.args.n, count), CountingSink)


def prepare_duplicates(bench):
    """Marks the mails that the runs find sent."""
    prefix = new_prefix()
    bench.run_service(publish(bench, plain(bench.args.n, prefix)), bench.args.n, CountingSink)
    return prefix


def run_duplicates(bench, percent, sent_prefix):
    """The duplicates are spread evenly among the new ones."""
    count, prefix = bench.args.n, new_prefix()
    events = [old if n * 37 % 100 < percent else new
              for n, (old, new) in enumerate(zip(plain(count, sent_prefix), plain(count, prefix)))]
    duplicates = sum(n * 37 % 100 < percent for n in range(count))
    topic = publish(bench, events)
    return bench.run_backlog(topic, count, CountingSink, count - duplicates, prefix + "*")


def deferred(count, percent):
    for n, (key, value) in enumerate(plain(count)):
        defer = n * 37 % 100 < percent
        yield key, value.replace(b'"to":"user', b'"to":"defer') if defer else value


def run_deferred(bench, percent):
    """Each of these is refused once with 450. Retried sooner than by default, so that what waits doesn't fill the
    window and the service is not idle: idle turns of the loop carry fewer mails each."""
    count = bench.args.n // 2
    return bench.run_service(publish(bench, deferred(count, percent)), count, DeferringSink, EMAIL_RETRY_BASE_MS=100)


def run_waiting(bench, count):
    """All are refused once, and nearly all wait at the same time: what a full window takes in memory."""
    return bench.run_service(publish(bench, deferred(count, 100)), count, DeferringSink, EMAIL_MAX_IN_FLIGHT=count,
                             EMAIL_RETRY_BASE_MS=10000)


class Sweep(NamedTuple):
    label: str  # of the x axis
    values: Callable
    run: Callable
    prepare: Callable = None
    memory_grows: bool = False  # and is drawn against a linear axis
    memory_only: bool = False


SWEEPS = {
    "backlog": Sweep("events waiting", lambda a: [a.n // 20, a.n // 2, a.n * 5] + [a.n * 50] * a.huge, run_backlog),
    "records": Sweep("dedup records in Redis before", lambda a: [0, a.n // 2, a.n * 5, a.n * 50], run_records),
    "window": Sweep("EMAIL_MAX_IN_FLIGHT", lambda _: [16, 64, 250, 1000, 4000, 16000], run_window),
    "partitions": Sweep("partitions", lambda _: [1, 2, 4, 8, 16, 32, 64], run_partitions,
                        memory_grows=True),
    "instances": Sweep("instances", lambda _: [1, 2, 3, 4], run_instances),
    "attachment": Sweep("attachment, bytes", lambda _: [0, 10000, 50000, 100000, 300000, 700000], run_attachment,
                        memory_grows=True),
    "duplicates": Sweep("duplicates, %", lambda _: [0, 25, 50, 75, 100], run_duplicates, prepare_duplicates),
    "deferred": Sweep("mails that get a 450 first, %", lambda _: [0, 10, 25, 50], run_deferred),
    "waiting": Sweep("mails that wait for a retry", lambda a: [a.n // 80, a.n // 20, a.n // 5, a.n * 4 // 5],
                     run_waiting, memory_grows=True, memory_only=True),
}


# ---- running and showing ----

def measure(bench):
    for name in bench.args.growth:
        rows = sweep(bench, SWEEPS[name])
        show(SWEEPS[name], rows)
        keep(bench.args, name, rows)
    print("checks: %s" % ("; ".join(bench.problems) or "ok"))
    draw(bench.args.out)


def check(bench):
    """Duplicates and deferred mails; correctness only."""
    run_duplicates(bench, 50, prepare_duplicates(bench))
    run_deferred(bench, 50)
    rows = [{"x": x, "cpu_us": 10 * x, "machine_us": 20 * x, "rate": 1 + x, "rss_mb": 20} for x in (0, 1, 1000)]
    ElementTree.fromstring(plot.svg(panels(SWEEPS["backlog"], rows)))


def sweep(bench, what):
    """The median of each figure at each value."""
    prepared = [what.prepare(bench)] if what.prepare else []
    found = {x: [] for x in what.values(bench.args)}
    for _ in range(bench.args.rounds):
        for x, runs in found.items():
            runs.append(what.run(bench, x, *prepared))
    return [dict({key: round(statistics.median(r[key] for r in runs), 3) for key in runs[0]}, x=x)
            for x, runs in found.items()]


def exponents(rows, key):
    """e where the figure goes like x^e between two neighbours: 0 constant, 1 linear; None at the first."""
    pairs = zip([None] + rows, rows)
    return [a and a["x"] > 0 and math.log(b[key] / a[key]) / math.log(b["x"] / a["x"]) for a, b in pairs]


def show(what, rows):
    keys = [key for key in rows[0] if key != "x"]
    print("%-30s %s  CPU ~ x^" % (what.label, " ".join("%14s" % key for key in keys)))
    for row, power in zip(rows, exponents(rows, "cpu_us")):
        print("%-30s %s %s" % (row["x"], " ".join("%14.2f" % row[key] for key in keys),
                               "%8.2f" % power if power else ""), flush=True)


def keep(args, name, rows):
    """Beside what is there already: sweeps may be run one at a time."""
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "growth.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[name] = {"n": args.n, "rounds": args.rounds, "connections": args.connections, "rows": rows}
    path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def draw(folder):
    for name, kept in json.loads((folder / "growth.json").read_text()).items():
        (folder / ("growth-%s.svg" % name)).write_text(plot.svg(panels(SWEEPS[name], kept["rows"])))


def panels(what, rows):
    def panel(title, lines, **how):
        points = {name: [(row["x"], row[key]) for row in rows] for name, key in lines.items()}
        return plot.Panel(title, what.label, points, **how)

    memory = panel("Peak memory (RSS), MB", {"RSS": "rss_mb"}, **({"x_decades": math.inf} if what.memory_grows else {}))
    if what.memory_only:
        return [memory]
    made = [panel("CPU time a mail, µs", {"email-service": "cpu_us", "whole machine": "machine_us"}),
            panel("Mails a second", {"rate": "rate"}), memory]
    if "health_ms" in rows[0]:
        made.append(panel("Median answer time, ms", {"/health": "health_ms", "/stats": "stats_ms"}))
    return made
