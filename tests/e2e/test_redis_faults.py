"""Redis: away, slow, full, refusing, forgetful. Nothing is sent, nothing is lost, and it goes on by itself."""

import json

from lib_process import holds_for, wait_for
from lib_stack import event, new_id


def nothing_is_sent(stack, service, message_id, seconds=1.0):
    """Redis is out of reach: the event waits, uncommitted; /ready and /health say so; the loop turns."""
    service.wait_not_ready()
    health = service.http("/health")
    assert health.status == 503
    assert health.json()["status"] == "unhealthy" and health.json()["redis"] == "disconnected"
    assert "redis" in service.http("/ready").body.lower()
    holds_for(lambda: not stack.mails(message_id) and service.status("/live") == 200, seconds,
              "no mail while Redis is away", interval=0.1)
    assert sum(stack.committed().values()) < sum(stack.kafka.end_offsets(stack.topic).values())


def goes_on(stack, service, message_id):
    stack.wait_mark(message_id)
    service.wait_ready()
    assert len(stack.mails(message_id)) == 1
    stack.wait_committed()
    assert not stack.dead_letters()


def test_down_at_start(stack):
    stack.redis.stop()
    service = stack.start(ready=False)
    message_id = stack.publish_new()
    nothing_is_sent(stack, service, message_id)
    stack.redis.start()
    goes_on(stack, service, message_id)


def test_stopped_and_back(stack):
    service = stack.start()
    stack.wait_mark(stack.publish_new())
    stack.redis.stop()
    message_id = stack.publish_new()
    nothing_is_sent(stack, service, message_id)
    stack.redis.start()
    goes_on(stack, service, message_id)


def test_frozen(stack):
    service = stack.start()
    stack.redis.freeze()
    message_id = stack.publish_new()
    nothing_is_sent(stack, service, message_id)
    stack.redis.thaw()
    goes_on(stack, service, message_id)


def test_frozen_between_claim_and_dot(stack):
    """The body is with the relay when Redis falls silent: no fence, so no dot."""
    stack.smtp.hold("data")
    service = stack.start()
    message_id = stack.publish_new()
    stack.smtp.wait_held("data")
    stack.redis.freeze()
    stack.smtp.accept()
    nothing_is_sent(stack, service, message_id)
    stack.redis.thaw()
    goes_on(stack, service, message_id)


def test_out_of_memory(stack):
    service = stack.start()
    stack.redis.client.config_set("maxmemory", "1")
    message_id = stack.publish_new()
    nothing_is_sent(stack, service, message_id)
    stack.redis.client.config_set("maxmemory", "0")
    goes_on(stack, service, message_id)


def test_read_only(stack):
    service = stack.start()
    stack.redis.client.replicaof("127.0.0.1", 1)
    message_id = stack.publish_new()
    nothing_is_sent(stack, service, message_id)
    stack.redis.client.replicaof("no", "one")
    goes_on(stack, service, message_id)


def test_wrong_password(stack):
    stack.redis.client.config_set("requirepass", "right")
    service = stack.start(ready=False, REDIS_PASSWORD="wrong")
    message_id = stack.publish_new()
    nothing_is_sent(stack, service, message_id)
    assert "wrong" not in json.dumps(service.stats()["redis"]).replace("wrong password", "").replace("WRONGPASS", "")
    stack.redis.client.config_set("requirepass", "wrong")
    goes_on(stack, service, message_id)


def test_password_missing(stack):
    stack.redis.client.config_set("requirepass", "right")
    service = stack.start(ready=False)
    message_id = stack.publish_new()
    nothing_is_sent(stack, service, message_id)
    stack.redis.client.config_set("requirepass", "")
    goes_on(stack, service, message_id)


def test_killed_under_load(stack):
    """Commands are in flight when it dies, three times; the marks that survive it are enough."""
    stack.redis.persist()
    stack.smtp.delay("dot", 0.01)
    service = stack.start()
    events = [event() for _ in range(300)]
    for i in range(3):
        stack.publish(*events[i * 100:(i + 1) * 100])
        service.wait_log("Email sent successfully", count=i * 100 + 20, timeout=30)
        stack.redis.kill()
        service.wait_not_ready()
        stack.redis.start()
        service.wait_ready()
    stack.wait_committed(timeout=60)
    for e in events:
        stack.wait_mark(e["messageID"])
    assert sorted(m.data for m in stack.mails()) == sorted({m.data for m in stack.mails()}), "doubled"
    assert len(stack.mails()) == 300
    assert not stack.dead_letters()


def test_restarted_empty_while_events_wait(stack):
    """Everything is forgotten, claims too: events that wait for a retry go on and are sent once."""
    stack.smtp.reject("mail", "451 4.3.0 not now")
    service = stack.start(EMAIL_MAX_ATTEMPTS=1000)
    message_id = stack.publish_new()
    service.wait_log("Email delivery failed, will retry", messageID=message_id)
    stack.redis.kill()
    stack.redis.start()
    stack.smtp.accept()
    goes_on(stack, service, message_id)


def test_scripts_flushed(stack):
    service = stack.start()
    stack.wait_mark(stack.publish_new())
    stack.redis.client.script_flush()
    message_id = stack.publish_new()
    goes_on(stack, service, message_id)


def test_connections_killed(stack):
    service = stack.start()
    for i in range(5):
        stack.redis.client.client_kill_filter(_type="normal", skipme=True)
        message_id = stack.publish_new()
        goes_on(stack, service, message_id)


def test_script_busy(stack):
    """Another client's endless script: BUSY is out of reach, too."""
    service = stack.start()
    stack.redis.client.config_set("busy-reply-threshold", 50)
    blocker = stack.redis.client.connection_pool.make_connection()
    blocker.connect()
    blocker.send_command("EVAL", "while true do end", "0")
    try:
        message_id = stack.publish_new()
        nothing_is_sent(stack, service, message_id, seconds=0.6)
    finally:
        wait_for(lambda: _kill_script(stack.redis.client), 10, "the script's end")
        blocker.disconnect()
    goes_on(stack, service, message_id)


def _kill_script(client):
    import redis
    try:
        client.script_kill()
    except redis.exceptions.ResponseError as error:
        return "NOTBUSY" in str(error)
    return False


def test_foreign_claim_is_waited_for(stack):
    """Somebody else's live claim is neither counted as sent nor committed past; when it ends, the mail goes out."""
    message_id = new_id()
    stack.redis.client.set("email:sent:" + message_id, "C|somebody-else|", px=8000)
    service = stack.start()
    stack.publish(event(messageID=message_id))
    service.wait_log("Email event consumed", messageID=message_id)
    holds_for(lambda: not stack.mails() and sum(stack.committed().values()) == 0, 1.0, "waiting", interval=0.1)
    goes_on(stack, service, message_id)


def test_unreadable_value_is_busy(stack):
    """Not ours, not readable: never skipped, with an alarm."""
    message_id = new_id()
    stack.redis.client.set("email:sent:" + message_id, "1")
    service = stack.start()
    stack.publish(event(messageID=message_id))
    wait_for(lambda: service.stats()["redis"]["unreadable_keys"] > 0, 10, "the alarm")
    assert not stack.mails() and sum(stack.committed().values()) == 0
    stack.redis.client.delete("email:sent:" + message_id)
    goes_on(stack, service, message_id)


def test_wrong_type_in_the_key(stack):
    message_id = new_id()
    stack.redis.client.rpush("email:sent:" + message_id, "x")
    service = stack.start()
    other = stack.publish(event(messageID=message_id), event())
    service.wait_log("Email event consumed", messageID=other)
    stack.wait_mails(1)
    assert not stack.mails(message_id)
    stack.redis.client.delete("email:sent:" + message_id)
    goes_on(stack, service, message_id)


def test_eviction_policy_is_warned_about(stack):
    stack.redis.client.config_set("maxmemory-policy", "allkeys-lru")
    service = stack.start()
    wait_for(lambda: service.stats()["redis"]["evicts"], 10, "the warning at /stats")
    assert any(e["level"] == "warn" and "evict" in json.dumps(e).lower() for e in service.logs())


def test_fail_open_sends_all_the_same(stack):
    """IDEMPOTENCY_FAIL_OPEN=true: the mail goes out without Redis, and the log says what that risks."""
    stack.redis.stop()
    service = stack.start(ready=False, IDEMPOTENCY_FAIL_OPEN="true")
    message_id = stack.publish_new()
    stack.wait_mails(1)
    service.wait_log("Email sent successfully", messageID=message_id)
    stack.wait_committed()
    assert any(e["level"] == "warn" and "FAIL_OPEN" in json.dumps(e) for e in service.logs())
