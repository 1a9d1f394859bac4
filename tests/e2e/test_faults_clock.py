"""Steps of the wall clock, forwards and backwards, of the service's and of Redis': through a preloaded library.

What the service waits for goes by the monotonic clock, claims and marks by Redis' clock, expiresAt by the wall clock.
"""

import json
import mmap
import shutil
import struct
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from lib_process import holds_for
from lib_service import SANITIZERS
from lib_stack import event

DAY, HOUR = 86400, 3600
SOURCE = Path(__file__).with_name("clock_shim.c")


class Clock:
    def __init__(self, folder):
        self.library, self.file = folder / "clock_shim.so", folder / "clock"
        compiler = shutil.which("cc") or shutil.which("gcc")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", self.library, SOURCE], check=True)
        self.file.write_bytes(bytes(8))
        # ASan wants to be the first library of all; this one comes before it, and defines nothing of its.
        self.env = {"LD_PRELOAD": str(self.library), "CLOCK_SHIM_FILE": str(self.file)}

    def step(self, seconds):
        with open(self.file, "r+b") as file, mmap.mmap(file.fileno(), 8) as view:
            view[:] = struct.pack("=q", int(seconds * 1000))


@pytest.fixture
def clock(folder):
    return Clock(folder)


def start(stack, clock, **env):
    return stack.start(**clock.env, **env, ASAN_OPTIONS=SANITIZERS["ASAN_OPTIONS"] + ":verify_asan_link_order=0")


def at(seconds):
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize("step", [DAY, -DAY, 400 * DAY])
def test_step_of_the_services_clock(stack, clock, step):
    """With mails before their dot, after it, and between two attempts: each goes out once, none waits for the step."""
    service = start(stack, clock)
    stack.wait_mark(stack.publish_new())
    stack.smtp.reject("rcpt", "451 later", recipient="later@example.com", times=3)
    stack.smtp.hold("data", times=1)
    before = stack.publish_new()
    stack.smtp.wait_held("data")
    stack.smtp.hold("dot", times=1)
    after = stack.publish_new()
    stack.smtp.wait_held("dot")
    waiting = stack.publish_new(to="later@example.com")
    service.wait_log("Email delivery failed, will retry", messageID=waiting)

    clock.step(step)
    # A lease and more: claims are renewed by the monotonic clock, and live by Redis'.
    holds_for(lambda: stack.mark(before).startswith("C|") and service.status("/live") == 200, 1.2, interval=0.1)
    stack.wait_mark(waiting)
    stack.smtp.accept()
    new = stack.publish_new()
    for message_id in (before, after, waiting, new):
        stack.wait_mark(message_id)
        assert len(stack.mails(message_id)) == 1
    stack.wait_committed()
    assert not stack.dead_letters()
    told = service.wait_log("Email sent successfully", messageID=new)["time"]
    stepped = datetime.fromisoformat(told.replace("Z", "+00:00")) - datetime.now(timezone.utc)
    assert abs(stepped.total_seconds() - step) < 3600, "the log tells the wall clock's time"
    assert 0 <= service.metric("email_delivery_seconds_sum") < 600
    assert service.status("/ready") == 200
    assert service.terminate() == 0


def test_expires_at_goes_by_the_wall_clock(stack, clock):
    """Also while the event waits for its next attempt; an event that has expired by a wrong clock is in the dead letters."""
    stack.smtp.reject("rcpt", "451 later", recipient="later@example.com")
    service = start(stack, clock, EMAIL_MAX_ATTEMPTS=1000)
    message_id = stack.publish_new(to="later@example.com", expiresAt=at(HOUR))
    service.wait_log("Email delivery failed, will retry", count=2, messageID=message_id)
    clock.step(2 * HOUR)
    # Kafka takes no record from an hour ahead: the dead letter goes there under its original's time.
    [letter] = stack.wait_dead_letters(1)
    assert letter.reason == "expired" and json.loads(letter.value)["messageID"] == message_id
    stack.wait_mark(message_id, "dead")
    stack.wait_committed()
    clock.step(-2 * HOUR)
    stack.wait_mark(stack.publish_new(expiresAt=at(-HOUR)))
    assert len(stack.mails()) == 1


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_step_of_redis_clock(stack, clock, monkeypatch, step):
    """Forwards, claims end at once: the fence stops their mails, which go out once all the same. Backwards, they last."""
    stack.redis.stop()
    for name, value in clock.env.items():
        monkeypatch.setenv(name, value)
    stack.redis.start()
    for name in clock.env:
        monkeypatch.delenv(name)
    service = stack.start()
    known = stack.publish_new(createdAt="2026-01-02T03:04:05Z")
    stack.wait_mark(known)
    stack.smtp.hold("data", times=1)
    before = stack.publish_new()
    stack.smtp.wait_held("data")
    stack.smtp.hold("dot", times=1)
    after = stack.publish_new()
    stack.smtp.wait_held("dot")
    assert stack.mark(before).startswith("C|") and stack.mark(after).startswith("D|")

    clock.step(step)
    if step > 0:
        assert stack.mark(before) is None
    stack.smtp.accept()
    for message_id in (before, after):
        stack.wait_mark(message_id, timeout=40)
        assert len(stack.mails(message_id)) == 1
    retried = service.logs("Email delivery failed, will retry", messageID=before)
    assert bool(retried) == (step > 0)
    assert stack.mark(known)["state"] == "sent"
    stack.wait_committed()
    assert not stack.dead_letters()
