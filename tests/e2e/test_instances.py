"""Several instances in one group: rebalances under load lose and double nothing."""

from collections import Counter

from lib_process import wait_for
from lib_stack import event


def numbered(count):
    return [event(subject="number %d" % i, text="n-%06d-end\n" % i) for i in range(count)]


def assert_each_once(stack, events):
    counts = Counter(m.data for m in stack.mails())
    doubled = [n for n in counts.values() if n > 1]
    assert not doubled, "%d mails doubled" % len(doubled)
    assert len(counts) == len(events), "%d of %d mails" % (len(counts), len(events))
    for e in events:
        stack.wait_mark(e["messageID"])
    assert not stack.dead_letters()


def test_one_terminated_under_load(stack):
    stack.smtp.delay("dot", 0.02)
    first, second = stack.start(), stack.start()
    events = numbered(1000)
    stack.publish(*events)
    first.wait_log("Email sent successfully", count=30)
    second.wait_log("Email sent successfully", count=30)
    assert first.terminate() == 0
    stack.wait_committed(timeout=60)
    assert_each_once(stack, events)
    # What the first one began it also finished; nothing was skipped as a duplicate of an unfinished claim.
    assert len(first.logs("Email sent successfully")) + len(second.logs("Email sent successfully")) == 1000


def test_one_joins_under_load(stack):
    stack.smtp.delay("dot", 0.02)
    first = stack.start()
    events = numbered(1000)
    stack.publish(*events)
    first.wait_log("Email sent successfully", count=50)
    second = stack.start(ready=False)
    wait_for(lambda: second.status("/stats") == 200 and len(second.stats()["kafka"]["partitions"]) > 0, 30,
             "a share of the partitions")
    stack.wait_committed(timeout=60)
    assert_each_once(stack, events)


def test_rebalances_while_retrying(stack):
    """Instances come and go while events wait for their next attempt."""
    stack.smtp.reject("mail", "451 4.3.0 later", times=60)
    first = stack.start(EMAIL_MAX_ATTEMPTS=1000)
    events = numbered(60)
    stack.publish(*events)
    first.wait_log("Email delivery failed, will retry", count=10)
    second = stack.start(EMAIL_MAX_ATTEMPTS=1000, ready=False)
    wait_for(lambda: second.status("/ready") == 200, 30, "the second instance")
    assert first.terminate() == 0
    third = stack.start(EMAIL_MAX_ATTEMPTS=1000, ready=False)
    wait_for(lambda: third.status("/ready") == 200, 30, "the third instance")
    stack.wait_committed(timeout=60)
    assert_each_once(stack, events)


def test_frozen_instance_wakes_up_as_a_zombie(stack):
    """Its claims end while it sleeps, another sends its mails; when it wakes up, the fence stops it."""
    stack.smtp.hold("data")
    zombie = stack.start(IDEMPOTENCY_LEASE_SECONDS=1)
    message_id = stack.publish_new()
    stack.smtp.wait_held("data")
    zombie.freeze()
    stack.smtp.accept()
    other = stack.start(ready=False, IDEMPOTENCY_LEASE_SECONDS=1)
    other.wait_log("Marked email as processed", messageID=message_id, timeout=40)
    zombie.thaw()
    wait_for(lambda: zombie.status("/ready") == 200 or zombie.stats()["kafka"]["rebalances"] > 0, 30,
             "the zombie being back")
    stack.wait_committed(timeout=40)
    assert len(stack.mails()) == 1
    assert not zombie.logs("Email sent successfully")
