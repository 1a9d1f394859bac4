"""Nothing of a mail and no password is told to anybody it does not concern: unique strings in every private part of an
event take every path through the programs, and are looked for in all that these say."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lib_canary import Canaries
from lib_emailctl import run_ctl
from lib_process import free_port, release_port, wait_for
from lib_service import run
from lib_stack import new_id
from test_producer import installed, start_user  # noqa: F401  (fixtures)


class Walk:
    """One daemon, and one event after the other on every path."""

    def __init__(self, stack, canaries, **env):
        self.stack, self.canaries, self.count = stack, canaries, 0
        self.smtp = stack.smtp
        stack.redis.client.config_set("requirepass", canaries.redis_password)
        stack.redis.client.execute_command("AUTH", canaries.redis_password)
        self.smtp.auth = (canaries.smtp_user, canaries.smtp_password)
        self.service = stack.start(
            REDIS_PASSWORD=canaries.redis_password, SMTP_USER=canaries.smtp_user,
            SMTP_PASSWORD=canaries.smtp_password, SMTP_AMBIGUOUS_POLICY="park", EMAIL_MAX_ATTEMPTS=2,
            EMAIL_MAX_EVENT_BYTES=16384, KAFKA_CONFIG_SASL_PASSWORD=canaries.kafka_password, **env)

    def publish(self, value):
        self.count += 1
        key = "%s-%d" % (self.canaries.key, self.count)
        self.stack.publish(value, key=key.encode(), headers=[("x-canary", self.canaries.record_header.encode())])

    def event(self, **fields):
        message_id = fields.pop("messageID", None) or new_id()
        self.publish(self.canaries.event(message_id, **fields))
        return message_id

    def sent(self, **fields):
        message_id = self.event(**fields)
        self.stack.wait_mark(message_id)
        return message_id

    def dead(self, reason, value=None, **fields):
        """Publishes an event, or a raw value, and waits for its dead letter."""
        before = len(self.service.logs("Email moved to dead letter queue"))
        if value is not None:
            self.publish(value)
        else:
            self.event(**fields)
        line = self.service.wait_log("Email moved to dead letter queue", before + 1)
        assert line["reason"] == reason, line

    # ---- the paths ----

    def good_ones(self):
        message_id = self.sent()
        self.event(messageID=message_id)
        self.service.wait_log("Duplicate email event detected, skipping", messageID=message_id)
        self.dead("id_conflict", messageID=message_id, text=self.canaries.text + " changed")

    def relay_replies(self):
        echo, refused = self.canaries.echo, self.canaries.addresses["refused"]
        for stage in ("mail", "rcpt", "data", "dot"):
            self.smtp.reject(stage, echo(451), times=1)
            self.sent()
            self.smtp.accept()
            self.smtp.reject(stage, echo(554), times=4)
            self.dead("rejected")
            self.smtp.accept()
        self.smtp.reject("rcpt", echo(450))
        self.dead("retries_exhausted")
        self.smtp.accept()
        self.smtp.reject("rcpt", echo(550), recipient=refused)
        self.dead("rejected", cc=[self.canaries.addresses["cc"], refused])  # the others get it
        self.smtp.accept()
        # Not asked for: in the middle of a transaction, and with a code that is no refusal.
        self.smtp.rule("mail", lambda session: session.write(echo(250).encode() + b"\r\n") or True, times=1)
        self.sent()
        self.smtp.accept()
        self.smtp.reject("banner", echo(421), times=1)
        self.smtp.close_idle(echo(421).encode() + b"\r\n")
        self.sent()
        self.smtp.accept()

    def ambiguous(self):
        self.smtp.drop("dot", times=1)
        self.dead("ambiguous")
        self.smtp.accept()

    def bad_events(self):
        c = self.canaries
        for fields in BAD_FIELDS(c):
            self.dead("invalid_event", **fields)
        raw = json.dumps(c.event("m-1"))
        for value in (raw[:-20], raw + c.subject, raw.replace('"type"', '"%s' % c.subject), "[%s]" % raw,
                      c.subject, '"%s"' % c.subject, raw[:-1] + ',"text":"twice"}', raw.replace(c.subject, "\ud800")):
            self.dead("invalid_event", value=value.encode("utf-8", "surrogatepass"))
        self.dead("too_large", text=c.text * 1000)
        self.dead("expired", expiresAt="2020-01-01T00:00:00Z")
        self.dead("template_error", template="welcome", data={"name": c.data}, text=None, html=None)

    def failed_login(self):
        self.smtp.reject("auth", self.canaries.login_echo())
        self.smtp.close_idle()
        while self.service.status("/ready") == 200:
            self.dead("retries_exhausted")
        self.canaries.check_http(self.service)
        self.smtp.accept()
        self.sent()  # the probe that ends it
        self.service.wait_ready()

    def redis_faults(self):
        """Wrong password, no password wanted, gone, back."""
        redis = self.stack.redis
        client = redis.client
        client.config_set("requirepass", "another-one")
        client.execute_command("AUTH", "another-one")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        self.service.wait_not_ready()
        self.canaries.check_http(self.service)
        message_id = self.event()
        client.config_set("requirepass", "")
        wait_for(lambda: "without any password" in self.service.http("/ready").body, 10, "Redis' complaint")
        self.canaries.check_http(self.service)
        client.config_set("requirepass", self.canaries.redis_password)
        self.service.wait_ready()
        self.stack.wait_mark(message_id)
        redis.kill()
        self.service.wait_not_ready()
        message_id = self.event()
        self.canaries.check_http(self.service)
        redis.start()  # without a password, and without the marks
        redis.client.config_set("requirepass", self.canaries.redis_password)
        redis.client.execute_command("AUTH", self.canaries.redis_password)
        self.service.wait_ready()
        self.stack.wait_mark(message_id)

    def all(self):
        self.good_ones()
        self.relay_replies()
        self.ambiguous()
        self.bad_events()
        self.failed_login()
        self.redis_faults()


def BAD_FIELDS(c):
    """Each with a canary in the field that is wrong."""
    a = c.addresses["to"]
    return [
        {"messageID": "m " + c.code}, {"messageID": c.subject}, {"type": c.subject}, {"type": a},
        {"to": c.subject}, {"to": a + "@" + a}, {"to": [a, c.text]}, {"to": {"email": a, "name": c.subject + "\r\n"}},
        {"to": {"email": a, "nam\x01e" + c.subject: 1, "name": 5}}, {"cc": a + "\r\nBcc: x@example.com"},
        {"bcc": c.names["to"] + " <" + a}, {"from": a.replace("@", " ")}, {"replyTo": [a, a]},
        {"subject": c.subject + "\r\nX-Injected: 1"}, {"subject": [c.subject]}, {"text": {"a": c.text}},
        {"html": 5, "text": None, "subject": c.subject}, {"template": c.subject, "data": {"a": c.data}},
        {"data": c.data}, {"locale": c.data + "\n", "template": "x"},
        {"attachments": [{"filename": c.attachment_name + "\n", "contentType": "text/plain", "content": ""}]},
        {"attachments": [{"filename": c.attachment_name, "contentType": c.subject, "content": ""}]},
        {"attachments": [{"filename": c.attachment_name, "contentType": "text/plain", "content": c.attachment}]},
        {"headers": {a + ":": c.header}}, {"headers": {"Bcc": a}}, {"headers": {"X-A": c.header + "\r\n"}},
        {"headers": {c.subject: "x"}}, {"headers": {"X_" + a: c.header, "x_" + a: c.header}},
        {"createdAt": c.subject}, {"expiresAt": a}, {"metadata": c.metadata},
    ]


def said(service):
    return "\n".join(service._stdout.lines) + service.stderr


def test_on_every_path(stack):
    """At level info, which is the default."""
    canaries = Canaries()
    walk = Walk(stack, canaries)
    canaries.check_process(walk.service.process.pid)
    walk.all()
    canaries.check_http(walk.service)
    letters = stack.dead_letters()
    for letter in letters:
        canaries.check_letter(letter)
    replies = [letter.dlq["smtp-reply"] for letter in letters if "smtp-reply" in letter.dlq]
    assert len(replies) >= 7 and all(reply[:3].isdigit() and "<redacted>" in reply for reply in replies), replies
    assert any("5.7.1 not wanted" in reply or "refused" in reply for reply in replies), replies
    [partial] = [letter for letter in letters if "recipients" in letter.dlq]
    assert json.loads(partial.dlq["recipients"]) == [canaries.addresses["refused"]]
    # They were really there: the mail has them all, and the letter's own value.
    assert canaries.subject in letters[0].value.decode() and stack.mails()
    assert walk.service.terminate() == 0
    canaries.check("the log", said(walk.service))


def test_at_level_debug(stack):
    """Addresses may be seen there; what is in the mail, and passwords, may not."""
    canaries = Canaries()
    walk = Walk(stack, canaries, LOG_LEVEL="debug", KAFKA_CONFIG_DEBUG="conf,security,topic")
    walk.good_ones()
    walk.relay_replies()
    walk.ambiguous()
    walk.failed_login()
    assert walk.service.terminate() == 0
    assert walk.service.logs(level="debug")
    canaries.check("the log at level debug", said(walk.service), debug=True)


def test_unreachable_kafka(stack):
    """With a login for it, wrong in each way."""
    canaries = Canaries()
    port = free_port()
    for broker in ("127.0.0.1:%d" % port, stack.env["KAFKA_BROKERS"]):
        service = stack.start(ready=False, KAFKA_BROKERS=broker, KAFKA_CONFIG_SECURITY_PROTOCOL="SASL_PLAINTEXT",
                              KAFKA_CONFIG_SASL_MECHANISM="PLAIN", KAFKA_CONFIG_SASL_USERNAME=canaries.smtp_user,
                              KAFKA_CONFIG_SASL_PASSWORD=canaries.kafka_password)
        service.wait_log("Kafka client")
        canaries.check_http(service)
        canaries.check_process(service.process.pid)
        assert service.terminate() == 0
        canaries.check("the log", said(service))
    release_port(port)


@pytest.mark.parametrize("program", ["email-service", "emailctl", "create-topics"])
def test_configuration_mistakes(program, folder):
    """Misspelt, misplaced and malformed secrets are complained of, not repeated."""
    c = Canaries()
    secret = c.smtp_password
    (folder / ".env").write_text("SMTP_PASSWORD %s\nSMTP_PASSWORD='%s\n" % (secret, secret))
    (folder / "empty").write_text("")
    cases = [
        (["--smtp-passwrod", secret], {}), (["--smtp-passwrod=" + secret], {}), (["--redis-url", secret], {}),
        ([], {"REDIS_URL": "redis://%s@h" % c.redis_password}),
        ([], {"REDIS_URL": "redis://:%s@:1:2" % c.redis_password}),
        ([], {"REDIS_URL": "redis://:%s%%zz@h" % c.redis_password}), ([], {"REDIS_URL": c.redis_password}),
        ([], {"SMTP_PASSWORD": secret + "\n" + secret}), ([], {"SMTP_PASSWORD": secret, "SMTP_PASSWORD_FILE": "empty"}),
        (["--smtp-password", secret, "--smtp-port", "x"], {}), ([], {"SMTP_HOST": "user:%s@relay" % secret,
                                                                     "EMAIL_MODE": "smtp"}),
        (["--kafka-config", "sasl.pasword=" + c.kafka_password], {}),
        ([], {"KAFKA_CONFIG_SSL_KEY_PEM": c.kafka_password}),
        ([], {"KAFKA_CONFIG_SASL_PASSWORD": c.kafka_password, "KAFKA_CONFIG_ACKS": "0"}),
        ([], {"KAFKA_BROKERS": "sasl://user:%s@broker:9092" % c.kafka_password}),
        (["--check-config"], {"SMTP_PASSWORD": secret, "REDIS_PASSWORD": c.redis_password}),
        (["--help"], {"SMTP_PASSWORD": secret, "REDIS_PASSWORD": c.redis_password}),
    ]
    def attempt(case):
        args, env = case
        command = (["check"] if program == "emailctl" else []) + args
        # In `folder` there is a .env file with mistakes of its own.
        done = run(program, *command, *(["--check-config"] if "--help" not in args else []), env=env,
                   cwd=folder if cases.index(case) % 2 else "/")
        assert done.returncode in (0, 2), done
        c.check("%s %r %r" % (program, args, sorted(env)), done.stdout + done.stderr)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(attempt, cases))


def test_secrets_on_the_command_line_are_gone_from_it(stack):
    c = Canaries()
    stack.redis.client.config_set("requirepass", c.redis_password)
    stack.redis.client.execute_command("AUTH", c.redis_password)
    stack.smtp.auth = (c.smtp_user, c.smtp_password)
    service = stack.start("--smtp-password", c.smtp_password, "--redis-password=" + c.redis_password,
                          "--kafka-config", "sasl.password=" + c.kafka_password, SMTP_USER="x",
                          KAFKA_CONFIG_SASL_PASSWORD=c.kafka_password)
    command_line = Path("/proc/%d/cmdline" % service.process.pid).read_bytes()
    assert b"--smtp-password" in command_line and b"sasl.password=" in command_line
    c.check_process(service.process.pid)


def test_emailctl(stack):
    """It shows what it is asked for, and no more: lists name neither addresses nor content."""
    c = Canaries()
    stack.smtp.auth = (c.smtp_user, c.smtp_password)
    stack.smtp.reject("rcpt", c.echo(550))
    service = stack.start(SMTP_USER=c.smtp_user, SMTP_PASSWORD=c.smtp_password)
    stack.publish(c.event(new_id()), key=c.key.encode())
    service.wait_log("Email moved to dead letter queue")
    service.terminate()
    login = {"SMTP_USER": c.smtp_user, "SMTP_PASSWORD": c.smtp_password, "REDIS_PASSWORD": c.redis_password}
    bad = [c.event(new_id(), **fields) for fields in BAD_FIELDS(c)]

    def check(*args, stdin=None):
        done = run_ctl(stack, *args, stdin=stdin, **login)
        c.check("emailctl " + " ".join(args), done.stdout + done.stderr)
        return done

    assert "rejected" in check("dlq", "list").stdout
    assert '"smtpReply":"550' in check("dlq", "list", "--json").stdout
    assert "would be redriven" in check("dlq", "redrive", "--dry-run").stdout
    check("dlq", "purge", "--all", "--dry-run")
    assert check("publish", "--dry-run", "-", stdin="".join(json.dumps(e) + "\n" for e in bad)).returncode == 1
    stack.redis.client.config_set("requirepass", "another-one")
    stack.smtp.reject("auth", c.login_echo())
    done = check("check")
    assert done.returncode == 1 and "<redacted>" in done.stdout and "✗ Redis" in done.stdout, done.stdout
    check("check", "--json")
    # Asked for a letter, it shows all of it.
    assert c.subject in run_ctl(stack, "dlq", "show", "0:0").stdout


def test_producer_library(stack, start_user):  # noqa: F811
    """Its log, its reasons for refusing an event, and what callbacks are told of a failure."""
    c = Canaries()
    stack.smtp.auth = (c.smtp_user, c.smtp_password)
    user = start_user(stack.env | {
        "KAFKA_BROKERS": "127.0.0.1:%d" % free_port(), "SMTP_USER": c.smtp_user, "SMTP_PASSWORD": c.smtp_password,
        "REDIS_PASSWORD": c.redis_password, "KAFKA_CONFIG_SASL_PASSWORD": c.kafka_password, "EMAIL_MAX_ATTEMPTS": "2"},
        publish_timeout_ms=300)
    stack.redis.client.config_set("requirepass", c.redis_password)
    stack.redis.client.execute_command("AUTH", c.redis_password)

    def send(**fields):
        value = c.event(new_id(), **fields)
        user.command("json %s %s" % (c.key, json.dumps(value)))
        return value["messageID"]

    for n, fields in enumerate(BAD_FIELDS(c)):
        send(**fields)
        wait_for(lambda: len(user.statuses) == n + 1, 10, user.tail)
    assert all(status != 0 and error for _, status, error in user.statuses), user.statuses
    assert user.wait_outcome(send())[0] == "SENT_DIRECTLY"
    stack.smtp.reject("auth", c.login_echo())
    stack.smtp.close_idle()
    assert user.wait_outcome(send())[0] == "FAILED"
    stack.smtp.accept()
    stack.smtp.reject("rcpt", c.echo(550))
    assert user.wait_outcome(send())[0] == "FAILED"
    stack.smtp.accept()
    assert user.wait_outcome(send())[0] == "SENT_DIRECTLY"
    user.finish()
    told = [error for _, _, error in user.statuses]
    told += [json.dumps(outcome[1:]) for outcomes in user.outcomes.values() for outcome in outcomes]
    told += [json.dumps(entry) for entry in user.logs] + [user._stderr.text()]
    assert len(user.logs) > 5
    c.check("the producer library", "\n".join(told))
