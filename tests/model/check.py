#!/usr/bin/env python3
"""Checks the model of the delivery protocol (delivery.pml) with Spin: every run of runs.txt, on all cores.

    check.py            bounded budgets
    check.py --full     also every run with one more of each of its faults in turn (minutes)
    check.py -k TEXT    only the runs whose name contains TEXT
    check.py --trail    shows the counterexamples of the runs that are expected to fail, too

Exit code 0: all as expected; 1: a surprise, a truncated search included; 77: Spin is not installed."""
import argparse
import concurrent.futures
import copy
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODEL = ("delivery.pml", "mutations.pml")
BUDGETS = ("CRASHES", "ZOMBIES", "SILENCES", "AMBIGUITIES", "REFUSALS", "NACKS", "REBALANCES", "DRAINS", "LOSSES")
DEFAULTS = {"MAX_ATTEMPTS": 3, "MAX_RESENDS": 1}
# Functions of machine.c that take an input, and that the model does without.
NOT_MODELLED = {"on_prepared": "composing: a failure there is one before the dot"}
RUN_SECONDS = 1500


class Run:
    def __init__(self, line, properties, mutations):
        name, expected, wanted, parameters = (part.strip() for part in line.split("|"))
        self.name, self.fails, self.properties = name, expected == "fails", wanted.split()
        if expected not in ("holds", "fails"):
            sys.exit(f"runs.txt: {name}: expected is neither holds nor fails")
        self.parameters = dict(DEFAULTS, PROPS=sum(properties[p] for p in self.properties))
        for word in parameters.split():
            key, value = word.split("=")
            self.parameters[key] = mutations[value] if key == "MUTATION" else int(value)
        self.states = self.depth = self.megabytes = 0
        self.seconds, self.verdict, self.output, self.story = 0.0, "", "", ""

    def larger(self):
        """The same run with one more of each of its faults in turn. One that must fail fails with its own."""
        for budget in BUDGETS:
            if not self.fails and self.parameters.get(budget):
                run = copy.copy(self)
                run.parameters = dict(self.parameters, **{budget: self.parameters[budget] + 1})
                if budget == "REFUSALS":  # else the attempts are used up, a limit that has its own run
                    run.parameters["MAX_ATTEMPTS"] += 1
                run.name = f"  {self.name[:22]} +{budget.lower()}"
                yield run


# ---- the model's text against the code's ----

def sources():
    return {path: path.read_text() for folder in ("lib", "cmd") for path in sorted((ROOT / folder).rglob("*.c"))}


def check_names(text):
    """Every function and script that the model names exists, and every input and script is named."""
    code = sources()
    defined = set(re.findall(r"^[a-z][\w *]*?\b(\w+)\((?!\*)", "\n".join(code.values()), re.M))
    scripts = set(re.findall(r"\[(SCRIPT_\w+)\]", code[ROOT / "lib/idempotency/redis_scripts.c"]))
    inputs = set(re.findall(r"^static void (on_\w+)\(", code[ROOT / "lib/delivery/machine.c"], re.M))
    comments = " ".join(re.findall(r"/\*.*?\*/", text, re.S))
    named = set(re.findall(r"\b([a-z]\w+)\(\)", comments))
    named_scripts = set(re.findall(r"\bSCRIPT_\w+", comments))
    wrong = [f"the model names {n}(), which is in neither lib/ nor cmd/" for n in sorted(named - defined)]
    wrong += [f"the model names {n}, which redis_scripts.c does not have" for n in sorted(named_scripts - scripts)]
    wrong += [f"machine.c's {n}() is not in the model" for n in sorted(inputs - named - set(NOT_MODELLED))]
    wrong += [f"redis_scripts.c's {n} is not in the model" for n in sorted(scripts - named_scripts - {"SCRIPT_COUNT"})]
    return wrong, len(named) + len(named_scripts)


def read_runs(text, full):
    properties = {n: int(v) for n, v in re.findall(r"#define P_(\w+) +(\d+)", text)}
    mutations = {n: int(v) for n, v in re.findall(r"#define (\w+) +(\d+)", (HERE / "mutations.pml").read_text())}
    runs = []
    for line in (HERE / "runs.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        run = Run(line, properties, mutations)
        runs += [run, *run.larger()] if full else [run]
    used = {r.parameters.get("MUTATION") for r in runs}
    missing = [name for name, value in mutations.items() if value not in used]
    return runs, [f"no run tries the mutation {name}" for name in missing]


# ---- Spin ----

def build(folder):
    for name in MODEL:
        shutil.copy(HERE / name, folder)
    subprocess.run(["spin", "-a", "delivery.pml"], cwd=folder, check=True, stdout=subprocess.PIPE)
    # Unoptimised: an optimising compiler takes longer than it saves.
    subprocess.run(["cc", "-w", "-O0", "-DSAFETY", "-DNOREDUCE", "-DMEMLIM=4000", "-o", "pan", "pan.c"], cwd=folder, check=True)


def number(pattern, text):
    found = re.search(pattern, text)
    return float(found.group(1)) if found else 0


def judge(run, status):
    broken = re.search(r"assertion violated (.*?) \(at depth", run.output)
    if status != 0 or "out of memory" in run.output or "max search depth too small" in run.output or \
            "memory limit" in run.output or "Search not completed" in run.output and not broken:
        stuck = re.search(r"pan:\d+: invalid end state", run.output)
        run.verdict = "STUCK: waits for ever" if stuck else f"TRUNCATED or broken (exit code {status})"
    elif not re.search(r"errors: (\d+)", run.output):
        run.verdict = "BROKEN: no result"
    elif broken:
        run.verdict = "fails, as it must" if run.fails else f"VIOLATED: {broken.group(1)}"
    elif run.fails:
        run.verdict = "NOT NOTICED: it should fail"
    else:
        run.verdict = "holds"


def execute(run, folder):
    own = tempfile.mkdtemp(dir=folder)
    env = dict(os.environ, **{key: str(value) for key, value in run.parameters.items()})
    command = [folder + "/pan", "-m100000", "-w20"]
    begin = time.monotonic()
    try:
        done = subprocess.run(command, cwd=own, env=env, timeout=RUN_SECONDS, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        run.output, status = done.stdout, done.returncode
    except subprocess.TimeoutExpired:
        run.output, status = "", "time-out"
    run.seconds = time.monotonic() - begin
    run.states = int(number(r"(\d+) states, stored", run.output))
    run.depth = int(number(r"depth reached (\d+)", run.output))
    run.megabytes = number(r"([\d.]+)\s+total actual memory", run.output)
    judge(run, status)
    trail = os.path.join(own, "delivery.pml.trail")
    if os.path.exists(trail):
        told = subprocess.run([folder + "/pan", "-r", "delivery.pml.trail", "-n"], cwd=own, env=env, timeout=60, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
        steps = told.split("spin: trail ends")[0].splitlines()
        run.story = "\n".join("    " + line.strip() for line in steps if line.strip() and not line.startswith("MSC:"))
    shutil.rmtree(own)
    return run


def as_expected(run):
    return run.verdict in ("holds", "fails, as it must")


def show(run, with_trail):
    print(f"{run.name:34} {' '.join(run.properties):22} {run.states:>9} {run.depth:>6} {run.megabytes:>6.0f} "
          f"{run.seconds:>6.1f}  {run.verdict}", flush=True)
    if run.story and (with_trail or not as_expected(run)):
        print(run.story)
    elif not as_expected(run):
        print(run.output.split("unreached in")[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--trail", action="store_true")
    parser.add_argument("-k", default="", metavar="TEXT")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    text = (HERE / "delivery.pml").read_text()
    wrong, names = check_names(text)
    runs, missing = read_runs(text, options.full)
    for line in wrong + missing:
        print(line)
    if wrong or missing:
        return 1
    if not shutil.which("spin"):
        print("SKIPPED: Spin is not installed (Debian package spin)")
        return 77
    begin = time.monotonic()
    runs = [run for run in runs if options.k in run.name]
    with tempfile.TemporaryDirectory() as folder:
        build(folder)
        print(f"{names} names of the model are in the code; verifier built in {time.monotonic() - begin:.1f} s\n")
        print(f"{'run':34} {'property':22} {'states':>9} {'depth':>6} {'MB':>6} {'s':>6}  verdict")
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for done in pool.map(lambda run: execute(run, folder), runs):
                show(done, options.trail)
    surprises = [run.name for run in runs if not as_expected(run)]
    print(f"\n{len(runs)} runs, {sum(run.states for run in runs)} states, {time.monotonic() - begin:.0f} s")
    print(f"{len(surprises)} surprises: {', '.join(surprises)}" if surprises else "all as expected")
    return 1 if surprises or not runs else 0


if __name__ == "__main__":
    sys.exit(main())
