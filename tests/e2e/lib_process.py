"""Child processes that never outlive the test run, free ports that nobody else takes, and waiting for conditions."""

import ctypes
import os
import random
import signal
import socket
import subprocess
import threading
import time

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1

_reservations = {}


def free_port():
    """A loopback port for a server.

    Below the range that the kernel gives to outgoing connections, so that none of those takes it before the server
    does; and reserved by an abstract socket, so that no other test process on this machine picks it. The
    reservation vanishes with the process.
    """
    while True:
        port = random.randrange(12000, 32000)
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind("\0email-service-tests-port-%d" % port)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        _reservations[port] = lock
        return port


def release_port(port):
    lock = _reservations.pop(port, None)
    if lock:
        lock.close()


def wait_for(condition, timeout=15, what="the condition", interval=0.02):
    """Polls until condition() is true-ish and returns that value; fails the test when it never is."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited %s s for %s" % (timeout, what() if callable(what) else what))
        time.sleep(interval)


def holds_for(condition, seconds, what="the condition", interval=0.02):
    """Fails as soon as condition() is false within that time: for what must not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), "%s stopped holding" % what
        time.sleep(interval)


def port_answers(port, host="127.0.0.1"):
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _before_exec():
    # A killed test run takes its servers with it.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child in a process group of its own: signalled as a whole, killed when the test run dies."""

    def __init__(self, argv, env=None, cwd=None, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        self.argv = argv
        self.popen = subprocess.Popen(
            argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            start_new_session=True, preexec_fn=_before_exec)
        self.pid = self.popen.pid

    @property
    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.running:
            os.killpg(self.pid, number)

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
        return self.popen.wait()

    def terminate(self, timeout=20):
        """SIGTERM, and SIGKILL where that is not enough; the exit status."""
        if self.running:
            self.thaw()
            os.killpg(self.pid, signal.SIGTERM)
            try:
                return self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.wait()


class LineReader:
    """Collects a pipe's lines in a thread; `on_line` sees each as it comes."""

    def __init__(self, pipe, on_line=None):
        self.lines = []
        self._pipe = pipe
        self._on_line = on_line
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for raw in self._pipe:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            self.lines.append(line)
            if self._on_line:
                self._on_line(line)
        self._pipe.close()

    def join(self, timeout=5):
        self._thread.join(timeout)

    def text(self):
        return "\n".join(self.lines)
