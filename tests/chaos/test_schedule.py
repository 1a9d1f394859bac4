"""The faults and events of a run depend on the seed, and on nothing else."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import schedule  # noqa: E402
import workload  # noqa: E402
from schedule import KILLS, TIMES  # noqa: E402


def made(seed, kills=200, others=100):
    return schedule.make(seed, kills, others, 2.2, 2)


def test_same_seed_same_faults_and_events():
    assert made("1") == made("1") != made("2")
    assert workload.make("1", 500, made("1"), 60) == workload.make("1", 500, made("1"), 60)


def test_as_many_kills_as_asked_for_and_every_kind():
    faults = made("3")
    assert sum(f.kind in KILLS for f in faults) == 200 and len(faults) == 300
    assert {f.kind for f in faults} == set(TIMES)


def test_faults_overlap_but_not_on_one_target():
    faults, busy = made("4"), {}
    for fault in faults:
        assert fault.at >= busy.get(fault.target, 0), fault
        busy[fault.target] = fault.at + fault.seconds
    assert any(a.at + a.seconds > b.at for a, b in zip(faults, faults[1:]))


def test_stops_are_longer_than_the_lease():
    assert all(f.seconds > 2 for f in made("5") if f.kind == "instance_stop")


def test_without_network():
    assert not {f.kind for f in schedule.make("6", 50, 50, 1, 2, network=False)} & set(schedule.NETWORK)


def test_every_kind_of_event_and_some_twice():
    plan = workload.make("7", 2000, made("7", 26, 14), 60)
    assert {p.event.kind for p in plan} == set(workload.KINDS)
    assert len({p.event.id for p in plan}) == 2000 < len(plan)
    assert [p.at for p in plan] == sorted(p.at for p in plan)
