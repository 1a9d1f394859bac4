"""The ledger as a table for people, and the evidence as files where something is wrong."""

import json
import shutil
from collections import Counter
from pathlib import Path

from schedule import KILLS

ROWS = ("events", "records", "delivered", "dead-lettered", "delivered and dead-lettered, ambiguous", "still to come",
        "lost", "mails taken", "taken without an answer", "dead letters", "dead letters doubled",
        "… of events without a messageID", "… of events published twice", "dead letters doubled, unexplained", "dots at faults", "lost by Redis", "duplicates",
        "duplicates by Redis' losses", "unexplained", "pairs in order")


def fault_counts(faults):
    return Counter(fault.kind for fault in faults)


def print_table(run, verdict):
    f = verdict.figures
    print("\nLedger of seed %s (%s, policy %s)" % (run["seed"], run["form"], run["policy"]))
    for row in ROWS:
        print("  %-44s %7d" % (row, f[row]))
    kinds = fault_counts(run["faults"])
    print("  faults: %d, of these kill -9: %d" % (sum(kinds.values()), sum(n for k, n in kinds.items() if k in KILLS)))
    for kind, count in sorted(kinds.items()):
        at_risk = sum(len(r.at_risk) for r in run["faults"] if r.kind == kind)
        lost = sum(len(r.lost) for r in run["faults"] if r.kind == kind)
        print("    %-20s %4d   dots %5d   lost %4d" % (kind, count, at_risk, lost))
    if verdict.causes:
        print("  causes of what is there twice:")
        for cause, count in verdict.causes.most_common():
            print("    %-44s %4d" % (cause, count))
    for name, value in run["facts"].items():
        print("  %-44s %s" % (name, value))


def print_problems(problems, limit=30):
    for problem in problems[:limit]:
        print("  PROBLEM %s" % problem)
    if len(problems) > limit:
        print("  … and %d more" % (len(problems) - limit))


def figures(run, verdict):
    """One JSON line for a table of several seeds."""
    return dict({row: verdict.figures[row] for row in ROWS}, seed=run["seed"], form=run["form"],
                policy=run["policy"], faults=dict(sorted(fault_counts(run["faults"]).items())), **run["facts"])


def write_evidence(folder, run, verdict, problems, published, letters):
    """All that is needed to find out what happened: beside the servers' and instances' own logs."""
    def lines(name, items):
        with open(folder / name, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(item, default=_plain) + "\n" for item in items)
    lines("run.jsonl", [{name: value for name, value in run.items() if name != "faults"}])
    lines("problems.jsonl", problems)
    lines("faults.jsonl", (vars(fault) for fault in run["faults"]))
    lines("events.jsonl", (vars(p) for p in published))
    lines("dead-letters.jsonl", (vars(letter) for letter in letters))
    lines("duplicates.jsonl", verdict.duplicates if verdict else [])


def _plain(value):
    return sorted(value) if isinstance(value, set) else str(value)


def keep(folder, target):
    """Moves the run's folder, without Kafka's data, to where it is looked for."""
    target = Path(target)
    shutil.rmtree(folder / "kafka" / "data", ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(str(folder), target)
    return target
