"""examples/auth-service, built against an installed producer library, with everything that it needs: the walk-through."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from lib_process import holds_for, wait_for
from lib_service import BUILD_DIR, SANITIZERS, EmailService, assert_no_sanitizer_report
from lib_stack import parse, text_of

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "auth-service"
SENT = {"message": "verification code sent to your email"}


def _cache_variable(name):
    found = re.search(r"^%s:\w+=(.*)$" % name, (BUILD_DIR / "CMakeCache.txt").read_text(), re.M)
    return found.group(1) if found else ""


def _run(*command):
    done = subprocess.run(command, env=dict(os.environ, **SANITIZERS), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, "%s\n%s" % (" ".join(command), done.stdout)


def _build(folder):
    """As the example's README says it, but for the sanitizers: a static library that has them needs them in the program too."""
    sanitizers = _cache_variable("EMAIL_SANITIZE").replace(";", ",")
    flags = "-Werror" + (" -fsanitize=%s -fno-omit-frame-pointer" % sanitizers if sanitizers else "")
    _run("cmake", "--install", str(BUILD_DIR), "--prefix", str(folder / "prefix"))
    _run("cmake", "-S", str(SOURCE), "-B", str(folder / "build"), "-G", "Ninja",
         "-DCMAKE_PREFIX_PATH=%s" % (folder / "prefix"), "-DCMAKE_C_FLAGS=" + flags,
         "-DCMAKE_C_COMPILER=" + _cache_variable("CMAKE_C_COMPILER"))
    _run("cmake", "--build", str(folder / "build"))


@pytest.fixture(scope="session")
def example():
    """The example's build folder; made by the first test process that needs it."""
    folder = Path(os.environ["EMAIL_TEST_RUN_FOLDER"]) / "auth-service"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").exists():
            _build(folder)
            (folder / "built").touch()
    return folder / "build"


class AuthService(EmailService):
    PREFIX = "AUTH_SERVICE"

    def __init__(self, build, *args):
        self._build = build
        super().__init__(*args)

    def executable(self):
        return str(self._build / "auth-service")

    def post(self, path, value, timeout=10):
        body = value if isinstance(value, (bytes, str)) else json.dumps(value)
        return self.http(path, "POST", timeout, body)

    def request_code(self, email):
        return self.post("/auth/request-code", {"email": email})

    def verify_code(self, email, code):
        return self.post("/auth/verify-code", {"email": email, "code": code})

    def wait_listening(self):
        self._wait_status("/health", 200, 20)
        return self


@pytest.fixture
def start_auth(example):
    """start_auth(stack, NAME=value …) starts an auth-service with the stack's settings."""
    started = []

    def start(stack, listening=True, **env):
        merged = dict(stack.env, AUTH_PUBLISH_TIMEOUT_MS="1500", **{n: str(v) for n, v in env.items()})
        for name in [n for n in merged if n.startswith("KAFKA_CONFIG_")]:
            del merged[name]  # a consumer's
        service = AuthService(example, stack.folder / ("auth-%d" % len(started)), merged)
        started.append(service)
        stack.services.append(service)  # stopped and checked with the others
        return service.wait_listening() if listening else service
    return start


def codes_in(mail):
    """The code in the text and the one in the HTML part."""
    message = parse(mail)
    return [re.findall(r"(?<![#\w])\d{6}(?!\w)", text_of(message.get_body([kind])))
            for kind in ("plain", "html")]


def code_in(mail):
    plain, html = codes_in(mail)
    assert len(plain) == 1 and plain == html
    return plain[0]


def queued_id(auth, count=1):
    return auth.wait_log("Verification code queued", count=count)["messageID"]


def test_unit_tests(example):
    _run("ctest", "--test-dir", str(example), "--output-on-failure")


def test_walk_through(stack, start_auth):
    service, auth = stack.start(), start_auth(stack)
    before = datetime.now(timezone.utc)
    answer = auth.request_code("Ada@Example.com")
    assert (answer.status, answer.json()) == (200, SENT)
    assert answer.headers["content-type"] == "application/json"

    message_id = queued_id(auth)
    auth.wait_log("Verification code published", messageID=message_id)
    for msg in "Email event consumed", "Email sent successfully", "Marked email as processed":
        service.wait_log(msg, messageID=message_id)
    [mail] = stack.wait_mails(1)
    assert mail.recipients == ["ada@example.com"]
    assert parse(mail)["Subject"] == "Your verification code"
    code = code_in(mail)
    assert service.http("/health").status == 200
    assert service.stats()["idempotency_records"] == 1

    [record] = stack.kafka.read_all(stack.topic)
    event = json.loads(record.value)
    assert event["messageID"] == message_id and event["type"] == "verification_code"
    assert record.key == b"ada@example.com"
    expires = datetime.fromisoformat(event["expiresAt"].replace("Z", "+00:00"))
    assert timedelta(seconds=595) < expires - before < timedelta(seconds=605)

    wrong = "%06d" % ((int(code) + 1) % 1000000)
    assert auth.verify_code("ada@example.com", wrong).status == 401
    assert auth.verify_code("bob@example.com", code).status == 401
    assert auth.verify_code("ADA@example.com", code).status == 200
    assert auth.verify_code("ada@example.com", code).status == 401, "a code is used once"

    # The same event again: one mail all the same.
    stack.kafka.produce(stack.topic, [(record.key, record.value, None)])
    service.wait_log("Duplicate email event detected, skipping", messageID=message_id, level="warn")
    assert len(stack.mails()) == 1

    log = "\n".join(auth._stdout.lines).lower()
    assert code not in log and "ada@" not in log and "bob@" not in log


def test_every_request_is_a_mail_of_its_own(stack, start_auth):
    stack.start()
    auth = start_auth(stack)
    assert auth.request_code("ada@example.com").status == 200
    assert auth.request_code("ada@example.com").status == 200
    first, second = map(code_in, stack.wait_mails(2))
    ids = {e["messageID"] for e in auth.logs("Verification code queued")}
    assert len(ids) == 2
    if first != second:
        assert auth.verify_code("ada@example.com", first).status == 401, "replaced"
    assert auth.verify_code("ada@example.com", second).status == 200


def test_guessing(stack, start_auth):
    stack.start()
    auth = start_auth(stack)
    auth.request_code("ada@example.com")
    code = code_in(stack.wait_mails(1)[0])
    for _ in range(5):
        assert auth.verify_code("ada@example.com", "x" + code[1:]).status == 401
    assert auth.verify_code("ada@example.com", code).status == 401


def test_too_many_for_one_address(stack, start_auth):
    auth = start_auth(stack)
    for email in "ada@example.com", "ADA@example.com", "ada@EXAMPLE.com":
        assert auth.request_code(email).status == 200
    answer = auth.request_code("ada@example.com")
    assert answer.status == 429 and answer.json()["error"]
    assert 590 <= int(answer.headers["retry-after"]) <= 600
    assert auth.request_code("bob@example.com").status == 200
    auth.wait_log("Verification code published", count=4)
    assert len(stack.kafka.read_all(stack.topic)) == 4


def test_window_and_limits_are_settings(stack, start_auth):
    auth = start_auth(stack, AUTH_CODES_PER_ADDRESS=1, AUTH_CODES_WINDOW_SECONDS=1, AUTH_MAX_ADDRESSES=1)
    assert auth.request_code("ada@example.com").status == 200
    assert auth.request_code("ada@example.com").headers["retry-after"] == "1"
    full = auth.request_code("bob@example.com")
    assert full.status == 503 and int(full.headers["retry-after"]) >= 1
    time.sleep(1.05)
    assert auth.request_code("ada@example.com").status == 200


def test_queue_full(stack, start_auth):
    """Refused requests don't count: they bring no mail."""
    stack.smtp.hold("dot")
    auth = start_auth(stack, ENABLE_KAFKA="false", AUTH_MAX_QUEUED=1, AUTH_CODES_PER_ADDRESS=1)
    assert auth.request_code("ada@example.com").status == 200
    for _ in range(3):
        answer = auth.request_code("bob@example.com")
        assert answer.status == 503 and int(answer.headers["retry-after"]) >= 1
    assert auth.http("/health").json()["queued_emails"] == 1
    stack.smtp.accept()
    wait_for(lambda: auth.http("/health").json()["queued_emails"] == 0, what="an empty queue")
    assert auth.request_code("bob@example.com").status == 200
    stack.wait_mails(2)


@pytest.mark.parametrize("body", [
    "", "x", "null", "[]", "{}", '"ada@example.com"', '{"email":"ada@example.com"', '{"email":null}', '{"email":5}',
    '{"email":["ada@example.com"]}', '{"mail":"ada@example.com"}', '{"email":"a@example.com","email":"b@example.com"}',
    b'{"email":"\xff@example.com"}', '{"email":"ada\\u0000@example.com"}',
])
def test_bad_body(bare_stack, start_auth, body):
    answer = start_auth(bare_stack).post("/auth/request-code", body)
    assert answer.status == 400 and set(answer.json()) == {"error"}


def test_bad_address(bare_stack, start_auth):
    auth = start_auth(bare_stack)
    for email in ("", "ada", "@example.com", "ada@", "ada@@example.com", "a b@example.com", "ada@exa mple.com",
                  "ada@example.com\r\nBcc: eve@example.com", "ada@example.com\n", "Ada <ada@example.com>",
                  "ada@example.com, eve@example.com", "ada@-.com", "a" * 65 + "@example.com", "a@" + "b" * 400):
        answer = auth.request_code(email)
        assert answer.status == 400, email
        assert answer.json()["error"].startswith("email: "), answer.body
    assert not auth.logs("Verification code queued")


def test_other_requests(bare_stack, start_auth):
    auth = start_auth(bare_stack)
    assert auth.http("/").status == 404
    assert auth.http("/auth/request-code/").status == 404
    assert auth.http("/auth/request-code").status == 405
    assert auth.http("/auth/request-code").headers["allow"] == "POST"
    assert auth.http("/health", "POST").status == 405
    assert auth.http("/health", "HEAD").status == 200
    health = auth.http("/health").json()
    assert health == {"status": "healthy", "service": "auth-service", "queued_emails": 0}
    for body in b"x" * 5000, iter([b"x" * 3000] * 3):  # with a length, and in chunks
        assert auth.http("/auth/request-code", "POST", body=body).status == 413
    assert auth.post("/auth/verify-code", {"email": "ada@example.com"}).status == 400
    assert auth.post("/auth/verify-code", {"email": "ada@example.com", "code": 123456}).status == 400
    assert auth.verify_code("ada@example.com", "").status == 401


def test_many_at_once(stack, start_auth):
    stack.start()
    auth = start_auth(stack)
    statuses = []

    def ask(worker):
        for i in range(10):
            statuses.append(auth.request_code("user%d-%d@example.com" % (worker, i)).status)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 80
    mails = stack.wait_mails(80)
    assert len({m.recipients[0] for m in mails}) == 80
    auth.wait_log("Verification code published", count=80)
    assert auth.http("/health").json()["queued_emails"] == 0


def test_kafka_stopped(own_kafka, own_kafka_stack, start_auth):
    """The mail goes out directly, and none comes of Kafka's return."""
    stack = own_kafka_stack
    service, auth = stack.start(), start_auth(stack)
    assert auth.request_code("ada@example.com").status == 200
    stack.wait_mails(1)
    own_kafka.stop()
    begin = time.monotonic()
    assert auth.request_code("ada@example.com").status == 200
    assert time.monotonic() - begin < 1, "the answer does not wait for Kafka"
    message_id = queued_id(auth, 2)
    auth.wait_log("Verification code sent directly", messageID=message_id)
    mails = stack.wait_mails(2)
    assert auth.verify_code("ada@example.com", code_in(mails[1])).status == 200
    own_kafka.start()
    service.wait_ready(60)
    assert auth.request_code("ada@example.com").status == 200
    auth.wait_log("Verification code published", messageID=queued_id(auth, 3), timeout=40)
    stack.wait_committed()
    assert len(stack.mails()) == 3


def test_kafka_frozen(own_kafka, own_kafka_stack, start_auth):
    """Kafka may have the event and does not say so: it is sent directly, and Kafka's late copy is no second mail."""
    stack = own_kafka_stack
    service, auth = stack.start(), start_auth(stack)
    auth.request_code("ada@example.com")
    stack.wait_mails(1)
    own_kafka.freeze()
    assert auth.request_code("ada@example.com").status == 200
    message_id = queued_id(auth, 2)
    auth.wait_log("Verification code sent directly", messageID=message_id, timeout=40)
    stack.wait_mails(2)
    own_kafka.thaw()
    service.wait_ready(60)
    if message_id in {json.loads(r.value)["messageID"] for r in stack.kafka.read_all(stack.topic)}:
        service.wait_log("Duplicate email event detected, skipping", messageID=message_id, timeout=40)
    stack.wait_committed()
    holds_for(lambda: len(stack.mails()) == 2, 1, "two mails for two requests")


def test_kafka_switched_off(stack, start_auth):
    auth = start_auth(stack, ENABLE_KAFKA="false")
    auth.request_code("ada@example.com")
    message_id = queued_id(auth)
    auth.wait_log("Verification code sent directly", messageID=message_id)
    [mail] = stack.wait_mails(1)
    assert auth.verify_code("ada@example.com", code_in(mail)).status == 200
    assert stack.mark(message_id)["state"] == "sent"
    assert not stack.kafka.read_all(stack.topic)


def test_sigterm_publishes_what_is_queued(stack, start_auth):
    auth = start_auth(stack)
    for i in range(30):
        assert auth.request_code("user%d@example.com" % i).status == 200
    assert auth.terminate() == 0
    assert len(stack.kafka.read_all(stack.topic)) == 30
    assert len(auth.logs("Verification code published")) == 30


def test_sigterm_waits_for_the_relay(stack, start_auth):
    stack.smtp.delay("dot", 1)
    auth = start_auth(stack, ENABLE_KAFKA="false")
    auth.request_code("ada@example.com")
    assert auth.terminate() == 0
    assert len(stack.mails()) == 1
    assert auth.logs("Verification code sent directly")


def test_sigterm_waits_no_longer_than_it_may(stack, start_auth):
    stack.smtp.hold("dot")
    auth = start_auth(stack, ENABLE_KAFKA="false", AUTH_SHUTDOWN_TIMEOUT_SECONDS=1)
    auth.request_code("ada@example.com")
    stack.smtp.wait_held("dot")
    begin = time.monotonic()
    assert auth.terminate() == 0
    assert time.monotonic() - begin < 8
    assert auth.logs("Verification code may not have been sent", level="warn")
    stack.smtp.accept()


def test_second_signal_ends_it_at_once(stack, start_auth):
    stack.smtp.hold("dot")
    auth = start_auth(stack, ENABLE_KAFKA="false")
    auth.request_code("ada@example.com")
    stack.smtp.wait_held("dot")
    os.kill(auth.process.pid, signal.SIGTERM)
    auth.wait_log("auth-service is stopping")
    begin = time.monotonic()
    os.kill(auth.process.pid, signal.SIGTERM)
    assert auth.wait() == -signal.SIGTERM
    assert time.monotonic() - begin < 5
    stack.smtp.accept()


def test_log_mode(bare_stack, start_auth):
    """Nothing else is needed: the mail is on the log."""
    auth = start_auth(bare_stack, ENABLE_KAFKA="false", EMAIL_MODE="log", IDEMPOTENCY_FAIL_OPEN="true", REDIS_PORT="1")
    auth.request_code("ada@example.com")
    auth.wait_log("Verification code sent directly", messageID=queued_id(auth))
    [code] = set(re.findall(r"code is (\d{6})", "\n".join(auth._stdout.lines)))
    assert auth.verify_code("ada@example.com", code).status == 200


def test_sigterm_with_a_connection_open(bare_stack, start_auth):
    auth = start_auth(bare_stack)
    with socket.create_connection(("127.0.0.1", auth.port)) as client:
        client.sendall(b"POST /auth/request-code HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n{")
        begin = time.monotonic()
        assert auth.terminate(number=signal.SIGINT) == 0
        assert time.monotonic() - begin < 8


def test_port_taken(bare_stack, start_auth):
    first = start_auth(bare_stack)
    second = start_auth(bare_stack, listening=False, AUTH_SERVICE_PORT=first.port)
    assert second.wait() == 1
    assert "port %d" % first.port in second.stderr


@pytest.mark.parametrize("variable, value", [
    ("AUTH_SERVICE_PORT", "65536"), ("AUTH_CODES_PER_ADDRESS", "0"), ("AUTH_CODES_WINDOW_SECONDS", "ten"),
    ("KAFKA_BROKERS", "localhost:x"), ("EMAIL_MODE", "pigeon"),
])
def test_bad_setting(bare_stack, start_auth, variable, value):
    auth = start_auth(bare_stack, listening=False, **{variable: value})
    assert auth.wait() == 2
    assert variable in auth.stderr


def test_flags(example):
    def run(*args):
        done = subprocess.run([str(example / "auth-service"), *args], env=SANITIZERS, capture_output=True, text=True)
        assert_no_sanitizer_report(done.stderr)
        return done
    assert run("--help").returncode == 0 and "AUTH_SERVICE_PORT" in run("--help").stdout
    assert run("--version").stdout.startswith("auth-service")
    assert run("--nonsense").returncode == 2
