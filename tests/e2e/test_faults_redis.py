"""Redis: data lost under the service's feet, disk full, and foreign things in our keys."""

import os
import resource
import uuid

import pytest

from lib_process import holds_for, wait_for
from lib_redis import RedisServer
from lib_stack import event, new_id

CREATED = "2026-01-02T03:04:05Z"  # a mail that is published twice has the same Date, then


def held_at_data_and_dot(stack):
    """Two mails under way: one before its fence, one whose dot is out; their messageIDs."""
    stack.smtp.hold("data", times=1)
    before = stack.publish_new()
    stack.smtp.wait_held("data")
    stack.smtp.hold("dot", times=1)
    after = stack.publish_new()
    stack.smtp.wait_held("dot")
    assert stack.mark(before).startswith("C|") and stack.mark(after).startswith("D|")
    return before, after


def each_once(stack, *ids):
    for message_id in ids:
        stack.wait_mark(message_id, timeout=40)
    assert [len(stack.mails(i)) for i in ids] == [1] * len(ids)
    assert not stack.dead_letters()


def test_flushall(stack):
    """Everything is forgotten with mails under way: those go out once; only what is published anew is sent again."""
    service = stack.start(EMAIL_MAX_ATTEMPTS=1000)
    old = event(createdAt=CREATED)
    stack.publish(old)
    stack.wait_mark(old["messageID"])
    stack.smtp.reject("rcpt", "451 later", recipient="later@example.com")
    waiting = stack.publish_new(to="later@example.com")
    service.wait_log("Email delivery failed, will retry", messageID=waiting)
    before, after = held_at_data_and_dot(stack)

    stack.redis.client.flushall()
    stack.smtp.accept()
    each_once(stack, before, after, waiting)
    stack.wait_committed()
    # Before its dot a lost claim ends the attempt: by the fence, or by a renewal.
    assert service.logs("Email delivery failed, will retry", messageID=before)

    stack.publish(old)
    stack.wait_mark(old["messageID"])
    first, second = stack.mails(old["messageID"])
    assert first.data == second.data, "doubled for the lost mark's sake, byte for byte"


def test_failover_to_a_stale_replica(stack, folder):
    """The primary dies with marks and claims that its replica never got; the replica takes its address."""
    replica = RedisServer(folder / "replica").start()
    try:
        replica.client.replicaof("127.0.0.1", stack.redis.port)
        service = stack.start()
        known, lost = event(), event(createdAt=CREATED)
        stack.publish(known)
        stack.wait_mark(known["messageID"])
        wait_for(lambda: replica.client.get("email:sent:" + known["messageID"]), 15, "the replica to follow")
        replica.client.replicaof("no", "one")  # it hears no more
        stack.publish(lost)
        stack.wait_mark(lost["messageID"])
        before, after = held_at_data_and_dot(stack)

        stack.redis.kill()
        service.wait_not_ready()
        replica.client.config_set("port", stack.redis.port)
        stack.redis = replica
        service.wait_ready()
        assert stack.mark(lost["messageID"]) is None and stack.mark(before) is None
        stack.smtp.accept()
        each_once(stack, before, after)
        stack.wait_committed()

        stack.publish(known, lost)
        service.wait_log("Duplicate email event detected, skipping", messageID=known["messageID"])
        stack.wait_mark(lost["messageID"])
        assert len(stack.mails(known["messageID"])) == 1
        first, second = stack.mails(lost["messageID"])
        assert first.data == second.data
        stack.wait_committed()
    finally:
        replica.destroy()


def test_disk_full(stack):
    """Redis cannot write its snapshot and refuses writes (MISCONF): nothing is sent until it can."""
    service = stack.start()
    stack.wait_mark(stack.publish_new())
    client, pid = stack.redis.client, stack.redis.process.pid
    client.set("filler", os.urandom(3 << 20))
    client.config_set("save", "3600 1")
    # As good as a full disk: no file of this process may grow beyond a megabyte.
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 << 20, hard))
    client.bgsave()
    wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", 15, "a snapshot that fails")

    message_id = stack.publish_new()
    service.wait_not_ready()
    assert "MISCONF" in service.http("/ready").body
    holds_for(lambda: not stack.mails(message_id) and service.status("/live") == 200, 0.5, "waiting", interval=0.1)
    assert sum(stack.committed().values()) < sum(stack.kafka.end_offsets(stack.topic).values())

    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    client.bgsave()
    each_once(stack, message_id)
    service.wait_ready()
    stack.wait_committed()


FOREIGN = {
    "list": lambda client, key: client.rpush(key, "x"),
    "hash": lambda client, key: client.hset(key, "state", "sent"),
    "set": lambda client, key: client.sadd(key, "sent"),
    "sorted set": lambda client, key: client.zadd(key, {"sent": 1}),
    "stream": lambda client, key: client.xadd(key, {"state": "sent"}),
    "a word": lambda client, key: client.set(key, "sent"),
    "an empty string": lambda client, key: client.set(key, ""),
    "a number": lambda client, key: client.set(key, 1),
    "other JSON": lambda client, key: client.set(key, '{"state":"delivered"}'),
    "JSON cut off": lambda client, key: client.set(key, '{"state":"sent"'),
    "an array": lambda client, key: client.set(key, '["sent"]'),
    "deep JSON": lambda client, key: client.set(key, "[" * 100000),
    "a D without its deadline": lambda client, key: client.set(key, "D|somebody|"),
    "a D with a deadline of words": lambda client, key: client.set(key, "D|somebody||soon|0"),
    "a megabyte": lambda client, key: client.set(key, "x" * (1 << 20)),
    "binary": lambda client, key: client.set(key, bytes(range(256))),
}


def test_foreign_values_in_our_keys(stack):
    """Whatever somebody else wrote there is neither a mark nor a claim: its event waits, with an alarm; others go on."""
    keys = {kind: new_id() for kind in FOREIGN}
    for kind, put in FOREIGN.items():
        put(stack.redis.client, "email:sent:" + keys[kind])
    service = stack.start()
    good = event()
    stack.publish(*[event(messageID=i) for i in keys.values()], good)
    stack.wait_mark(good["messageID"])
    for kind, message_id in keys.items():
        service.wait_log("Unreadable value in the idempotency key, waiting until it is gone", messageID=message_id)
    assert service.metric("email_unreadable_keys_total") >= len(FOREIGN)
    assert len(stack.mails()) == 1 and not stack.dead_letters()
    assert service.status("/ready") == 200

    stack.redis.client.delete(*["email:sent:" + i for i in keys.values()])
    each_once(stack, good["messageID"], *keys.values())
    stack.wait_committed()


def test_a_true_250_wins_over_foreign_values(stack):
    """Somebody overwrites the key while the dot is out: the mail was taken, and is marked so."""
    stack.smtp.hold("dot")
    service = stack.start()
    message_id = stack.publish_new()
    stack.smtp.wait_held("dot")
    stack.redis.client.delete("email:sent:" + message_id)
    stack.redis.client.rpush("email:sent:" + message_id, "x")
    stack.smtp.accept()
    service.wait_log("Marked email as processed", messageID=message_id)
    each_once(stack, message_id)
    stack.wait_committed()


@pytest.mark.parametrize("user", ["deleted", "no rights"])
def test_account_taken_away(stack, user):
    """The ACL user is deleted or loses its rights under load: nothing is sent, and it goes on when it is given back."""
    client = stack.redis.client
    password = uuid.uuid4().hex
    rules = {"enabled": True, "passwords": ["+" + password], "keys": ["*"], "commands": ["+@all"], "reset": True}
    client.acl_setuser("mailer", **rules)
    service = stack.start(REDIS_HOST=None, REDIS_PORT=None,
                          REDIS_URL="redis://mailer:%s@127.0.0.1:%d/0" % (password, stack.redis.port))
    stack.wait_mark(stack.publish_new())
    if user == "deleted":
        client.acl_deluser("mailer")
    else:
        client.acl_setuser("mailer", **dict(rules, commands=["-@all"]))
    message_id = stack.publish_new()
    service.wait_not_ready()
    assert password not in service.http("/ready").body + service.http("/stats").body
    holds_for(lambda: not stack.mails(message_id), 0.5, "waiting", interval=0.1)
    client.acl_setuser("mailer", **rules)
    each_once(stack, message_id)
    service.wait_ready()
