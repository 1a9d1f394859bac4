"""The producer library as its users have it: installed, found by CMake and pkg-config, on real servers."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from lib_process import LineReader, free_port, holds_for, wait_for
from lib_publishers import ADA_PARTITION, ROOT, run, snippets
from lib_service import BUILD_DIR, SANITIZERS, assert_no_sanitizer_report
from lib_stack import event, new_id, parse, text_of

USERS = ROOT / "tests" / "producer"


def _cache_variable(name):
    found = re.search(r"^%s:\w+=(.*)$" % name, (BUILD_DIR / "CMakeCache.txt").read_text(), re.M)
    return found.group(1) if found else ""


def _flags():
    """A library with sanitizers needs them in the program too."""
    sanitizers = _cache_variable("EMAIL_SANITIZE").replace(";", ",")
    return ["-Wall", "-Wextra", "-Werror"] + (["-fsanitize=" + sanitizers] if sanitizers else [])


def _build(folder):
    run("cmake", "--install", BUILD_DIR, "--prefix", folder / "first")
    # Whoever moves the prefix moves all of it.
    shutil.move(folder / "first", folder / "prefix")
    flags = " ".join(_flags())
    run("cmake", "-S", USERS, "-B", folder / "build", "-G", "Ninja", "-DCMAKE_PREFIX_PATH=%s" % (folder / "prefix"),
         "-DCMAKE_C_FLAGS=" + flags, "-DCMAKE_CXX_FLAGS=" + flags,
         "-DCMAKE_C_COMPILER=" + _cache_variable("CMAKE_C_COMPILER"))
    run("cmake", "--build", folder / "build")


@pytest.fixture(scope="session")
def installed():
    """The folder with `prefix` and `build`; made by the first test process that needs it."""
    folder = Path(os.environ["EMAIL_TEST_RUN_FOLDER"]) / "producer"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").exists():
            _build(folder)
            (folder / "built").touch()
    return folder


class User:
    """A program that uses the library, see tests/producer/user.c."""

    def __init__(self, installed, env, publish_timeout_ms=2000, destroy_ms=5000, program="user-shared"):
        self.env = {name: str(value) for name, value in env.items() if value is not None}
        self.process = subprocess.Popen([installed / "build" / program, str(publish_timeout_ms), str(destroy_ms)],
                                        env=dict(SANITIZERS, **self.env), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.outcomes, self.statuses, self.logs = {}, [], []
        self._stdout = LineReader(self.process.stdout, self._on_line)
        self._stderr = LineReader(self.process.stderr)

    def _on_line(self, line):
        kind, rest = line.split(" ", 1)
        if kind == "outcome":
            message_id, result, topic, partition, offset, error = rest.split(" ", 5)
            self.outcomes.setdefault(message_id, []).append((result, topic, int(partition), int(offset), error))
        elif kind == "status":
            message_id, status, error = rest.split(" ", 2)
            self.statuses.append((message_id, int(status), error))
        else:
            level, text = rest.split(" ", 1)
            entry = json.loads(text)
            assert entry["level"] == level
            self.logs.append(entry)

    def command(self, text):
        self.process.stdin.write((text + "\n").encode())
        self.process.stdin.flush()

    def send(self, message_id=None, to="User@Example.com", subject="Code", text="123456"):
        """Queues one event; its messageID."""
        before = len(self.statuses)
        self.command("send %s %s %s %s" % (message_id or new_id(), to, subject, text))
        wait_for(lambda: len(self.statuses) > before, 10, self.tail)
        message_id, status, error = self.statuses[-1]
        assert status == 0, error
        return message_id

    def wait_outcome(self, message_id, timeout=30):
        """(result, error) of an event."""
        wait_for(lambda: message_id in self.outcomes, timeout, lambda: "an outcome of %s\n%s" % (message_id, self.tail()))
        result, _, _, _, error = self.outcomes[message_id][0]
        return result, error

    def messages(self):
        return [entry["msg"] for entry in self.logs]

    def tail(self):
        return "\n".join(self._stdout.lines[-40:] + ["--- stderr"] + self._stderr.lines[-40:])

    def finish(self, timeout=40):
        if self.process.stdin.closed:
            return
        self.process.stdin.close()
        try:
            status = self.process.wait(timeout)
        finally:
            self.process.kill()
            self._stdout.join()
            self._stderr.join()
        assert_no_sanitizer_report(self._stderr.text())
        assert status == 0, self.tail()
        assert all(len(told) == 1 for told in self.outcomes.values()), self.outcomes


@pytest.fixture
def start_user(installed):
    users = []

    def start(*args, **options):
        users.append(User(installed, *args, **options))
        return users[-1]

    yield start
    for user in users:
        user.finish()


# ---- the package ----

def _names(*command):
    lines = run(*command).splitlines()
    return {line.split()[-1].split("@")[0] for line in lines if len(line.split()) >= 3}


@pytest.mark.parametrize("file,options", [("libemail_producer.so", ["-D"]), ("libemail_producer.a", ["-g"])])
def test_nothing_but_the_api_is_exported(installed, file, options):
    [library] = (installed / "prefix").rglob(file)
    wanted = set((USERS / "exported-symbols.txt").read_text().split())
    assert _names("nm", *options, "--defined-only", library) - wanted == set()
    assert _names("nm", *options, "--defined-only", library) == wanted


def test_it_has_no_way_to_end_its_host(installed):
    [library] = (installed / "prefix").rglob("libemail_producer.so")
    used = {line.split()[-1].split("@")[0] for line in run("nm", "-D", "--undefined-only", library).splitlines()}
    assert "malloc" in used
    assert not used & {"exit", "_exit", "_Exit", "quick_exit", "abort", "__assert_fail", "raise", "kill", "pthread_exit"}


def test_soname(installed):
    [library] = (installed / "prefix").rglob("libemail_producer.so")
    assert "libemail_producer.so.0]" in run("readelf", "-d", library)


def _link_words(pc, *words):
    """As docs/producer.md says it; nothing of other libraries is looked up."""
    return run("pkg-config", "--cflags", "--libs", *words, env={"PKG_CONFIG_LIBDIR": str(pc.parent)}).split()


@pytest.mark.parametrize("words,static", [
    (["email-producer"], False), (["--static", "email-producer"], False), (["email-producer-static"], True)])
def test_pkg_config(installed, folder, words, static):
    [pc] = (installed / "prefix").rglob("email-producer.pc")
    for compiler, source in (("cc", "user.c"), ("c++", "user.cpp")):
        standard = ["-D_GNU_SOURCE"] if source == "user.c" else []
        program = folder / (source + ".out")
        run(compiler, *standard, *_flags(), USERS / source, "-o", program, *_link_words(pc, *words))
        linked = run("ldd", program, env={"LD_LIBRARY_PATH": str(pc.parent.parent)})
        assert ("libemail_producer" in linked) == (not static)


def test_cpp_user_publishes(installed, stack):
    env = dict(SANITIZERS, **{n: v for n, v in stack.env.items()})
    done = subprocess.run([str(installed / "build" / "user-cxx"), "Grace@Example.com"], env=env, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert_no_sanitizer_report(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    [record] = stack.kafka.read_all(stack.topic)
    assert record.key == b"grace@example.com"


# ---- publishing ----

def test_published_and_sent_by_the_service(stack, start_user):
    user = start_user(stack.env)
    message_id = user.send("-", to="Ada@Example.com")
    user.wait_outcome(message_id)
    [(result, topic, partition, offset, error)] = user.outcomes[message_id]
    assert (result, topic, error) == ("PUBLISHED", stack.topic, "")
    [record] = stack.kafka.read_all(stack.topic)
    assert (record.partition, record.offset, record.key) == (partition, offset, b"ada@example.com")
    value = json.loads(record.value)
    assert value["messageID"] == message_id and re.fullmatch("evt-[0-9a-f]{32}", message_id)
    assert value["to"] == ["Ada@Example.com"] and value["text"] == "123456" and value["createdAt"]
    stack.start()
    stack.wait_mark(message_id)
    [mail] = stack.wait_mails(1)
    assert text_of(parse(mail)).strip() == "123456"


@pytest.mark.parametrize("program", ["user-shared", "user-static"])
def test_many_in_order(stack, start_user, program):
    user = start_user(stack.env, publish_timeout_ms=30000, program=program)
    user.command("many 5000")
    user.command("flush 30000")
    wait_for(lambda: user.statuses, 60, user.tail)
    assert user.statuses == [("flush", 0, "all")]
    assert {told[0][0] for told in user.outcomes.values()} == {"PUBLISHED"} and len(user.outcomes) == 5000
    by_key = {}
    for record in stack.kafka.read_all(stack.topic):
        by_key.setdefault(record.key, []).append(int(json.loads(record.value)["messageID"][2:]))
    assert sum(map(len, by_key.values())) == 5000
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


def test_json_with_a_key(stack, start_user):
    user = start_user(stack.env)
    value = event(metadata={"a": 1})
    user.command("json my-key " + json.dumps(value))
    assert user.wait_outcome(value["messageID"]) == ("PUBLISHED", "")
    [record] = stack.kafka.read_all(stack.topic)
    assert record.key == b"my-key"
    assert {name: field for name, field in json.loads(record.value).items() if name != "createdAt"} == value


# ---- falling back ----

def test_missing_topic_goes_directly(bare_stack, start_user):
    user = start_user(bare_stack.env, publish_timeout_ms=20000)
    message_id = user.send()
    assert user.wait_outcome(message_id)[0] == "SENT_DIRECTLY"
    bare_stack.wait_mark(message_id)
    bare_stack.wait_mails(1)


@pytest.mark.parametrize("batch_size", [None, 30000])
def test_topic_that_takes_less_than_a_batch(stack, start_user, batch_size):
    """A batch that is too large is refused with all its events: none is lost, none is doubled, and smaller ones help."""
    topic = "%s-small-%s" % (stack.topic, batch_size)
    stack.kafka.create_topic(topic, 1, {"max.message.bytes": "60000"})
    user = start_user(dict(stack.env, KAFKA_TOPIC_EMAIL_EVENTS=topic, KAFKA_CONFIG_BATCH_SIZE=batch_size,
                           KAFKA_CONFIG_LINGER_MS=1000), publish_timeout_ms=30000)
    user.command("many 1000")
    user.command("flush 60000")
    wait_for(lambda: user.statuses, 90, user.tail)
    assert user.statuses == [("flush", 0, "all")]
    results = {message_id: told[0][0] for message_id, told in user.outcomes.items()}
    published = {json.loads(record.value)["messageID"] for record in stack.kafka.read_all(topic)}
    assert len(results) == 1000 and set(results.values()) <= {"PUBLISHED", "SENT_DIRECTLY"}
    assert published == {message_id for message_id, result in results.items() if result == "PUBLISHED"}
    assert len(stack.mails()) == 1000 - len(published)
    if batch_size:
        assert len(published) == 1000
    else:
        assert any("max.message.bytes" in entry.get("error", "") for entry in user.logs)


def test_kafka_stopped_goes_directly_and_the_copy_is_a_duplicate(own_kafka_stack, own_kafka, start_user):
    """Kafka is frozen when the event is on its way to it: it may have been taken, and is in the end."""
    stack = own_kafka_stack
    user = start_user(stack.env)
    assert user.wait_outcome(user.send())[0] == "PUBLISHED"  # connected
    service = stack.start()
    stack.wait_mails(1)
    own_kafka.freeze()
    message_id = user.send()
    result, error = user.wait_outcome(message_id)
    assert (result, error) == ("SENT_DIRECTLY", "")
    assert "Kafka is out of reach, sending directly" in user.messages()
    assert any(entry.get("perhapsPublished") for entry in user.logs)
    stack.wait_mails(2)
    own_kafka.thaw()
    service.wait_log("Duplicate email event detected, skipping", messageID=message_id, timeout=60)
    assert len(stack.mails()) == 2
    records = [json.loads(r.value)["messageID"] for r in stack.kafka.read_all(stack.topic)]
    assert records.count(message_id) == 1
    # And it publishes again.
    wait_for(lambda: user.wait_outcome(user.send())[0] == "PUBLISHED", 60)


def freeze_with_one_event_published(stack, own_kafka, start_user, **env):
    user = start_user(dict(stack.env, **env))
    assert user.wait_outcome(user.send())[0] == "PUBLISHED"  # connected
    own_kafka.freeze()
    return user


def test_doubtful_direct_attempt_and_kafkas_copy_are_one_mail(own_kafka_stack, own_kafka, start_user):
    """The relay took the direct mail and was gone before its reply: Kafka's copy has to meet that doubt."""
    stack = own_kafka_stack
    user = freeze_with_one_event_published(stack, own_kafka, start_user, SMTP_AMBIGUOUS_POLICY="park")
    stack.smtp.drop("dot", after=True, times=1)
    message_id = user.send()
    result, error = user.wait_outcome(message_id)
    assert result == "UNKNOWN" and "ambiguous: " in error
    assert stack.mark(message_id).startswith("D|")
    own_kafka.thaw()
    stack.start(SMTP_AMBIGUOUS_POLICY="park")
    [letter] = stack.wait_dead_letters(1, timeout=60)
    assert letter.reason == "ambiguous" and json.loads(letter.value)["messageID"] == message_id
    stack.wait_committed()
    stack.wait_mails(2)  # the direct one, and the one that was published first
    holds_for(lambda: len(stack.mails()) == 2, 1.0)


def test_dead_letter_of_kafkas_copy_ends_the_direct_attempt(own_kafka_stack, own_kafka, start_user):
    stack = own_kafka_stack
    user = freeze_with_one_event_published(stack, own_kafka, start_user)
    message_id = new_id()
    stack.redis.client.set("email:sent:" + message_id, json.dumps(
        {"state": "dead", "reason": "ambiguous", "topic": stack.topic, "partition": 0, "offset": 5}))
    result, error = user.wait_outcome(user.send(message_id))
    assert result == "UNKNOWN" and "its dead letter is written already" in error
    assert not stack.mails()
    own_kafka.thaw()


def test_kafka_away_sends_directly_once(stack, start_user):
    """Kafka was never reached; the same messageID published later is a duplicate for the service."""
    user = start_user(stack.env | {"KAFKA_BROKERS": "127.0.0.1:%d" % free_port()})
    message_id = user.send()
    assert user.wait_outcome(message_id)[0] == "SENT_DIRECTLY"
    stack.wait_mails(1)
    assert not any(entry.get("perhapsPublished") for entry in user.logs)
    again = start_user(stack.env)
    assert again.wait_outcome(again.send(message_id))[0] == "PUBLISHED"
    service = stack.start()
    service.wait_log("Duplicate email event detected, skipping", messageID=message_id)
    assert len(stack.mails()) == 1


def test_perhaps_published_without_redis_is_never_sent(own_kafka_stack, own_kafka, start_user):
    stack = own_kafka_stack
    user = start_user(stack.env | {"REDIS_HOST": None, "REDIS_PORT": None})
    assert user.wait_outcome(user.send())[0] == "PUBLISHED"
    own_kafka.freeze()
    result, error = user.wait_outcome(user.send())
    assert result == "UNKNOWN" and "Redis" in error
    holds_for(lambda: not stack.mails(), 1.0)
    own_kafka.thaw()


@pytest.mark.parametrize("fail_open", ["false", "true"])
def test_perhaps_published_with_redis_away_is_never_sent(own_kafka_stack, own_kafka, start_user, fail_open):
    stack = own_kafka_stack
    user = start_user(stack.env | {"IDEMPOTENCY_FAIL_OPEN": fail_open})
    assert user.wait_outcome(user.send())[0] == "PUBLISHED"
    stack.redis.stop()
    own_kafka.freeze()
    result, error = user.wait_outcome(user.send())
    assert result == "UNKNOWN" and "Redis" in error
    assert not stack.mails()
    own_kafka.thaw()


def test_destroyed_while_kafka_is_away(stack, start_user):
    user = start_user(stack.env | {"KAFKA_BROKERS": "127.0.0.1:%d" % free_port()}, publish_timeout_ms=60000,
                      destroy_ms=200)
    message_id = user.send()
    begin = time.monotonic()
    user.finish()
    assert time.monotonic() - begin < 10
    [(result, _, _, _, error)] = user.outcomes[message_id]
    assert result == "FAILED" and "destroyed" in error
    assert not stack.mails()


# ---- ENABLE_KAFKA=false ----

def direct(stack, **env):
    return dict(stack.env, ENABLE_KAFKA="false", KAFKA_BROKERS="127.0.0.1:1", **env)


def test_direct_smtp(stack, start_user):
    user = start_user(direct(stack))
    message_id = user.send()
    assert user.wait_outcome(message_id) == ("SENT_DIRECTLY", "")
    [mail] = stack.wait_mails(1)
    assert mail.recipients == ["User@example.com"]
    mark = stack.wait_mark(message_id)
    assert mark["recipients"] == 1 and mark["attempts"] == 1
    user.send(message_id)
    wait_for(lambda: len(user.outcomes[message_id]) == 2, 10, user.tail)
    assert user.outcomes.pop(message_id)[1][0] == "SENT_BEFORE"
    assert len(stack.mails()) == 1
    assert not [m for m in user.messages() if "Kafka" in m]


def test_direct_log_mode(stack, start_user):
    user = start_user(direct(stack, EMAIL_MODE="log", REDIS_HOST=""))
    message_id = user.send(subject="Hello")
    assert user.wait_outcome(message_id) == ("SENT_DIRECTLY", "")
    [line] = [entry for entry in user.logs if entry["msg"] == "Email"]
    assert line["messageID"] == message_id and line["subject"] == "Hello"
    assert not stack.mails()


def test_direct_rejected_can_be_sent_again(stack, start_user):
    """A dead direct attempt settles nothing but itself: neither Kafka's copy nor another try."""
    stack.smtp.reject("rcpt", "550 5.1.1 no such user", times=1)
    user = start_user(direct(stack))
    message_id = user.send()
    result, error = user.wait_outcome(message_id)
    assert result == "FAILED" and error.startswith("rejected: ")
    assert stack.wait_mark(message_id, "dead")["topic"] is None
    again = start_user(direct(stack))
    assert again.wait_outcome(again.send(message_id)) == ("SENT_DIRECTLY", "")
    assert len(stack.mails()) == 1


def test_dead_direct_attempt_leaves_kafkas_copy_its_own(stack, start_user):
    stack.smtp.reject("rcpt", "550 5.1.1 no such user", times=1)
    user = start_user(direct(stack))
    message_id = user.send()
    assert user.wait_outcome(message_id)[0] == "FAILED"
    stack.wait_mark(message_id, "dead")
    again = start_user(stack.env)
    assert again.wait_outcome(again.send(message_id))[0] == "PUBLISHED"
    stack.start()
    stack.wait_mark(message_id)
    assert len(stack.mails()) == 1


def test_direct_without_a_reply_is_unknown(stack, start_user):
    stack.smtp.drop("dot", after=True)
    user = start_user(direct(stack, SMTP_AMBIGUOUS_POLICY="park"))
    result, error = user.wait_outcome(user.send())
    assert result == "UNKNOWN" and error.startswith("ambiguous: ")


def test_direct_retries_a_temporary_refusal(stack, start_user):
    stack.smtp.reject("mail", "451 4.3.0 later", times=2)
    user = start_user(direct(stack))
    assert user.wait_outcome(user.send()) == ("SENT_DIRECTLY", "")
    assert "Email delivery failed, will retry" in user.messages()


def test_no_content_in_the_log_in_smtp_mode(stack, start_user):
    user = start_user(direct(stack))
    user.wait_outcome(user.send(to="secret-person@example.com", subject="secret-subject", text="secret-code"))
    user.finish()
    assert "secret-" not in json.dumps(user.logs)


# ---- the document's example; test_publishers.py has those in other languages ----

def test_c_example_compiles_and_publishes(installed, stack, folder):
    [example] = [s for s in snippets("c") if "int main" in s]
    (folder / "example.c").write_text(example)
    [pc] = (installed / "prefix").rglob("email-producer.pc")
    run("cc", *_flags(), folder / "example.c", "-o", folder / "example", *_link_words(pc, "email-producer"))
    env = dict(SANITIZERS, LD_LIBRARY_PATH=str(pc.parent.parent), **stack.env)
    done = subprocess.run([str(folder / "example")], env=env, timeout=60, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    assert_no_sanitizer_report(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    [record] = stack.kafka.read_all(stack.topic)
    assert (record.key, record.partition) == (b"ada@example.com", ADA_PARTITION)
