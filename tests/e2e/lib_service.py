"""The programs under test: the daemon with its log read as it comes, and one-shot runs."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from lib_process import LineReader, Process, free_port, release_port, wait_for

BUILD_DIR = Path(os.environ.get("EMAIL_BUILD_DIR")
                 or Path(__file__).resolve().parents[2] / "build" / "asan")

SANITIZERS = {
    # A report ends the program with a status that nothing else uses.
    "ASAN_OPTIONS": "detect_leaks=1:exitcode=99:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
    "TSAN_OPTIONS": "exitcode=99:halt_on_error=1:ignore_noninstrumented_modules=1",
}
SANITIZER_REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:",
                     "WARNING: ThreadSanitizer")


def program(name):
    path = BUILD_DIR / "bin" / name
    assert path.exists(), "%s is missing: build it, or say where it is with EMAIL_BUILD_DIR" % path
    return str(path)


def assert_no_sanitizer_report(stderr):
    for sign in SANITIZER_REPORTS:
        assert sign not in stderr, stderr


def run(name, *args, env=None, cwd=None, timeout=60):
    """Runs a program to its end in an environment that holds only `env`."""
    done = subprocess.run([program(name), *args], env=dict(SANITIZERS, **(env or {})), cwd=cwd,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=timeout)
    assert_no_sanitizer_report(done.stderr)
    return done


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


class EmailService:
    """One daemon. Its environment is exactly `env` plus an HTTP port; its log lines are parsed as they come."""

    PREFIX = "EMAIL_SERVICE"  # of its HTTP variables

    def executable(self):
        return program("email-service")

    def __init__(self, folder, env, *args, stdout=None):
        """stdout: a file descriptor for the log, which nobody parses then."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = int(env.get(self.PREFIX + "_PORT") or free_port())
        self.env = dict({self.PREFIX + "_LISTEN": "127.0.0.1"}, **env)
        self.env[self.PREFIX + "_PORT"] = str(self.port)
        self.events = []      # parsed log lines
        self.unparsable = []  # what stdout held beside them
        self._changed = threading.Condition()
        self._killed = False
        self._checked = False
        self.process = Process([self.executable(), *args], env=dict(SANITIZERS, **self.env),
                               cwd=self.folder, stdout=subprocess.PIPE if stdout is None else stdout,
                               stderr=subprocess.PIPE)
        self._stdout = LineReader(self.process.popen.stdout or open(os.devnull, "rb"), self._on_line)
        self._stderr = LineReader(self.process.popen.stderr)

    # ---- log ----

    def _on_line(self, line):
        with self._changed:
            try:
                event = json.loads(line)
                assert isinstance(event, dict)
                self.events.append(event)
            except (ValueError, AssertionError):
                self.unparsable.append(line)
            self._changed.notify_all()

    @property
    def stderr(self):
        return self._stderr.text()

    def logs(self, msg=None, **fields):
        """The log lines with this msg and these fields, so far."""
        return [e for e in list(self.events)
                if (msg is None or e.get("msg") == msg) and all(e.get(k) == v for k, v in fields.items())]

    def wait_log(self, msg, count=1, timeout=20, **fields):
        """Waits until that many such lines are there; the last of them."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = self.logs(msg, **fields)
                if len(found) >= count:
                    return found[-1]
                left = deadline - time.monotonic()
                if left <= 0 or not self.process.running and not self._stdout_open():
                    raise AssertionError(
                        "waited for %d × %r %r, seen %d; the service %s.\n%s" % (
                            count, msg, fields, len(found),
                            "runs" if self.process.running else "has ended", self.tail()))
                self._changed.wait(min(left, 0.2))

    def _stdout_open(self):
        return self._stdout._thread.is_alive()

    def tail(self, lines=60):
        return "\n".join(self._stdout.lines[-lines:] + ["--- stderr"] + self._stderr.lines[-lines:])

    # ---- HTTP ----

    def http(self, path, method="GET", timeout=10, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()},
                          answer.read().decode())
        finally:
            connection.close()

    def status(self, path):
        """The status of an answer, 0 where there is none."""
        try:
            return self.http(path).status
        except OSError:
            return 0

    def wait_ready(self, timeout=30):
        self._wait_status("/ready", 200, timeout)
        return self

    def wait_not_ready(self, timeout=20):
        self._wait_status("/ready", 503, timeout)

    def _wait_status(self, path, status, timeout):
        def answered():
            assert self.process.running, "the service ended:\n" + self.tail()
            return self.status(path) == status
        wait_for(answered, timeout, lambda: "%s of %s:\n%s" % (status, path, self.tail()))

    def stats(self):
        return self.http("/stats").json()

    def metric(self, name, **labels):
        """The sum of a metric's samples with these labels."""
        total = 0.0
        for line in self.http("/metrics").body.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            series, value = line.rsplit(" ", 1)
            if series.split("{")[0] == name and all('%s="%s"' % i in series for i in labels.items()):
                total += float(value)
        return total

    # ---- life and death ----

    def terminate(self, timeout=30, number=signal.SIGTERM):
        """An orderly stop; the exit status."""
        self.process.thaw()
        if self.process.running:
            os.kill(self.process.pid, number)
        return self.wait(timeout)

    def wait(self, timeout=30):
        try:
            status = self.process.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            tail = self.tail()
            self.kill()
            raise AssertionError("the service does not end within %s s\n%s" % (timeout, tail))
        self._stdout.join()
        self._stderr.join()
        return status

    def kill(self):
        """kill -9"""
        self._killed = True
        self.process.kill()
        self._stdout.join()
        self._stderr.join()

    def freeze(self):
        self.process.freeze()

    def thaw(self):
        self.process.thaw()

    def finish(self):
        """The end of a test: stops what still runs, and checks what must hold for every run of the daemon."""
        if self._checked:
            return
        self._checked = True
        running = self.process.running
        status = self.terminate() if running else self.process.popen.wait()
        release_port(self.port)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert_no_sanitizer_report(self.stderr)
        assert not self.unparsable, "not JSON on stdout: %r" % self.unparsable[:5]
        for event in self.events:
            assert {"level", "msg", "time"} <= event.keys(), event
        if running:
            assert status == 0, "exit status %s after SIGTERM\n%s" % (status, self.tail())
