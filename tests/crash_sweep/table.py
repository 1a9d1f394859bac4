"""What a sweep found, for people."""

from collections import Counter

from reconcile import BURIED, STAGES, WINDOW, problems, stage


class Report:
    def __init__(self, path, policy):
        self.path, self.policy = path, policy
        self.left_alone, self.killed, self.failures = [], [], []
        self.unharmed = 0
        self.whole = True  # not only a part of the system calls

    def add(self, trial):
        """The problems of this trial."""
        if not trial.point.n:
            self.left_alone.append(trial.run)
        elif not trial.run.killed:
            self.unharmed += 1
        if trial.run.outcome == "over":
            return []
        if trial.run.killed:
            self.killed.append(trial)
        found = problems(self.path, self.policy, trial.kill, trial.end)
        if found:
            self.failures.append((trial, found))
        return found

    @property
    def missed(self):
        """Stages that no kill point fell into: a sweep that misses one proves nothing about it."""
        if not self.whole or self.path == "slow":  # there, renewals move the fence from segment to segment
            return []
        hit = {stage(self.path, t.kill) for t in self.killed}
        return [name for name in STAGES[self.path] if name not in hit]

    @property
    def good(self):
        return bool(self.killed) and not self.failures and not self.missed

    def _outcomes(self, trials):
        ends = [t.end for t in trials]
        return (len(trials),
                sum(len(e.copies) == 1 for e in ends), sum(len(e.copies) > 1 for e in ends),
                sum(len(e.letters) == 1 for e in ends), sum(len(e.letters) > 1 for e in ends),
                sum(bool(e.copies and e.letters) for e in ends),
                sum(not e.copies and not e.letters for e in ends))

    def _row(self, name, numbers):
        return "%-38s" % name + "".join("%12s" % n for n in numbers)

    def _table(self):
        yield self._row("stage at the kill", ("kill points", "1 copy", "2 copies", "1 letter", "2 letters",
                                              "mail+letter", "lost"))
        for name in STAGES[self.path]:
            yield self._row(name, self._outcomes([t for t in self.killed if stage(self.path, t.kill) == name]))
        yield self._row("all", self._outcomes(self.killed))

    @property
    def lengths(self):
        """Of the segments: the longest of each, of the runs with the fewest (a slow run renews its claim as well)."""
        fewest = min(len(run.counts) for run in self.left_alone)
        return [max(counts) for counts in zip(*(r.counts for r in self.left_alone if len(r.counts) == fewest))]

    def lines(self):
        tried = Counter(t.point.segment for t in self.killed)
        last = {s: max(t.point.n for t in self.killed if t.point.segment == s) for s in tried}
        threads = Counter(t.run.thread for t in self.killed)
        yield "Path %s, policy %s" % (self.path, self.policy)
        yield "a run left alone: %d system calls, by segment %s" % (sum(self.lengths), self.lengths)
        yield "kill points tried: %d (%s); %d runs came to the end of their segment unharmed" % (
            len(self.killed), ", ".join("segment %d: %d up to N = %d" % (s, tried[s], last[s]) for s in sorted(tried)),
            self.unharmed)
        yield "killed in thread: " + ", ".join("%s %d" % item for item in threads.most_common())
        yield ""
        yield from self._table()
        yield ""
        yield self._window()
        yield self._verdict()
        for name in self.missed:
            yield "FAILED: no kill point fell into the stage '%s'" % name

    def _window(self):
        """From the relay's or the DLQ's having it until the mark: what a crash doubles (or, parked, leaves in doubt)."""
        name = WINDOW if self.path in ("sent", "slow") else BURIED
        inside = [t.point for t in self.killed if stage(self.path, t.kill) == name]
        places = []
        for segment in sorted({p.segment for p in inside}):
            ns = [p.n for p in inside if p.segment == segment]
            places.append("segment %d N = %d to %d" % (segment, min(ns), max(ns)))
        return "window (%s): %d kill points%s" % (name, len(inside), ": " + ", ".join(places) if places else "")

    def _verdict(self):
        _, _, doubled, _, doubled_letters, both, lost = self._outcomes(self.killed)
        return "duplicates %d, doubled dead letters %d, mail and dead letter %d, lost %d, against the contract %d" % (
            doubled, doubled_letters, both, lost, len(self.failures))
