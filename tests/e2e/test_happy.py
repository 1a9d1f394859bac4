"""The main path: what becomes of good events, on the log, in Kafka, in Redis and at the relay."""

import json
import time
from datetime import datetime, timedelta, timezone

import pytest

from lib_process import holds_for, wait_for
from lib_stack import event, new_id, parse, text_of


def rfc3339(seconds_from_now):
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds_from_now)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_one_event_from_kafka_to_the_relay(stack):
    service = stack.start()
    message_id = stack.publish_new()

    for msg in ("Email event consumed", "Email sent successfully", "Marked email as processed"):
        line = service.wait_log(msg, messageID=message_id)
        assert line["level"] == "info"

    [mail] = stack.wait_mails(1)
    assert mail.sender == "noreply@example.com"
    assert mail.recipients == ["user@example.com"]
    message = parse(mail)
    assert message["Subject"] == "Your code"
    assert message["From"] == "Example <noreply@example.com>"
    assert message["To"] == "user@example.com"
    assert message["Date"] and message["Message-ID"]
    assert text_of(message) == "The code is 123456.\nRef %s\n" % message_id
    assert not message.defects
    stack.wait_committed()
    assert not stack.dead_letters()


def test_mark_in_redis(stack):
    stack.start(IDEMPOTENCY_TTL_HOURS=5)
    before = time.time()
    message_id = stack.publish_new(to=["a@example.com", "b@example.com"])
    mark = stack.wait_mark(message_id)
    assert mark["attempts"] == 1
    assert mark["recipients"] == 2
    sent_at = datetime.fromisoformat(mark["sentAt"].replace("Z", "+00:00")).timestamp()
    assert before - 2 <= sent_at <= time.time() + 2
    ttl = stack.redis.client.ttl("email:sent:" + message_id)
    assert 5 * 3600 - 60 <= ttl <= 5 * 3600
    assert stack.redis.client.keys("email:sent:*") == ["email:sent:" + message_id], "one key an event"


def test_duplicate_is_skipped(stack):
    service = stack.start()
    one = event()
    stack.publish(one)
    service.wait_log("Marked email as processed", messageID=one["messageID"])
    stack.publish(one)
    line = service.wait_log("Duplicate email event detected, skipping", messageID=one["messageID"])
    assert line["level"] == "warn"
    stack.wait_committed()
    assert len(stack.mails()) == 1
    assert service.stats()["events"]["duplicates"] == 1
    assert not stack.dead_letters()


def test_duplicates_at_the_same_time(stack):
    """Twenty copies on three partitions: one mail, nineteen skipped, whoever comes first."""
    service = stack.start()
    one = event()
    for i in range(20):
        stack.publish(one, partition=i % 3)
    service.wait_log("Duplicate email event detected, skipping", count=19)
    stack.wait_committed()
    assert len(stack.mails()) == 1


def test_timestamps_and_metadata_do_not_make_a_conflict(stack):
    service = stack.start()
    message_id = new_id()
    text = "the same"
    stack.publish(event(messageID=message_id, text=text, metadata={"trace": 1}, createdAt=rfc3339(-5)))
    service.wait_log("Marked email as processed")
    stack.publish(event(messageID=message_id, text=text, metadata={"trace": 2}, createdAt=rfc3339(0)))
    service.wait_log("Duplicate email event detected, skipping", messageID=message_id)


@pytest.mark.parametrize("first", [
    {"expiresAt": rfc3339(-60)},
    {"template": "welcome", "data": {"name": "Ada"}, "text": None},
], ids=["expired", "template"])
def test_dead_on_arrival(stack, first):
    reason = "expired" if "expiresAt" in first else "template_error"
    service = stack.start()
    message_id = stack.publish_new(**first)
    line = service.wait_log("Email moved to dead letter queue", messageID=message_id)
    assert line["level"] == "error"
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == reason
    assert letter.dlq["attempts"] == "0"
    assert json.loads(letter.value)["messageID"] == message_id
    stack.wait_committed()
    assert not stack.mails()


def test_expiry_ends_retrying(stack):
    stack.smtp.reject("mail", "451 4.3.0 not now")
    stack.start(EMAIL_MAX_ATTEMPTS=1000)
    stack.publish_new(expiresAt=rfc3339(2))
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "expired"
    assert int(letter.dlq["attempts"]) >= 1
    assert not stack.mails()


def test_not_yet_expired_is_sent(stack):
    stack.start()
    message_id = stack.publish_new(expiresAt=rfc3339(600))
    stack.wait_mark(message_id)


def test_every_field_reaches_the_mail(stack):
    """The fields one by one are test_message_roundtrip's; here they pass through the whole service."""
    stack.start()
    stack.publish(event(
        **{"from": "Büro <office@example.org>"}, replyTo={"email": "help@example.org", "name": "Help"},
        to=["Ada <ada@example.com>", {"email": "bob@bücher.example", "name": "Bob"}],
        cc="carol@example.com", bcc=["dave@example.com", "eve@example.com"],
        subject="Grüße aus Köln ✓", text="Hallo Ada,\n.\n..zwei\n", html="<p>Hallo <b>Ada</b> ✓</p>",
        headers={"X-Campaign": "spring", "List-Unsubscribe": "<https://example.com/u>"},
        attachments=[
            {"filename": "Rechnung ä.pdf", "contentType": "application/pdf", "content": "JVBERi0xLjQK"},
            {"filename": "logo.png", "contentType": "image/png", "content": "iVBORw0KGgo=",
             "contentID": "logo@example"}]))
    [mail] = stack.wait_mails(1)
    assert mail.sender == "office@example.org"
    assert mail.recipients == ["ada@example.com", "bob@xn--bcher-kva.example", "carol@example.com",
                               "dave@example.com", "eve@example.com"]
    assert b"dave@" not in mail.data and b"eve@" not in mail.data, "bcc never appears in the message"
    assert mail.data.isascii()

    message = parse(mail)
    assert message["From"] == "Büro <office@example.org>"
    assert message["Reply-To"] == "Help <help@example.org>"
    assert [a.display_name for a in message["To"].addresses] == ["Ada", "Bob"]
    assert message["Cc"] == "carol@example.com"
    assert message["Subject"] == "Grüße aus Köln ✓"
    assert message["X-Campaign"] == "spring"
    assert message["List-Unsubscribe"] == "<https://example.com/u>"
    assert text_of(message.get_body(("plain",))) == "Hallo Ada,\n.\n..zwei\n"
    assert text_of(message.get_body(("html",))).strip() == "<p>Hallo <b>Ada</b> ✓</p>"
    parts = {p.get_content_type(): p for p in message.walk()}
    assert parts["application/pdf"].get_filename() == "Rechnung ä.pdf"
    assert parts["application/pdf"].get_content() == b"%PDF-1.4\n"
    assert parts["image/png"]["Content-ID"] == "<logo@example>"
    assert not any(p.defects for p in message.walk())


def test_message_id_is_a_function_of_the_event(stack):
    """Every attempt carries the same Message-ID and the same bytes."""
    stack.smtp.reject("dot", "451 4.3.0 once more", times=2)
    stack.start()
    message_id = stack.publish_new()
    stack.wait_mark(message_id)
    bodies = stack.smtp.bodies_seen()
    assert len(bodies) == 3
    assert len(set(bodies)) == 1


def test_same_key_in_order(stack):
    """One person's mails leave in order, even where the first ones need several attempts."""
    stack.smtp.reject("mail", "451 4.3.0 not now", times=6)
    stack.start(EMAIL_MAX_ATTEMPTS=50)
    events = [event(subject="number %d" % i) for i in range(30)]
    stack.publish(*events, key="ada@example.com", partition=0)
    mails = stack.wait_mails(30)
    assert [parse(m)["Subject"] for m in mails] == [e["subject"] for e in events]


def test_different_keys_overtake(stack):
    """A mail that is being retried holds up nobody with another key, and none without a key."""
    stack.smtp.reject("rcpt", "450 4.2.1 mailbox busy", recipient="slow@example.com")
    stack.start(EMAIL_MAX_ATTEMPTS=1000)
    stack.kafka.produce(stack.topic, [
        (b"slow", json.dumps(event(to="slow@example.com")).encode(), None),
        (b"fast", json.dumps(event(to="fast@example.com")).encode(), None),
        (None, json.dumps(event(to="none@example.com")).encode(), None)], partition=0)
    mails = stack.wait_mails(2)
    assert {m.recipients[0] for m in mails} == {"fast@example.com", "none@example.com"}
    # The committed offset waits for the first event, which has no final outcome yet.
    holds_for(lambda: stack.committed()[0] == 0, 1.5, "offset 0 uncommitted", interval=0.3)
    stack.smtp.accept()
    stack.wait_committed()


def test_retry_until_sent(stack):
    stack.smtp.reject("mail", "451 4.3.0 try again later", times=2)
    service = stack.start()
    message_id = stack.publish_new()
    line = service.wait_log("Email delivery failed, will retry", count=2, messageID=message_id)
    assert line["level"] == "warn"
    assert stack.wait_mark(message_id)["attempts"] == 3
    assert len(stack.mails()) == 1
    assert service.metric("email_retries_total", reason="reply") == 2
    stack.wait_committed()


def test_retries_exhausted(stack):
    stack.smtp.reject("mail", "451 4.3.0 never")
    service = stack.start(EMAIL_MAX_ATTEMPTS=3)
    message_id = stack.publish_new()
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "retries_exhausted"
    assert letter.dlq["attempts"] == "3"
    assert letter.dlq["smtp-reply"] == "451 4.3.0 never"
    assert len(service.logs("Email delivery failed, will retry", messageID=message_id)) == 2
    stack.wait_committed()
    assert stack.wait_mark(message_id, "dead")["reason"] == "retries_exhausted"


def test_dead_letter_is_complete(stack):
    stack.smtp.reject("rcpt", "550 5.1.1 no such user here")
    stack.start()
    value = json.dumps(event(metadata={"a": [1, 2]}), indent=1).encode()
    message_id = json.loads(value)["messageID"]
    headers = [("trace", b"abc"), ("trace", b"def"), ("binary", b"\x00\xff")]
    stack.publish(value, key=b"some key", partition=2, headers=headers)

    [letter] = stack.wait_dead_letters(1)
    assert letter.key == b"some key"
    assert letter.value == value
    assert [h for h in letter.headers if not h[0].startswith("dlq-")] == headers
    assert letter.reason == "rejected"
    assert letter.dlq["smtp-reply"] == "550 5.1.1 no such user here"
    assert letter.dlq["attempts"] == "1"
    assert letter.dlq["topic"] == stack.topic
    assert letter.dlq["partition"] == "2"
    assert letter.dlq["offset"] == "0"
    assert abs(datetime.fromisoformat(letter.dlq["failed-at"].replace("Z", "+00:00")).timestamp()
               - time.time()) < 60
    assert letter.dlq["error"] and "user@example.com" not in letter.dlq["error"]
    assert "recipients" not in letter.dlq, "all were refused"
    mark = stack.wait_mark(message_id, "dead")
    assert (mark["topic"], mark["partition"], mark["offset"]) == (stack.topic, 2, 0)
    assert mark["reason"] == "rejected" and mark["deadAt"]
    stack.wait_committed()


def test_tombstone_key_and_headers_survive(stack):
    stack.start()
    stack.publish(None, key=b"k", headers=[("h", b"v")])
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "invalid_event"
    assert (letter.key, letter.value) == (b"k", None)
    assert ("h", b"v") in letter.headers


def test_some_recipients_refused(stack):
    """The mail goes to the accepted ones; one dead letter names the refused ones."""
    stack.smtp.reject("rcpt", "550 5.1.1 unknown", recipient="gone@example.com")
    service = stack.start()
    message_id = stack.publish_new(to=["a@example.com", "gone@example.com"], cc="b@example.com")
    [mail] = stack.wait_mails(1)
    assert mail.recipients == ["a@example.com", "b@example.com"]
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "rejected"
    assert json.loads(letter.dlq["recipients"]) == ["gone@example.com"]
    assert stack.wait_mark(message_id)["recipients"] == 2
    assert service.wait_log("Email sent successfully", messageID=message_id)
    stack.wait_committed()
    stack.publish(event(messageID=message_id, to=["a@example.com", "gone@example.com"], cc="b@example.com"))
    service.wait_log("Duplicate email event detected, skipping", messageID=message_id)
    assert len(stack.mails()) == 1


def test_recipient_refused_for_now_holds_the_mail_back(stack):
    """Nobody gets it twice: all or none, until the last attempt."""
    stack.smtp.reject("rcpt", "450 4.2.1 busy", recipient="busy@example.com", times=2)
    stack.start()
    message_id = stack.publish_new(to=["a@example.com", "busy@example.com"])
    assert stack.wait_mark(message_id)["attempts"] == 3
    [mail] = stack.mails()
    assert mail.recipients == ["a@example.com", "busy@example.com"]
    assert not stack.dead_letters()


def test_recipient_refused_for_now_on_the_last_attempt(stack):
    stack.smtp.reject("rcpt", "450 4.2.1 busy", recipient="busy@example.com")
    stack.start(EMAIL_MAX_ATTEMPTS=2)
    message_id = stack.publish_new(to=["a@example.com", "busy@example.com"])
    [mail] = stack.wait_mails(1)
    assert mail.recipients == ["a@example.com"]
    [letter] = stack.wait_dead_letters(1)
    assert json.loads(letter.dlq["recipients"]) == ["busy@example.com"]
    assert stack.wait_mark(message_id)["attempts"] == 2


def test_dead_then_published_anew(stack):
    """A dead letter settles its record only: the same messageID published again gets a new attempt."""
    stack.smtp.reject("rcpt", "550 5.1.1 unknown", times=1)
    stack.start()
    one = event()
    stack.publish(one)
    stack.wait_mark(one["messageID"], "dead")
    stack.publish(one)
    stack.wait_mark(one["messageID"], "sent")
    assert len(stack.mails()) == 1
    assert len(stack.dead_letters()) == 1


def test_health_and_stats(stack):
    service = stack.start(IDEMPOTENCY_TTL_HOURS=7)
    stack.wait_mark(stack.publish_new())
    wait_for(lambda: service.http("/health").json()["idempotency_records"] == 1, 10, "one record")
    health = service.http("/health")
    assert health.status == 200
    assert health.headers["content-type"].startswith("application/json")
    body = health.json()
    assert abs(datetime.fromisoformat(body.pop("timestamp").replace("Z", "+00:00")).timestamp()
               - time.time()) < 60
    assert body == {"status": "healthy", "service": "email-service", "redis": "connected",
                    "kafka": "connected", "idempotency_records": 1}
    stats = service.stats()
    assert (stats["idempotency_records"], stats["ttl_hours"]) == (1, 7)
    assert stats["events"]["consumed"] == 1 and stats["events"]["sent"] == 1
    assert service.status("/live") == 200
    assert service.metric("email_sent_total") == 1
    assert service.metric("email_idempotency_records") == 1


def test_log_mode_shows_the_mail(stack):
    service = stack.start(EMAIL_MODE="log")
    message_id = stack.publish_new(text="In log mode 42.\n")
    service.wait_log("Marked email as processed", messageID=message_id)
    shown = "\n".join(service._stdout.lines)
    assert "user@example.com" in shown and "In log mode 42." in shown and "Your code" in shown
    assert not stack.mails()
    assert stack.wait_mark(message_id)["state"] == "sent"


def test_log_mode_shows_every_script(stack):
    service = stack.start(EMAIL_MODE="log")
    stack.publish_new(subject="Tu código", text="コード 482913", html="<p>código</p>")
    line = service.wait_log("Email")
    assert (line["subject"], line["text"], line["html"]) == ("Tu código", "コード 482913", "<p>código</p>")


@pytest.mark.parametrize("level", ["info", "warn", "error"])
def test_nothing_private_is_logged_in_smtp_mode(stack, level):
    """Sent, retried, refused and invalid: no address, subject, body or code on the log."""
    stack.smtp.reject("rcpt", "550 5.1.1 <secret-gone@example.com> unknown", recipient="secret-gone@example.com")
    stack.smtp.reject("mail", "451 4.3.0 greylisted secret-sender@example.com", times=1)
    stack.start(LOG_LEVEL=level)
    private = dict(subject="secret-subject", text="secret-body 314159", html="<p>secret-html</p>",
                   **{"from": "Secret-Name <secret-sender@example.com>"})
    stack.publish(event(to="secret-to@example.com", **private), event(to="secret-gone@example.com", **private),
                  event(to="secret-bad@@example.com", **private),
                  event(to=["secret-to@example.com", "secret-gone@example.com"], **private))
    stack.wait_committed()
    [service] = stack.services
    output = "\n".join(service._stdout.lines + service._stderr.lines).lower()
    assert "secret" not in output and "314159" not in output
    assert len(stack.mails()) == 2


def test_any_key_and_none(stack):
    service = stack.start()
    for key in (None, b"", b"\xff\x00\xfe", b"k" * 2000):
        stack.publish(event(), key=key)
    service.wait_log("Marked email as processed", count=4)
    stack.wait_committed()


def test_new_group_starts_at_the_earliest_offset(stack):
    stack.publish_new()
    stack.start()
    stack.wait_mails(1)
    stack.wait_committed()
