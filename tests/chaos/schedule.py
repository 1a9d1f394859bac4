"""The faults of a run: a pure function of the seed, so that a run can be repeated.

What happens between two faults depends on the machine; when which fault comes, to whom and for how long does not.
"""

import random
from dataclasses import asdict, dataclass, field

SLOTS = 3          # instances that a run starts with
EXTRA_SLOT = 3     # the one that joins for a while

# kind → weight. The first group are kill -9s.
KILLS = {"instance_kill": 60, "relay_kill": 18, "redis_kill": 9, "redis_power_loss": 4, "broker_kill": 9}
OTHERS = {"instance_stop": 26, "relay_drop": 24, "instance_leave": 8, "instance_join": 8,
          "relay_link": 16, "redis_link": 10, "kafka_link": 8}

RELAY_DROPS = ("banner", "mail", "body", "taken_drop", "taken_drop", "taken_silent", "untaken_drop", "reply_421",
               "rcpt_451", "dot_451")
TOXICS = ("latency", "reset_peer", "half_open", "slow_close", "bandwidth", "slicer", "limit_data")
NETWORK = ("relay_link", "redis_link", "kafka_link")

# Seconds that the thing is down, stopped or disturbed, and seconds that it is left alone afterwards.
TIMES = {
    "instance_kill": ((0.1, 1.5), 1.5), "relay_kill": ((0.2, 2.5), 1.0), "redis_kill": ((0.2, 2.0), 2.0),
    "redis_power_loss": ((0.2, 2.0), 2.0), "broker_kill": ((0.2, 2.0), 7.0), "instance_stop": ((1.3, 2.5), 2.0),
    "relay_drop": ((1.0, 4.0), 0.5), "instance_leave": ((0.2, 2.0), 2.0), "instance_join": ((4.0, 12.0), 1.0),
    "relay_link": ((0.8, 4.0), 0.5), "redis_link": ((0.8, 3.5), 1.0), "kafka_link": ((0.8, 4.0), 1.0),
}


@dataclass(frozen=True)
class Fault:
    number: int
    at: float        # seconds after the first event
    kind: str
    target: str      # two faults never work on the same target at the same time
    seconds: float
    details: dict = field(default_factory=dict)

    def as_dict(self):
        return asdict(self)


def _pick(rng, weights):
    kinds = list(weights)
    return rng.choices(kinds, [weights[k] for k in kinds])[0]


def _target(rng, kind):
    if kind in ("instance_kill", "instance_stop", "instance_leave"):
        return "instance %d" % rng.randrange(SLOTS)
    if kind == "instance_join":
        return "instance %d" % EXTRA_SLOT
    if kind in NETWORK:
        return "%s of %d" % (kind, rng.randrange(SLOTS))
    return kind.split("_")[0]


def _toxic(rng):
    name = rng.choice(TOXICS)
    stream = rng.choice(("upstream", "downstream"))
    attributes = {
        "latency": lambda: {"latency": rng.randrange(50, 400), "jitter": rng.randrange(0, 100)},
        "reset_peer": lambda: {"timeout": rng.randrange(0, 400)},
        "half_open": lambda: {"timeout": 0},
        "slow_close": lambda: {"delay": rng.randrange(200, 2000)},
        "bandwidth": lambda: {"rate": rng.randrange(2, 20)},
        "slicer": lambda: {"average_size": rng.randrange(8, 200), "size_variation": 4,
                           "delay": rng.randrange(100, 3000)},
        "limit_data": lambda: {"bytes": rng.randrange(100, 4000)},
    }[name]()
    return {"toxic": name, "stream": stream, "attributes": attributes}


def _details(rng, kind):
    if kind == "relay_drop":
        return {"mode": rng.choice(RELAY_DROPS), "share": round(rng.uniform(0.2, 0.9), 2)}
    if kind == "redis_power_loss":
        # appendfsync everysec may lose so much when the machine dies, not only the process.
        return {"lost_seconds": round(rng.uniform(0.2, 1.0), 2)}
    if kind in NETWORK:
        return _toxic(rng)
    return {}


def _duration(rng, kind, lease):
    low, high = TIMES[kind][0]
    seconds = rng.uniform(low, high)
    if kind == "instance_stop":
        seconds *= lease  # beyond the lease, always
    return round(seconds, 2)


def kinds_in_order(rng, kills, others, network, only):
    """Exactly so many of each group, shuffled."""
    def allowed(group):
        return {k: w for k, w in group.items() if (network or k not in NETWORK) and (not only or k in only)}
    kinds = [_pick(rng, allowed(KILLS)) for _ in range(kills)]
    kinds += [_pick(rng, allowed(OTHERS)) for _ in range(others)]
    rng.shuffle(kinds)
    return kinds


def make(seed, kills, others, gap, lease, network=True, only=()):
    """Faults in the order of their time, about `gap` seconds apart; they overlap, but not on one target."""
    rng = random.Random("faults-%s" % seed)
    free_at, faults, now = {}, [], 3.0
    for number, kind in enumerate(kinds_in_order(rng, kills, others, network, only), 1):
        now += gap * rng.uniform(0.3, 1.7)
        candidates = [_target(rng, kind) for _ in range(6)]
        target = min(candidates, key=lambda t: max(free_at.get(t, 0), now))
        at = round(max(now, free_at.get(target, 0)), 2)
        seconds = _duration(rng, kind, lease)
        free_at[target] = at + seconds + TIMES[kind][1]
        faults.append(Fault(number, at, kind, target, seconds, _details(rng, kind)))
    return sorted(faults, key=lambda f: (f.at, f.number))


def end_of(faults):
    return max((f.at + f.seconds for f in faults), default=0.0)
