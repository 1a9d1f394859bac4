"""Carries the schedule out, and writes down for each fault what it can have caused."""

import threading
import time
from collections import defaultdict

from ledger import FaultRecord
from observer import dead_marks, dots, lost_between, pid_of
from schedule import EXTRA_SLOT, NETWORK


class Faults:
    def __init__(self, cluster, observer):
        self.cluster, self.observer = cluster, observer
        self.records, self.problems, self.fatal_errors = [], [], 0
        self._slot_locks = [threading.Lock() for _ in cluster.instances]
        self._target_locks = defaultdict(threading.Lock)  # a slow machine may need longer than the schedule thinks
        self._threads = []
        self._done = threading.Event()

    # ---- the run ----

    def run(self, schedule, begin):
        """Returns when the last fault is healed; begin is the time (monotonic) of the first event."""
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        for fault in schedule:
            time.sleep(max(0.0, begin + fault.at - time.monotonic()))
            thread = threading.Thread(target=self._carry_out, args=(fault,), daemon=True)
            thread.start()
            self._threads.append(thread)
        for thread in self._threads:
            thread.join(120)
            if thread.is_alive():
                self.problems.append("a fault did not end within 120 s")
        self._done.set()
        watch.join()

    def _carry_out(self, fault):
        record = FaultRecord(fault.number, fault.kind, fault.target, 0.0, 0.0, note=str(fault.details or ""))
        try:
            with self._target_locks[fault.target]:
                record.begin = time.time()
                getattr(self, "do_" + fault.kind)(fault, record)
        except Exception as error:  # a harness that cannot do what it says has proved nothing
            self.problems.append("fault %d (%s): %r" % (fault.number, fault.kind, error))
        record.end = record.end or time.time()
        self.records.append(record)

    def _ended_by_itself(self, instance):
        """Nobody may end but by our hand, or with the status and the words of a fatal error of librdkafka, after
        which a supervisor is to start it again."""
        status, words = instance.process.popen.returncode, instance.last_words()
        if status == 1 and '"msg":"Fatal error, exiting"' in words:
            self.fatal_errors += 1
        else:
            self.problems.append("instance %d ended by itself with status %s, and said last:\n%s" % (
                instance.slot, status, words))

    def _watch(self):
        while not self._done.wait(0.3):
            for instance in self.cluster.instances:
                lock = self._slot_locks[instance.slot]
                if not lock.acquire(blocking=False):
                    continue
                try:
                    if instance.process and not instance.running and instance.lives[-1][2] is None:
                        self._ended_by_itself(instance)
                        instance.lives[-1][2] = time.time()
                        instance.start()
                finally:
                    lock.release()

    # ---- instances ----

    def _slot(self, fault):
        return self.cluster.instances[int(fault.target.split()[-1])]

    def _snapshot(self, record):
        states = self.observer.snapshot()
        record.dead_marked = dead_marks(states)
        return states

    @staticmethod
    def _standing(states, pid=None):
        now = time.time()
        return [(i, token, now, now) for i, token in dots(states).items() if pid is None or pid_of(token) == pid]

    def do_instance_kill(self, fault, record):
        instance = self._slot(fault)
        with self._slot_locks[instance.slot]:
            # Stopped first: what it has sent arrives, and nothing comes after the snapshot.
            instance.process.freeze()
            time.sleep(0.03)
            record.at_risk = self._standing(self._snapshot(record), instance.pid)
            instance.kill()
            time.sleep(fault.seconds)
            instance.start()

    def do_instance_stop(self, fault, record):
        instance = self._slot(fault)
        with self._slot_locks[instance.slot]:
            instance.process.freeze()
            record.begin = time.time()
            time.sleep(0.03)
            self._snapshot(record)
            time.sleep(fault.seconds)
            instance.process.thaw()
            record.end = time.time()
            time.sleep(0.5)
            record.at_risk = self.observer.dots_between(record.begin, record.end, {instance.pid})

    def do_instance_leave(self, fault, record):
        instance = self._slot(fault)
        with self._slot_locks[instance.slot]:
            self._snapshot(record)
            self._leave(instance, record)
            time.sleep(fault.seconds)
            instance.start()

    def do_instance_join(self, fault, record):
        instance = self.cluster.instances[EXTRA_SLOT]
        with self._slot_locks[EXTRA_SLOT]:
            self._snapshot(record)
            instance.start()
        time.sleep(fault.seconds)
        with self._slot_locks[EXTRA_SLOT]:
            self._leave(instance, record)

    def _leave(self, instance, record):
        pid = instance.pid
        status = instance.leave()
        if status != 0:
            self.problems.append("instance %d: exit status %s after SIGTERM" % (instance.slot, status))
        # It left in order; a dot that it leaves behind all the same is one whose outcome it could not learn or write.
        record.at_risk += self._standing(self.observer.snapshot(), pid)

    # ---- the relay ----

    def do_relay_kill(self, fault, record):
        relay = self.cluster.relay
        relay.process.freeze()
        record.at_risk = self._standing(self._snapshot(record))
        relay.process.kill()
        time.sleep(fault.seconds)
        relay.start()

    def do_relay_drop(self, fault, record):
        self._snapshot(record)
        self.cluster.relay.misbehave(fault.details["mode"], fault.details["share"])
        time.sleep(fault.seconds)
        self.cluster.relay.behave()

    # ---- Redis and Kafka ----

    def do_redis_kill(self, fault, record):
        before, after, cut = self.observer.crash_redis(fault.details.get("lost_seconds"))
        record.dead_marked = dead_marks(before)
        record.at_risk = self._standing(before)
        record.lost = lost_between(before, after)
        record.note = "%d keys before, %d after, %d bytes cut" % (len(before), len(after), cut)
        time.sleep(fault.seconds)
        self.observer.redis_is_back()

    do_redis_power_loss = do_redis_kill

    def do_broker_kill(self, fault, record):
        kafka = self.cluster.kafka
        self._snapshot(record)
        kafka.kill()
        time.sleep(fault.seconds)
        kafka.start()

    # ---- the network ----

    def _disturb(self, fault, record):
        link, slot = fault.kind.split("_")[0], int(fault.target.split()[-1])
        assert fault.kind in NETWORK
        self._snapshot(record)
        self.cluster.proxies.poison(link, slot, fault.details)
        time.sleep(fault.seconds)
        self.cluster.proxies.heal(link, slot)
        # What was lost on the way becomes known now, and its dots stand for a lease.
        time.sleep(0.5)
        record.end = time.time()
        return self.cluster.instances[slot].pids_between(record.begin, record.end)

    def do_relay_link(self, fault, record):
        pids = self._disturb(fault, record)
        record.at_risk = self.observer.dots_between(record.begin, record.end, pids)

    def do_redis_link(self, fault, record):
        # A 250 that comes meanwhile cannot be written down.
        pids = self._disturb(fault, record)
        record.at_risk = self.observer.dots_between(record.begin, record.end, pids)

    def do_kafka_link(self, fault, record):
        self._disturb(fault, record)
