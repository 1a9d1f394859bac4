"""Kills the service at one system call after another; scripts/crash-sweep.sh says how to call it."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "e2e")]

from bench import Bench  # noqa: E402
from lib_kafka import KafkaClient, KafkaServer  # noqa: E402
from lib_redis import RedisServer  # noqa: E402
from plan import Density, Plan, Segment, segments_of  # noqa: E402
from reconcile import PATHS, POLICIES  # noqa: E402
from table import Report  # noqa: E402

REFERENCE_RUNS = 3
MORE_ROUNDS = 3  # where a slow machine shuffled the threads so that no kill fell into one of the stages
SHOWN_FAILURES = 5


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/crash-sweep.sh")
    parser.add_argument("--kill-at", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--path", choices=PATHS)
    parser.add_argument("--policy", choices=POLICIES)
    parser.add_argument("--segment", type=int)
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--to", dest="last", type=int)
    parser.add_argument("--benches", type=int, default=16)
    options = parser.parse_args()
    if options.first < 1:
        parser.error("--from counts from 1")
    return options


EVERY, SOME, FEW = Density(1, 1, 3), Density(10, 5, 3), Density(40, 12)


def sweeps(options):
    """(path, policy, density)"""
    if options.path or options.policy:
        return [(options.path or "sent", options.policy or "resend", FEW if options.short else EVERY)]
    if options.short:
        return [("sent", "resend", FEW), ("sent", "park", Density(400, 12)), ("refused", "resend", Density(400, 12))]
    # Up to the claim all paths are the same calls: every one of them once, every tenth in the other sweeps.
    return [("sent", "resend", EVERY), ("sent", "park", SOME), ("slow", "resend", Density(10, 5)),
            ("refused", "resend", SOME), ("refused", "park", SOME), ("invalid", "resend", SOME),
            ("unreadable", "resend", Density(10, 1))]


class Sweep:
    """One path under one policy."""

    def __init__(self, benches, path, policy, options):
        self.report, self.benches, self.options = Report(path, policy), benches, options
        self._lock, self._number, self._broken = threading.Lock(), 0, None
        for bench in benches:
            bench.set_up(path, policy)

    def _new_id(self):
        with self._lock:
            self._number += 1
            return "sweep-%s-%s-%05d" % (self.report.path, self.report.policy, self._number)

    def _try(self, bench, point):
        trial = bench.try_point(point, self._new_id())
        with self._lock:
            found = self.report.add(trial)
            for text in found if len(self.report.failures) <= SHOWN_FAILURES else ():
                print("segment %d, N = %d: %s\n  at the kill: %s\n  at the end:  %s" % (
                    point.segment, point.n, text, trial.kill, trial.end))
            if found and len(self.report.failures) == 1:
                print(trial.log)
        return trial

    def _work(self, bench, plan):
        try:
            while (taken := plan.take()) is not None:
                segment, point = taken
                plan.note(segment, point, self._try(bench, point).run.killed)
        except BaseException as error:  # reported by the main thread, which waits for this one
            plan.stopped = True
            with self._lock:
                self._broken = self._broken or (error, traceback.format_exc())

    def _in_parallel(self, plan, benches):
        threads = [threading.Thread(target=self._work, args=(b, plan), daemon=True) for b in benches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._broken:
            print(self._broken[1], file=sys.stderr)
            raise self._broken[0]

    def run(self, density):
        alone = Segment(0, length=REFERENCE_RUNS, step=1)
        self._in_parallel(Plan([alone], left_alone=True), self.benches[:REFERENCE_RUNS])
        lengths, chosen = self.report.lengths, self.options
        assert len(lengths) > 1, "nothing was sent to Redis or Kafka about the event: is the connection encrypted?"
        self.report.whole = chosen.segment is None and chosen.first == 1 and chosen.last is None
        segments = segments_of(lengths, density, chosen.segment, chosen.first, chosen.last)
        self._in_parallel(Plan(segments), self.benches)
        for _ in range(MORE_ROUNDS):
            if self.report.missed:
                self._in_parallel(Plan(segments_of(lengths, density)[1:]), self.benches)


class Servers:
    """One Kafka and one Redis for all."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="crash-sweep-"))
        self._kafka = self.redis = None
        self.benches = []

    def start(self, options):
        self._kafka = KafkaServer(self.folder / "kafka").start()
        self.redis = RedisServer(self.folder / "redis").start()
        self.kafka = KafkaClient(self._kafka.bootstrap)
        # The first of each: the shared producer, and the topic that holds committed offsets.
        self.kafka.create_topic("warm-up", 1)
        self.kafka.produce("warm-up", [b"-"])
        self.kafka.committed("warm-up", "warm-up")
        with ThreadPoolExecutor(options.benches) as threads:
            for bench in threads.map(lambda n: Bench(self.folder / ("bench-%d" % n), options.kill_at, self.kafka,
                                                     self.redis), range(options.benches)):
                self.benches.append(bench)

    def destroy(self):
        for bench in self.benches:
            bench.destroy()
        if self.redis:
            self.redis.destroy()
        if self._kafka:
            self._kafka.destroy()
        shutil.rmtree(self.folder, ignore_errors=True)


def run_one(benches, path, policy, density, options):
    begin = time.monotonic()
    sweep = Sweep(benches, path, policy, options)
    sweep.run(density)
    print("\n".join(sweep.report.lines()))
    print("took %d s\n" % (time.monotonic() - begin), flush=True)
    return sweep.report.good


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    servers = Servers()
    try:
        servers.start(options)
        good = [run_one(servers.benches, *what, options) for what in sweeps(options)]
    finally:
        servers.destroy()
    print("PASSED" if all(good) else "FAILED")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    status = main()
    sys.stdout.flush()
    os._exit(status)  # without waiting for librdkafka's threads
