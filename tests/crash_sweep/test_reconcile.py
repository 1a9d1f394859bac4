"""The sweep's judge, fed with ledgers that no sound service leaves: each has to be found out."""

import pytest

from plan import Density, Plan, segments_of
from prove import FAULTS, ROOT, fits
from reconcile import (BEFORE, BURIED, CLAIMED, COMMITTED, FENCED, FINAL, REFUSED_OPEN, RELEASED, WINDOW, Found,
                       problems, stage)

SENT, DEAD = {"state": "sent"}, {"state": "dead"}
C, D = "C|token|fp", "D|token|fp|1|0"


def end(mark=SENT, copies=("a",), letters=(), committed=True):
    return Found(mark=mark, copies=list(copies), letters=list(letters), committed=committed)


def kill(mark=None, copies=(), dots=0, letters=(), committed=False):
    return Found(mark=mark, copies=list(copies), dots=dots or len(copies), letters=list(letters), committed=committed)


IN_WINDOW = kill(D, copies=["a"])


@pytest.mark.parametrize("path,found,expected", [
    ("sent", kill(), BEFORE),
    ("sent", kill(C), CLAIMED),
    ("sent", kill(D), FENCED),
    ("sent", IN_WINDOW, WINDOW),
    ("sent", kill(SENT, ["a"]), FINAL),
    ("sent", kill(SENT, ["a"], committed=True), COMMITTED),
    ("refused", kill(D, dots=1), REFUSED_OPEN),
    ("refused", kill(dots=1), RELEASED),
    ("refused", kill(dots=1, letters=["rejected"]), BURIED),
    ("invalid", kill(C, letters=["invalid_event"]), BURIED),
    ("invalid", kill(DEAD, letters=["invalid_event"]), FINAL),
    ("unreadable", kill(C, letters=["invalid_event"]), BURIED),
    ("unreadable", kill(DEAD, letters=["invalid_event"]), FINAL),
])
def test_stage(path, found, expected):
    assert stage(path, found) == expected


@pytest.mark.parametrize("path,policy,at_kill,at_end", [
    ("sent", "resend", kill(), end()),
    ("sent", "resend", kill(C), end()),
    ("sent", "resend", kill(D), end()),
    ("sent", "resend", IN_WINDOW, end(copies=["a", "a"])),
    ("sent", "park", kill(C), end()),
    ("sent", "park", kill(D), end(DEAD, copies=[], letters=["ambiguous"])),
    ("sent", "park", IN_WINDOW, end(DEAD, letters=["ambiguous"])),
    ("refused", "resend", kill(D, dots=1), end(DEAD, [], ["rejected"])),
    ("refused", "park", kill(D, dots=1), end(DEAD, [], ["ambiguous"])),
    ("refused", "resend", kill(dots=1, letters=["rejected"]), end(DEAD, [], ["rejected", "rejected"])),
    ("invalid", "resend", kill(C), end(DEAD, [], ["invalid_event"])),
    ("unreadable", "resend", kill(C, letters=["invalid_event"]), end(DEAD, [], ["invalid_event"] * 2)),
])
def test_allowed(path, policy, at_kill, at_end):
    assert problems(path, policy, at_kill, at_end) == []


@pytest.mark.parametrize("path,policy,at_kill,at_end,said", [
    # A mark before the dot, or a skipped claim: gone without a trace.
    ("sent", "resend", kill(SENT), end(copies=[]), "LOST"),
    ("sent", "resend", kill(C), end(copies=[]), "LOST"),
    ("sent", "resend", kill(C, committed=True), end(C, copies=[]), "LOST"),
    # No fence: the mail was out under a mere claim.
    ("sent", "resend", kill(C, ["a"]), end(copies=["a", "a"]), "unexplained duplicate"),
    ("sent", "resend", kill(SENT, ["a"]), end(copies=["a", "a"]), "unexplained duplicate"),
    ("sent", "resend", IN_WINDOW, end(copies=["a", "b"]), "differ"),
    ("sent", "resend", IN_WINDOW, end(copies=["a"] * 3), "more copies"),
    ("sent", "resend", IN_WINDOW, end(DEAD, letters=["rejected"]), "both delivered and dead-lettered"),
    ("sent", "resend", kill(C), end(DEAD, [], ["retries_exhausted"]), "dead letter"),
    ("sent", "park", IN_WINDOW, end(copies=["a", "a"]), "although parked"),
    ("sent", "park", IN_WINDOW, end(DEAD, letters=["rejected"]), "both"),
    ("sent", "park", kill(C), end(DEAD, [], ["ambiguous"]), "parked without doubt"),
    ("sent", "park", kill(D), end(DEAD, [], ["ambiguous"] * 2), "dead letter"),
    ("sent", "resend", kill(C), end(committed=False), "committed offset"),
    ("sent", "resend", kill(C), end(D), "the mark at the end"),
    ("refused", "resend", kill(C), end(DEAD, [], []), "LOST"),
    ("refused", "resend", kill(C), end(DEAD, ["a"], ["rejected"]), "delivered"),
    ("refused", "resend", kill(C), end(DEAD, [], ["rejected"] * 2), "unexplained doubled"),
    ("refused", "resend", kill(D, dots=1), end(DEAD, [], ["ambiguous"]), "reasons"),
    ("refused", "resend", kill(dots=1, letters=["rejected"]), end(DEAD, [], ["rejected"] * 3), "more dead letters"),
    ("invalid", "resend", kill(DEAD), end(DEAD, [], []), "LOST"),
    ("invalid", "resend", kill(D), end(DEAD, [], ["invalid_event"]), "no such stage"),
    ("invalid", "resend", kill(C), end(None, [], ["invalid_event"]), "the mark at the end"),
])
def test_found_out(path, policy, at_kill, at_end, said):
    assert any(said in problem for problem in problems(path, policy, at_kill, at_end))


def walk(plan, real_lengths):
    """The points that kill, where a segment really has that many calls."""
    tried = []
    while (taken := plan.take()) is not None:
        segment, point = taken
        killed = point.n <= real_lengths[point.segment]
        plan.note(segment, point, killed)
        if killed:
            tried.append((point.segment, point.n))
    return tried


def test_plan_tries_every_call_even_of_longer_runs():
    tried = walk(Plan(segments_of([20, 4, 10], Density(1, 1))), [23, 7, 12])
    assert tried == ([(0, n) for n in range(1, 24)] + [(1, n) for n in range(1, 8)]
                     + [(2, n) for n in range(1, 13)])


def test_plan_tries_every_call_between_claim_and_mark_when_short():
    tried = walk(Plan(segments_of([100, 4, 30], Density(40, 12, 2))), [100, 4, 30])
    assert tried == ([(0, 1), (0, 41), (0, 81)] + [(1, n) for n in (1, 2, 3, 4)] * 2
                     + [(2, 1), (2, 13), (2, 25)])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_mistakes_can_still_be_made(fault):
    """What --prove breaks on purpose has to be there."""
    assert fits(fault, (ROOT / fault.file).read_text())
