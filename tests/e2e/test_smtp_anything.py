"""The SMTP client against a relay that does anything, while mails are cancelled and fences held or refused, in an order
that is drawn from a seed: every mail gets one outcome, and it is true."""

import collections
import queue
import random
import time

import pytest

from lib_sender import sender  # noqa: F401 (fixture)
from smtp_server import SmtpServer

STAGES = ["mail", "rcpt", "data", "dot", "banner"]
REPLIES = ["421 4.3.2 bye", "451 4.3.0 later", "550 5.0.0 no", "530 5.7.0 login"]


def draw_flags(r):
    flags = {"connections": r.choice([1, 2, 4, 8]), "timeout": r.choice([700, 1500]), "failures": r.choice([2, 3, 100])}
    if r.random() < .3:
        flags["rate"] = r.choice([50, 200])
    if r.random() < .3:
        flags["messages"] = r.choice([1, 2, 5])
    if r.random() < .2:
        flags["connect_timeout"] = 300
    return flags


class Run:
    def __init__(self, r, relay, program):
        self.r, self.relay, self.program = r, relay, program
        self.last, self.open, self.held, self.outcomes = 0, set(), set(), {}

    def listen(self, seconds):
        end = time.monotonic() + seconds
        while True:
            try:
                e = self.program.events.get(timeout=max(0.0005, end - time.monotonic()))
            except queue.Empty:
                return
            if e.get("event") == "finished":
                assert e["id"] not in self.outcomes, "a second outcome: %s" % e
                self.outcomes[e["id"]] = e
                self.open.discard(e["id"])
                self.held.discard(e["id"])
            elif e.get("event") == "before_dot" and e["id"] % 3 == 0:
                self.held.add(e["id"])

    def send_some(self):
        for _ in range(self.r.randrange(1, 12)):
            self.last += 1
            to = "u%d@example.com" % self.last
            if self.r.random() < .15:
                to += ",v%d@example.com" % self.last
            fence = "hold" if self.last % 3 == 0 else self.r.choice(["sync"] * 19 + ["refuse"])
            self.open.add(self.last)
            self.program.mail(self.last, to=to, fence=fence, **({"size": 200000} if self.r.random() < .05 else {}))

    def answer_fences(self, part, answers):
        for number in sorted(self.held):
            if self.r.random() < part:
                self.held.discard(number)
                self.program.command("dot %d %s" % (number, self.r.choice(answers)))

    def cancel_some(self):
        for number in sorted(self.open):
            if self.r.random() < .02:
                self.program.command("cancel %d" % number)

    def upset_the_relay(self):
        x, times = self.r.random(), self.r.randrange(1, 4)
        if x < .04:
            self.relay.reject(self.r.choice(STAGES + ["rset"]), self.r.choice(REPLIES), close=self.r.random() < .4, times=times)
        elif x < .08:
            self.relay.drop(self.r.choice(STAGES + ["body"]), after=self.r.random() < .5, reset=self.r.random() < .3, times=times)
        elif x < .11:
            self.relay.delay(self.r.choice(STAGES[:4]), self.r.choice([.05, .3, 2.5]), times=times)
        elif x < .12:
            self.relay.close_idle(say=self.r.choice([None, b"421 bye\r\n"]), timeout=5)
        elif x < .125:
            self.relay.stop()
            self.listen(self.r.random() * .3)
            self.relay.start()
        elif x < .14:
            self.relay.accept()

    def finish(self):
        self.relay.accept()
        self.relay.max_sessions = None
        if self.r.random() < .4:
            self.program.command("shutdown")
        end = time.monotonic() + 60
        while self.open:
            self.listen(.05)
            self.answer_fences(1, ["go"])
            assert time.monotonic() < end, "no outcome: %s, %s" % (sorted(self.open)[:10], self.program.state())
        self.listen(.05)
        state = self.program.state()
        assert (state["waiting"], state["busy"]) == (0, 0), state

    def check(self):
        got = collections.Counter(int(m.recipients[0][1:].split("@")[0]) for m in self.relay.mails)
        for number, o in self.outcomes.items():
            allowed = {"sent": (1,), "ambiguous": (0, 1)}.get(o["class"], (0,))
            assert got[number] in allowed, "taken %d times, and the outcome is %s" % (got[number], o)
        assert len(self.outcomes) == self.last and "sent" in {o["class"] for o in self.outcomes.values()}


@pytest.mark.parametrize("seed", range(1, 7))
def test_one_true_outcome_each(sender, seed):  # noqa: F811
    r = random.Random(seed)
    with SmtpServer() as relay:
        relay.behind = [None, None, None, "drop", None, "reset"][seed - 1]
        run = Run(r, relay, sender(relay, **draw_flags(r)))
        relay.max_sessions = r.choice([None, None, None, 2])
        end = time.monotonic() + 4
        while time.monotonic() < end:
            run.send_some()
            run.listen(r.random() * .03)
            run.answer_fences(.7, ["go", "go", "go", "no"])
            run.cancel_some()
            run.upset_the_relay()
        run.finish()
        run.check()
