"""tests/tools/send, which drives the smtp transport by hand, and its fixtures."""

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
from pathlib import Path

import pytest

from smtp_server import SmtpServer, make_certificates

SEND = Path(os.environ.get("EMAIL_BUILD_DIR", "build/asan")) / "bin" / "send"


class Sender:
    """tests/tools/send, by its commands and events."""

    def __init__(self, *args, **popen):
        self.process = subprocess.Popen([str(SEND), *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, bufsize=1, **popen)
        self.events, self.backlog, self.lines = queue.Queue(), [], []
        self.readers = [threading.Thread(target=self._read, daemon=True)]
        self.stderr = []
        self.readers.append(threading.Thread(target=lambda: self.stderr.extend(self.process.stderr), daemon=True))
        for reader in self.readers:
            reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            self.events.put(json.loads(line))

    def command(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def mail(self, number, to="to@example.com", **how):
        words = [name if value is True else "%s=%s" % (name, value) for name, value in how.items()]
        self.command(" ".join(["mail", "id=%d" % number, "to=" + to] + words))
        return number

    def event(self, kind, timeout=15, **fields):
        """Waits for an event of that kind with these fields; others are kept for later."""
        end = time.monotonic() + timeout

        def fits(e):
            return e.get("event") == kind and all(e.get(n) == v for n, v in fields.items())
        while True:
            for e in self.backlog:
                if fits(e):
                    self.backlog.remove(e)
                    return e
            try:
                self.backlog.append(self.events.get(timeout=max(0.001, end - time.monotonic())))
            except queue.Empty:
                raise AssertionError("no %s %s came; there are %s\n%s" % (kind, fields, self.backlog, self.stderr))

    def outcome(self, number, timeout=15):
        return self.event("finished", timeout, id=number)

    def deliver(self, number, to="to@example.com", **how):
        return self.outcome(self.mail(number, to, **how))

    def state(self):
        self.command("state")
        return self.event("state")

    def wait_state(self, timeout=10, **fields):
        end = time.monotonic() + timeout
        while True:
            state = self.state()
            if all(state[n] == v for n, v in fields.items()):
                return state
            assert time.monotonic() < end, "%s wanted, it is %s" % (fields, state)
            time.sleep(0.01)

    def close(self):
        """Ends it; the sanitizers must have nothing to say."""
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("send does not end")
        for reader in self.readers:
            reader.join(5)
        assert code == 0, "".join(self.stderr)
        assert not self.stderr, "".join(self.stderr)


@pytest.fixture
def sender(request):
    """Starts a sender for a relay; flags by name. Each is ended and checked after the test."""
    made = []

    def start(server=None, popen=None, **flags):
        settings = {"port": server.port} if server else {}
        settings.update(connections=1, **{"timeout": 2000, "connect-timeout": 2000})
        settings.update({name.replace("_", "-"): value for name, value in flags.items()})
        args = [word for name, value in settings.items() for word in ("--" + name, value)]
        made.append(Sender(*args, **(popen or {})))
        return made[-1]
    yield start
    for one in made:
        one.close()


@pytest.fixture
def relay():
    with SmtpServer() as server:
        yield server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def expect(outcome, cls, reason=None, stage=None, code=None):
    assert outcome["class"] == cls, outcome
    for name, value in (("reason", reason), ("stage", stage), ("code", code)):
        if value is not None:
            assert outcome[name] == value, outcome
    if cls == "sent":
        assert outcome["error"] == ""
    else:
        assert outcome["error"], outcome
    assert "@" not in outcome["error"]
