"""How hard the relay is worked: a bound of mails a second, and fewer connections while it says that it is too busy."""

import time

import pytest

from lib_sender import expect, relay, sender  # noqa: F401 (fixtures)


def test_mails_a_second(relay, sender):  # noqa: F811
    """The bound is one from above, so a slow machine passes as well; the mails' own times are the relay's."""
    s = sender(relay, rate=20, connections=4)
    for number in range(41):
        s.mail(number)
    for number in range(41):
        expect(s.outcome(number, timeout=60), "sent")
    times = sorted(c.time for t in relay.sessions for c in t.commands if c.line.startswith("MAIL"))
    assert times[40] - times[0] >= 1.9
    assert relay.connections <= 4


def test_slower_than_one_a_turn(relay, sender):  # noqa: F811
    s = sender(relay, rate=4)
    for number in range(3):
        s.mail(number)
    for number in range(3):
        expect(s.outcome(number, timeout=60), "sent")
    first, _, last = [c.time for c in relay.sessions[0].commands if c.line.startswith("MAIL")]
    assert last - first >= 0.45


@pytest.mark.parametrize("stage, reply", [("dot", "421 4.3.2 too busy"), ("data", "421 4.7.0 too much"),
                                          ("mail", "451 4.3.2 too busy"), ("dot", "452 4.3.1 no room")])
def test_fewer_connections_while_it_is_busy(relay, sender, stage, reply):  # noqa: F811
    s = sender(relay, connections=8)
    relay.hold("mail", times=8)
    for number in range(8):
        s.mail(number)
    relay.wait_held("mail", 8)
    relay.accept()
    for number in range(8):
        expect(s.outcome(number), "sent")
    s.wait_state(idle=8)
    relay.reject(stage, reply, close=reply.startswith("421"), times=1)
    expect(s.deliver(100), "retry", "reply", stage, int(reply[:3]))
    # Half of them are left; what comes next does not open more than that.
    relay.hold("mail")
    for number in range(200, 230):
        s.mail(number)
    relay.wait_held("mail", 8 + 4)
    s.wait_state(busy=4, connecting=0, idle=0, waiting=26)
    relay.accept()
    for number in range(200, 230):
        expect(s.outcome(number), "sent")


def test_several_turned_away_at_once_count_once(relay, sender):  # noqa: F811
    """The next try comes a second later, not after as many doublings as there were connections."""
    relay.capabilities.remove("PIPELINING")
    relay.max_sessions = 1
    s = sender(relay, connections=12, timeout=60000)
    expect(s.deliver(0), "sent")
    relay.hold("dot")
    for number in range(1, 61):
        s.mail(number)
    relay.wait(lambda: relay.connections >= 12)
    s.wait_state(connecting=0)
    relay.max_sessions = None
    s.wait_state(busy=12, timeout=10)
    relay.accept()
    for number in range(1, 61):
        expect(s.outcome(number), "sent")


def test_a_refused_recipient_says_nothing_about_the_relay(relay, sender):  # noqa: F811
    s = sender(relay, connections=4)
    relay.reject("rcpt", "450 4.2.1 mailbox busy", times=1)
    expect(s.deliver(1), "retry", "reply", "rcpt", 450)
    relay.hold("mail")
    for number in range(10, 20):
        s.mail(number)
    relay.wait_held("mail", 4)
    relay.accept()
    for number in range(10, 20):
        expect(s.outcome(number), "sent")


def test_it_grows_back(relay, sender):  # noqa: F811
    s = sender(relay, connections=4)
    relay.reject("dot", "421 4.3.2 too busy", close=True, times=1)
    expect(s.deliver(1), "retry", "reply", "dot", 421)

    def used():
        """Connections that a burst of mails gets."""
        before = relay.held["mail"]
        relay.hold("mail")
        for number in range(10, 20):
            s.mail(number)
        relay.wait_held("mail", before + 1)
        s.wait_state(connecting=0)
        busy = s.state()["busy"]
        relay.accept()
        for number in range(10, 20):
            expect(s.outcome(number), "sent")
        return busy

    assert used() == 1
    end = time.monotonic() + 60
    while used() < 4:
        assert time.monotonic() < end, s.state()
