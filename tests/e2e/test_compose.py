"""docker-compose.yml and Dockerfile, as far as they can be judged without running them; scripts/test-container.sh
runs the images."""

import re
from pathlib import Path

import pytest
import yaml

from test_docs import VARIABLE, defaults_in_help, in_code

ROOT = Path(__file__).resolve().parents[2]
OURS = ("create-topics", "email-service", "auth-service")
# What the compose file itself decides: what it runs, and what goes with its relay and Redis.
DECIDED = {"KAFKA_BROKERS", "REDIS_HOST", "REDIS_PORT", "EMAIL_MODE", "SMTP_HOST", "SMTP_PORT", "SMTP_TLS"}
# Of no use there: other servers' logins, paths and ports inside the container, more than one broker.
LEFT_OUT = {"REDIS_PASSWORD", "REDIS_DB", "REDIS_URL", "SMTP_USER", "SMTP_PASSWORD", "SMTP_CA_FILE",
            "EMAIL_TEMPLATES_DIR", "EMAIL_SERVICE_PORT", "EMAIL_SERVICE_LISTEN", "EMAIL_SERVICE_HOST",
            "KAFKA_TOPIC_REPLICATION_FACTOR"}
# Settled in the image, which publishes and checks that port.
AUTH_LEFT_OUT = {"AUTH_SERVICE_PORT", "AUTH_SERVICE_LISTEN"}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


@pytest.fixture(scope="module")
def dockerfile():
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


def version():
    return re.search(r"^project\(email-service VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text(),
                     re.MULTILINE).group(1)


def auth_variables():
    return set(re.findall(r'"(AUTH_[A-Z_]+)"', (ROOT / "examples/auth-service/settings.c").read_text(encoding="utf-8")))


def test_auth_service_documents_its_variables():
    readme = (ROOT / "examples/auth-service/README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(AUTH_[A-Z_]+)`", readme)) == auth_variables()


def test_services(services):
    assert set(services) == {"kafka", "redis", "mailpit", *OURS}


def test_images_are_pinned(services):
    for name, service in services.items():
        if name == "create-topics":
            assert "image" not in service and service["build"] == services["email-service"]["build"]
            continue
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d+\.\d+\.\d+", tag), "%s: %s" % (name, service["image"])


def test_own_images_have_the_version_of_the_project(services, dockerfile):
    for name in ("email-service", "auth-service"):
        assert services[name]["image"] == "%s:%s" % (name, version())
    assert re.findall(r"^ARG VERSION=(\S+)", dockerfile, re.MULTILINE) == [version()] * 2


def test_own_images_are_built_from_stages_that_exist(services, dockerfile):
    stages = re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE)
    for name in OURS:
        assert services[name]["build"]["target"] in stages


def test_start_order_is_gated(services):
    gates = {name: {other: gate["condition"] for other, gate in services[name]["depends_on"].items()}
             for name in OURS}
    assert gates["create-topics"] == {"kafka": "service_healthy"}
    for name in ("email-service", "auth-service"):
        assert gates[name] == {"create-topics": "service_completed_successfully", "redis": "service_healthy",
                               "mailpit": "service_healthy"}
    for name in ("kafka", "redis", "mailpit"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    assert services["create-topics"]["restart"] == "no"


def test_own_containers_have_no_rights(services):
    for name in OURS:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in services[name]


def test_data_outlives_the_containers(compose, services):
    assert services["kafka"]["volumes"] == ["kafka-data:" + services["kafka"]["environment"]["KAFKA_LOG_DIRS"]]
    assert services["redis"]["volumes"] == ["redis-data:/data"]
    assert set(compose["volumes"]) == {"kafka-data", "redis-data"}


def test_redis_keeps_what_it_was_told(services):
    command = services["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_instances_share_no_host_port(services):
    service = services["email-service"]
    [port] = service["ports"]
    low, high = map(int, re.fullmatch(r"127\.0\.0\.1:(\d+)-(\d+):8085", port).groups())
    assert low == 8085
    assert high - low + 1 >= service["deploy"]["replicas"] == 2


def test_ports_are_for_this_machine_only(services):
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_stop_waits_for_the_shutdown(services):
    grace_s = int(services["email-service"]["stop_grace_period"].rstrip("s"))
    assert grace_s > int(defaults_in_help()["SHUTDOWN_TIMEOUT_SECONDS"])
    # auth-service: its own time, and what email_producer_destroy may take beyond it.
    auth_s = re.search(r'"AUTH_SHUTDOWN_TIMEOUT_SECONDS", (\d+)', (ROOT / "examples/auth-service/settings.c").read_text())
    assert int(services["auth-service"]["stop_grace_period"].rstrip("s")) > int(auth_s.group(1)) + 4


@pytest.mark.parametrize("name", OURS)
def test_variables(services, name):
    """Each variable of the code is decided here, passed through without a default of its own, or left out."""
    environment = services[name]["environment"]
    of_its_own = auth_variables() - AUTH_LEFT_OUT if name == "auth-service" else set()
    assert set(environment) == (in_code() - LEFT_OUT) | of_its_own
    with_value = {variable for variable, value in environment.items() if value is not None}
    assert with_value == DECIDED | {"SMTP_FROM", "SMTP_FROM_NAME"}
    assert environment["KAFKA_BROKERS"].startswith("kafka:") and environment["REDIS_HOST"] == "redis"
    assert environment["SMTP_HOST"] == "mailpit" and environment["EMAIL_MODE"] == "smtp"


def test_no_secrets(compose, dockerfile):
    for text in (str(compose), dockerfile):
        assert not [name for name in VARIABLE.findall(text) if "PASSWORD" in name or name == "REDIS_URL"]
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in ignored and "**/.env" in ignored and "!.env" not in ignored


def test_dockerfile(dockerfile):
    """No root, no shell as process 1, no curl, and an orderly stop."""
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", dockerfile, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in dockerfile
    entry_points = re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)
    assert entry_points == ['["/usr/local/bin/email-service"]', '["/usr/local/bin/auth-service"]']
    assert "curl " not in dockerfile
    assert dockerfile.count("HEALTHCHECK") == 2
    assert dockerfile.rstrip().endswith("FROM email-service"), "the default target"
