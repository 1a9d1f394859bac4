"""emailctl: flags, help, publish and check."""

import base64
import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from lib_emailctl import good, run_ctl
from lib_process import free_port
from lib_service import SANITIZERS, program, run
from lib_stack import event
from smtp_server import SmtpServer, make_certificates

COMPLETION = Path(__file__).resolve().parents[2] / "scripts" / "completion" / "emailctl.bash"
COMMANDS = [(), ("publish",), ("dlq",), ("dlq", "list"), ("dlq", "show"), ("dlq", "redrive"), ("dlq", "purge"),
            ("check",)]


def published(stack):
    return stack.kafka.read_all(stack.topic)


# ---- help and mistakes ----

@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command, folder):
    done = run("emailctl", *command, "--help", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Usage: emailctl" in done.stdout and "Exit codes: 0" in done.stdout


def test_version(folder):
    assert re.fullmatch(r"emailctl \d+\.\d+\.\d+\n", run("emailctl", "--version", cwd=folder).stdout)


@pytest.mark.parametrize("args, named", [
    ((), "command"),
    (("dlq",), "command"),
    (("bogus",), "bogus"),
    (("dlq", "bogus"), "bogus"),
    (("publish", "--bogus"), "--bogus"),
    (("publish", "--limit", "3"), "--limit"),
    (("publish", "--to"), "--to"),
    (("publish", "--dry-run=yes"), "--dry-run"),
    (("publish", "-", "--to", "a@example.com"), "stdin"),
    (("publish", "--to", "a@example.com", "--data", "[1]"), "--data"),
    (("publish", "--to", "a@example.com", "--metadata", "{"), "--metadata"),
    (("publish", "--to", "a@example.com", "--header", "no colon"), "--header"),
    (("publish", "--to", "a@example.com", "--expires-in", "soon"), "--expires-in"),
    (("publish", "--text", "a", "--text-file", "b"), "twice"),
    (("dlq", "list", "--since", "yesterday"), "--since"),
    (("dlq", "list", "--limit", "0"), "--limit"),
    (("dlq", "show"), "--message-id"),
    (("dlq", "show", "0-1"), "0-1"),
    (("dlq", "redrive", "--rate", "-1"), "--rate"),
    (("dlq", "purge"), "--all"),
    (("dlq", "purge", "--all", "--before", "1d"), "--all"),
    (("dlq", "purge", "--all"), "--yes"),
    (("dlq", "purge", "--all", "--reason", "rejected"), "--reason"),
    (("check", "--kafka-topic-partitions", "many"), "KAFKA_TOPIC_PARTITIONS"),
])
def test_mistakes_are_named_with_exit_code_2(args, named, folder):
    env = {"KAFKA_BROKERS": "127.0.0.1:1"}
    if "--data" in args or "--metadata" in args or "--header" in args:
        args += ("--dry-run",)  # what the flags hold is looked at before Kafka is needed
    done = run("emailctl", *args, env=env, cwd=folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert named in done.stderr


def test_wrong_configuration(folder):
    done = run("emailctl", "check", env={"EMAIL_MODE": "smtp", "KAFKA_CONFIG_ACKS": "0"}, cwd=folder)
    assert done.returncode == 2
    assert "SMTP_HOST" in done.stderr and "KAFKA_CONFIG_ACKS" in done.stderr


def test_env_file_and_check_config(folder):
    (folder / "my.env").write_text("KAFKA_BROKERS=127.0.0.1:1\nSMTP_PORT=x\n")
    done = run("emailctl", "check", "--check-config", "--env-file", "my.env", cwd=folder)
    assert done.returncode == 2 and "SMTP_PORT" in done.stderr
    (folder / "my.env").write_text("KAFKA_BROKERS=127.0.0.1:1\n")
    assert run("emailctl", "check", "--check-config", "--env-file=my.env", cwd=folder).returncode == 0


# ---- publish ----

def test_publish_from_flags(stack):
    (stack.folder / "page.html").write_text("<p>Grüße</p>", encoding="utf-8")
    (stack.folder / "a b.pdf").write_bytes(b"%PDF-\x00\xff")
    out = good(run_ctl(
        stack, "publish", "--to", "Ann <Ann@Example.com>", "--to=bob@example.com", "--cc", "cc@example.com",
        "--bcc", "bcc@example.com", "--from", "me@example.com", "--reply-to", "re@example.com", "--subject", "Hi",
        "--text", "Hello", "--html-file", "page.html", "--type", "welcome", "--message-id", "m-1",
        "--attach", "a b.pdf", "--header", "X-Team: a: b", "--expires-in", "600", "--metadata", '{"a": [1]}'))
    assert out == "m-1\n"
    [record] = published(stack)
    assert record.key == b"ann@example.com"
    value = json.loads(record.value)
    assert value.pop("createdAt") < value.pop("expiresAt")
    assert base64.b64decode(value["attachments"][0].pop("content")) == b"%PDF-\x00\xff"
    assert value == {
        "messageID": "m-1", "type": "welcome", "to": ["Ann <Ann@Example.com>", "bob@example.com"],
        "cc": ["cc@example.com"], "bcc": ["bcc@example.com"], "from": "me@example.com",
        "replyTo": "re@example.com", "subject": "Hi", "text": "Hello", "html": "<p>Grüße</p>",
        "attachments": [{"filename": "a b.pdf", "contentType": "application/pdf"}],
        "headers": {"X-Team": "a: b"}, "metadata": {"a": [1]}}


def test_publish_makes_ids_and_is_sent(stack):
    stack.start()
    ids = [good(run_ctl(stack, "publish", "--to", "a@example.com", "--subject", "s", "--text", "t",
                        "--key", "mine")).strip() for _ in range(2)]
    assert len(set(ids)) == 2 and all(ids)
    stack.wait_mails(2)
    assert [r.key for r in published(stack)] == [b"mine", b"mine"]


def test_publish_refuses_what_the_service_would(stack):
    done = run_ctl(stack, "publish", "--to", "private person", "--subject", "secret subject", "--text", "t")
    assert done.returncode == 1
    assert "to[0]" in done.stderr and "secret" not in done.stderr and "private" not in done.stderr
    done = run_ctl(stack, "publish", "--to", "a@example.com\r\nBcc: b@example.com", "--subject", "s", "--text", "t")
    assert done.returncode == 1
    assert not published(stack)


def test_publish_lines(stack):
    lines = "".join(json.dumps(event(messageID="m-%d" % i, to="U%d@example.com" % (i % 7))) + "\n" for i in range(1000))
    out = good(run_ctl(stack, "publish", stdin=lines))
    assert out == "Published 1000 of 1000 events to %s\n" % stack.topic
    records = published(stack)
    assert sorted(json.loads(r.value)["messageID"] for r in records) == sorted("m-%d" % i for i in range(1000))
    assert all(r.key.decode() == json.loads(r.value)["to"].lower() for r in records)


def test_publish_bad_lines(stack):
    huge = json.dumps(event(text="x" * 3000000))
    lines = [json.dumps(event(messageID="m-1")), "{", "", json.dumps(event(to="nobody")), huge,
             json.dumps(event(messageID="m-2"))]  # the last one without an end
    done = run_ctl(stack, "publish", "-", stdin="\r\n".join(lines))
    assert done.returncode == 1
    assert done.stdout == "Published 2 of 5 events to %s, 3 refused\n" % stack.topic
    assert re.findall(r"line (\d+): ", done.stderr) == ["2", "4", "5"]
    assert sorted(json.loads(r.value)["messageID"] for r in published(stack)) == ["m-1", "m-2"]


def test_publish_dry_run_needs_no_kafka(stack):
    lines = json.dumps(event()) + "\n" + json.dumps(event(subject=None)) + "\n"
    away = {"KAFKA_BROKERS": "127.0.0.1:%d" % free_port()}
    done = run_ctl(stack, "publish", "--dry-run", stdin=lines, **away)
    assert done.returncode == 1
    assert done.stdout == "1 of 2 events are valid, 1 refused\n" and "line 2: subject" in done.stderr
    good(run_ctl(stack, "publish", "--dry-run", "--to", "a@example.com", "--subject", "s", "--text", "t", **away))
    assert not published(stack)


def test_publish_without_kafka_or_topic(stack, bare_stack):
    flags = ("publish", "--to", "a@example.com", "--subject", "s", "--text", "t", "--timeout", "3")
    done = run_ctl(stack, *flags, KAFKA_BROKERS="127.0.0.1:%d" % free_port())
    assert done.returncode == 1 and "refused" in done.stderr
    done = run_ctl(stack, *flags, KAFKA_TOPIC_EMAIL_EVENTS="no-such-topic")
    assert done.returncode == 1 and "no-such-topic" in done.stderr


def test_publish_files_that_are_not_there(stack):
    done = run_ctl(stack, "publish", "--to", "a@example.com", "--subject", "s", "--text-file", "missing.txt")
    assert done.returncode == 1 and "missing.txt" in done.stderr


def test_progress_bar_on_a_terminal(stack):
    (stack.folder / "events.jsonl").write_text("".join(json.dumps(event()) + "\n" for _ in range(50)))
    master, slave = pty.openpty()
    with open(stack.folder / "events.jsonl") as lines:
        done = subprocess.run([program("emailctl"), "publish"], env=dict(SANITIZERS, **stack.env), cwd=stack.folder,
                              stdin=lines, stdout=subprocess.PIPE, stderr=slave, timeout=60)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert done.returncode == 0, shown
    assert re.search(r"\[#*\.*\] +\d+ %", shown), shown


# ---- check ----

def checks(stack, *args, **env):
    done = run_ctl(stack, "check", "--json", "--timeout", "5", *args, **env)
    return done.returncode, {c["check"]: c for c in map(json.loads, done.stdout.splitlines())}


def test_check_all_right(stack):
    done = run_ctl(stack, "check")
    out = good(done)
    assert all(line.startswith("✓ ") for line in out.splitlines()), out
    assert "noeviction" in out and "3 partitions" in out and stack.dlq_topic in out
    assert not stack.mails()


def test_check_log_mode(stack):
    code, found = checks(stack, EMAIL_MODE="log")
    assert code == 0 and found["SMTP"]["result"] == "skipped" and "log mode" in found["SMTP"]["detail"]


def test_check_redis_away(stack):
    code, found = checks(stack, REDIS_PORT=free_port())
    assert code == 1 and found["Redis"]["result"] == "failed" and found["SMTP"]["result"] == "ok"


def test_check_redis_password_and_policy(stack):
    stack.redis.client.config_set("maxmemory-policy", "allkeys-lru")
    code, found = checks(stack)
    assert code == 0 and found["Redis eviction"]["result"] == "warning"
    assert "allkeys-lru" in found["Redis eviction"]["detail"]
    stack.redis.client.config_set("requirepass", "right")
    code, found = checks(stack, REDIS_PASSWORD="wrong-secret")
    assert code == 1 and found["Redis"]["result"] == "failed" and "wrong-secret" not in str(found)
    code, found = checks(stack, REDIS_PASSWORD="right")
    assert code == 0


def test_check_topic_missing(bare_stack):
    bare_stack.kafka.create_topic(bare_stack.topic)
    code, found = checks(bare_stack)
    assert code == 1
    assert found["Topic " + bare_stack.topic]["result"] == "ok"
    assert found["Topic " + bare_stack.dlq_topic]["result"] == "failed"


def test_check_kafka_away(stack):
    code, found = checks(stack, KAFKA_BROKERS="127.0.0.1:%d" % free_port())
    assert code == 1 and found["Kafka"]["result"] == "failed" and found["Redis"]["result"] == "ok"


@pytest.fixture
def certificates(folder):
    path = folder / "certificates"
    path.mkdir()
    return make_certificates(path)


@pytest.fixture
def relay():
    started = []

    def start(**options):
        started.append(SmtpServer(**options).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


def relay_checks(stack, server, certificates, tls, **env):
    code, found = checks(stack, SMTP_HOST="localhost", SMTP_PORT=server.port, SMTP_TLS=tls,
                         SMTP_CA_FILE=certificates / "ca.pem", SMTP_USER="robot", **env)
    assert not server.mails
    return code, found["SMTP"]


@pytest.mark.parametrize("kind, tls", [("starttls", "starttls"), ("implicit", "tls")])
def test_check_login_over_tls(stack, relay, certificates, kind, tls):
    server = relay(tls=kind, certfile=certificates / "good.pem", auth=("robot", "right"))
    code, found = relay_checks(stack, server, certificates, tls, SMTP_PASSWORD="right")
    assert code == 0 and found["result"] == "ok" and "logged in" in found["detail"]
    assert server.sessions[-1].verbs()[-1] == "QUIT" and "MAIL" not in server.sessions[-1].verbs()


def test_check_wrong_password(stack, relay, certificates):
    server = relay(tls="starttls", certfile=certificates / "good.pem", auth=("robot", "right"))
    code, found = relay_checks(stack, server, certificates, "starttls", SMTP_PASSWORD="wrong-secret")
    assert code == 1 and found["result"] == "failed"
    assert "auth" in found["detail"] and "wrong-secret" not in found["detail"]


@pytest.mark.parametrize("certificate", ["expired.pem", "wrong-host.pem"])
def test_check_bad_certificate(stack, relay, certificates, certificate):
    server = relay(tls="starttls", certfile=certificates / certificate, auth=("robot", "right"))
    code, found = relay_checks(stack, server, certificates, "starttls", SMTP_PASSWORD="right")
    assert code == 1 and found["result"] == "failed"


def test_check_starttls_not_offered(stack, relay, certificates):
    code, found = relay_checks(stack, relay(), certificates, "starttls", SMTP_PASSWORD="right")
    assert code == 1 and found["result"] == "failed"


def test_check_silent_relay_ends_in_time(stack, relay, certificates):
    server = relay()
    server.freeze()
    code, found = checks(stack, "--timeout", "2", SMTP_PORT=server.port)
    server.thaw()
    assert code == 1 and found["SMTP"]["result"] == "failed"


# ---- completion ----

def complete(*words):
    """What TAB offers behind the last word."""
    script = """
source %s
complete -p emailctl >&2
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_emailctl
printf '%%s\\n' "${COMPREPLY[@]}"
""" % COMPLETION
    done = subprocess.run(["bash", "-c", script, "bash", "emailctl", *words], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=20)
    assert done.returncode == 0 and "complete -F _emailctl emailctl" in done.stderr, done.stderr
    return done.stdout.split()


def test_completion_is_bash():
    assert subprocess.run(["bash", "-n", COMPLETION]).returncode == 0


def test_completion_of_commands():
    assert complete("") == ["publish", "dlq", "check", "--help", "--version"]
    assert complete("dlq", "re") == ["redrive"]
    assert complete("dlq", "list", "--reason", "inv") == ["invalid_event"]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ((), ("dlq",))], ids=" ".join)
def test_completion_knows_every_flag_of_the_help(command, folder):
    shown = set(re.findall(r"--[a-z-]+", run("emailctl", *command, "--help", cwd=folder).stdout))
    offered = set(complete(*command, "--"))
    assert shown - {"--help"} <= offered
    assert offered - shown <= {"--help", "--env-file", "--kafka-brokers", "--kafka-config"}
