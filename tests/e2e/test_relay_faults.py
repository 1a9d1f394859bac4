"""The relay at its worst, stage by stage: every mail is sent once or dead for a good reason, and others go on."""

import pytest

from lib_process import holds_for
from lib_stack import event, parse

STAGES = ["mail", "rcpt", "data", "dot"]


def sent_once(stack, message_id, timeout=30):
    stack.wait_mark(message_id, timeout=timeout)
    assert len(stack.mails(message_id)) == 1
    stack.wait_committed()
    assert not stack.dead_letters()


# ---- replies ----

@pytest.mark.parametrize("stage", STAGES)
def test_4xx_is_retried(stack, stage):
    stack.smtp.reject(stage, "451 4.3.2 try later", times=2)
    service = stack.start()
    message_id = stack.publish_new()
    sent_once(stack, message_id)
    assert len(service.logs("Email delivery failed, will retry", messageID=message_id)) == 2
    assert stack.mark(message_id)["attempts"] == 3


@pytest.mark.parametrize("stage", STAGES)
def test_5xx_is_rejected(stack, stage):
    stack.smtp.reject(stage, "550 5.7.1 not wanted", times=1)
    service = stack.start()
    message_id = stack.publish_new()
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "rejected"
    assert letter.dlq["smtp-reply"] == "550 5.7.1 not wanted"
    assert letter.dlq["attempts"] == "1"
    assert not stack.mails()
    assert not service.logs("Email delivery failed, will retry")
    # The relay as a whole is fine: the next mail passes.
    other = stack.publish_new()
    stack.wait_mark(other)
    assert service.status("/ready") == 200
    assert message_id != other


@pytest.mark.parametrize("stage", ["banner", "ehlo"] + STAGES)
def test_421_is_retried(stack, stage):
    stack.smtp.reject(stage, "421 4.3.2 shutting down", times=2, close=True)
    stack.start()
    sent_once(stack, stack.publish_new())


@pytest.mark.parametrize("stage", ["banner", "ehlo"])
def test_5xx_before_mail_is_the_relays_failure(stack, stage):
    """Nothing about the mail is wrong: retried, not rejected."""
    stack.smtp.reject(stage, "554 5.3.2 no service", times=3, close=True)
    stack.start(EMAIL_MAX_ATTEMPTS=20)
    sent_once(stack, stack.publish_new())


def test_multi_line_and_long_replies(stack):
    stack.smtp.reject("mail", "451-%s\r\n%s451 end" % ("x" * 400, "451-more\r\n" * 30), times=2)
    stack.start()
    sent_once(stack, stack.publish_new())


def test_a_reply_without_end(stack):
    """Continuation lines for ever: cut, retried."""
    stack.smtp.flood("mail", b"250-more\r\n", times=1)
    stack.start(SMTP_TIMEOUT_SECONDS=3)
    sent_once(stack, stack.publish_new())


def test_control_characters_in_a_reply_are_escaped(stack):
    stack.smtp.reject("rcpt", b"550 5.1.1 a\x1b[31m\x00\x07\xff b")
    service = stack.start()
    stack.publish_new()
    [letter] = stack.wait_dead_letters(1)
    assert letter.dlq["smtp-reply"].isprintable() and letter.dlq["smtp-reply"].startswith("550 5.1.1 a")
    assert not service.unparsable


@pytest.mark.parametrize("garbage", [b"what?\r\n", b"\r\n", b"25 ok\r\n", b"999 no\r\n", b"\x00\xff\x00\r\n",
                                   b"x" * 100000])
@pytest.mark.parametrize("stage", ["banner", "mail", "data"])
def test_garbage_instead_of_a_reply(stack, stage, garbage):
    stack.smtp.reject(stage, garbage, times=1, raw=True)
    stack.start(SMTP_TIMEOUT_SECONDS=2, SMTP_CONNECT_TIMEOUT_SECONDS=2)
    sent_once(stack, stack.publish_new())


# ---- connections ----

def test_refused_and_back(stack):
    """An outage: readiness says so, the topic is not emptied into the DLQ, and it ends by itself."""
    stack.smtp.stop()
    service = stack.start(SMTP_OUTAGE_POLICY="hold", EMAIL_MAX_ATTEMPTS=3)
    events = [event() for _ in range(50)]
    stack.publish(*events)
    service.wait_not_ready()
    assert "relay" in service.http("/ready").body
    assert service.http("/health").status == 200, "Kafka and Redis are well"
    assert service.metric("email_smtp_up") == 0
    holds_for(lambda: not sum(stack.committed().values()), 1.0, "nothing committed", interval=0.2)
    stack.smtp.start()
    service.wait_ready()
    stack.wait_committed()
    assert len(stack.mails()) == 50
    assert not stack.dead_letters()
    assert service.metric("email_smtp_up") == 1


def test_long_outage_does_not_empty_the_topic(stack):
    """However short the events' own delays are, the relay is probed at a pace of its own."""
    stack.smtp.stop()
    service = stack.start(EMAIL_MAX_ATTEMPTS=5, EMAIL_RETRY_BASE_MS=10, EMAIL_RETRY_MAX_MS=20)
    stack.publish(*[event() for _ in range(50)])
    stack.wait_dead_letters(1, timeout=40)
    assert len(stack.dead_letters()) <= 5
    stack.smtp.start()
    service.wait_ready()
    stack.wait_committed(timeout=60)
    assert len(stack.mails()) >= 45


def test_outage_with_policy_dlq_probes_one_at_a_time(stack):
    """The probe runs out of attempts and is dead; the others wait, untried."""
    stack.smtp.stop()
    service = stack.start(EMAIL_MAX_ATTEMPTS=2)
    stack.publish(*[event() for _ in range(100)])
    letters = stack.wait_dead_letters(1)
    assert {letter.reason for letter in letters} == {"retries_exhausted"}
    stack.smtp.start()
    service.wait_ready()
    stack.wait_committed(timeout=60)
    dead = len(stack.dead_letters())
    assert dead < 15, "the outage emptied the topic into the DLQ"
    assert len(stack.mails()) == 100 - dead


@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data", "body"])
def test_dropped_before_the_dot(stack, stage):
    """Also in the middle of the body: nothing was accepted, so it is simply sent again."""
    stack.smtp.drop(stage, times=2)
    stack.start()
    sent_once(stack, stack.publish_new(text="line of the body\n" * 20000))


def test_dropped_after_the_dot(stack):
    stack.smtp.drop("dot", times=1)
    service = stack.start(IDEMPOTENCY_LEASE_SECONDS=1)
    message_id = stack.publish_new()
    sent_once(stack, message_id, timeout=40)
    assert service.stats()["events"]["ambiguous"] == 1


@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data"])
def test_silent(stack, stage):
    """Accepts, and says nothing: cut off after the time of the stage, while others go on."""
    stack.smtp.hold(stage, times=1)
    service = stack.start(SMTP_TIMEOUT_SECONDS=1, SMTP_CONNECT_TIMEOUT_SECONDS=1)
    sent_once(stack, stack.publish_new())
    assert service.metric("email_retries_total", reason="timeout") >= 1


@pytest.mark.parametrize("stage", ["banner", "mail", "data"])
def test_dripping(stack, stage):
    """A byte now and then keeps no stage alive for longer than its time in all."""
    stack.smtp.drip(stage, interval=0.2, times=1)
    service = stack.start(SMTP_TIMEOUT_SECONDS=1, SMTP_CONNECT_TIMEOUT_SECONDS=1)
    sent_once(stack, stack.publish_new())
    assert service.metric("email_retries_total", reason="timeout") >= 1


def test_frozen(stack):
    """A connection that is accepted by the kernel alone."""
    service = stack.start(SMTP_TIMEOUT_SECONDS=1, SMTP_CONNECT_TIMEOUT_SECONDS=1, EMAIL_MAX_ATTEMPTS=1000,
                          SMTP_OUTAGE_POLICY="hold")
    stack.wait_mark(stack.publish_new())
    stack.smtp.freeze()
    message_id = stack.publish_new()
    service.wait_log("Email delivery failed, will retry", messageID=message_id)
    assert service.status("/live") == 200
    stack.smtp.thaw()
    stack.wait_mark(message_id)


def test_idle_connection_closed_by_the_relay(stack):
    """Between two mails: the next one costs no attempt and no wait."""
    service = stack.start()
    for _ in range(3):
        message_id = stack.publish_new()
        stack.wait_mark(message_id)
        assert stack.mark(message_id)["attempts"] == 1
        stack.smtp.close_idle()
    assert not service.logs("Email delivery failed, will retry")
    sent_once(stack, stack.publish_new())


def test_connections_are_reused(stack):
    stack.start(SMTP_MAX_CONNECTIONS=3)
    stack.publish(*[event() for _ in range(200)])
    mails = stack.wait_mails(200)
    assert 1 <= len({m.connection for m in mails}) <= 3


# ---- capabilities ----


@pytest.mark.parametrize("missing", ["PIPELINING", "8BITMIME", "SIZE", "SMTPUTF8"])
def test_capability_missing(stack, missing):
    stack.smtp.capabilities.discard(missing)
    stack.start()
    message_id = stack.publish_new(subject="Grüße", text="Viele Grüße ✓ " + "ä" * 3000)
    [mail] = stack.wait_mails(1)
    assert mail.data.isascii()
    assert parse(mail)["Subject"] == "Grüße"
    assert max(len(line) for line in mail.data.split(b"\r\n")) <= 998
    sent_once(stack, message_id)
    if missing == "PIPELINING":
        assert not stack.smtp.pipelined, "one command at a time"


def test_no_capability_at_all(stack):
    """EHLO refused: HELO, and the mail goes out."""
    stack.smtp.reject("ehlo", "502 5.5.1 not implemented")
    stack.start()
    sent_once(stack, stack.publish_new())


def test_utf8_local_part_needs_smtputf8(stack):
    stack.smtp.capabilities.discard("SMTPUTF8")
    stack.start(EMAIL_MAX_ATTEMPTS=2)
    stack.publish_new(to="jürgen@example.com")
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason in ("rejected", "retries_exhausted")
    assert not stack.mails()


def test_larger_than_the_relay_takes(stack):
    """SIZE says so before the body is sent: dead at once."""
    stack.smtp.size_limit = 10000
    stack.start()
    stack.publish_new(text="x" * 20000)
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "rejected"
    stack.wait_committed()


# ---- what leaves us ----

def test_dots_and_line_ends(stack):
    """Lines of one dot, bare CR and LF, no final line end: never a bare CR or LF, never an early end."""
    stack.start()
    text = ".\n..\n.a\r\n.\r\nbare\rCR\n\n.\n.end without line end"
    message_id = stack.publish(event(text=text + "\n"))
    [mail] = stack.wait_mails(1)
    assert b"\n" not in mail.data.replace(b"\r\n", b"") and b"\r" not in mail.data.replace(b"\r\n", b"")
    content = parse(mail).get_content()
    assert content.replace("\r\n", "\n").startswith(".\n..\n.a\n.\nbare")
    assert ".end without line end" in content
    assert len(stack.mails()) == 1
    stack.wait_mark(message_id)
