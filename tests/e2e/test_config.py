"""Configuration of the programs: sources, precedence, mistakes, and the flags that every program has."""

import pytest

from lib_service import run

GOOD_SMTP = {"EMAIL_MODE": "smtp", "SMTP_HOST": "relay.example.com", "SMTP_FROM": "noreply@example.com"}


def check(folder, env, *args):
    return run("email-service", "--check-config", *args, env=env, cwd=folder)


@pytest.mark.parametrize("name", ["email-service", "create-topics"])
def test_help(name, folder):
    done = run(name, "--help", cwd=folder)
    assert done.returncode == 0
    assert name in done.stdout and "KAFKA_BROKERS" in done.stdout and "--env-file" in done.stdout
    assert not done.stderr


@pytest.mark.parametrize("name", ["email-service", "create-topics"])
def test_version(name, folder):
    done = run(name, "--version", cwd=folder)
    assert done.returncode == 0
    assert done.stdout.split()[-1].count(".") == 2
    assert not done.stderr


@pytest.mark.parametrize("name", ["email-service", "create-topics"])
@pytest.mark.parametrize("args", [["--no-such-flag"], ["stray"], ["--kafka-brokers"]])
def test_wrong_flags(name, args, folder):
    done = run(name, *args, cwd=folder)
    assert done.returncode == 2
    assert args[0] in done.stderr + done.stdout


def test_defaults_are_good(folder):
    done = check(folder, {})
    assert done.returncode == 0, done.stderr


def test_smtp_mode_needs_host_and_sender(folder):
    done = check(folder, {"EMAIL_MODE": "smtp"})
    assert done.returncode == 2
    assert "SMTP_HOST" in done.stderr and "SMTP_FROM" in done.stderr
    assert check(folder, GOOD_SMTP).returncode == 0


WRONG = {
    "KAFKA_TOPIC_PARTITIONS": "none",
    "KAFKA_CONFIG_NO_SUCH_PROPERTY": "1",
    "REDIS_PORT": "65536",
    "REDIS_DB": "-1",
    "IDEMPOTENCY_TTL_HOURS": "0",
    "IDEMPOTENCY_LEASE_SECONDS": "sixty",
    "IDEMPOTENCY_FAIL_OPEN": "perhaps",
    "EMAIL_MODE": "pigeon",
    "SMTP_PORT": "0",
    "SMTP_TLS": "always",
    "SMTP_FROM": "not an address",
    "SMTP_FROM_NAME": "a\nBcc: b@example.com",
    "SMTP_MAX_CONNECTIONS": "-1",
    "SMTP_TIMEOUT_SECONDS": "1.5",
    "SMTP_OUTAGE_POLICY": "wait",
    "SMTP_AMBIGUOUS_POLICY": "maybe",
    "EMAIL_MAX_ATTEMPTS": "0",
    "EMAIL_RETRY_BASE_MS": "99999999999999999999",
    "EMAIL_MAX_IN_FLIGHT": "",
    "EMAIL_SERVICE_PORT": "80a",
    "LOG_LEVEL": "loud",
    "SHUTDOWN_TIMEOUT_SECONDS": "30s",
}


def test_all_mistakes_at_once(folder):
    wrong = {name: value for name, value in WRONG.items() if value}
    done = check(folder, wrong)
    assert done.returncode == 2
    missing = [name for name in wrong if name + ":" not in done.stderr]
    assert not missing, "not reported: %s in\n%s" % (missing, done.stderr)


@pytest.mark.parametrize("name", [name for name, value in WRONG.items() if value])
def test_each_mistake_alone(name, folder):
    done = check(folder, dict(GOOD_SMTP, **{name: WRONG[name]}))
    assert done.returncode == 2
    assert name in done.stderr
    others = [other for other in WRONG if other != name and other + ":" in done.stderr]
    assert not others, done.stderr


@pytest.mark.parametrize("name, value", [
    ("KAFKA_BROKERS", ":::"), ("KAFKA_BROKERS", "a:99999"), ("KAFKA_BROKERS", "a:1,,b:1"),
    ("KAFKA_TOPIC_EMAIL_EVENTS", "a b"), ("KAFKA_TOPIC_EMAIL_DLQ", "ü"), ("SMTP_HOST", "h h"),
    ("SMTP_CA_FILE", "/does/not/exist"), ("SMTP_CA_FILE", "/etc/hostname"), ("EMAIL_SERVICE_LISTEN", "no.such.host.invalid"),
])
def test_what_would_fail_at_the_first_use_is_said_at_once(folder, name, value):
    done = check(folder, dict(GOOD_SMTP, **{name: value}))
    assert done.returncode == 2 and name + ":" in done.stderr


def test_what_is_allowed(folder):
    for env in ({"EMAIL_RETRY_MAX_MS": "500"}, {"EMAIL_MAX_IN_FLIGHT_BYTES": "500000"}, {"LOG_LEVEL": "INFO"},
                {"KAFKA_BROKERS": "[::1]:9092, kafka:9092,SSL://b"}, {"KAFKA_CONFIG_LOG_LEVEL": "3"},
                {"EMAIL_SERVICE_LISTEN": "::1"}):
        done = check(folder, dict(GOOD_SMTP, **env))
        assert done.returncode == 0, done.stderr
    assert check(folder, GOOD_SMTP, "--kafka-config", "log_level=3").returncode == 0


def test_the_daemon_refuses_to_start_with_a_mistake(folder):
    done = run("email-service", env={"EMAIL_MAX_ATTEMPTS": "many"}, cwd=folder)
    assert done.returncode == 2
    assert "EMAIL_MAX_ATTEMPTS" in done.stderr


def test_empty_counts_as_not_given(folder):
    assert check(folder, {"EMAIL_MAX_IN_FLIGHT": "", "REDIS_PORT": ""}).returncode == 0


def test_env_file(folder):
    (folder / ".env").write_text("# comment\n\nexport EMAIL_MODE=smtp\nSMTP_HOST='relay'\n"
                                 "SMTP_FROM=\"noreply@example.com\" # trailing\nSMTP_PORT=0\n")
    done = check(folder, {})
    assert done.returncode == 2
    assert "SMTP_PORT" in done.stderr and "SMTP_HOST" not in done.stderr and "SMTP_FROM" not in done.stderr


def test_environment_over_env_file_and_flag_over_environment(folder):
    (folder / ".env").write_text("SMTP_PORT=0\n")
    assert check(folder, {}).returncode == 2
    assert check(folder, {"SMTP_PORT": "25"}).returncode == 0
    assert check(folder, {"SMTP_PORT": "0"}, "--smtp-port", "25").returncode == 0
    assert check(folder, {"SMTP_PORT": "25"}, "--smtp-port=0").returncode == 2


def test_named_env_file(folder):
    (folder / ".env").write_text("LOG_LEVEL=loud\n")
    (folder / "other.env").write_text("LOG_LEVEL=debug\n")
    assert check(folder, {}, "--env-file", "other.env").returncode == 0
    done = check(folder, {}, "--env-file", "missing.env")
    assert done.returncode == 2 and "missing.env" in done.stderr


def test_broken_env_file_names_the_line(folder):
    (folder / ".env").write_text("LOG_LEVEL=info\nthis is no assignment\n")
    done = check(folder, {})
    assert done.returncode == 2
    assert "line 2" in done.stderr


@pytest.mark.parametrize("name", ["REDIS_PASSWORD", "REDIS_URL", "SMTP_PASSWORD"])
def test_secret_from_a_file(name, folder):
    missing = check(folder, {name + "_FILE": str(folder / "absent")})
    assert missing.returncode == 2 and name + "_FILE" in missing.stderr
    (folder / "secret").write_text("redis://localhost\n")
    assert check(folder, {name + "_FILE": str(folder / "secret"), "SMTP_USER": "u"}).returncode == 0


def test_secrets_are_never_repeated(folder):
    done = check(folder, {"REDIS_URL": "http://user:hunter2@host", "SMTP_PASSWORD": "swordfish",
                          "EMAIL_MODE": "smtp"})
    assert done.returncode == 2
    assert "REDIS_URL" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout and "swordfish" not in done.stderr + done.stdout


@pytest.mark.parametrize("name, value", [
    ("ENABLE_AUTO_OFFSET_STORE", "true"), ("ACKS", "0"), ("SOCKET_TIMEOUT_MS", "soon")])
def test_kafka_properties_are_checked(name, value, folder):
    done = check(folder, {"KAFKA_CONFIG_" + name: value})
    assert done.returncode == 2
    assert "KAFKA_CONFIG_" + name in done.stderr


def test_kafka_property_is_used(folder):
    assert check(folder, {"KAFKA_CONFIG_SECURITY_PROTOCOL": "plaintext"}).returncode == 0


def test_redis_password_file_is_used(stack):
    """A secret from a file works end to end, not only in the check."""
    stack.redis.client.config_set("requirepass", "hunter2")
    stack.folder.joinpath("password").write_text("hunter2\n")
    service = stack.start(REDIS_PASSWORD_FILE=stack.folder / "password")
    stack.publish_new()
    stack.wait_mails(1)
    assert "hunter2" not in service.tail(1000)


def test_redis_url_is_used(stack):
    stack.redis.client.config_set("requirepass", "p:@ss")
    stack.start(REDIS_URL="redis://:p%%3A%%40ss@127.0.0.1:%d/3" % stack.redis.port,
                REDIS_HOST="nowhere.invalid", REDIS_PORT=None)
    stack.publish_new()
    stack.wait_mails(1)
    stack.wait_committed()
