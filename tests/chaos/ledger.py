"""The reconciliation: what was published against what the relay took, what was dead-lettered, what is still to come.

Pure: it works on plain records, so that test_ledger.py can put any fraud before it.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

# Between the moment that something is killed and the moment that the last bytes it had sent arrive.
SLACK = 2.0
# Until the group is settled again after somebody left it: session time-out, rebalance, offsets committed.
GROUP_SLACK = 10.0


@dataclass
class Published:
    """One event (a messageID) and the records that carry it, in the order of publication."""
    id: str
    kind: str
    key: str = None
    accepted: tuple = ()
    refused: tuple = ()
    records: list = field(default_factory=list)  # (partition, offset)


@dataclass
class Copy:
    """One mail that the relay took."""
    number: int
    time: float
    id: str            # its X-Chaos-Event
    message_id: str    # its Message-ID
    sha256: str
    recipients: tuple
    answered: bool     # the relay wrote its 250


@dataclass
class Letter:
    """One dead letter; source is the (partition, offset) of the record that it stands for."""
    source: tuple
    id: str            # None where it cannot be read
    reason: str
    recipients: tuple  # dlq-recipients
    time: float
    identical: bool = True  # key and value are the record's own


@dataclass
class FaultRecord:
    number: int
    kind: str
    target: str
    begin: float
    end: float
    at_risk: list = field(default_factory=list)      # (id, token, first, last): dots that stood in Redis
    dead_marked: set = field(default_factory=set)    # records whose dead mark stood when it began
    lost: list = field(default_factory=list)         # ids of marks and dots that Redis lost
    note: str = ""


@dataclass
class Problem:
    what: str
    id: str
    detail: str


@dataclass
class Verdict:
    problems: list = field(default_factory=list)
    figures: Counter = field(default_factory=Counter)
    causes: Counter = field(default_factory=Counter)  # kind of fault → duplicates that it explains
    duplicates: list = field(default_factory=list)    # (id, copy number, cause)

    def bad(self, what, id, detail=""):
        self.problems.append(Problem(what, id, detail))


class Reconciliation:
    def __init__(self, published, copies, letters, faults, committed, policy="resend"):
        self.published = {p.id: p for p in published}
        self.by_record = {r: p for p in published for r in p.records}
        self.faults, self.committed, self.policy = faults, committed, policy
        self.copies, self.letters = defaultdict(list), defaultdict(list)
        self.verdict = Verdict()
        for copy in sorted(copies, key=lambda c: c.number):
            self.copies[copy.id].append(copy)
        for letter in sorted(letters, key=lambda l: l.time):
            self.letters[letter.source].append(letter)
        self.risks, self.losses = defaultdict(list), defaultdict(list)
        for fault in faults:
            for entry in fault.at_risk:
                self.risks[entry[0]].append((fault, *entry[1:]))
            for id in fault.lost:
                self.losses[id].append(fault)

    def run(self):
        self._check_strangers()
        for event in self.published.values():
            self._check_outcome(event)
            self._check_copies(event)
            for record in event.records:
                self._check_letter_doubles(event, record)
        self._check_order()
        self._count()
        return self.verdict

    # ---- every event is exactly one of delivered, dead-lettered, still to come ----

    def _check_strangers(self):
        for id, copies in self.copies.items():
            if id not in self.published:
                self.verdict.bad("mail that nobody published", str(id), "number %d" % copies[0].number)
        owners = defaultdict(set)
        for copies in self.copies.values():
            for copy in copies:
                owners[copy.message_id].add(copy.id)
        for message_id, ids in owners.items():
            if message_id is None or len(ids) > 1:
                self.verdict.bad("Message-ID missing or shared", ", ".join(map(str, ids)), str(message_id))
        for source, letters in self.letters.items():
            if source not in self.by_record:
                self.verdict.bad("dead letter of no record", str(letters[0].id), "source %s" % (source,))
            elif any(not letter.identical for letter in letters):
                self.verdict.bad("dead letter differs from its record", str(letters[0].id), "source %s" % (source,))

    def _open(self, record):
        return record[1] >= self.committed.get(record[0], 0)

    def _letters_of(self, event):
        return [letter for record in event.records for letter in self.letters.get(record, [])]

    def _check_outcome(self, event):
        if not event.records:
            self.verdict.bad("never published", event.id)
        elif event.kind in ("invalid", "unreadable", "refused", "never"):
            self._check_dead(event)
        elif self.copies.get(event.id):
            self._check_delivered(event)
        else:
            self._check_undelivered(event)

    def _check_dead(self, event):
        wanted = {"invalid": {"invalid_event"}, "unreadable": {"invalid_event"}, "refused": {"rejected", "retries_exhausted"},
                  "never": {"retries_exhausted"}}[event.kind]
        if self.copies.get(event.id):
            self.verdict.bad("delivered although it must not be", event.id)
        for record in event.records:
            letters = self.letters.get(record, [])
            if letters:
                self.verdict.figures["dead-lettered"] += 1
            elif self._open(record):
                self.verdict.figures["still to come"] += 1
            else:
                self.verdict.bad("LOST", event.id, "%s, committed past %s without a dead letter" % (
                    event.kind, record))
            self._check_reasons(event, letters, wanted)

    def _check_reasons(self, event, letters, wanted):
        for letter in letters:
            if letter.reason not in wanted:
                self.verdict.bad("wrong reason", event.id, "%s for %s" % (letter.reason, event.kind))

    def _check_undelivered(self, event):
        for record in event.records:
            letters = self.letters.get(record, [])
            if letters:
                self.verdict.figures["dead-lettered"] += 1
            elif self._open(record):
                self.verdict.figures["still to come"] += 1
            else:
                self.verdict.bad("LOST", event.id, "%s, committed past %s: no mail, no dead letter" % (
                    event.kind, record))
            wanted = {"retries_exhausted"} | ({"ambiguous"} if self.policy == "park" else set())
            if event.kind == "partial":
                wanted.add("rejected")
            self._check_reasons(event, letters, wanted)

    def _check_delivered(self, event):
        self.verdict.figures["delivered"] += 1
        letters = self._letters_of(event)
        doubtful = {"ambiguous"} if self.policy == "park" else set()
        for letter in letters:
            if event.kind == "partial" and letter.reason == "rejected":
                continue
            if letter.reason in doubtful | {"retries_exhausted"} and self._explained_both(event):
                self.verdict.figures["delivered and dead-lettered, ambiguous"] += 1
                continue
            self.verdict.bad("delivered and dead-lettered", event.id, letter.reason)
        if event.kind == "partial":
            self._check_refused_named(event, letters)

    def _explained_both(self, event):
        """An attempt whose outcome nobody knew, or a second record that was tried after the first was dead."""
        return (event.id in self.risks or event.id in self.losses or len(event.records) > 1
                or any(not c.answered for c in self.copies[event.id]))

    def _check_refused_named(self, event, letters):
        named = [tuple(sorted(letter.recipients)) for letter in letters if letter.reason == "rejected"]
        if tuple(sorted(event.refused)) in named or any(
                letter.reason in ("ambiguous", "retries_exhausted") for letter in letters):
            return
        if not any(self._open(record) for record in event.records):
            self.verdict.bad("LOST", event.id, "the refused recipients %s are named nowhere" % (event.refused,))

    # ---- copies ----

    def _check_copies(self, event):
        copies = self.copies.get(event.id, [])
        if not copies:
            return
        if len({(c.message_id, c.sha256) for c in copies}) > 1:
            self.verdict.bad("copies differ", event.id, "numbers %s" % [c.number for c in copies])
        for copy in copies:
            if sorted(copy.recipients) != sorted(event.accepted):
                self.verdict.bad("wrong recipients", event.id, "%s" % (copy.recipients,))
        self._explain_copies(event, copies)

    def _explain_copies(self, event, copies):
        """Each copy beyond the first needs a cause of its own, at the right time.

        One dot is one attempt: it explains one copy more, never two.
        """
        used = set()
        for before, copy in zip(copies, copies[1:]):
            cause = self._cause(event, before, copy, used)
            self.verdict.figures["duplicates"] += 1
            self.verdict.duplicates.append((event.id, copy.number, cause))
            if cause is None:
                self.verdict.figures["unexplained"] += 1
                self.verdict.bad("UNEXPLAINED DUPLICATE", event.id, "copies %s" % [
                    (c.number, round(c.time, 3), c.answered) for c in copies])
                continue
            self.verdict.causes[cause] += 1
            if cause.startswith("redis lost"):
                self.verdict.figures["duplicates by Redis' losses"] += 1
            elif self.policy == "park":
                self.verdict.bad("duplicate in spite of park", event.id, cause)

    def _cause(self, event, before, copy, used):
        for fault in self.losses.get(event.id, ()):
            if ("lost", fault.number) not in used and before.time - SLACK <= fault.begin <= copy.time:
                used.add(("lost", fault.number))
                return "redis lost its key (%s)" % fault.kind
        if not before.answered and ("unanswered", before.number) not in used:
            used.add(("unanswered", before.number))
            return "relay took it and gave no answer"
        for fault, token, first, last in self.risks.get(event.id, ()):
            # A stopped one sends its dot when it wakes up; what was killed had sent it before.
            end = max(last, fault.end if fault.kind == "instance_stop" else last) + SLACK
            if token not in used and first <= copy.time and end >= before.time:
                used.add(token)
                return fault.kind
        return None

    # ---- dead letters that are there twice ----

    def _check_letter_doubles(self, event, record):
        letters = self.letters.get(record, [])
        for before, letter in zip(letters, letters[1:]):
            self.verdict.figures["dead letters doubled"] += 1
            if event.kind == "unreadable":
                self.verdict.figures["… of events without a messageID"] += 1
            elif len(event.records) > 1:
                self.verdict.figures["… of events published twice"] += 1
            fault = self._letter_cause(event, record, before, letter)
            if fault is None:
                self.verdict.figures["dead letters doubled, unexplained"] += 1
                self.verdict.bad("UNEXPLAINED DOUBLE DEAD LETTER", event.id, "%s of %s at %.3f and %.3f" % (
                    letter.reason, record, before.time, letter.time))
            else:
                self.verdict.causes["dead letter twice: " + fault.kind] += 1

    def _letter_cause(self, event, record, before, letter):
        """A fault between the two that found the first one not marked, or took its mark away.

        Of the two records of an event that was published twice the mark names the last one to die: there it is enough
        that the group was disturbed.
        """
        weakly_marked = len(event.records) > 1
        slack = GROUP_SLACK if weakly_marked else SLACK
        for fault in self.faults:
            if fault.begin > letter.time or fault.end + slack < before.time:
                continue
            if event.id in fault.lost or any(_is_place(id, record) for id in fault.lost):
                return fault
            interrupts = fault.kind.startswith(("instance_", "broker_", "kafka_"))
            if interrupts and (weakly_marked or record not in fault.dead_marked):
                return fault
        return None

    # ---- order ----

    def _check_order(self):
        """Per key: the first deliveries come in the order of the offsets."""
        lanes = defaultdict(list)
        for event in self.published.values():
            if event.key is not None and event.records and self.copies.get(event.id):
                if not any(l.reason in ("ambiguous", "retries_exhausted") for l in self._letters_of(event)):
                    lanes[event.key].append(event)
        for key, events in lanes.items():
            if len({event.records[0][0] for event in events}) > 1:
                self.verdict.bad("one key on several partitions", events[0].id, key)
            events.sort(key=lambda e: min(e.records))
            for first, second in zip(events, events[1:]):
                self.verdict.figures["pairs in order"] += 1
                if self.copies[first.id][0].number > self.copies[second.id][0].number:
                    self.verdict.bad("out of order", second.id, "before %s, key %s" % (first.id, key))

    def _count(self):
        f = self.verdict.figures
        f["events"] = len(self.published)
        f["records"] = len(self.by_record)
        f["mails taken"] = sum(map(len, self.copies.values()))
        f["dead letters"] = sum(map(len, self.letters.values()))
        f["dots at faults"] = sum(len(fault.at_risk) for fault in self.faults)
        f["taken without an answer"] = sum(not c.answered for copies in self.copies.values() for c in copies)
        f["lost by Redis"] = sum(len(fault.lost) for fault in self.faults)
        f["lost"] = sum(p.what == "LOST" for p in self.verdict.problems)
        bound = f["dots at faults"] + f["taken without an answer"] + f["lost by Redis"]
        if f["duplicates"] > bound:
            self.verdict.bad("more duplicates than the bound", "", "%d > %d" % (f["duplicates"], bound))


def _is_place(id, record):
    """Whether a key's name is the one of a record without a readable messageID."""
    return id.startswith("(record) ") and id.endswith("/%d/%d" % record)


def reconcile(published, copies, letters, faults, committed, policy="resend"):
    return Reconciliation(published, copies, letters, faults, committed, policy).run()
