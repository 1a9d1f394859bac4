"""create-topics and scripts/init-kafka-topics.sh: the same topics, the same words."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from lib_process import free_port
from lib_service import BUILD_DIR, run

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "init-kafka-topics.sh"


def create_topics(how, env, *args, cwd):
    if how == "program":
        return run("create-topics", *args, env=env, cwd=cwd)
    env = dict(env, PATH=os.environ["PATH"], EMAIL_BUILD_DIR=str(BUILD_DIR),
               ASAN_OPTIONS="detect_leaks=1:exitcode=99")
    return subprocess.run([str(SCRIPT), *args], env=env, cwd=cwd, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)


@pytest.fixture(params=["program", "script"])
def how(request):
    return request.param


def settings(bare_stack, **more):
    names = ("KAFKA_BROKERS", "KAFKA_TOPIC_EMAIL_EVENTS", "KAFKA_TOPIC_EMAIL_DLQ")
    return dict({name: bare_stack.env[name] for name in names}, **more)


def test_creates_both_and_says_so(bare_stack, folder, how):
    env = settings(bare_stack, KAFKA_TOPIC_PARTITIONS="5", KAFKA_TOPIC_REPLICATION_FACTOR="1")
    done = create_topics(how, env, cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    lines = [line.strip() for line in done.stdout.splitlines()]
    expected = ["Connecting to Kafka...", "✓ Connected to Kafka", "Creating topics...",
                "✓ Topic '%s' created successfully" % bare_stack.topic,
                "✓ Topic '%s' created successfully" % bare_stack.dlq_topic]
    assert [line for line in lines if line in expected] == expected, done.stdout
    banner = done.stdout[:done.stdout.index("Connecting to Kafka...")]
    for label, value in (("Kafka Brokers:", bare_stack.kafka.bootstrap),
                         ("Email Events Topic:", bare_stack.topic), ("DLQ Topic:", bare_stack.dlq_topic),
                         ("Partitions:", "5"), ("Replication Factor:", "1")):
        assert any(label in line and line.endswith(value) for line in banner.splitlines()), (label, banner)
    topics = bare_stack.kafka.topics()
    assert topics[bare_stack.topic] == 5
    assert bare_stack.dlq_topic in topics


def test_again_is_harmless(bare_stack, folder, how):
    env = settings(bare_stack)
    assert create_topics(how, env, cwd=folder).returncode == 0
    done = create_topics(how, env, cwd=folder)
    assert done.returncode == 0
    assert "✓ Topic '%s' already exists" % bare_stack.topic in done.stdout
    assert "✓ Topic '%s' already exists" % bare_stack.dlq_topic in done.stdout
    assert bare_stack.kafka.topics()[bare_stack.topic] == 3


def test_one_missing(bare_stack, folder, how):
    bare_stack.kafka.create_topic(bare_stack.topic)
    done = create_topics(how, settings(bare_stack), cwd=folder)
    assert done.returncode == 0
    assert "✓ Topic '%s' already exists" % bare_stack.topic in done.stdout
    assert "✓ Topic '%s' created successfully" % bare_stack.dlq_topic in done.stdout


def test_kafka_away(folder, how):
    begin = time.monotonic()
    done = create_topics(how, {"KAFKA_BROKERS": "127.0.0.1:%d" % free_port()}, cwd=folder)
    assert done.returncode == 1
    assert "✗" in done.stdout + done.stderr
    assert "✓" not in done.stdout
    assert time.monotonic() - begin < 40


def test_refused_by_kafka(bare_stack, folder, how):
    """Three replicas on one broker cannot be."""
    done = create_topics(how, settings(bare_stack, KAFKA_TOPIC_REPLICATION_FACTOR="3"), cwd=folder)
    assert done.returncode == 1
    assert "✗" in done.stdout + done.stderr
    assert bare_stack.topic not in bare_stack.kafka.topics()


def test_wrong_configuration(folder, how):
    done = create_topics(how, {"KAFKA_TOPIC_PARTITIONS": "many"}, cwd=folder)
    assert done.returncode == 2
    assert "KAFKA_TOPIC_PARTITIONS" in done.stderr


def test_flags(bare_stack, folder):
    done = create_topics("program", settings(bare_stack), "--kafka-topic-partitions", "2", cwd=folder)
    assert done.returncode == 0
    assert bare_stack.kafka.topics()[bare_stack.topic] == 2
