"""The smtp transport against a relay that does everything a relay can do, by way of tests/tools/send."""

import json
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest

from lib_sender import SEND, Sender, certificates, expect, relay, sender  # noqa: F401 (fixtures)
from smtp_server import SmtpServer

# ---- the normal case ----

def test_sent(relay, sender):
    outcome = sender(relay).deliver(1, size=2000)
    expect(outcome, "sent", "none", "dot", 250)
    assert outcome["reply"] == "250 2.0.0 taken"
    [mail] = relay.mails
    assert (mail.sender, mail.recipients) == ("sender@example.com", ["to@example.com"])
    assert mail.data.startswith(b"Subject: test\r\n") and mail.data.endswith(b"end\r\n")


def test_one_recipient_is_pipelined_into_one_write(relay, sender):
    sender(relay).deliver(1)
    commands = relay.sessions[0].commands
    assert relay.sessions[0].verbs()[:4] == ["EHLO", "MAIL", "RCPT", "DATA"]
    assert len({c.chunk for c in commands[1:4]}) == 1


def test_several_recipients_wait_with_data(relay, sender):
    """Once DATA is accepted a recipient refused for now could no longer hold the mail back."""
    sender(relay).deliver(1, to="a@example.com,b@example.com,c@example.com")
    commands = relay.sessions[0].commands[1:6]
    assert len({c.chunk for c in commands[:4]}) == 1
    assert commands[4].line == "DATA" and commands[4].chunk > commands[3].chunk
    assert relay.mails[0].recipients == ["a@example.com", "b@example.com", "c@example.com"]


def test_without_pipelining_one_command_at_a_time(relay, sender):
    relay.capabilities.discard("PIPELINING")
    expect(sender(relay).deliver(1, to="a@example.com,b@example.com"), "sent")
    assert not relay.pipelined


def test_without_any_extension(relay, sender):
    relay.capabilities.clear()
    expect(sender(relay).deliver(1), "sent")
    assert relay.mails[0].parameters == ""


def test_helo_where_ehlo_is_refused(relay, sender):
    relay.reject("ehlo", "502 5.5.1 not implemented")
    expect(sender(relay).deliver(1), "sent")
    assert "HELO" in relay.sessions[0].verbs() and not relay.pipelined


def test_greets_with_the_given_name(relay, sender):
    sender(relay, helo="mx.example.com").deliver(1)
    assert relay.sessions[0].commands[0].line == "EHLO mx.example.com"


def test_a_session_is_reused(relay, sender):
    s = sender(relay)
    for number in range(20):
        expect(s.deliver(number), "sent")
    assert relay.connections == 1 and len(relay.mails) == 20


def test_size_is_announced(relay, sender):
    sender(relay).deliver(1, size=500)
    assert relay.mails[0].parameters == "SIZE=%d" % len(relay.mails[0].data)


def test_no_more_sessions_than_allowed(relay, sender):
    relay.delay("dot", 0.02)
    s = sender(relay, connections=3)
    for number in range(30):
        s.mail(number)
    for number in range(30):
        expect(s.outcome(number), "sent")
    assert relay.connections == 3
    assert len({m.connection for m in relay.mails}) == 3


def test_ipv6(sender):
    with SmtpServer(host="::1") as server:
        expect(sender(server, host="::1").deliver(1), "sent")


def test_host_by_name(relay, sender):
    expect(sender(relay, host="localhost").deliver(1), "sent")


# ---- the body ----

def read_back(relay, sender, tmp_path, data):
    path = tmp_path / "message"
    path.write_bytes(data)
    expect(sender(relay).deliver(1, file=path), "sent")
    return relay.mails[0].data


@pytest.mark.parametrize("body", [
    b".\r\n", b"..\r\n", b".a\r\n.\r\n", b"a\r\n.\r\n..\r\n...\r\n", b"\r\n.\r\n\r\n.\r\nQUIT\r\n", b"a\r\n.b\r\n" * 20000],
                         ids=range(6))
def test_dots_are_stuffed(relay, sender, tmp_path, body):
    for data in (body, b"Subject: x\r\n\r\n" + body):
        relay.mails.clear()
        assert read_back(relay, sender, tmp_path, data) == data


def test_large_body(relay, sender, tmp_path):
    data = b"Subject: x\r\n\r\n" + b"0123456789" * 7 + b"\r\n"
    data += (b"abcdefghij" * 7 + b"\r\n") * 200000  # 14 MB
    assert read_back(relay, sender, tmp_path, data) == data


@pytest.mark.parametrize("data", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n.\n\r\n", b"no line end", b"a\r\r\n", b"a\r\n\n.\r\n"])
def test_bare_cr_and_lf_never_leave(relay, sender, tmp_path, data):
    """SMTP smuggling: the composer makes no such message, and the transport would refuse it."""
    path = tmp_path / "message"
    path.write_bytes(data)
    expect(sender(relay).deliver(1, file=path), "rejected", "internal")
    assert not relay.mails and relay.seen["mail"] == 0


def test_control_characters_in_the_envelope_never_leave(relay, sender):
    expect(sender(relay).deliver(1, to="a@example.com>\rRCPT"), "rejected", "internal")
    assert relay.seen["mail"] == 0


# ---- capabilities ----

def test_larger_than_the_relay_takes(relay, sender):
    relay.size_limit = 1000
    s = sender(relay)
    expect(s.deliver(1, size=2000), "rejected", "capability")
    assert relay.seen["mail"] == 0
    expect(s.deliver(2, size=500), "sent")
    assert relay.connections == 1


def test_utf8_where_offered(relay, sender):
    expect(sender(relay).deliver(1, to="jürgen@example.com", utf8=True), "sent")
    assert relay.mails[0].recipients == ["jürgen@example.com"]
    assert relay.mails[0].parameters.endswith("BODY=8BITMIME SMTPUTF8")


@pytest.mark.parametrize("missing", ["SMTPUTF8", "8BITMIME"])
def test_utf8_where_not_offered(relay, sender, missing):
    relay.capabilities.discard(missing)
    expect(sender(relay).deliver(1, to="jürgen@example.com", utf8=True), "rejected", "capability")
    assert relay.seen["mail"] == 0


# ---- replies ----

@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "dot"])
@pytest.mark.parametrize("code,cls", [(451, "retry"), (550, "rejected")])
def test_refused_and_the_session_goes_on(relay, sender, stage, code, cls, pipelining):
    if not pipelining:
        relay.capabilities.discard("PIPELINING")
    relay.reject(stage, "%d 5.7.1 not like this" % code, times=1)
    s = sender(relay)
    outcome = s.deliver(1)
    expect(outcome, cls, "reply", stage, code)
    assert outcome["reply"] == "%d 5.7.1 not like this" % code
    assert not outcome["relay_down"]
    assert not relay.mails
    expect(s.deliver(2), "sent")
    assert relay.connections == 1 and len(relay.mails) == 1


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "dot", "rset"])
def test_421_closes_the_session(relay, sender, stage):
    relay.reject(stage, "421 4.3.2 shutting down", times=1, close=True)
    if stage == "rset":
        relay.reject("rcpt", "451 later", times=1)
    s = sender(relay)
    expect(s.deliver(1), "retry", "reply", "rcpt" if stage == "rset" else stage)
    expect(s.deliver(2), "sent")
    assert relay.connections == 2 and len(relay.mails) == 1


def test_multi_line_replies_are_joined(relay, sender):
    relay.reject("mail", "550-5.7.1 first\r\n550-5.7.1 second\r\n550 5.7.1 third")
    outcome = sender(relay).deliver(1)
    assert outcome["reply"] == "550 5.7.1 first / 5.7.1 second / 5.7.1 third"


def test_control_characters_in_a_reply_are_escaped(relay, sender):
    relay.reject("rcpt", b"550 a\x1b[31m\x00\\\xff\r b\r\n", raw=True)
    assert sender(relay).deliver(1)["reply"] == "550 a\\x1B[31m\\x00\\x5C\\xFF\\x0D b"


def test_a_long_line_is_cut(relay, sender):
    relay.reject("mail", "451 " + "too busy " * 170)
    outcome = sender(relay).deliver(1)
    expect(outcome, "retry", "reply", "mail", 451)
    assert 500 < len(outcome["reply"]) <= 512


@pytest.mark.parametrize("reply", [b"what?\r\n", b"\r\n", b"25 ok\r\n", b"999 no\r\n", b"250-a\r\n251 b\r\n", b"250_ok\r\n",
                                   b"\x00\xff\x00\r\n", b"250-" + b"x" * 1000000 + b"\r\n", b"354 go\r\n"],
                         ids=range(9))
def test_a_reply_that_is_none(relay, sender, reply):
    relay.reject("mail", reply, raw=True, times=1)
    s = sender(relay)
    expect(s.deliver(1), "retry", "protocol")
    expect(s.deliver(2), "sent")
    assert len(relay.mails) == 1


def test_a_reply_without_end(relay, sender):
    relay.flood("mail", b"250-more\r\n", times=1)
    expect(sender(relay).deliver(1), "retry", "protocol", "mail")


def test_a_reply_too_many(relay, sender):
    """Who answers twice is out of step: the session is of no more use."""
    relay.reject("dot", b"250 taken\r\n250 taken twice\r\n", raw=True, times=1)
    s = sender(relay)
    expect(s.deliver(1), "sent")
    expect(s.deliver(2), "sent")
    assert relay.connections == 2


def test_no_354_is_no_yes(relay, sender):
    relay.reject("data", "250 why not")
    expect(sender(relay).deliver(1), "retry", "protocol", "data")
    assert not relay.bodies_seen()


# ---- recipients ----

THREE = "a@example.com,b@example.com,c@example.com"


@pytest.mark.parametrize("pipelining", [True, False])
def test_some_refused_for_good(relay, sender, pipelining):
    if not pipelining:
        relay.capabilities.discard("PIPELINING")
    relay.reject("rcpt", "550 5.1.1 unknown", recipient="b@example.com")
    outcome = sender(relay).deliver(1, to=THREE)
    expect(outcome, "sent")
    assert outcome["refused"] == [{"index": 1, "code": 550, "reply": "550 5.1.1 unknown"}]
    assert relay.mails[0].recipients == ["a@example.com", "c@example.com"]


@pytest.mark.parametrize("pipelining", [True, False])
def test_one_refused_for_now_holds_the_mail_back(relay, sender, pipelining):
    if not pipelining:
        relay.capabilities.discard("PIPELINING")
    relay.reject("rcpt", "450 4.2.1 busy", recipient="b@example.com", times=1)
    relay.reject("rcpt", "550 5.1.1 unknown", recipient="c@example.com", times=1)
    s = sender(relay)
    expect(s.deliver(1, to=THREE), "retry", "reply", "rcpt", 450)
    assert not relay.bodies_seen() and "RSET" in relay.sessions[0].verbs()
    expect(s.deliver(2, to=THREE), "sent")
    assert relay.connections == 1


def test_refused_for_now_on_the_last_attempt(relay, sender):
    relay.reject("rcpt", "450 4.2.1 busy", recipient="b@example.com")
    outcome = sender(relay).deliver(1, to=THREE, last=True)
    expect(outcome, "sent")
    assert [(r["index"], r["code"]) for r in outcome["refused"]] == [(1, 450)]


def test_all_refused_for_now_on_the_last_attempt(relay, sender):
    """Nobody got it: the attempts are used up, the recipients are not unknown."""
    relay.reject("rcpt", "450 4.2.1 busy")
    expect(sender(relay).deliver(1, to=THREE, last=True), "retry", "reply", "rcpt", 450)


def test_all_refused_for_good(relay, sender):
    relay.reject("rcpt", "550 5.1.1 unknown")
    outcome = sender(relay).deliver(1, to=THREE)
    expect(outcome, "rejected", "reply", "rcpt", 550)
    assert not outcome["refused"]


@pytest.mark.parametrize("code,cls", [(450, "retry"), (550, "rejected")])
def test_data_accepted_without_recipients(relay, sender, code, cls):
    """The relay takes DATA though it refused the only recipient: nobody must get anything, not even an empty mail."""
    relay.data_without_recipients = True
    relay.reject("rcpt", "%d 5.1.1 no" % code, times=1)
    s = sender(relay)
    expect(s.deliver(1), cls, "reply", "rcpt", code)
    expect(s.deliver(2), "sent")
    assert len(relay.bodies_seen()) == len(relay.mails) == 1 and relay.connections == 2


def test_a_hundred_recipients(relay, sender):
    to = ["r%d@%s.example.com" % (n, "x" * 50) for n in range(100)]
    expect(sender(relay).deliver(1, to=",".join(to)), "sent")
    assert relay.mails[0].recipients == to


# ---- losses ----

@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "body"])
def test_dropped_before_the_dot(relay, sender, stage, reset):
    relay.drop(stage, times=1, reset=reset, at=100000 if stage == "body" else 0)
    s = sender(relay)
    # More than all socket buffers hold: what is lost on the way with the dot behind it would be ambiguous.
    outcome = s.deliver(1, size=30000000)
    expect(outcome, "retry", "lost")
    assert not outcome["relay_down"] and not relay.bodies_seen()
    expect(s.deliver(2), "sent")


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_dropped_after_the_dot(relay, sender, after, reset):
    relay.drop("dot", after=after, reset=reset, times=1)
    s = sender(relay)
    expect(s.deliver(1), "ambiguous", "lost", "dot")
    assert len(relay.mails) == after
    expect(s.deliver(2), "sent")


@pytest.mark.parametrize("reply", [b"nonsense\r\n", b"354 go on\r\n", b"250-" + b"x" * 100000, b"250-a\r\n" * 1000],
                         ids=range(4))
def test_garbage_after_the_dot(relay, sender, reply):
    relay.reject("dot", reply, raw=True)
    expect(sender(relay).deliver(1), "ambiguous", "protocol", "dot")


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "body", "dot"])
def test_silent(relay, sender, stage):
    relay.hold(stage, times=1)
    s = sender(relay, timeout=300)
    outcome = s.deliver(1)
    expect(outcome, "ambiguous" if stage in ("body", "dot") else "retry", "timeout",
           "dot" if stage == "body" else stage)
    assert 250 <= outcome["ms"] < 1500
    expect(s.deliver(2), "sent")


@pytest.mark.parametrize("stage,cls", [("mail", "retry"), ("data", "retry"), ("dot", "ambiguous")])
def test_dripping(relay, sender, stage, cls):
    """Each byte comes in time, the reply does not."""
    relay.drip(stage, interval=0.1, times=1)
    outcome = sender(relay, timeout=400).deliver(1)
    expect(outcome, cls, "timeout", stage)
    assert outcome["ms"] < 1500


def test_slow_but_steady_recipients(relay, sender):
    """Every RCPT has its own time, as RFC 5321 has it: a relay that takes its time for each is waited for."""
    relay.delay("rcpt", 0.12)
    to = ",".join("r%d@example.com" % n for n in range(6))
    expect(sender(relay, timeout=500).deliver(1, to=to), "sent")


def test_a_relay_that_does_not_read(relay, sender):
    """The body fits no socket buffer and nobody takes it: cut off, and others go on."""
    relay.rule("body", lambda session: session.pause(5), times=1)
    s = sender(relay, timeout=300, connections=2)
    s.mail(1, size=30000000)
    relay.wait_seen("body")
    expect(s.deliver(2), "sent")
    outcome = s.outcome(1)
    expect(outcome, "retry", "timeout", "body")


def test_others_go_on_while_one_is_silent(relay, sender):
    relay.hold("mail", times=1)
    s = sender(relay, connections=2)
    s.mail(1)
    relay.wait_held("mail")
    for number in range(2, 20):
        assert s.deliver(number)["ms"] < 1000
    expect(s.outcome(1), "retry", "timeout", "mail")


# ---- the fence ----

def test_before_dot_comes_before_the_dot(relay, sender):
    s = sender(relay)
    s.mail(1, fence="hold")
    s.event("before_dot", id=1)
    relay.wait(lambda: relay.sessions[0].bytes_in > 300)
    time.sleep(0.05)
    assert not relay.bodies_seen()
    s.command("dot 1 go")
    expect(s.outcome(1), "sent")


def test_without_a_fence(relay, sender):
    s = sender(relay)
    expect(s.deliver(1, fence="none"), "sent")
    assert not any(e["event"] == "before_dot" for e in s.backlog)


def test_refused_fence(relay, sender):
    s = sender(relay)
    expect(s.deliver(1, fence="refuse"), "cancelled", "fence", "fence")
    relay.wait(lambda: relay.sessions[0].ended)
    assert not relay.bodies_seen()
    expect(s.deliver(2), "sent")


def test_fence_refused_later(relay, sender):
    s = sender(relay)
    s.mail(1, fence="hold")
    s.event("before_dot", id=1)
    s.command("dot 1 no")
    expect(s.outcome(1), "cancelled", "fence", "fence")
    relay.wait(lambda: relay.sessions[0].ended)
    assert not relay.bodies_seen()


def test_fence_that_is_never_answered(relay, sender):
    s = sender(relay, timeout=300)
    s.mail(1, fence="hold")
    expect(s.outcome(1), "retry", "timeout", "fence")
    relay.wait(lambda: relay.sessions[0].ended)
    assert not relay.bodies_seen()
    s.command("dot 1 go")
    s.event("gone", id=1)


@pytest.mark.parametrize("say", [b"421 4.4.2 too slow\r\n", b"250 taken\r\n", b"554 no\r\n", b""])
def test_whatever_comes_during_the_fence_is_no_answer_to_the_dot(relay, sender, say):
    """Also where the permission comes at the same time: the connection is lost or out of step, nothing was taken."""

    def act(session):
        while b"end\r\n" not in session.buffer:
            session.read()
        session.write(say)
        if not say:
            session.socket.shutdown(socket.SHUT_RDWR)
    relay.rule("body", act, times=1)
    s = sender(relay)
    s.mail(1, fence="hold")
    s.event("before_dot", id=1)
    outcome = s.outcome(1)
    expect(outcome, "retry", "reply" if say else "lost", "fence")
    assert not relay.bodies_seen()
    expect(s.deliver(2), "sent")


@pytest.mark.parametrize("say", [b"250 taken\r\n", b"421 4.4.2 too slow\r\n"])
def test_a_reply_that_comes_together_with_the_permission(relay, sender, say):
    """It was on the wire before the dot, so it is no answer to it: the dot does not leave."""
    said = threading.Event()

    def act(session):
        while b"end\r\n" not in session.buffer:
            session.read()
        said.wait(5)
        session.write(say)
        said.clear()
    relay.rule("body", act, times=1)
    s = sender(relay)
    s.mail(1, fence="hold")
    s.event("before_dot", id=1)
    s.process.send_signal(signal.SIGSTOP)
    s.command("dot 1 go")  # first, so that it is seen first
    said.set()
    relay.wait(lambda: not said.is_set())
    s.process.send_signal(signal.SIGCONT)
    expect(s.outcome(1), "retry", "reply", "fence")
    relay.wait(lambda: relay.sessions[0].ended)
    assert not relay.bodies_seen()


# ---- cancelling ----

def test_cancel_in_the_queue(relay, sender):
    relay.hold("mail", times=1)
    s = sender(relay)
    s.mail(1)
    relay.wait_held("mail")
    s.mail(2)
    s.command("cancel 2")
    assert s.event("cancel", id=2)["cancelled"]
    expect(s.outcome(2), "cancelled", "cancelled", "queue")
    relay.accept()
    expect(s.outcome(1), "sent")


@pytest.mark.parametrize("stage", ["mail", "data"])
def test_cancel_under_way(relay, sender, stage):
    relay.hold(stage, times=1)
    s = sender(relay)
    s.mail(1)
    relay.wait_held(stage)
    s.command("cancel 1")
    assert s.event("cancel", id=1)["cancelled"]
    expect(s.outcome(1), "cancelled", "cancelled")
    relay.wait(lambda: relay.sessions[0].ended)
    relay.accept()
    assert not relay.bodies_seen()
    expect(s.deliver(2), "sent")


def test_cancel_at_the_fence(relay, sender):
    s = sender(relay)
    s.mail(1, fence="hold")
    s.event("before_dot", id=1)
    s.command("cancel 1")
    expect(s.outcome(1), "cancelled", "cancelled", "fence")
    relay.wait(lambda: relay.sessions[0].ended)
    assert not relay.bodies_seen()


def test_cancel_after_the_dot_is_too_late(relay, sender):
    relay.hold("dot")
    s = sender(relay)
    s.mail(1)
    relay.wait_held("dot")
    s.command("cancel 1")
    assert not s.event("cancel", id=1)["cancelled"]
    relay.accept()
    expect(s.outcome(1), "sent")


def test_cancel_while_connecting(relay, sender):
    relay.hold("banner", times=1)
    s = sender(relay)
    s.mail(1)
    relay.wait_held("banner")
    s.command("cancel 1")
    expect(s.outcome(1), "cancelled", "cancelled", "queue")
    relay.accept()
    expect(s.deliver(2), "sent")


# ---- idle sessions ----

@pytest.mark.parametrize("say", [None, b"421 4.4.2 idle for too long\r\n"])
def test_idle_connection_closed_by_the_relay(relay, sender, say):
    s = sender(relay)
    for number in range(1, 5):
        expect(s.deliver(number), "sent")
        relay.close_idle(say)
    s.wait_state(idle=0)
    assert len(relay.mails) == relay.connections == 4


@pytest.mark.parametrize("action", ["drop", "reset", "421"])
def test_session_lost_just_when_it_is_reused(relay, sender, action):
    """The relay gave it up before it saw the mail: sent over a new one, without a failed attempt."""
    s = sender(relay)
    expect(s.deliver(1), "sent")
    if action == "421":
        relay.reject("mail", "421 4.4.2 idle for too long", times=1, close=True)
    else:
        relay.drop("mail", times=1, reset=action == "reset")
    expect(s.deliver(2), "sent")
    assert len(relay.mails) == relay.connections == 2


def test_a_new_session_lost_counts(relay, sender):
    """Only once, and only where the session was idle before."""
    s = sender(relay)
    expect(s.deliver(1), "sent")
    relay.drop("mail", times=2)
    expect(s.deliver(2), "retry", "lost", "mail")
    assert relay.connections == 2


def test_idle_session_expires_with_quit(relay, sender):
    s = sender(relay, idle_timeout=200)
    expect(s.deliver(1), "sent")
    relay.wait(lambda: relay.sessions[0].ended)
    assert relay.sessions[0].verbs()[-1] == "QUIT"
    s.wait_state(idle=0)
    expect(s.deliver(2), "sent")


def test_quit_without_an_answer_is_not_waited_for(relay, sender):
    relay.hold("quit", times=1)
    s = sender(relay, messages=1, connections=2)
    expect(s.deliver(1), "sent")
    relay.wait_held("quit")
    assert s.deliver(2)["ms"] < 1000


def test_so_many_mails_a_connection(relay, sender):
    s = sender(relay, messages=3)
    for number in range(9):
        expect(s.deliver(number), "sent")
    relay.wait(lambda: all(t.ended for t in relay.sessions))
    assert relay.connections == 3
    assert all(t.verbs()[-1] == "QUIT" for t in relay.sessions)


def test_last_used_first(relay, sender):
    """Surplus sessions are left alone and expire."""
    relay.delay("mail", 0.05)
    s = sender(relay, connections=4)
    for number in range(4):
        s.mail(number)
    for number in range(4):
        s.outcome(number)
    relay.accept()
    for number in range(4, 12):
        s.deliver(number)
    # Which of the four ended last is not the relay's to say: only that it is the same one every time.
    assert len({m.connection for m in relay.mails[4:]}) == 1


# ---- opening ----

@pytest.mark.parametrize("stage", ["banner", "ehlo"])
@pytest.mark.parametrize("code", [421, 450, 554])
def test_refused_before_mail_is_the_relays_failure(relay, sender, stage, code):
    relay.reject(stage, "%d 5.3.2 no service" % code, close=True)
    relay.reject("helo", "%d 5.3.2 no service" % code)
    outcome = sender(relay).deliver(1)
    expect(outcome, "retry")
    assert outcome["relay_down"] and outcome["reason"] in ("reply", "lost")
    if outcome["reason"] == "reply":
        assert outcome["code"] == code and outcome["reply"] == "%d 5.3.2 no service" % code
    assert outcome["ms"] < 1000


@pytest.mark.parametrize("stage", ["banner", "ehlo"])
def test_a_refusing_relay_that_ignores_quit_blocks_nothing(relay, sender, stage):
    """libcurl might say QUIT and wait for the answer, on the loop."""
    relay.reject(stage, "554 5.3.2 no service", times=1)
    relay.reject("helo", "554 5.3.2 no service", times=1)
    relay.rule("quit", lambda session: session.pause(3))
    outcome = sender(relay).deliver(1)
    expect(outcome, "retry", "reply", stage, 554)
    assert outcome["ms"] < 700


@pytest.mark.parametrize("stage", ["banner", "ehlo"])
def test_silent_while_opening(relay, sender, stage):
    relay.hold(stage, times=1)
    s = sender(relay, connect_timeout=300)
    outcome = s.deliver(1)
    expect(outcome, "retry", "timeout", stage)
    assert outcome["relay_down"] and 250 <= outcome["ms"] < 1200
    expect(s.deliver(2), "sent")


@pytest.mark.parametrize("stage", ["banner", "ehlo"])
def test_dripping_while_opening(relay, sender, stage):
    relay.drip(stage, interval=0.05, times=1, text="220 " + "x" * 100)
    outcome = sender(relay, connect_timeout=400).deliver(1)
    expect(outcome, "retry", "timeout", stage)
    assert outcome["ms"] < 1200


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\r\n\r\n", b"\x15\x03\x01\r\n",
                                    b"220-" + b"x" * 3000 + b"\r\n"], ids=range(5))
def test_garbage_for_a_banner(relay, sender, banner):
    relay.reject("banner", banner, raw=True)
    outcome = sender(relay).deliver(1)
    expect(outcome, "retry", "protocol", "banner")
    assert outcome["relay_down"] and outcome["ms"] < 1000


def test_endless_banner(relay, sender):
    relay.flood("banner", b"220-more\r\n")
    outcome = sender(relay).deliver(1)
    expect(outcome, "retry", "protocol", "banner")


def test_endless_line_for_a_banner(relay, sender):
    relay.flood("banner", b"x" * 1000)
    outcome = sender(relay, connect_timeout=500).deliver(1)
    expect(outcome, "retry")
    assert outcome["ms"] < 2000


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def test_connection_refused(sender):
    outcome = sender(port=free_port()).deliver(1)
    expect(outcome, "retry", "refused", "connect")
    assert outcome["relay_down"] and outcome["ms"] < 1000


def test_name_that_does_not_resolve(sender):
    outcome = sender(port=25, host="no-such-host.invalid").deliver(1)
    expect(outcome, "retry")
    assert outcome["reason"] in ("refused", "timeout") and outcome["relay_down"]


def test_out_of_file_descriptors(relay, sender):
    """No crash, no outage: the mail is retried."""
    limit = 14  # enough to start with, and for a handful of connections

    def lower():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    relay.hold("dot")
    s = sender(relay, popen={"preexec_fn": lower}, connections=40)
    for number in range(30):
        s.mail(number)
    relay.wait_held("dot")
    s.wait_state(connecting=0)
    relay.accept()
    outcomes = [s.outcome(number) for number in range(30)]
    assert {o["class"] for o in outcomes} <= {"sent", "retry"}
    assert all(o["reason"] == "internal" and not o["relay_down"] for o in outcomes if o["class"] == "retry")
    assert len(relay.mails) == sum(o["class"] == "sent" for o in outcomes) > 0
    expect(s.deliver(99), "sent")


# ---- TLS and authentication ----

@pytest.mark.parametrize("kind", ["starttls", "implicit"])
def test_tls(sender, certificates, kind):
    with SmtpServer(tls=kind, certfile=certificates / "good.pem") as server:
        s = sender(server, tls="tls" if kind == "implicit" else kind, ca=certificates / "ca.pem", host="localhost")
        for number in range(3):
            expect(s.deliver(number, size=300000), "sent")
        assert all(m.tls for m in server.mails) and server.connections == 1


def test_tls_by_address(sender, certificates):
    with SmtpServer(tls="starttls", certfile=certificates / "good.pem") as server:
        expect(sender(server, tls="starttls", ca=certificates / "ca.pem").deliver(1), "sent")


@pytest.mark.parametrize("kind", ["starttls", "implicit"])
@pytest.mark.parametrize("certificate,ca", [("wrong-host.pem", "ca.pem"), ("expired.pem", "ca.pem"), ("good.pem", "other-ca.pem"),
                                            ("good.pem", None)])
def test_bad_certificate(sender, certificates, kind, certificate, ca):
    with SmtpServer(tls=kind, certfile=certificates / certificate, auth=("user", "secret")) as server:
        flags = {"ca": certificates / ca} if ca else {}
        s = sender(server, tls="tls" if kind == "implicit" else kind, host="localhost", user="user", password="secret", **flags)
        outcome = s.deliver(1)
        expect(outcome, "retry", "tls")
        assert outcome["relay_down"] and "certificate" in outcome["error"].lower() and outcome["ms"] < 1500
        assert not server.mails and "AUTH" not in server.sessions[0].verbs()


def test_starttls_missing(sender, certificates):
    with SmtpServer() as server:
        outcome = sender(server, tls="starttls", ca=certificates / "ca.pem").deliver(1)
        expect(outcome, "retry", "tls", "starttls")
        assert outcome["relay_down"] and not server.mails


def test_starttls_refused(sender, certificates):
    with SmtpServer(tls="starttls", certfile=certificates / "good.pem") as server:
        server.reject("starttls", "454 4.7.0 not now")
        server.rule("quit", lambda session: session.pause(3))
        outcome = sender(server, tls="starttls", ca=certificates / "ca.pem").deliver(1)
        expect(outcome, "retry", "tls", "starttls", 454)
        assert outcome["ms"] < 1000


def test_tls_handshake_that_stalls(relay, sender, certificates):
    """A plain relay where TLS is expected waits for a command and so do we."""
    relay.hold("banner")
    outcome = sender(relay, tls="tls", ca=certificates / "ca.pem", connect_timeout=300).deliver(1)
    expect(outcome, "retry", "timeout", "starttls")


def test_plain_relay_where_tls_is_expected(relay, sender, certificates):
    outcome = sender(relay, tls="tls", ca=certificates / "ca.pem").deliver(1)
    expect(outcome, "retry", "tls")


@pytest.mark.parametrize("certificate", ["good.pem", "expired.pem", "wrong-host.pem"])
def test_opportunistic_takes_any_tls(sender, certificates, certificate):
    with SmtpServer(tls="starttls", certfile=certificates / certificate) as server:
        expect(sender(server, tls="opportunistic").deliver(1), "sent")
        assert server.mails[0].tls


def test_opportunistic_without_tls(relay, sender):
    expect(sender(relay, tls="opportunistic").deliver(1), "sent")
    assert not relay.mails[0].tls


def test_dropped_after_the_dot_over_tls(sender, certificates):
    with SmtpServer(tls="implicit", certfile=certificates / "good.pem") as server:
        server.drop("dot", after=True, times=1)
        s = sender(server, tls="tls", ca=certificates / "ca.pem", host="localhost")
        expect(s.deliver(1), "ambiguous", "lost", "dot")
        expect(s.deliver(2), "sent")


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN", "PLAIN LOGIN"])
def test_authentication(sender, mechanisms):
    with SmtpServer(auth=("user@example.com", "se:cr et")) as server:
        server.auth_mechanisms = mechanisms
        expect(sender(server, user="user@example.com", password="se:cr et").deliver(1), "sent")
        assert server.mails[0].user == "user@example.com"


@pytest.mark.parametrize("answers_quit", [True, False])
def test_wrong_password(sender, answers_quit):
    with SmtpServer(auth=("user", "secret")) as server:
        if not answers_quit:
            server.rule("quit", lambda session: session.pause(3))
        s = sender(server, user="user", password="wrong")
        outcome = s.deliver(1)
        expect(outcome, "retry", "auth", "auth", 535)
        assert outcome["relay_down"] and outcome["ms"] < 1000
        assert "wrong" not in "".join(s.lines)


@pytest.mark.parametrize("mechanisms", [None, "GSSAPI-X UNKNOWN"])
def test_authentication_not_offered(sender, mechanisms):
    """libcurl would go on without."""
    with SmtpServer(auth=("user", "secret") if mechanisms else None) as server:
        server.auth_mechanisms = mechanisms
        outcome = sender(server, user="user", password="secret").deliver(1)
        expect(outcome, "retry", "auth", "auth")
        assert outcome["relay_down"] and not server.mails


def test_silent_in_authentication(sender):
    with SmtpServer(auth=("user", "secret")) as server:
        server.hold("auth")
        outcome = sender(server, user="user", password="secret", connect_timeout=300).deliver(1)
        expect(outcome, "retry", "timeout", "auth")


# ---- outage ----

def test_breaker_opens_and_closes(relay, sender):
    relay.stop()
    s = sender(relay, failures=3, connections=2)
    for number in range(3):
        expect(s.deliver(number), "retry", "refused")
    assert not s.event("changed")["up"]
    state = s.state()
    assert not state["up"] and state["error"]
    relay.start()
    expect(s.deliver(10), "sent")
    assert s.event("changed")["up"] and s.state()["error"] == ""


def test_one_probe_at_a_time(relay, sender):
    relay.reject("banner", "421 4.3.2 not now", times=3, close=True)
    s = sender(relay, failures=3, connections=10)
    for number in range(3):
        s.deliver(number)
    s.event("changed", up=False)
    relay.hold("banner")
    s.mail(10)
    relay.wait_held("banner")
    opened = relay.connections
    for number in range(11, 40):
        outcome = s.deliver(number)
        expect(outcome, "retry", "outage", "queue")
        assert outcome["relay_down"] and outcome["ms"] < 500
    assert relay.connections == opened, "only the probe was tried"
    relay.accept()
    expect(s.outcome(10), "sent")
    expect(s.deliver(50), "sent")


def test_outage_gives_the_waiting_back(relay, sender):
    """Nobody waits for a relay that is down; a few have the true cause, all others were not tried."""
    relay.stop()
    s = sender(relay, failures=3, connections=2)
    for number in range(50):
        s.mail(number)
    outcomes = [s.outcome(number) for number in range(50)]
    assert {o["class"] for o in outcomes} == {"retry"}
    assert all(o["relay_down"] for o in outcomes)
    reasons = [o["reason"] for o in outcomes]
    assert reasons.count("refused") >= 3 and reasons.count("outage") >= 40


def test_success_between_failures_keeps_it_closed(relay, sender):
    s = sender(relay, failures=2, messages=1)
    for number in range(0, 10, 2):
        relay.reject("banner", "421 later", times=1, close=True)
        expect(s.deliver(number), "retry", "reply", "banner")
        expect(s.deliver(number + 1), "sent")
    assert s.state()["up"]


def test_relay_that_limits_connections(relay, sender):
    """Sessions beyond its limit are refused: no outage, the others carry the mail."""
    relay.max_sessions = 2
    relay.delay("dot", 0.01)
    s = sender(relay, connections=8, failures=3)
    expect(s.deliver(0), "sent")
    for number in range(1, 60):
        s.mail(number)
    for number in range(1, 60):
        expect(s.outcome(number), "sent")
    assert s.state()["up"]
    assert relay.connections < 30


def test_relay_restarts_under_load(relay, sender):
    relay.delay("dot", 0.005)
    s = sender(relay, connections=4)
    for number in range(40):
        s.mail(number)
    relay.wait_mails(5)
    relay.stop()
    outcomes = [s.outcome(number) for number in range(40)]
    assert {o["class"] for o in outcomes} <= {"sent", "retry", "ambiguous"}
    assert len(relay.mails) >= sum(o["class"] == "sent" for o in outcomes)
    relay.start()
    # The breaker may still be open: probes are given as mails come.
    relay.accept()
    expect(s.deliver(100), "sent")


def test_frozen_relay(relay, sender):
    s = sender(relay, timeout=300, connect_timeout=300)
    expect(s.deliver(1), "sent")
    relay.freeze()
    expect(s.deliver(2), "retry", "timeout")
    expect(s.deliver(3), "retry", "timeout")
    relay.thaw()
    expect(s.deliver(4), "sent")


# ---- the end ----

def test_shutdown_quits_idle_sessions_and_finishes_the_rest(relay, sender):
    s = sender(relay, connections=2)
    relay.hold("dot", skip=1)
    s.deliver(1)
    s.mail(2)
    relay.wait_held("dot")
    s.mail(3)
    relay.wait_held("dot", 2)
    s.command("shutdown")
    s.mail(4)
    relay.accept()
    expect(s.outcome(2), "sent")
    expect(s.outcome(3), "sent")
    assert s.outcome(4)["class"] in ("sent", "cancelled")
    relay.wait(lambda: all(t.ended for t in relay.sessions))
    assert all(t.verbs()[-1] == "QUIT" for t in relay.sessions)
    expect(s.deliver(5), "cancelled", "cancelled", "queue")


@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "data", "dot", "quit"])
def test_destroyed_at_any_time(relay, sender, stage):
    """Without waiting, and without a leak."""
    relay.hold(stage)
    s = sender(relay, messages=1 if stage == "quit" else 0, connections=2)
    s.mail(1, size=200000)
    s.mail(2, fence="hold")
    s.mail(3)
    relay.wait_held(stage)
    started = time.monotonic()
    s.close()
    assert time.monotonic() - started < 2


# ---- log mode ----

def test_log_transport(tmp_path):
    s = Sender("--log")
    message = tmp_path / "message"
    message.write_bytes(b"From: a@example.com\r\nSubject: Your\r\n code\r\n\r\nThe code is 123456.\r\n.\r\n\x00\xff\r\n")
    expect(s.deliver(1, to="a@example.com,b@example.com", file=message), "sent", "none", "log")
    [line] = [json.loads(text) for text in s.lines if '"msg":"Email"' in text]
    assert line["level"] == "info" and line["messageID"] == "test-1" and line["type"] == "generic"
    assert line["to"] == ["a@example.com", "b@example.com"] and line["from"] == "sender@example.com"
    assert line["message"].startswith("From: a@example.com\r\n") and "The code is 123456." in line["message"]
    expect(s.deliver(2, fence="refuse"), "cancelled", "fence", "fence")
    s.mail(3, fence="hold")
    s.event("before_dot", id=3)
    s.command("cancel 3")
    assert s.event("cancel", id=3)["cancelled"]
    expect(s.outcome(3), "cancelled", "cancelled", "fence")
    s.mail(4, fence="hold")
    s.event("before_dot", id=4)
    s.command("dot 4 go")
    expect(s.outcome(4), "sent")
    s.close()
    assert sum('"msg":"Email"' in text for text in s.lines) == 2


def test_log_transport_many():
    result = subprocess.run([str(SEND), "--count", "5000", "--size", "500", "--log"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert sum(line.get("msg") == "Email" for line in lines) == 5000
    assert lines[-1]["sent"] == 5000 or [x for x in lines if x.get("event") == "summary"][0]["sent"] == 5000


# ---- volume ----

def test_volume_over_many_sessions(relay):
    result = subprocess.run([str(SEND), "--port", str(relay.port), "--connections", "16", "--count", "2000"],
                            capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["sent"] == len(relay.mails) == 2000
    assert summary["opened"] == relay.connections <= 16
