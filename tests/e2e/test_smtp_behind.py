"""Envelopes behind dots at relays that don't bear them, that end sessions, or that are slow: each mail goes out soon, and once."""

import socket
import threading
import time

import pytest

from lib_sender import expect, relay, sender  # noqa: F401 (fixtures)
from smtp_server import Dropped


def start(s, numbers, **how):
    for number in numbers:
        s.mail(number, to="u%d@example.com" % number, **how)


def sent(s, numbers, timeout=60):
    for number in numbers:
        expect(s.outcome(number, timeout=timeout), "sent")


def numbers(relay):  # noqa: F811
    return [int(m.recipients[0][1:].split("@")[0]) for m in relay.mails]


def steps(mails):
    return [b.round_trips - a.round_trips for a, b in zip(mails, mails[1:])]


def warnings(s, text):
    return [line for line in s.lines if text in line]


NOT_BORNE = "does not bear a command behind"


# ---- whose turn it is ----

def test_the_untried_one_is_next(relay, sender):  # noqa: F811
    """Handed back from behind a lost dot, it waits for no session of its own: not under a bound of mails a second either."""
    s = sender(relay, connections=2, rate=60, timeout=10000)
    start(s, [100, 101])
    sent(s, [100, 101])
    held, drop = [], threading.Event()

    def lost(session):
        held.append(session)
        drop.wait(15)
        raise Dropped
    start(s, [1, 2], fence="hold")
    s.event("before_dot", id=1)
    s.event("before_dot", id=2)
    start(s, [3])
    s.wait_state(busy=2, waiting=1)
    time.sleep(0.1)  # its turn by the clock has come
    relay.rule("dot", lost, times=1)
    s.command("dot 1 go")
    s.wait_state(waiting=0)
    relay.wait(lambda: held)
    s.command("dot 2 go")
    expect(s.outcome(2), "sent")
    start(s, range(4, 100))
    relay.wait_mails(2 + 10)  # the other session takes every turn
    drop.set()
    expect(s.outcome(1), "ambiguous", "lost", "dot")
    before = len(relay.mails)
    sent(s, range(3, 100))
    assert numbers(relay).index(3) <= before + 15, numbers(relay)


def test_a_stale_one_is_not_overtaken_for_ever(relay, sender):  # noqa: F811
    """It needs a new session, which has to be opened though others take every turn by the clock."""
    s = sender(relay, connections=3, rate=10)
    relay.hold("mail", times=2)
    start(s, [100, 101])
    relay.wait_held("mail", 2)
    relay.accept()
    sent(s, [100, 101])
    s.wait_state(idle=2)
    relay.reject("mail", "421 4.3.2 closing", close=True, times=1)
    start(s, range(1, 41))
    sent(s, range(1, 41))
    assert numbers(relay).index(1) <= 12, numbers(relay)


def test_room_is_made_for_a_new_session(relay, sender):  # noqa: F811
    """A stale mail, while the relay bears no more sessions than those that always have a next mail."""
    s = sender(relay, connections=4, timeout=20000)
    relay.hold("mail", times=4)
    start(s, range(100, 104))
    relay.wait_held("mail", 4)
    relay.accept()
    sent(s, range(100, 104))
    s.wait_state(idle=4)
    busy, close, stale = threading.Event(), threading.Event(), []

    def too_busy(session):
        busy.wait(10)
        session.write(b"451 4.3.2 too busy\r\n")

    def closes(session):
        stale.append(int(session.buffer.split(b"RCPT TO:<u")[1].split(b"@")[0]))
        close.wait(10)
        raise Dropped
    relay.delay("dot", 0.02)
    relay.rule("mail", too_busy, times=1)
    relay.rule("mail", closes, times=1)
    relay.hold("mail", times=2)
    start(s, range(1, 5))
    relay.wait_held("mail", 4 + 2)
    busy.set()
    refused = s.event("finished")
    expect(refused, "retry", "reply", "mail", 451)  # two sessions are left for the next second, and both are busy
    start(s, range(5, 205))
    close.set()
    s.wait_state(busy=2, connecting=0)
    releases(relay)
    sent(s, [n for n in range(1, 205) if n != refused["id"]])
    assert numbers(relay).index(stale[0]) <= 4 + 20, (stale, numbers(relay))


def releases(relay):  # noqa: F811
    """What is held goes on; the rules stay."""
    relay.releases += 1


# ---- a slow dot ----

def test_not_behind_a_dot_while_sessions_are_opened(relay, sender):  # noqa: F811
    """The first session is at its first dot before the others have opened; none of the mails waits for that dot."""
    relay.delay("banner", 0.3, skip=1)
    relay.hold("dot")
    s = sender(relay, connections=8, timeout=10000)
    start(s, range(1, 9))
    relay.wait_held("dot", 8)
    relay.accept()
    sent(s, range(1, 9))
    assert relay.connections == 8


def test_behind_a_dot_where_opening_takes_long(relay, sender):  # noqa: F811
    """A relay that leaves a further connection unanswered does not cost every mail a round trip."""
    relay.hold("banner", skip=1)
    s = sender(relay, connections=2, connect_timeout=10000)
    relay.delay("dot", 0.05)
    start(s, range(1, 101))
    sent(s, range(1, 101))
    assert steps(relay.mails)[-40:] == [1] * 40


def test_left_behind_a_slow_dot(relay, sender):  # noqa: F811
    """When another session can take it, it waits two seconds at the most, and is no failed attempt."""
    held, answer = [], threading.Event()

    def slow(session):
        held.append(session)
        answer.wait(15)
        return True
    s = sender(relay, connections=2, timeout=20000)
    relay.rule("dot", slow, times=1)
    relay.delay("dot", 0.2, times=1)
    start(s, [1, 2], fence="hold")
    for number in (1, 2):
        s.event("before_dot", id=number)
    start(s, [3, 4])
    s.wait_state(busy=2, waiting=2)
    s.command("dot 1 go")
    s.wait_state(waiting=1)  # 3 is behind 1
    relay.wait(lambda: held)
    s.command("dot 2 go")
    s.wait_state(waiting=0)
    began = time.monotonic()
    sent(s, [2, 3, 4])
    assert time.monotonic() - began < 10
    answer.set()
    sent(s, [1])
    assert sorted(numbers(relay)) == [1, 2, 3, 4]
    relay.wait(lambda: held[0].transcript.ended)  # DATA may have been under way


def test_overtaken_behind_a_silent_dot(relay, sender):  # noqa: F811
    """No session is ever free, but all the others go on: it takes its turn over one of them."""
    s = sender(relay, connections=4, timeout=30000)
    relay.delay("dot", 0.02)
    start(s, range(1, 41))
    sent(s, range(1, 41))
    relay.accept()
    relay.hold("dot", times=1, skip=20)
    relay.delay("dot", 0.02)
    under_way, begun, slowest, end = set(), 100, 0, time.monotonic() + 15
    while slowest < 2000:
        assert time.monotonic() < end, "it still waits"
        while len(under_way) < 40:
            begun += 1
            under_way.add(begun)
            start(s, [begun])
        e = s.event("finished")
        expect(e, "sent")
        under_way.remove(e["id"])
        slowest = e["ms"]
    relay.accept()
    sent(s, under_way)
    assert sorted(numbers(relay)) == list(range(1, 41)) + list(range(101, begun + 1))


def test_a_relay_with_slow_dots_keeps_its_sessions(relay, sender):  # noqa: F811
    """Where no other session could take it sooner, the mail stays behind the dot."""
    relay.delay("dot", 2.6)
    s = sender(relay, connections=2, timeout=20000)
    start(s, range(1, 7))
    sent(s, range(1, 7))
    assert relay.connections == 2 and sorted(numbers(relay)) == list(range(1, 7))


def test_one_round_trip_at_the_limit(relay, sender):  # noqa: F811
    s = sender(relay, connections=4, messages=50)
    start(s, range(1, 401))
    sent(s, range(1, 401))
    each = [d for session in relay.sessions
            for d in steps([m for m in relay.mails if m.connection == session.number])]
    assert each.count(1) >= 0.8 * len(each), each
    assert all(session.verbs().count("MAIL") <= 50 for session in relay.sessions)


# ---- relays that end sessions ----

@pytest.mark.parametrize("how", ["421", "close", "reset"])
def test_a_relays_own_limit_is_learnt(relay, sender, how):  # noqa: F811
    """After five mails it wants no more on a session: nothing is put behind the fifth one's dot but the first time."""
    counts, behind = {}, []

    def fifth(session):
        number = session.transcript.number
        counts[number] = counts.get(number, 0) + 1
        if counts[number] < 5:
            return True
        behind.append(bool(session.buffer))
        if how == "421":
            return True
        session.server.mails.append(session.mail)
        session.write(b"250 2.0.0 taken, and that was it\r\n")
        raise Dropped

    def sixth(session):
        if counts.get(session.transcript.number, 0) < 5:
            return True
        session.write(b"421 4.7.0 too many mails\r\n")
        raise Dropped
    relay.rule("dot", fifth)
    if how == "421":
        relay.rule("mail", sixth)
    s = sender(relay)
    start(s, range(1, 61))
    sent(s, range(1, 61))
    assert sorted(numbers(relay)) == list(range(1, 61))
    assert behind.count(True) == 1 and behind[0] and len(behind) >= 10
    assert not warnings(s, NOT_BORNE)


def test_a_limit_that_was_none(relay, sender):  # noqa: F811
    """A session that broke off early: the others are pipelined again before long."""
    relay.reject("dot", "250 2.0.0 taken, and good-bye", close=True, skip=1, times=1)
    s = sender(relay)
    start(s, range(1, 101))
    sent(s, range(1, 101))
    last = [m for m in relay.mails if m.connection == 2]
    assert len(last) == 98 and steps(last)[-30:] == [1] * 30


# ---- relays that don't bear it ----

def test_what_follows_the_dot_is_dropped(relay, sender):  # noqa: F811
    relay.behind = "drop"
    s = sender(relay, timeout=30000)
    began = time.monotonic()
    start(s, range(1, 31))
    sent(s, range(1, 31))
    assert time.monotonic() - began < 25
    assert relay.seen["behind"] == 2 and relay.connections == 3
    assert sorted(numbers(relay)) == list(range(1, 31))
    assert len(warnings(s, NOT_BORNE)) == 1


def test_a_short_time_for_each_stage(relay, sender):  # noqa: F811
    relay.behind = "drop"
    s = sender(relay, timeout=300)
    start(s, range(1, 11))
    sent(s, range(1, 11))
    assert relay.seen["behind"] == 2 and len(warnings(s, NOT_BORNE)) == 1


def test_the_connection_is_reset_over_it(relay, sender):  # noqa: F811
    """The mails whose replies are lost are in doubt, however many sessions there are: two, and no more."""
    relay.behind = "reset"
    s = sender(relay, connections=8)
    start(s, range(1, 101))
    outcomes = [s.outcome(n, timeout=60)["class"] for n in range(1, 101)]
    assert outcomes.count("ambiguous") == relay.seen["behind"] == 2
    assert outcomes.count("sent") == 98
    assert len(warnings(s, NOT_BORNE)) == 1


# ---- replies that nobody asked for ----

@pytest.mark.parametrize("to", ["u%d@example.com", "u%d@example.com,other@example.com"])
@pytest.mark.parametrize("late", [b"250 2.0.0 taken again\r\n", b"354 go ahead\r\n", b"250 1\r\n250 2\r\n250 3\r\n"])
@pytest.mark.parametrize("pause", [0, 0.05])
def test_replies_that_are_shifted(relay, sender, to, late, pause):  # noqa: F811
    """A late reply too many to a dot answers the next MAIL: no mail may be taken for sent by another one's reply."""
    def twice(session):
        session.server.mails.append(session.mail)
        session.write(b"250 2.0.0 taken\r\n")
        session.pause(pause)
        session.write(late)
    relay.rule("dot", twice, times=4)
    s = sender(relay, connections=2)
    for number in range(1, 41):
        s.mail(number, to=to % number)
    outcomes = {n: s.outcome(n, timeout=30)["class"] for n in range(1, 41)}
    taken = numbers(relay)
    assert len(set(taken)) == len(taken)
    assert {n for n, cls in outcomes.items() if cls == "sent"} == set(taken)
    assert set(outcomes.values()) <= {"sent", "retry"}


# ---- login ----

@pytest.mark.parametrize("code", [530, 534, 535, 538])
def test_a_login_is_wanted(relay, sender, code):  # noqa: F811
    """The relay's failure, not the mails'; it is over with the first mail that is taken, not with a session that opens."""
    relay.reject("mail", "%d 5.7.0 authentication required" % code)
    s = sender(relay, connections=2, failures=3)
    start(s, range(1, 21))
    outcomes = [s.outcome(n) for n in range(1, 21)]
    assert {o["class"] for o in outcomes} == {"retry"} and all(o["relay_down"] for o in outcomes)
    tried = [o for o in outcomes if o["reason"] == "auth"]
    assert 3 <= len(tried) <= 6 and all((o["stage"], o["code"]) == ("mail", code) for o in tried)
    assert {o["reason"] for o in outcomes} <= {"auth", "outage"}
    assert not s.state()["up"]
    expect(s.deliver(30), "retry", "auth", "mail", code)
    assert not s.state()["up"]
    relay.accept()
    expect(s.deliver(31), "sent")
    s.wait_state(up=True)
    start(s, range(40, 50))
    sent(s, range(40, 50))


def test_a_login_is_wanted_for_one_mail(relay, sender):  # noqa: F811
    """A session that takes others' mails: an attempt of that mail's own, and no outage for the rest."""
    s = sender(relay, connections=1, failures=3)
    for number in range(1, 11, 2):
        expect(s.deliver(number), "sent")
        relay.reject("mail", "530 5.7.0 not from that sender", times=1)
        o = s.deliver(number + 1)
        expect(o, "retry", "auth", "mail", 530)
        assert not o["relay_down"] and s.state()["up"]
    assert relay.connections == 5  # each time a fresh one was to tell
