"""The next mail's envelope behind the final dot (RFC 2920): one round trip a mail, and whatever the relay may answer."""

import random

import pytest

from lib_sender import certificates, expect, relay, sender  # noqa: F401 (fixtures)
from smtp_server import SmtpServer


def start(s, count, first=1, **how):
    """Hands over so many mails at once; each goes to an address of its own."""
    for number in range(first, first + count):
        s.mail(number, to="u%d@example.com" % number, **how)


def numbers(mails):
    return [int(m.recipients[0][1:].split("@")[0]) for m in mails]


def steps(mails):
    return [b.round_trips - a.round_trips for a, b in zip(mails, mails[1:])]


# ---- what it is for ----

@pytest.mark.parametrize("tls", [None, "starttls"])
def test_one_round_trip_a_mail(sender, certificates, tls):  # noqa: F811
    kept = certificates / "good.pem"
    with SmtpServer(tls=tls, certfile=kept if tls else None) as server:
        flags = {"tls": tls, "ca": certificates / "ca.pem", "host": "localhost"} if tls else {}
        s = sender(server, **flags)
        start(s, 20)
        for number in range(1, 21):
            expect(s.outcome(number), "sent", code=250)
        assert server.connections == 1
        assert sorted(numbers(server.mails)) == list(range(1, 21))
        assert steps(server.mails) == [1] * 19
        assert "RSET" not in server.sessions[0].verbs()


def test_one_command_at_a_time_where_the_relay_does_not_pipeline(relay, sender):  # noqa: F811
    relay.capabilities.remove("PIPELINING")
    s = sender(relay)
    start(s, 4)
    for number in range(1, 5):
        expect(s.outcome(number), "sent")
    assert steps(relay.mails) == [4] * 3
    assert not relay.pipelined


def test_nothing_behind_the_last_one(relay, sender):  # noqa: F811
    s = sender(relay)
    expect(s.deliver(1), "sent")
    s.wait_state(idle=1)
    assert relay.sessions[0].verbs() == ["EHLO", "MAIL", "RCPT", "DATA"]


def test_several_recipients_behind_the_dot(relay, sender):  # noqa: F811
    """MAIL and the RCPTs travel along; DATA waits for what becomes of the recipients."""
    s = sender(relay)
    for number in (1, 2, 3):
        s.mail(number, to="a@example.com,b@example.com")
    for number in (1, 2, 3):
        expect(s.outcome(number), "sent")
    assert steps(relay.mails) == [2, 2]


def test_the_dot_waits_for_its_own_fence(relay, sender):  # noqa: F811
    s = sender(relay)
    start(s, 2, fence="hold")
    s.event("before_dot", id=1)
    assert relay.seen["mail"] == 1
    s.command("dot 1 go")
    expect(s.outcome(1), "sent")
    s.event("before_dot", id=2)
    assert len(relay.mails) == 1 and relay.seen["dot"] == 1
    assert [e for e in s.backlog if e["event"] != "before_dot"] == []
    s.command("dot 2 go")
    expect(s.outcome(2), "sent")
    assert steps(relay.mails) == [1]


def test_the_bound_of_mails_a_connection_holds(relay, sender):  # noqa: F811
    s = sender(relay, messages=3)
    start(s, 9)
    for number in range(1, 10):
        expect(s.outcome(number), "sent")
    relay.wait(lambda: all(t.ended for t in relay.sessions))
    assert [t.verbs().count("MAIL") for t in relay.sessions] == [3, 3, 3]


def test_idle_sessions_come_first(relay, sender):  # noqa: F811
    """A mail does not wait behind another one's dot where a session is free."""
    s = sender(relay, connections=2)
    relay.hold("mail", times=2)
    start(s, 2)
    relay.wait_held("mail", 2)
    relay.accept()
    for number in (1, 2):
        expect(s.outcome(number), "sent")
    s.wait_state(idle=2)
    relay.hold("dot", times=1)
    s.mail(3)
    relay.wait_held("dot")
    expect(s.deliver(4), "sent")
    relay.accept()
    expect(s.outcome(3), "sent")


# ---- the answer to the dot before it ----

@pytest.mark.parametrize("reply, cls", [("451 4.3.0 later", "retry"), ("554 5.7.1 never", "rejected")])
def test_a_refused_dot_is_none_of_the_next_ones_business(relay, sender, reply, cls):  # noqa: F811
    relay.reject("dot", reply, times=1)
    s = sender(relay)
    start(s, 3)
    expect(s.outcome(1), cls, "reply", "dot", int(reply[:3]))
    expect(s.outcome(2), "sent")
    expect(s.outcome(3), "sent")
    assert relay.connections == 1 and numbers(relay.mails) == [2, 3]


@pytest.mark.parametrize("close", [True, False])
def test_421_to_the_dot(relay, sender, close):  # noqa: F811
    relay.reject("dot", "421 4.3.2 going down", times=1, close=close)
    s = sender(relay)
    start(s, 3)
    expect(s.outcome(1), "retry", "reply", "dot", 421)
    expect(s.outcome(2), "sent")
    expect(s.outcome(3), "sent")
    assert relay.connections == 2 and numbers(relay.mails) == [2, 3]


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("reset", [True, False])
def test_lost_after_the_dot(relay, sender, after, reset):  # noqa: F811
    """In doubt is the mail whose dot had left, and no other."""
    relay.drop("dot", after=after, reset=reset, times=1)
    s = sender(relay)
    start(s, 3)
    expect(s.outcome(1), "ambiguous", "lost", "dot")
    expect(s.outcome(2), "sent")
    expect(s.outcome(3), "sent")
    assert relay.connections == 2 and numbers(relay.mails) == [1, 2, 3][not after:]


def test_no_answer_to_the_dot(relay, sender):  # noqa: F811
    relay.hold("dot", times=1)
    s = sender(relay, timeout=400)
    start(s, 2)
    expect(s.outcome(1), "ambiguous", "timeout", "dot")
    expect(s.outcome(2), "sent")
    assert relay.connections == 2 and numbers(relay.mails) == [2]


def test_a_reply_too_many_to_the_dot(relay, sender):  # noqa: F811
    """The replies are one ahead from then on: no mail may be taken for sent by another one's reply."""
    relay.reject("dot", b"250 taken\r\n250 taken again\r\n", raw=True, times=1)
    s = sender(relay)
    start(s, 3)
    expect(s.outcome(1), "sent")
    expect(s.outcome(2), "retry", "protocol")
    expect(s.outcome(3), "sent")
    assert numbers(relay.mails) == [3]


@pytest.mark.parametrize("reply", ["354 go ahead", "what"])
def test_no_reply_to_a_dot(relay, sender, reply):  # noqa: F811
    relay.reject("dot", reply, times=1)
    s = sender(relay)
    start(s, 2)
    expect(s.outcome(1), "ambiguous", "protocol", "dot")
    expect(s.outcome(2), "sent")
    assert relay.connections == 2


# ---- the answers to the envelope behind it ----

@pytest.mark.parametrize("stage, code, cls", [
    ("mail", 451, "retry"), ("mail", 550, "rejected"), ("rcpt", 450, "retry"), ("rcpt", 550, "rejected"),
    ("data", 451, "retry"), ("data", 554, "rejected")])
def test_refused_envelope(relay, sender, stage, code, cls):  # noqa: F811
    relay.reject(stage, "%d no" % code, skip=1, times=1)
    s = sender(relay)
    start(s, 3)
    expect(s.outcome(1), "sent")
    expect(s.outcome(2), cls, "reply", stage, code)
    expect(s.outcome(3), "sent")
    assert relay.connections == 1 and numbers(relay.mails) == [1, 3]
    assert relay.sessions[0].verbs().count("RSET") == (stage != "mail")


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
def test_421_to_the_envelope(relay, sender, stage):  # noqa: F811
    """To MAIL it means that the session had ended before the mail's turn; later it is a failed attempt."""
    relay.reject(stage, "421 4.3.2 bye", skip=1, times=1, close=True)
    s = sender(relay)
    start(s, 3)
    expect(s.outcome(1), "sent")
    if stage == "mail":
        expect(s.outcome(2), "sent")
    else:
        expect(s.outcome(2), "retry", "reply", stage, 421)
    expect(s.outcome(3), "sent")
    assert relay.connections == 2


def test_closed_after_the_dots_reply(relay, sender):  # noqa: F811
    """Some relays take so many mails a connection."""
    relay.reject("dot", "250 taken, and good-bye", close=True, times=1)
    s = sender(relay)
    start(s, 2)
    expect(s.outcome(1), "sent")
    expect(s.outcome(2), "sent")
    assert relay.connections == 2 and numbers(relay.mails) == [2]


def test_a_mail_that_does_not_fit_the_relay(relay, sender):  # noqa: F811
    relay.size_limit = 1000
    s = sender(relay)
    s.mail(1, to="u1@example.com")
    s.mail(2, to="u2@example.com", size=5000)
    s.mail(3, to="u3@example.com")
    expect(s.outcome(1), "sent")
    expect(s.outcome(2), "rejected", "capability", "mail")
    expect(s.outcome(3), "sent")
    assert relay.connections == 1 and relay.seen["mail"] == 2


# ---- giving up ----

def test_cancel_of_the_one_behind(relay, sender):  # noqa: F811
    """The dot's reply is waited for all the same; then the session ends, since DATA may be under way."""
    relay.hold("dot", times=1)
    s = sender(relay)
    start(s, 3)
    relay.wait_held("dot")
    s.command("cancel 2")
    assert s.event("cancel", id=2)["cancelled"]
    expect(s.outcome(2), "cancelled", "cancelled", "mail")
    s.command("cancel 1")
    assert not s.event("cancel", id=1)["cancelled"]
    relay.accept()
    expect(s.outcome(1), "sent")
    expect(s.outcome(3), "sent")
    assert relay.connections == 2 and numbers(relay.mails) == [1, 3]


def test_refused_fence_of_the_one_behind(relay, sender):  # noqa: F811
    s = sender(relay)
    s.mail(1, to="u1@example.com")
    s.mail(2, to="u2@example.com", fence="refuse")
    s.mail(3, to="u3@example.com")
    expect(s.outcome(1), "sent")
    expect(s.outcome(2), "cancelled", "fence", "fence")
    expect(s.outcome(3), "sent")
    assert relay.connections == 2 and numbers(relay.mails) == [1, 3]


def test_shutdown_finishes_what_waits(relay, sender):  # noqa: F811
    relay.hold("dot", times=1)
    s = sender(relay)
    start(s, 4)
    relay.wait_held("dot")
    s.command("shutdown")
    relay.accept()
    for number in range(1, 5):
        expect(s.outcome(number), "sent")
    relay.wait(lambda: relay.sessions[0].ended)
    assert relay.sessions[0].verbs()[-1] == "QUIT"


# ---- anything ----

def misbehave(relay, dice):
    """Rules for what the relay does now and then."""
    for stage in ("mail", "rcpt", "data", "dot"):
        for code in (421, 451, 554):
            relay.reject(stage, "%d no" % code, close=code == 421, skip=dice.randrange(60), times=dice.randrange(4))
        relay.drop(stage, reset=dice.random() < 0.5, skip=dice.randrange(60), times=dice.randrange(3))
    relay.drop("dot", after=True, skip=dice.randrange(60), times=dice.randrange(4))
    relay.drop("body", skip=dice.randrange(60), times=dice.randrange(3))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_relay_does(relay, sender, seed):  # noqa: F811
    """A mail called sent is at the relay once; one called refused, cancelled or to be retried is not there."""
    dice = random.Random(seed)
    misbehave(relay, dice)
    s = sender(relay, connections=dice.randrange(1, 5), messages=dice.choice([0, 7]))
    start(s, 150)
    for number in dice.sample(range(1, 151), 20):
        s.command("cancel %d" % number)
    outcomes = {number: s.outcome(number)["class"] for number in range(1, 151)}
    taken = numbers(relay.mails)
    assert len(taken) == len(set(taken))
    assert {n for n, cls in outcomes.items() if cls == "sent"} <= set(taken)
    assert not {n for n, cls in outcomes.items() if cls in ("retry", "rejected", "cancelled")} & set(taken)
    assert list(outcomes.values()).count("sent") > 60
