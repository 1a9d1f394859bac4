"""A process that is stopped at the worst moment, and wakes up when somebody else has done its work."""

from lib_process import holds_for, wait_for


def stopped_with_its_fence_unread(stack, **env):
    """An instance whose fence went up, and that was stopped before it could read that: the dot is not sent."""
    stack.smtp.hold("data")
    service = stack.start(IDEMPOTENCY_LEASE_SECONDS=1, **env)
    message_id = stack.publish_new()
    stack.smtp.wait_held("data")
    stack.redis.freeze()
    before = stack.smtp.sessions[-1].bytes_in
    stack.smtp.accept()
    wait_for(lambda: stack.smtp.sessions[-1].bytes_in > before, 10, "the body")
    holds_for(lambda: not stack.smtp.mails, 0.2, "no mail without the fence")
    service.freeze()
    stack.redis.thaw()
    wait_for(lambda: str(stack.mark(message_id)).startswith("D|"), 10, "the fence in Redis")
    return service, message_id


def test_a_fence_read_too_late_permits_no_dot(stack):
    zombie, message_id = stopped_with_its_fence_unread(stack)
    stack.start(IDEMPOTENCY_LEASE_SECONDS=1)
    stack.wait_mark(message_id, timeout=40)
    assert len(stack.mails(message_id)) == 1
    zombie.thaw()
    zombie.wait_ready()
    holds_for(lambda: len(stack.mails(message_id)) == 1, 1.0, "one mail")
    stack.wait_committed()
    assert not stack.dead_letters()


def test_a_fence_read_too_late_is_no_doubt_where_nobody_took_over(stack):
    """Nothing was sent, and it knows that: the mail goes out once, and is not parked."""
    zombie, message_id = stopped_with_its_fence_unread(stack, SMTP_AMBIGUOUS_POLICY="park")
    holds_for(lambda: not stack.mails(), 1.2, "no mail")
    zombie.thaw()
    stack.wait_mark(message_id, timeout=40)
    assert len(stack.mails(message_id)) == 1
    stack.wait_committed()
    assert not stack.dead_letters()
