"""The reconciliation before made-up ledgers: what it must find, and what it must not complain about."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from ledger import Copy, FaultRecord, Letter, Published, reconcile  # noqa: E402


class Story:
    """A run that is told, not carried out."""

    def __init__(self, policy="resend"):
        self.policy = policy
        self.published, self.copies, self.letters, self.faults = [], [], [], []
        self.committed = {0: 1000}

    def event(self, id, kind="mail", key=None, offsets=None, accepted=("a@example.com",), refused=()):
        offsets = [len(self.published)] if offsets is None else offsets
        self.published.append(Published(id, kind, key, accepted, refused, [(0, o) for o in offsets]))
        return self

    def mail(self, id, time=10.0, answered=True, sha="aa", message_id=None, recipients=("a@example.com",)):
        self.copies.append(Copy(len(self.copies), time, id, message_id or "<%s>" % id, sha, recipients, answered))
        return self

    def letter(self, id, reason, offset, time=10.0, recipients=(), **more):
        self.letters.append(Letter((0, offset), id, reason, recipients, time, **more))
        return self

    def fault(self, kind, begin, end=None, at_risk=(), lost=(), dead_marked=()):
        risks = [(id, token, begin, begin if kind != "relay_link" else end) for id, token in at_risk]
        self.faults.append(FaultRecord(len(self.faults) + 1, kind, "x", begin, end or begin, risks,
                                       set(dead_marked), list(lost)))
        return self

    def judge(self):
        return reconcile(self.published, self.copies, self.letters, self.faults, self.committed, self.policy)

    def problems(self):
        return [p.what for p in self.judge().problems]


def test_all_is_well():
    story = Story().event("m").event("bad", "invalid").event("no", "refused").event("ever", "never")
    story.mail("m").letter("bad", "invalid_event", 1).letter("no", "rejected", 2)
    story.letter("ever", "retries_exhausted", 3)
    verdict = story.judge()
    assert not verdict.problems
    assert verdict.figures["delivered"] == 1 and verdict.figures["dead-lettered"] == 3


# ---- losses ----

@pytest.mark.parametrize("kind", ["mail", "multi", "partial", "later", "refused", "invalid", "unreadable", "never"])
def test_lost(kind):
    assert "LOST" in Story().event("m", kind, refused=("r@x",) if kind == "partial" else ()).problems()


@pytest.mark.parametrize("kind", ["mail", "refused", "unreadable"])
def test_not_yet_committed_is_not_lost(kind):
    story = Story().event("m", kind)
    story.committed = {0: 0}
    verdict = story.judge()
    assert not verdict.problems and verdict.figures["still to come"] == 1


def test_second_record_of_a_refused_event_needs_a_dead_letter_too():
    story = Story().event("no", "refused", offsets=[0, 1]).letter("no", "rejected", 0)
    assert story.problems() == ["LOST"]


def test_refused_recipients_named_nowhere():
    story = Story().event("m", "partial", refused=("r@x",)).mail("m")
    assert story.problems() == ["LOST"]
    assert Story().event("m", "partial", refused=("r@x",)).mail("m").letter(
        "m", "rejected", 0, recipients=("other@x",)).problems() == ["LOST"]
    assert not Story().event("m", "partial", refused=("r@x",)).mail("m").letter(
        "m", "rejected", 0, recipients=("r@x",)).problems()


def test_never_published():
    assert Story().event("m", offsets=[]).problems() == ["never published"]


# ---- both, or what must not be ----

def test_delivered_and_dead_lettered():
    story = Story().event("m").mail("m").letter("m", "retries_exhausted", 0)
    assert story.problems() == ["delivered and dead-lettered"]


def test_both_where_nobody_could_know():
    story = Story().event("m").mail("m", answered=False).letter("m", "retries_exhausted", 0)
    verdict = story.judge()
    assert not verdict.problems and verdict.figures["delivered and dead-lettered, ambiguous"] == 1


def test_ambiguous_letters_belong_to_park():
    def told(policy):
        return Story(policy).event("m").mail("m").letter("m", "ambiguous", 0).fault(
            "instance_kill", 10, at_risk=[("m", "t1")])
    assert told("resend").problems() == ["delivered and dead-lettered"]
    assert not told("park").problems()


@pytest.mark.parametrize("kind", ["refused", "invalid", "unreadable", "never"])
def test_delivered_although_bad(kind):
    reason = {"refused": "rejected", "never": "retries_exhausted"}.get(kind, "invalid_event")
    assert "delivered although it must not be" in Story().event("m", kind).letter("m", reason, 0).mail("m").problems()


def test_wrong_reason():
    assert Story().event("m").letter("m", "rejected", 0).problems() == ["wrong reason"]
    assert Story().event("m", "invalid").letter("m", "expired", 0).problems() == ["wrong reason"]


def test_strangers():
    assert Story().mail("nobody").problems() == ["mail that nobody published"]
    assert Story().letter(None, "rejected", 77).problems() == ["dead letter of no record"]
    assert Story().event("m", "refused").letter("m", "rejected", 0, identical=False).problems() == [
        "dead letter differs from its record"]


def test_recipients_and_message_ids():
    assert Story().event("m").mail("m", recipients=("a@example.com", "b@x")).problems() == ["wrong recipients"]
    assert Story().event("m").event("n").mail("m", message_id="<1>").mail("n", message_id="<1>").problems() == [
        "Message-ID missing or shared"]


# ---- duplicates ----

def doubled(times=(10.0, 14.0), **first):
    return Story().event("m").mail("m", times[0], **first).mail("m", times[1])


def test_duplicate_without_a_cause():
    assert doubled().problems() == ["UNEXPLAINED DUPLICATE", "more duplicates than the bound"]


def test_duplicate_with_its_dot_at_a_kill():
    verdict = doubled().fault("instance_kill", 10.0, at_risk=[("m", "t1")]).judge()
    assert not verdict.problems and verdict.duplicates == [("m", 1, "instance_kill")]


def test_somebody_elses_dot_explains_nothing():
    assert "UNEXPLAINED DUPLICATE" in doubled().fault("instance_kill", 10.0, at_risk=[("n", "t1")]).problems()


@pytest.mark.parametrize("begin", [2.0, 15.0])
def test_a_kill_at_another_time_explains_nothing(begin):
    assert "UNEXPLAINED DUPLICATE" in doubled().fault("instance_kill", begin, at_risk=[("m", "t1")]).problems()


def test_one_dot_explains_one_copy():
    story = doubled().mail("m", 18.0).fault("instance_kill", 10.0, at_risk=[("m", "t1")])
    story.fault("relay_link", 9.0, 20.0, at_risk=[("m", "t1")])
    assert "UNEXPLAINED DUPLICATE" in story.problems()
    assert not story.fault("instance_kill", 14.0, at_risk=[("m", "t2")]).problems()


def test_stopped_and_sent_when_it_woke_up():
    assert not doubled((13.0, 20.0)).fault("instance_stop", 10.0, 19.5, at_risk=[("m", "t1")]).problems()


def test_the_relay_took_it_without_an_answer():
    assert not doubled(answered=False).problems()
    assert "UNEXPLAINED DUPLICATE" in doubled(answered=False).mail("m", 18.0).problems()


def test_redis_lost_the_mark():
    verdict = doubled().fault("redis_power_loss", 12.0, lost=["m"]).judge()
    assert not verdict.problems and verdict.figures["duplicates by Redis' losses"] == 1
    assert doubled().fault("redis_power_loss", 20.0, lost=["m"]).problems() == ["UNEXPLAINED DUPLICATE"]


def test_copies_differ():
    story = Story().event("m").mail("m", 10.0, answered=False).mail("m", 14.0, sha="bb")
    assert story.problems() == ["copies differ"]


def test_park_allows_only_what_redis_lost():
    story = doubled(answered=False)
    story.policy = "park"
    assert story.problems() == ["duplicate in spite of park"]
    story = doubled().fault("redis_power_loss", 12.0, lost=["m"])
    story.policy = "park"
    assert not story.problems()


# ---- dead letters twice ----

def letters_twice(kind="refused", reason="rejected"):
    return Story().event("m", kind).letter("m", reason, 0, 10.0).letter("m", reason, 0, 14.0)


def test_dead_letter_twice():
    assert letters_twice().problems() == ["UNEXPLAINED DOUBLE DEAD LETTER"]
    assert not letters_twice().fault("instance_kill", 10.1).problems()
    assert not letters_twice().fault("redis_power_loss", 12.0, lost=["m"]).problems()
    assert letters_twice().fault("instance_kill", 10.1, dead_marked=[(0, 0)]).problems()
    assert letters_twice().fault("relay_kill", 10.1).problems(), "the relay has no part in it"
    assert letters_twice().fault("instance_kill", 15.0).problems()


def test_unreadable_events_are_marked_by_their_place():
    def told():
        return letters_twice("unreadable", "invalid_event")
    assert told().fault("instance_kill", 10.1, dead_marked=[(0, 0)]).problems()
    assert not told().fault("instance_kill", 10.1).problems()
    assert not told().fault("redis_power_loss", 12.0, lost=["(record) email-events/0/0"]).problems()
    assert told().fault("redis_power_loss", 12.0, lost=["(record) email-events/0/10"]).problems()


def test_events_published_twice_share_one_mark():
    def told(at):
        story = Story().event("m", "refused", offsets=[0, 1]).letter("m", "rejected", 0).letter("m", "rejected", 1)
        return story.letter("m", "rejected", 0, 14.0).fault("instance_kill", at, dead_marked=[(0, 0)]).judge()
    assert not told(10.1).problems and told(10.1).figures["… of events published twice"] == 1
    assert told(15.0).problems


# ---- order ----

def test_out_of_order():
    story = Story().event("first", key="k").event("second", key="k").mail("second").mail("first")
    assert story.problems() == ["out of order"]
    assert not Story().event("first", key="k").event("second", key="k").mail("first").mail("second").problems()
    assert not Story().event("first").event("second").mail("second").mail("first").problems(), "no key, no order"


def test_a_later_copy_does_not_disturb_the_order():
    story = Story().event("first", key="k").event("second", key="k").mail("first", answered=False)
    assert not story.mail("second").mail("first", 14.0).problems()
