"""The events of a run and when each is published: a pure function of the seed and of the faults' times."""

import json
import random
from dataclasses import dataclass

# kind → share. What is to become of each:
KINDS = {
    "mail": 0.81,        # delivered
    "multi": 0.05,       # delivered to all its recipients
    "partial": 0.03,     # delivered to those that the relay accepts, and a dead letter names the others
    "refused": 0.03,     # dead letter `rejected`
    "invalid": 0.013,    # dead letter `invalid_event`
    "unreadable": 0.012,  # the same, without a messageID that could be read
    "later": 0.045,      # refused for now, about every second time; delivered
    "never": 0.01,       # always refused for now: dead letter `retries_exhausted`
}
TWICE = 0.04             # of all but the invalid ones are published a second time
SHARED_KEY = 0.35        # have a key that others have too: sent one after another, in order
WITHOUT_KEY = 0.15


@dataclass(frozen=True)
class Event:
    id: str              # messageID; for invalid events without one, the harness' name for it
    kind: str
    key: str             # None: none
    value: bytes
    accepted: tuple      # recipients that get it
    refused: tuple       # recipients that the relay refuses for good


@dataclass(frozen=True)
class Publication:
    at: float
    event: Event


def _recipients(rng, kind, number):
    def addresses(word, least=1, most=1):
        return tuple("%s-%d-%d@example.com" % (word, number, n) for n in range(rng.randint(least, most)))
    if kind == "multi":
        return addresses("user", 2, 5), ()
    if kind == "partial":
        return addresses("user", 1, 3), addresses("refused", 1, 2)
    if kind in ("refused", "never"):
        return (), addresses(kind)
    return addresses("later" if kind == "later" else "user"), ()


def _text(rng, message_id):
    lines = ["Ref %s" % message_id]
    lines += ["".join(rng.choices("abcdefghij kl.mnö", k=rng.randrange(5, 90))) for _ in range(rng.randrange(1, 30))]
    return "\n".join(lines) + "\n"


def _encoded(rng, kind, value):
    """As JSON, spoilt where the event is to be a bad one."""
    spoilt = rng.random() < 0.5
    if kind == "invalid" and spoilt:
        value = dict(value, subject="two\r\nlines")
    elif kind == "invalid":
        value = {n: v for n, v in value.items() if n != "to"}
    elif kind == "unreadable" and spoilt:
        value = {n: v for n, v in value.items() if n != "messageID"}
    raw = json.dumps(value).encode()
    return raw[:-7] if kind == "unreadable" and not spoilt else raw


def _key(rng, recipients, shared_keys):
    draw = rng.random()
    if draw < SHARED_KEY:
        return "key-%d" % rng.randrange(shared_keys)
    return None if draw < SHARED_KEY + WITHOUT_KEY else recipients[0]


def make_event(rng, number, seed, shared_keys):
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    message_id = "chaos-%s-%d" % (seed, number)
    accepted, refused = _recipients(rng, kind, number)
    recipients = list(accepted + refused)
    rng.shuffle(recipients)
    value = {
        "messageID": message_id, "type": rng.choice(("verification_code", "welcome", "password_reset")),
        "to": recipients if len(recipients) > 1 else recipients[0], "subject": "Chaos %d ü" % number,
        "text": _text(rng, message_id), "headers": {"X-Chaos-Event": message_id},
        "createdAt": "2026-01-01T00:00:00Z",
    }
    if rng.random() < 0.3:
        value["html"] = "<p>%s</p>" % message_id
    raw = _encoded(rng, kind, value)
    return Event(message_id, kind, _key(rng, recipients, shared_keys), raw, accepted, refused)


def _times(rng, count, faults, seconds):
    """Half of them spread out, half in bursts right before and during faults, when they can be hit."""
    times = []
    for _ in range(count):
        if faults and rng.random() < 0.5:
            times.append(max(0.0, rng.choice(faults).at + rng.gauss(-0.05, 0.12)))
        else:
            times.append(rng.uniform(0, seconds))
    return sorted(times)


def make(seed, count, faults, seconds):
    """Publications in the order of their time: `count` events, some of them twice."""
    rng = random.Random("events-%s" % seed)
    shared_keys = 8 + count // 150
    plan = []
    for number, at in enumerate(_times(rng, count, faults, seconds)):
        event = make_event(rng, number, seed, shared_keys)
        plan.append(Publication(at, event))
        if event.kind not in ("invalid", "unreadable") and rng.random() < TWICE:
            plan.append(Publication(at + rng.choice((0.0, 0.05, 0.5, 5.0)), event))
    return sorted(plan, key=lambda p: p.at)
