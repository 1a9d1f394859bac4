"""The walk-through of docs/KAFKA_EMAIL_SETUP.md with the images, against servers on this machine.

    EMAIL_DOCKER=/usr/bin/docker walkthrough.py EMAIL_SERVICE_IMAGE AUTH_SERVICE_IMAGE

scripts/test-container.sh builds the images and starts the dockerd. Ends with a traceback where anything is not as the
guide says.
"""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

from lib_kafka import KafkaClient, KafkaServer  # noqa: E402
from lib_process import free_port, wait_for  # noqa: E402
from lib_redis import RedisServer  # noqa: E402
from lib_stack import event, parse, text_of  # noqa: E402
from smtp_server import SmtpServer  # noqa: E402

DOCKER = os.environ.get("EMAIL_DOCKER", "docker")
# As in docker-compose.yml; the user is the image's own.
HARDENED = ["--network=host", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true"]
STEPS = ("Email event consumed", "Email sent successfully", "Marked email as processed")
DUPLICATE = "Duplicate email event detected, skipping"


def docker(*args, good=True, timeout=60):
    done = subprocess.run([DOCKER, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=timeout)
    assert not good or done.returncode == 0, "docker %s: %s%s" % (" ".join(args), done.stdout, done.stderr)
    return done


def options(env):
    return [part for name, value in env.items() for part in ("--env", "%s=%s" % (name, value))]


class Container:
    def __init__(self, image, port, env):
        self.port = port
        self.id = docker("run", "--detach", *HARDENED, *options(env), image).stdout.strip()

    def state(self):
        return json.loads(docker("inspect", "--format", "{{json .State}}", self.id).stdout)

    def text(self):
        done = docker("logs", self.id)
        return done.stdout + done.stderr

    def lines(self, msg, message_id):
        found = []
        for line in docker("logs", self.id).stdout.splitlines():
            logged = json.loads(line)
            if logged["msg"] == msg and logged.get("messageID") == message_id:
                found.append(logged)
        return found

    def wait_line(self, msg, message_id, count=1):
        wait_for(lambda: len(self.lines(msg, message_id)) >= count, 30,
                 lambda: "%d × %r:\n%s" % (count, msg, self.text()), interval=0.2)
        return self.lines(msg, message_id)[-1]

    def http(self, path, method="GET", body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def wait_status(self, path, status):
        def answers():
            assert self.state()["Running"], "the container ended:\n" + self.text()
            try:
                return self.http(path)[0] == status
            except OSError:
                return False
        wait_for(answers, 30, lambda: "%d of %s:\n%s" % (status, path, self.text()), interval=0.1)

    def wait_healthy(self):
        wait_for(lambda: self.state()["Health"]["Status"] == "healthy", 40,
                 lambda: "healthy: %s" % self.state()["Health"], interval=0.5)

    def run(self, *command):
        return docker("exec", self.id, *command, good=False)

    def stop(self):
        """SIGTERM as the image says; the exit status."""
        docker("stop", "--time", "40", self.id)
        return self.state()["ExitCode"]


def check_image(image):
    config = json.loads(docker("image", "inspect", image).stdout)[0]["Config"]
    uid = config["User"].split(":")[0]
    assert uid.isdigit() and int(uid) > 0, "a numeric user that is not root, not %r" % config["User"]
    assert config["Entrypoint"][0].startswith("/usr/local/bin/"), config["Entrypoint"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["Labels"]["org.opencontainers.image.version"]
    assert [name.split("=")[0] for name in config["Env"]] == ["PATH"], config["Env"]


def check_rights(container):
    assert container.run("id", "-u").stdout.strip() == "10001"
    assert container.run("bash", "-c", "> x").returncode != 0, "the root file system can be written"
    status = container.run("cat", "/proc/1/status").stdout
    assert re.search(r"^CapEff:\s*0+$", status, re.MULTILINE) and re.search(r"^NoNewPrivs:\s*1$", status, re.MULTILINE)


def create_topics(image, env):
    command = ("run", "--rm", *HARDENED, *options(env), "--entrypoint", "/usr/local/bin/create-topics", image)
    first, second = docker(*command).stdout, docker(*command).stdout
    for topic in (env["KAFKA_TOPIC_EMAIL_EVENTS"], env["KAFKA_TOPIC_EMAIL_DLQ"]):
        assert "✓ Topic '%s' created successfully" % topic in first, first
        assert "✓ Topic '%s' already exists" % topic in second, second


def publish_twice(service, kafka, topic, relay):
    one = event()
    message_id = one["messageID"]
    kafka.produce(topic, [json.dumps(one).encode()])
    for msg in STEPS:
        assert service.wait_line(msg, message_id)["level"] == "info"
    assert [m for m in relay.mails if message_id.encode() in m.data][0].recipients == ["user@example.com"]
    kafka.produce(topic, [json.dumps(one).encode()])
    assert service.wait_line(DUPLICATE, message_id)["level"] == "warn"
    assert len([m for m in relay.mails if message_id.encode() in m.data]) == 1


def check_pages(service, records):
    status, health = service.http("/health")
    assert (status, health["status"], health["kafka"], health["redis"]) == (200, "healthy", "connected", "connected")
    wait_for(lambda: service.http("/health")[1]["idempotency_records"] == records, 10,
             lambda: "%d records: %s" % (records, service.http("/health")))
    status, stats = service.http("/stats")
    assert status == 200 and stats["ttl_hours"] == 24 and stats["events"]["duplicates"] == 1, stats


def request_code(auth, service, kafka, topic, relay):
    address = "ada-%s@example.com" % uuid.uuid4().hex[:8]
    answer = auth.http("/auth/request-code", "POST", json.dumps({"email": address}))
    assert answer == (200, {"message": "verification code sent to your email"}), answer
    relay.wait(lambda: any(m.recipients == [address] for m in relay.mails), 20)
    [mail] = [m for m in relay.mails if m.recipients == [address]]
    assert re.search(r"\b\d{6}\b", text_of(parse(mail).get_body(("plain",)))), mail.data
    [record] = [r for r in kafka.read_all(topic) if address.encode() in r.value]
    for msg in STEPS:
        service.wait_line(msg, json.loads(record.value)["messageID"])
    assert auth.http("/auth/request-code", "POST", '{"email":"nobody"}')[0] == 400


def emailctl_twice(service, relay):
    """The guide's own commands: a mail, and its duplicate."""
    for _ in range(2):
        done = service.run("emailctl", "publish", "--message-id", "demo-1", "--to", "ada@example.com",
                           "--subject", "Hello", "--text", "Once only.")
        assert done.returncode == 0, done
    service.wait_line(DUPLICATE, "demo-1")
    assert len([m for m in relay.mails if b"Once only." in m.data]) == 1
    done = service.run("emailctl", "check")
    assert done.returncode == 0, done


def redis_away(service, redis):
    assert service.run("/usr/local/bin/email-service", "--health-check").returncode == 0
    redis.persist()
    redis.kill()
    service.wait_status("/health", 503)
    done = service.run("/usr/local/bin/email-service", "--health-check")
    assert done.returncode == 1 and '"redis":"disconnected"' in done.stdout, done
    redis.start()
    service.wait_status("/health", 200)


def step(name, action, *args):
    begin = time.monotonic()
    result = action(*args)
    print("   %-58s %5.1f s" % (name, time.monotonic() - begin), flush=True)
    return result


def walk(folder, kafka_server, redis, relay, image, auth_image):
    kafka = KafkaClient(kafka_server.bootstrap)
    env = {
        "KAFKA_BROKERS": kafka.bootstrap, "KAFKA_TOPIC_EMAIL_EVENTS": "email-events",
        "KAFKA_TOPIC_EMAIL_DLQ": "email-events-dlq", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": redis.port,
        "EMAIL_MODE": "smtp", "SMTP_HOST": "127.0.0.1", "SMTP_PORT": relay.port, "SMTP_TLS": "none",
        "SMTP_FROM": "no-reply@example.com", "EMAIL_SERVICE_PORT": free_port(), "AUTH_SERVICE_PORT": free_port(),
    }
    topic = env["KAFKA_TOPIC_EMAIL_EVENTS"]
    step("images: user, entry point, health check, labels", lambda: [check_image(i) for i in (image, auth_image)])
    step("create-topics twice", create_topics, image, env)
    service = Container(image, env["EMAIL_SERVICE_PORT"], env)
    auth = Container(auth_image, env["AUTH_SERVICE_PORT"], env)
    step("email-service is ready", service.wait_status, "/ready", 200)
    step("no root, no capabilities, nothing to write to", check_rights, service)
    step("one event twice: one mail, one warning", publish_twice, service, kafka, topic, relay)
    step("/health and /stats", check_pages, service, 1)
    step("auth-service is up", auth.wait_status, "/health", 200)
    step("auth-service: a code by mail", request_code, auth, service, kafka, topic, relay)
    step("/health and /stats", check_pages, service, 2)
    step("emailctl: publish twice, check", emailctl_twice, service, relay)
    step("HEALTHCHECK of email-service", service.wait_healthy)
    step("HEALTHCHECK of auth-service", auth.wait_healthy)
    step("Redis away and back", redis_away, service, redis)
    for name, container in (("auth-service", auth), ("email-service", service)):
        assert step("SIGTERM to " + name, container.stop) == 0, container.text()


def main():
    image, auth_image = sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="walkthrough-"))
    kafka = redis = relay = None
    try:
        kafka = KafkaServer(folder / "kafka")
        step("Kafka, Redis and a relay on this machine", kafka.start)
        redis, relay = RedisServer(folder / "redis").start(), SmtpServer().start()
        walk(folder, kafka, redis, relay, image, auth_image)
    finally:
        for server in (kafka, redis):
            if server:
                server.destroy()
        if relay:
            relay.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
