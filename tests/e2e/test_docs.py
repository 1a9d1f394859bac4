"""The configuration variables agree everywhere: code (--help), docs/configuration.md, .env.example, README."""

import re
from pathlib import Path

import pytest

from lib_service import run

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"\b(?:KAFKA|REDIS|SMTP|EMAIL|IDEMPOTENCY|SHUTDOWN|LOG|ENABLE)_[A-Z_]*[A-Z]\b(?!\.md)")
TEST_VARIABLES = re.compile(r"^EMAIL_(TEST|BUILD)_|^EMAIL_SANITIZE$")


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def variables(content):
    found = set(VARIABLE.findall(content))
    found = {name for name in found if not TEST_VARIABLES.search(name)}
    # KAFKA_CONFIG_SECURITY_PROTOCOL is an example of a family, REDIS_PASSWORD_FILE one of another.
    found = {name for name in found if not name.startswith("KAFKA_CONFIG")}
    return {name for name in found if not (name.endswith("_FILE") and name != "SMTP_CA_FILE")}


def in_code():
    helps = [run(name, "--help").stdout for name in ("email-service", "create-topics")]
    return variables("\n".join(helps))


CONTRACT = """
    KAFKA_BROKERS KAFKA_CONSUMER_GROUP KAFKA_TOPIC_EMAIL_EVENTS KAFKA_TOPIC_EMAIL_DLQ KAFKA_TOPIC_PARTITIONS
    KAFKA_TOPIC_REPLICATION_FACTOR ENABLE_KAFKA REDIS_HOST REDIS_PORT REDIS_PASSWORD REDIS_DB REDIS_URL
    IDEMPOTENCY_TTL_HOURS IDEMPOTENCY_LEASE_SECONDS IDEMPOTENCY_FAIL_OPEN EMAIL_MODE SMTP_HOST SMTP_PORT SMTP_USER
    SMTP_PASSWORD SMTP_FROM SMTP_FROM_NAME SMTP_TLS SMTP_CA_FILE SMTP_MAX_CONNECTIONS SMTP_CONNECT_TIMEOUT_SECONDS
    SMTP_TIMEOUT_SECONDS SMTP_OUTAGE_POLICY SMTP_AMBIGUOUS_POLICY EMAIL_MAX_ATTEMPTS EMAIL_RETRY_BASE_MS
    EMAIL_RETRY_MAX_MS EMAIL_MAX_IN_FLIGHT EMAIL_MAX_IN_FLIGHT_BYTES EMAIL_MAX_EVENT_BYTES EMAIL_TEMPLATES_DIR
    EMAIL_SERVICE_PORT EMAIL_SERVICE_LISTEN EMAIL_SERVICE_HOST LOG_LEVEL SHUTDOWN_TIMEOUT_SECONDS""".split()


def test_code_has_what_was_promised():
    assert in_code() >= set(CONTRACT)


@pytest.mark.parametrize("document", ["docs/configuration.md", ".env.example"])
def test_document_has_every_variable_and_no_other(document):
    documented, known = variables(text(document)), in_code()
    assert documented - known == set(), "documented, but not in the code"
    assert known - documented == set(), "in the code, but not documented"


@pytest.mark.parametrize("document", ["README.md", "docs/EMAIL_SERVICE_KAFKA.md", "docs/event.md", "docs/emailctl.md"])
def test_document_names_no_variable_that_is_not_there(document):
    assert variables(text(document)) - in_code() == set()


def defaults_in_help():
    """NAME → default, from lines such as "  KAFKA_BROKERS  --kafka-brokers  … (default: localhost:9092)"."""
    lines = run("email-service", "--help").stdout.splitlines()
    found = (re.match(r"  ([A-Z_]+) .*\(default: (\S+)\)", line) for line in lines)
    return {match.group(1): match.group(2) for match in found if match}


def test_help_shows_defaults():
    assert len(defaults_in_help()) >= 30


@pytest.mark.parametrize("document", ["docs/configuration.md", ".env.example"])
def test_defaults_agree(document):
    """The default stands on the variable's own line."""
    lines = text(document).splitlines()
    wrong = []
    for name, default in defaults_in_help().items():
        own = [line for line in lines if re.search(r"\b%s\b" % name, line)]
        if not any(default in line for line in own):
            wrong.append((name, default, own))
    assert not wrong


def test_links_inside_the_repository_lead_somewhere():
    broken = []
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:"):
                if not (document.parent / target).exists():
                    broken.append("%s: %s" % (document.name, target))
    assert not broken
