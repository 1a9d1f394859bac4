"""What stands in Redis, read while everything runs: who holds which dot, and what a crash of Redis took away."""

import threading
import time

import redis

# id, and one of "sent", "dead partition offset", "C|token", "D|token". Read-only, so that it runs while writes are paused.
_STATES = """
local out = {}
for _, key in ipairs(redis.call('KEYS', 'email:*:*')) do
  local ours = key:sub(1, 11) == 'email:sent:' or key:sub(1, 11) == 'email:dead:'
  local v = ours and redis.call('GET', key)
  if v then
    local first = v:sub(1, 1)
    if first == 'C' or first == 'D' then
      v = v:match('^[CD]|[^|]*')
    elseif v:find('"state":"sent"', 1, true) then
      v = 'sent'
    elseif v:find('"state":"dead"', 1, true) then
      v = 'dead ' .. (v:match('"partition":(%-?%d+)') or '?') .. ' ' .. (v:match('"offset":(%d+)') or '?')
    end
    if ARGV[1] == 'all' or first == 'D' then
      out[#out + 1] = (key:sub(1, 11) == 'email:dead:' and '(record) ' or '') .. key:sub(12)
      out[#out + 1] = v
    end
  end
end
return out
"""


def read_states(client, which="all"):
    """messageID → state."""
    flat = client.execute_command("EVAL_RO", _STATES, 0, which)
    return dict(zip(flat[::2], flat[1::2]))


def dots(states):
    return {i: v[2:] for i, v in states.items() if v.startswith("D|")}


def dead_marks(states):
    """The records that a dead mark stands for: (partition, offset)."""
    return {tuple(map(int, v.split()[1:])) for v in states.values() if v.startswith("dead")}


def pid_of(token):
    """host-pid-nonce-counter"""
    return int(token.rsplit("-", 3)[1])


def lost_between(before, after):
    """The ids whose final mark or dot was there and is not there any more, or became something earlier."""
    rank = {"C": 0, "D": 1, "s": 2, "d": 2}
    return sorted(i for i, v in before.items()
                  if rank[v[0]] > 0 and (i not in after or rank[after[i][0]] < rank[v[0]]))


class Observer:
    """Samples the dots all the time, and takes exact snapshots at faults."""

    EVERY = 0.15

    def __init__(self, redis_server):
        self.redis = redis_server
        self.seen = {}            # (id, token) → [first, last] time at which it stood there as D
        self.lock = threading.RLock()
        self._crash_states = None  # while Redis is down: what stood there when it was killed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples, self.longest_pause, self.failure = 0, 0.0, None

    def start(self):
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join(30)

    def _run(self):
        last = time.monotonic()
        while not self._stop.wait(self.EVERY):
            try:
                self._sample()
            except Exception as error:  # reported by the run, which fails then
                self.failure = repr(error)
                return
            now = time.monotonic()
            self.longest_pause, last = max(self.longest_pause, now - last), now

    def _sample(self):
        with self.lock:
            if self._crash_states is not None:
                return
            self._note(dots(read_states(self.redis.client, "dots")))
            self.redis.note_size()
            self.samples += 1

    def _note(self, found):
        now = time.time()
        for entry in found.items():
            self.seen.setdefault(entry, [now, now])[1] = now

    def snapshot(self):
        """All states now; those of the moment of its crash where Redis is down."""
        with self.lock:
            if self._crash_states is not None:
                return dict(self._crash_states)
            states = read_states(self.redis.client)
            self._note(dots(states))
            return states

    def crash_redis(self, lost_seconds=None):
        """kill -9 with an exact account: writes are paused, everything is read, then it dies.

        With lost_seconds the end of the append-only file goes as well. (states before, states on the disk, bytes cut)
        """
        with self.lock:
            self.redis.client.execute_command("CLIENT", "PAUSE", "10000", "WRITE")
            before = read_states(self.redis.client)
            self._note(dots(before))
            killed_at = time.time()
            self.redis.kill()
            self._crash_states = before
            cut = self.redis.cut(killed_at, lost_seconds) if lost_seconds else 0
            return before, self.redis.read_disk(read_states), cut

    def redis_is_back(self):
        with self.lock:
            self.redis.start()
            self._crash_states = None

    def dots_between(self, begin, end, pids=None):
        """[(id, token, first, last)] of the dots seen in that time, of these processes."""
        with self.lock:
            return [(i, token, first, last) for (i, token), (first, last) in self.seen.items()
                    if first <= end and last >= begin and (pids is None or pid_of(token) in pids)]
