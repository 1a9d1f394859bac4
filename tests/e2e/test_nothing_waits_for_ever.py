"""One event that is stuck, or one part that is away, must not hold up the others, nor make a mail go out twice."""

import time

from lib_process import wait_for
from lib_stack import event, new_id

FAILING = "SMTP relay is failing, probing with one mail at a time"


def script_calls(stack):
    return stack.redis.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)


def wait_sent(stack, ids, timeout=20):
    wait_for(lambda: all(stack.mails(i) for i in ids), timeout,
             lambda: "mails of all of %r\n%s" % (ids, stack.tails()))


def publish_each(stack, count, **where):
    events = [event() for _ in range(count)]
    stack.publish(*events, **where)
    return [e["messageID"] for e in events]


def test_accepted_recipients_keep_their_d_while_the_dead_letter_waits(stack):
    stack.smtp.reject("rcpt", "550 no", recipient="gone@example.com")
    service = stack.start(KAFKA_TOPIC_EMAIL_DLQ="no-such-topic", SHUTDOWN_TIMEOUT_SECONDS=2)
    message_id = stack.publish_new(to=["good@example.com", "gone@example.com"])
    stack.wait_mails(1)
    service.wait_log("The dead letter topic does not take an email, trying again", timeout=40)
    service.terminate()
    assert stack.mark(message_id).startswith("D|")


def test_marks_outlive_a_rebalance(stack):
    """The relay took them, Redis cannot say so yet, and their partitions go to somebody else."""
    stack.smtp.reject("rcpt", "451 later", recipient="later@example.com")
    stack.smtp.hold("dot")
    first = stack.start(EMAIL_MAX_ATTEMPTS=1000, EMAIL_RETRY_BASE_MS=2000, EMAIL_RETRY_MAX_MS=2000)
    ids = []
    for partition in range(3):
        stack.publish(event(to="later@example.com"), partition=partition)
        ids.append(stack.publish(event(), partition=partition))
    stack.smtp.wait_held("dot", 3, 20)
    stack.redis.client.config_set("maxmemory", "1")
    stack.smtp.accept()
    stack.smtp.reject("rcpt", "451 later", recipient="later@example.com")
    first.wait_log("The mark of an email's outcome is not written yet, the idempotency store is away", count=3)
    second = stack.start(ready=False)
    first.wait_log("Partition is taken away", count=3, timeout=40)
    stack.redis.client.config_set("maxmemory", "0")
    second.wait_log("Kafka partitions assigned")
    for message_id in ids:
        stack.wait_mark(message_id)
    assert [len(stack.mails(i)) for i in ids] == [1, 1, 1]


def test_probe_that_waits_for_a_key_is_replaced(stack):
    service = stack.start(EMAIL_MAX_ATTEMPTS=2)
    stuck = new_id()
    stack.redis.client.set("email:sent:" + stuck, "garbage")
    stack.publish(event(messageID=stuck), partition=0)
    service.wait_log("Unreadable value in the idempotency key, waiting until it is gone")
    stack.smtp.reject("banner", "554 no", close=True)
    stack.publish(*[event() for _ in range(12)], partition=1)
    service.wait_log(FAILING)
    stack.smtp.accept()
    wait_sent(stack, publish_each(stack, 2, partition=2))
    service.wait_ready()


def test_probe_that_waits_for_the_dead_letter_topic_is_replaced(stack):
    service = stack.start(EMAIL_MAX_ATTEMPTS=1, KAFKA_TOPIC_EMAIL_DLQ="no-such-topic")
    stack.smtp.reject("banner", "554 no", close=True)
    stack.publish(*[event() for _ in range(8)], partition=1)
    service.wait_log(FAILING)
    service.wait_log("The dead letter topic does not take an email, trying again", timeout=40)
    stack.smtp.accept()
    wait_sent(stack, publish_each(stack, 2, partition=2))


def test_outage_does_not_make_it_spin(stack):
    service = stack.start(SMTP_CONNECT_TIMEOUT_SECONDS=8, EMAIL_MAX_ATTEMPTS=50)
    stack.smtp.delay("banner", 60)
    stack.publish(*[event() for _ in range(80)])
    service.wait_log(FAILING, timeout=30)
    before, end = script_calls(stack), time.monotonic() + 2
    wait_for(lambda: time.monotonic() > end, 5, lambda: "two seconds")
    assert script_calls(stack) - before < 500
    stack.smtp.accept()


def test_claims_without_an_answer_are_known_again(stack):
    """Redis hangs for longer than we wait for it, but far shorter than the lease: nobody waits for his own claim."""
    service = stack.start(IDEMPOTENCY_LEASE_SECONDS=60)
    wait_sent(stack, [stack.publish_new()])
    stack.redis.freeze()
    ids = publish_each(stack, 30)
    service.wait_not_ready()
    stack.redis.thaw()
    wait_sent(stack, ids, 20)
    assert [len(stack.mails(i)) for i in ids] == [1] * 30


def test_one_stuck_key_leaves_room_for_other_partitions(stack):
    stack.smtp.reject("rcpt", "452 mailbox full", recipient="full@example.com")
    service = stack.start(EMAIL_MAX_IN_FLIGHT=60, EMAIL_RETRY_BASE_MS=1000, EMAIL_RETRY_MAX_MS=60000)
    stack.publish(*[event(to="full@example.com") for _ in range(100)], key=b"full@example.com", partition=0)
    wait_for(lambda: service.metric("email_in_flight") >= 20, 20, service.tail)
    wait_sent(stack, publish_each(stack, 20, partition=1))
