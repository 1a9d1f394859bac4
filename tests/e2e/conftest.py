"""Fixtures of the end-to-end tests: real servers on free loopback ports, gone when the run ends.

One Kafka serves the whole run, under pytest-xdist too: the process that hands out the tests starts it and the workers
find its address in the environment. Every test has topics and a group of its own there. Redis and the relay start
anew for each test. Tests that break Kafka start one of their own.
"""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from lib_kafka import KafkaClient, KafkaServer, wait_until_ready  # noqa: E402
from lib_redis import RedisServer  # noqa: E402
from lib_sink import SmtpSink  # noqa: E402
from lib_stack import Stack  # noqa: E402
from smtp_server import SmtpServer  # noqa: E402

SHARED_KAFKA = "EMAIL_TEST_KAFKA"


RUN_FOLDER = "EMAIL_TEST_RUN_FOLDER"


class _Shared:
    """What the run as a whole owns; lives in the process that hands out the tests."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="email-service-tests-"))
        self.folder.chmod(0o755)  # smtp-sink drops its privileges
        os.environ[RUN_FOLDER] = str(self.folder)
        self.kafka = None

    def start_kafka(self):
        self.kafka = KafkaServer(self.folder / "kafka").start(wait=False)
        os.environ[SHARED_KAFKA] = self.kafka.bootstrap

    def destroy(self):
        if self.kafka:
            self.kafka.destroy()
            os.environ.pop(SHARED_KAFKA, None)
        shutil.rmtree(self.folder, ignore_errors=True)


def _interrupted(_number, _frame):
    # Python's default would end the run without its clean-up.
    raise KeyboardInterrupt


def pytest_sessionstart(session):
    config = session.config
    if hasattr(config, "workerinput"):
        return
    signal.signal(signal.SIGTERM, _interrupted)
    config.email_shared = _Shared()
    distributed = getattr(config.option, "numprocesses", None)
    if distributed and not config.option.collectonly and SHARED_KAFKA not in os.environ:
        config.email_shared.start_kafka()


def pytest_unconfigure(config):
    shared = getattr(config, "email_shared", None)
    if shared:
        shared.destroy()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of its services' logs."""
    report = (yield).get_result()
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(stack, Stack):
        report.sections.append(("services", stack.tails()))


@pytest.fixture
def folder():
    """A fresh folder for the test's servers."""
    path = Path(tempfile.mkdtemp(dir=os.environ[RUN_FOLDER]))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(request):
    """A client of the run's Kafka."""
    if SHARED_KAFKA not in os.environ:
        request.config.email_shared.start_kafka()
    bootstrap = os.environ[SHARED_KAFKA]
    wait_until_ready(bootstrap)
    return KafkaClient(bootstrap)


@pytest.fixture
def own_kafka(folder):
    """A Kafka that the test may break."""
    server = KafkaServer(folder / "kafka").start()
    yield server
    server.destroy()


@pytest.fixture
def redis(folder):
    server = RedisServer(folder / "redis").start()
    yield server
    server.destroy()


@pytest.fixture
def smtp():
    server = SmtpServer().start()
    yield server
    server.stop()


@pytest.fixture
def sink(folder):
    server = SmtpSink(folder)
    yield server
    server.destroy()


@pytest.fixture
def stack(folder, kafka, redis, smtp):
    """Topics, Redis and relay of one test; stack.start() starts a daemon on them."""
    made = Stack(folder, kafka, redis, smtp)
    made.create_topics()
    yield made
    made.finish()


@pytest.fixture
def bare_stack(folder, kafka, redis, smtp):
    """The same without topics."""
    made = Stack(folder, kafka, redis, smtp)
    yield made
    made.finish()


@pytest.fixture
def own_kafka_stack(folder, own_kafka, redis, smtp):
    """The same on a Kafka that the test may break."""
    made = Stack(folder, KafkaClient(own_kafka.bootstrap), redis, smtp)
    made.create_topics()
    yield made
    own_kafka.thaw()
    made.finish()
