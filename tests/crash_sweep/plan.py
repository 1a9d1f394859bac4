"""Which kill points are tried. Their number is known only when runs reach the end of a segment unharmed."""

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """The n-th system call of a segment; n = 0: no kill."""

    segment: int
    n: int


# So many runs beyond the last kill have to end unharmed: threads make a segment's length vary by a few calls.
UNHARMED = 5


class Segment:
    """length: as a run that was left alone had it. Calls are tried up to that, and on as long as they kill."""

    def __init__(self, number, length, step, first=1, last=None):
        self.number, self.length, self.step, self.last = number, length, step, last
        self._next, self._last_kill = first, 0

    def take(self):
        """The next n, None where there is none (now: a kill that is under way may show that there are more)."""
        end = max(self.length, self._last_kill + UNHARMED * self.step)
        if self._next > (end if self.last is None else min(end, self.last)):
            return None
        n, self._next = self._next, self._next + self.step
        return n

    def note(self, n, killed):
        if killed:
            self._last_kill = max(self._last_kill, n)


@dataclass(frozen=True)
class Density:
    """Every how many-th call is tried up to the claim and after the mark; between the two it is every one."""

    before: int
    after: int
    rounds: int = 1  # so many times between the two: the same N is not the same call each time


class Plan:
    """Hands points to several threads. left_alone: as many runs without a kill."""

    def __init__(self, segments, left_alone=False):
        self._segments, self._left_alone = list(segments), left_alone
        self._lock = threading.Lock()
        self.stopped = False

    def take(self):
        """A segment and one of its points; None at the end."""
        with self._lock:
            for segment in self._segments:
                n = None if self.stopped else segment.take()
                if n is not None:
                    return segment, Point(segment.number, 0 if self._left_alone else n)
        return None

    def note(self, segment, point, killed):
        with self._lock:
            segment.note(point.n, killed)


def segments_of(lengths, density, chosen=None, first=1, last=None):
    steps = [density.before] + [1] * (len(lengths) - 2) + [density.after]
    rounds = [1] + [density.rounds] * (len(lengths) - 2) + [1]
    return [Segment(number, lengths[number], steps[number], first, last)
            for number in range(len(lengths)) if chosen in (None, number)
            for _ in range(rounds[number])]
