"""What was found at a kill and at the end, and whether the contract allows it. Pure: no server, no clock."""

from dataclasses import dataclass, field

PATHS = ("sent", "slow", "refused", "invalid", "unreadable")
POLICIES = ("resend", "park")

BEFORE = "no claim (none yet, or run out)"
CLAIMED = "claimed (C)"
FENCED = "fence up (D), dot not taken"
WINDOW = "delivered, not marked (D)"
REFUSED_OPEN = "refused by the relay, D still up"
RELEASED = "refused and released, no dead letter"
BURIED = "dead letter written, not marked"
FINAL = "marked, not committed"
COMMITTED = "committed"

SENT_STAGES = (BEFORE, CLAIMED, FENCED, WINDOW, FINAL, COMMITTED)
STAGES = {
    "sent": SENT_STAGES,
    "slow": SENT_STAGES,
    "refused": (BEFORE, CLAIMED, FENCED, REFUSED_OPEN, RELEASED, BURIED, FINAL, COMMITTED),
    "invalid": (BEFORE, CLAIMED, BURIED, FINAL, COMMITTED),
    "unreadable": (BEFORE, CLAIMED, BURIED, FINAL, COMMITTED),
}


@dataclass
class Found:
    """What the relay's disk, Redis and Kafka hold about one event."""

    mark: object = None  # the dedup key: None, "C|...", "D|...", or the final object as a dict
    copies: list = field(default_factory=list)  # a hash of each mail that the relay took
    dots: int = 0  # final dots that came to the relay, refused ones too
    letters: list = field(default_factory=list)  # a reason for each dead letter
    committed: bool = False

    @property
    def state(self):
        """None, "C", "D", "sent" or "dead"."""
        if isinstance(self.mark, dict):
            return self.mark["state"]
        return self.mark[:1] if self.mark else None


def stage(path, kill):
    """Where the event stood when the process was killed."""
    if kill.committed:
        return COMMITTED
    if kill.state in ("sent", "dead"):
        return FINAL
    if kill.letters:
        return BURIED
    if kill.state == "C":
        return CLAIMED
    if kill.state == "D":
        return WINDOW if kill.copies else REFUSED_OPEN if kill.dots else FENCED
    return RELEASED if kill.dots else BEFORE


def _sent(policy, where, end):
    copies, letters = len(end.copies), end.letters
    if not copies and not letters:
        yield "LOST: neither delivered nor dead-lettered"
    if copies > 1 and where != WINDOW:
        yield "unexplained duplicate: %d copies" % copies
    if copies > 1 and policy == "park":
        yield "duplicate although parked: %d copies" % copies
    if copies > 2:
        yield "more copies than crashes explain: %d" % copies
    if len(set(end.copies)) > 1:
        yield "the copies differ"
    if letters and (policy != "park" or letters != ["ambiguous"]):
        yield ("both delivered and dead-lettered: %s" if copies else "dead letter: %s") % letters
    if letters and where not in (FENCED, WINDOW):
        yield "parked without doubt"
    if end.state != ("dead" if letters else "sent"):
        yield "the mark at the end is %r" % (end.mark,)


def _dead(path, policy, where, end):
    reason = "rejected" if path == "refused" else "invalid_event"
    # The reply to the dot died with the process: then even a refused mail may have been taken.
    doubt = path == "refused" and policy == "park" and where in (FENCED, REFUSED_OPEN)
    if end.copies:
        yield "delivered: %d copies" % len(end.copies)
    if not end.letters:
        yield "LOST: no dead letter"
    if len(end.letters) > 1 and where != BURIED:
        yield "unexplained doubled dead letter: %d" % len(end.letters)
    if len(end.letters) > 2:
        yield "more dead letters than crashes explain: %d" % len(end.letters)
    if set(end.letters) - {"ambiguous" if doubt else reason}:
        yield "the reasons are %s" % end.letters
    if end.state != "dead":
        yield "the mark at the end is %r" % (end.mark,)


def problems(path, policy, kill, end):
    """What the contract does not allow, in words; an empty list where all is well."""
    where = stage(path, kill)
    found = list(_sent(policy, where, end) if path in ("sent", "slow") else _dead(path, policy, where, end))
    if not end.committed:
        found.append("the committed offset does not end after the event")
    if where not in STAGES[path]:
        found.append("no such stage on this path: %s" % where)
    return found
