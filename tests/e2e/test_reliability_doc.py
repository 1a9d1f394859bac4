"""docs/RELIABILITY.md: every row of the fault catalogue names tests that exist and are run. Needs no server."""

import ast
import json
import os
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = re.compile(r"`([\w./-]+)::(\w+)`")
SCRIPT = re.compile(r"`((?:scripts|tests)/[\w./-]+\.sh)`")
EVENT_ROW = re.compile(r"row “([^”]+)”")


def catalogue():
    """(fault, outcome, proof) of each row below the heading "Fault catalogue"."""
    text = (ROOT / "docs/RELIABILITY.md").read_text(encoding="utf-8")
    part = re.split(r"^## ", text.split("\n## Fault catalogue\n", 1)[1], maxsplit=1, flags=re.M)[0]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in part.splitlines() if line.startswith("|")]
    return [row for row in rows if row[0] != "fault or bad input" and not set(row[0]) <= set("-: ")]


@lru_cache(maxsize=None)
def python_tests(path):
    """The functions that pytest takes from a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    nodes = list(tree.body)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            nodes += node.body
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@lru_cache(maxsize=None)
def c_tests(path):
    """The functions that a file defines and also has in a table of tests."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", (ROOT / path).read_text(encoding="utf-8"), flags=re.S)
    defined = set(re.findall(r"^static void (\w+)\(void \*\*\w+\)\s*\{", text, flags=re.M))
    tables = "".join(re.findall(r"struct CMUnitTest \w+\[\] = \{(.*?)\};", text, flags=re.S))
    return defined & set(re.findall(r"\w+", tables))


def problem_of(path, name):
    """What is wrong with a reference; None where nothing is."""
    if not (ROOT / path).is_file():
        return "there is no " + path
    if re.fullmatch(r"tests/e2e/test_\w+\.py", path):
        return None if name in python_tests(path) else "%s has no test %s" % (path, name)
    if re.fullmatch(r"tests/unit/test_\w+\.c", path):
        return None if name in c_tests(path) else "%s runs no test %s" % (path, name)
    return "%s is nothing that the test command runs" % path


def problems_of(row):
    if len(row) != 3 or not all(row):
        return ["a row needs three cells"]
    references, scripts = REFERENCE.findall(row[2]), SCRIPT.findall(row[2])
    if not references and not scripts:
        return ["names no test"]
    found = [problem_of(*reference) for reference in references]
    found += ["no script %s" % s for s in scripts if not os.access(ROOT / s, os.X_OK)]
    rows = {json.loads(line)["name"] for line in
            (ROOT / "tests/data/events.jsonl").read_text(encoding="utf-8").splitlines() if line.strip()}
    found += ["events.jsonl has no row %r" % name for name in EVENT_ROW.findall(row[2]) if name not in rows]
    return [problem for problem in found if problem]


def test_each_row_names_existing_tests():
    wrong = {row[0]: problems_of(row) for row in catalogue() if problems_of(row)}
    assert not wrong


def test_the_catalogue_is_long_enough():
    faults = [row[0] for row in catalogue()]
    assert len(faults) >= 60
    assert len(set(faults)) == len(faults), "a fault has two rows"


@pytest.mark.parametrize("proof", [
    "", "somebody tried it", "`tests/e2e/test_nothing.py::test_x`", "`tests/e2e/test_crash.py::test_nothing`",
    "`tests/e2e/test_crash.py::crash_before_the_mark`", "`tests/e2e/lib_kafka.py::KafkaServer`",
    "`tests/unit/test_machine.c::nothing`", "`tests/unit/test_redis_faults.c::assert_works`",
    "`scripts/nothing.sh`", "`lib/email/event.c::event_decode`",
    "`tests/e2e/test_bad_events.py::test_one_dead_letter_each`, row “no such row”"])
def test_a_row_without_proof_is_found(proof):
    assert problems_of(["a fault", "an outcome", proof])


@pytest.mark.parametrize("proof", [
    "`tests/e2e/test_crash.py::test_killed_before_the_dot`", "`tests/unit/test_machine.c::random_walks`",
    "`tests/unit/test_redis_faults.c::test_loading`", "`tests/unit/test_store.c::test_one_claimant_wins`",
    "`tests/e2e/test_bad_events.py::test_one_dead_letter_each`, row “not JSON”"])
def test_a_row_with_proof_is_good(proof):
    assert problems_of(["a fault", "an outcome", proof]) == []
