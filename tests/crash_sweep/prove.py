"""Breaks the service on purpose, one way at a time, in a copy of the sources: the sweep has to find each out."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("cmd", "lib", "cmake", "CMakeLists.txt", "templates")

ACTIONS, SCRIPTS, CLAIM = ("lib/delivery/pipeline_actions.c", "lib/idempotency/redis_scripts.c",
                           "lib/idempotency/claim.c")


@dataclass
class Fault:
    name: str
    file: str
    old: str
    new: str
    sweep: list  # arguments
    said: str  # what the sweep has to say


FAULTS = [
    Fault("the sent mark is written before the final dot", SCRIPTS,
          """redis.call('SET', KEYS[i], 'D' .. claimed:sub(2) .. '|' .. deadline .. '|' .. \"""",
          r"""n = '}' redis.call('SET', KEYS[i], '{\"state\":\"sent\",\"fp\":\"' .. claimed:match('[^|]*$') .. """
          r"""'\",\"token\":\"' .. ARGV[2 * i] .. '\"' .. """ '"',
          ["--path", "sent", "--segment", "2"], "LOST"),
    Fault("no fence: the final dot leaves under a mere claim", ACTIONS,
          "store_fence(p->parts.store, &job->claim, on_fenced, job);",
          "on_fenced(job, STORE_DONE);",
          ["--path", "sent", "--segment", "1"], "unexplained duplicate"),
    Fault("somebody else's claim counts as sent", CLAIM,
          "CLAIM_DECIDE_OURS : conflict ? CLAIM_DECIDE_CONFLICT : CLAIM_DECIDE_WAIT;",
          "CLAIM_DECIDE_OURS : conflict ? CLAIM_DECIDE_CONFLICT : CLAIM_DECIDE_DUPLICATE;",
          ["--path", "sent", "--segment", "1"], "LOST"),
    Fault("the offset is committed when the event is claimed", ACTIONS,
          "        start_renew_timer(job);\n    report_claim(job, answer);",
          "        start_renew_timer(job);\n"
          "    if (answer->verdict == CLAIM_WON)\n"
          "        pipeline_of(job)->callbacks.done(pipeline_of(job)->ctx, job->record.partition,\n"
          "                                         job->record.generation, job->record.offset);\n"
          "    report_claim(job, answer);",
          ["--path", "slow", "--short"], "LOST"),
    Fault("a dead letter is marked before Kafka acknowledged it", ACTIONS,
          "    job->burying = true;\n",
          "    job->burying = true;\n    do_mark_dead(job);\n",
          ["--path", "invalid", "--short"], "LOST"),
    Fault("a mail in doubt is sent again although it should be parked", "lib/delivery/machine.c",
          "    if (m->inherited) {\n        m->takeovers = answer->takeovers;\n        if (policy->park_ambiguous) {",
          "    if (m->inherited) {\n        m->takeovers = answer->takeovers;\n        if (false) {",
          ["--path", "sent", "--policy", "park", "--segment", "2"], "duplicate although parked"),
]


def copy_sources(to):
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name)
        elif source.exists():
            shutil.copy(source, to / name)


def build(tree):
    def run(*command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout[-3000:]
    if not (tree / "build").exists():
        run("cmake", "-S", str(tree), "-B", str(tree / "build"), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
            "-DEMAIL_BUILD_TESTS=OFF")
    run("ninja", "-C", str(tree / "build"), "email-service")


def fits(fault, text):
    return text.count(fault.old) == 1


def found_out(tree, fault, kill_at):
    path = tree / fault.file
    good = path.read_text()
    assert fits(fault, good), "'%s' does not fit %s any more: adapt it" % (fault.name, fault.file)
    path.write_text(good.replace(fault.old, fault.new))
    try:
        build(tree)
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("sweep.py")), "--kill-at", kill_at, *fault.sweep],
            env=dict(os.environ, EMAIL_BUILD_DIR=str(tree / "build")), stdout=subprocess.PIPE, text=True)
    finally:
        path.write_text(good)
    said = [line for line in done.stdout.splitlines() if fault.said in line]
    verdict = done.returncode == 1 and said
    print("%-9s %s\n          %s" % ("FOUND OUT" if verdict else "MISSED", fault.name, said[0] if said else ""),
          flush=True)
    if not verdict:
        print(done.stdout)
    return bool(verdict)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kill-at", required=True)
    kill_at = parser.parse_args().kill_at
    tree = Path(tempfile.mkdtemp(prefix="broken-"))
    try:
        copy_sources(tree)
        results = [found_out(tree, fault, kill_at) for fault in FAULTS]
    finally:
        shutil.rmtree(tree)
    print("PASSED" if all(results) else "FAILED")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
