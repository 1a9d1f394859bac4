"""One run under chaos and its ledger: see scripts/chaos.sh --help."""

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

import schedule as schedules  # noqa: E402
import workload  # noqa: E402
from cluster import DLQ, TOPIC, Cluster, Publisher, instance_logs, places  # noqa: E402
from faults import Faults  # noqa: E402
from ledger import Copy, Letter, Published, reconcile  # noqa: E402
from observer import Observer  # noqa: E402
from report import figures, keep, print_problems, print_table, write_evidence  # noqa: E402
from toxiproxy import Unavailable, program as toxiproxy_program  # noqa: E402

DRAIN_SECONDS = 120


def parse_arguments(argv):
    parser = argparse.ArgumentParser(prog="scripts/chaos.sh", description="Nothing lost, every duplicate explained.")
    parser.add_argument("--events", type=int, default=10000)
    parser.add_argument("--kills", type=int, default=200, help="kill -9s; half as many other faults come on top")
    parser.add_argument("--others", type=int, help="other faults (default: half the kills)")
    parser.add_argument("--seed", default=None, help="default: drawn, and printed")
    parser.add_argument("--gap", type=float, default=2.2, help="mean seconds between two faults")
    parser.add_argument("--lease", type=int, default=2, help="IDEMPOTENCY_LEASE_SECONDS")
    parser.add_argument("--policy", choices=("resend", "park"), default="resend")
    parser.add_argument("--no-network-faults", dest="network", action="store_false")
    parser.add_argument("--only", type=lambda text: tuple(text.split(",")), default=(),
                        help="only these kinds of fault, with commas")
    parser.add_argument("--build-dir", required=True)
    parser.add_argument("--evidence", default=None, help="folder for the evidence of a failed run")
    parser.add_argument("--keep", action="store_true", help="keep the evidence of a good run as well")
    parser.add_argument("--figures", help="append the figures to this file, a JSON line a run")
    parser.add_argument("--print-schedule", action="store_true", help="only print the faults of this seed")
    options = parser.parse_args(argv)
    options.seed = options.seed or secrets.token_hex(4)
    if options.others is None:
        options.others = options.kills // 2
    unknown = set(options.only) - set(schedules.TIMES)
    if unknown:
        parser.error("--only: no such kind of fault: %s" % ", ".join(sorted(unknown)))
    return options


def faults_of(options):
    return schedules.make(options.seed, options.kills, options.others, options.gap, options.lease, options.network,
                          options.only)


def copies_of(lines):
    answered = {line["number"] for line in lines if line["line"] == "answered"}
    return [Copy(line["number"], line["time"], line["event"], line["message_id"], line["sha256"],
                 tuple(line["recipients"]), line["number"] in answered)
            for line in lines if line["line"] == "taken"]


def published_of(plan, lying):
    events = {}
    for publication in plan:
        e = publication.event
        events.setdefault(e.id, Published(e.id, e.kind, e.key, e.accepted, e.refused))
    for place, number in sorted(lying.items()):
        events[plan[number].event.id].records.append(place)
    return list(events.values())


def letters_of(dlq_records, plan, lying):
    originals = {place: plan[number].event for place, number in lying.items()}
    letters = []
    for record in dlq_records:
        dlq = {name[4:]: text.decode() for name, text in record.headers if name.startswith("dlq-")}
        source = int(dlq["partition"]), int(dlq["offset"])
        original = originals.get(source)
        same = original is not None and record.value == original.value and (
            record.key.decode() if record.key is not None else None) == original.key
        failed_at = time.mktime(time.strptime(dlq["failed-at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
        failed_at += float("0" + dlq["failed-at"][19:].rstrip("Z"))
        letters.append(Letter(source, original.id if original else None, dlq["reason"],
                              tuple(json.loads(dlq.get("recipients", "[]"))), failed_at, same))
    return letters


class Run:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.schedule = faults_of(options)
        seconds = schedules.end_of(self.schedule) + 1
        self.plan = workload.make(options.seed, options.events, self.schedule, seconds)
        self.facts, self.problems, self.verdict = {}, [], None
        program = Path(options.build_dir) / "bin" / "email-service"
        if not program.exists():
            raise SystemExit("%s is missing: build it first" % program)
        self.cluster = Cluster(folder, options.seed, str(program.resolve()), options)
        self.published, self.letters = [], []

    def carry_out(self):
        started = time.monotonic()
        self.cluster.start()
        self.observer = Observer(self.cluster.redis)
        self.observer.start()
        self.faults = Faults(self.cluster, self.observer)
        self.publisher = Publisher(self.cluster.kafka.bootstrap, self.plan)
        begin = time.monotonic() + 1.0
        print("chaos: %d events, %d records, %d faults in %.0f s, seed %s" % (
            self.options.events, len(self.plan), len(self.schedule), schedules.end_of(self.schedule),
            self.options.seed), flush=True)
        self.publisher.start(begin)
        self.faults.run(self.schedule, begin)
        self.publisher.finish()
        self.facts["seconds of faults"] = round(time.monotonic() - begin, 1)
        draining = time.monotonic()
        self.still_open, self.committed = self.cluster.drain(DRAIN_SECONDS)
        self.facts["seconds to drain"] = round(time.monotonic() - draining, 1)
        self._collect()
        self.facts["wall seconds"] = round(time.monotonic() - started, 1)

    def _collect(self):
        cluster = self.cluster
        for slot, status in cluster.stop_instances().items():
            if status != 0:
                self.problems.append("instance %d: exit status %s at the end" % (slot, status))
        self.observer.stop()
        lying = places(cluster.client.read_all(TOPIC, timeout=60))
        self.published = published_of(self.plan, lying)
        self.letters = letters_of(cluster.client.read_all(DLQ, timeout=60), self.plan, lying)
        self.problems += self.publisher.failures + self.faults.problems
        if self.observer.failure:
            self.problems.append("the observer of Redis ended: " + self.observer.failure)
        if self.still_open:
            self.problems.append("not drained within %d s: %s" % (DRAIN_SECONDS, self.still_open))
        self.facts["ended by a fatal error of librdkafka"] = self.faults.fatal_errors
        self.facts["longest pause between two samples"] = round(self.observer.longest_pause, 2)
        self.facts["redelivered and skipped"] = instance_logs(
            cluster, "Duplicate email event detected, skipping")

    def judge(self):
        self.verdict = reconcile(self.published, copies_of(self.cluster.relay.lines()), self.letters,
                                 sorted(self.faults.records, key=lambda r: r.begin), self.committed,
                                 self.options.policy)
        self.problems += ["%s: %s %s" % (p.what, p.id, p.detail) for p in self.verdict.problems]
        if len(self.faults.records) != len(self.schedule):
            self.problems.append("%d of %d faults happened" % (len(self.faults.records), len(self.schedule)))
        return self.as_dict()

    def as_dict(self):
        o = self.options
        return {"seed": o.seed, "policy": o.policy, "facts": self.facts,
                "faults": sorted(self.faults.records, key=lambda r: r.begin),
                "form": "%d events, %d kills, %d other faults" % (o.events, o.kills, o.others)}


def _interrupted(_number, _frame):
    raise KeyboardInterrupt


def repeat_command(options):
    return ("scripts/chaos.sh --events %d --kills %d --others %d --gap %s --lease %d --policy %s --seed %s%s" % (
        options.events, options.kills, options.others, options.gap, options.lease, options.policy, options.seed,
        (" --only " + ",".join(options.only) if options.only else "")
        + ("" if options.network else " --no-network-faults")))


def main(argv):
    options = parse_arguments(argv)
    if options.print_schedule:
        for fault in faults_of(options):
            print(json.dumps(fault.as_dict()))
        return 0
    if options.network:
        try:
            toxiproxy_program()
        except Unavailable as error:
            print("chaos: %s\nWithout it there are no network faults; leave them out with --no-network-faults."
                  % error, file=sys.stderr)
            return 1
    signal.signal(signal.SIGTERM, _interrupted)
    folder = Path(tempfile.mkdtemp(prefix="email-chaos-"))
    run = Run(options, folder)
    try:
        run.carry_out()
        summary = run.judge()
        print_table(summary, run.verdict)
        if options.figures:
            with open(options.figures, "a", encoding="utf-8") as file:
                file.write(json.dumps(figures(summary, run.verdict)) + "\n")
        if run.problems or options.keep:
            write_evidence(folder, summary, run.verdict, run.problems, run.published, run.letters)
    except BaseException as error:
        run.problems.append("the run broke off: %r" % error)
        raise
    finally:
        run.cluster.destroy()
        print_problems(run.problems)
        if run.problems or options.keep:
            target = options.evidence or os.path.join(tempfile.gettempdir(), "email-chaos-evidence-" + options.seed)
            print("evidence: %s" % keep(folder, target))
            print("again: %s" % repeat_command(options))
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print("chaos: %s" % ("FAILED, %d problems" % len(run.problems) if run.problems
                         else "nothing lost, every duplicate explained"))
    return 1 if run.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
