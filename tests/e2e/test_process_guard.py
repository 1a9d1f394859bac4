"""What others on the machine see of the process: nothing of its memory, no core dump, no secret of its start."""

import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from lib_process import wait_for
from lib_service import EmailService, program, run

NOBODY = 65534
OWN_FILES = ("environ", "mem", "maps", "fd")  # of /proc/PID, for the process' user and no other


class AsNobody(EmailService):
    """The daemon as a user without rights, from a copy of the program that this user may run."""

    def __init__(self, folder, env):
        folder.mkdir()
        copy = folder / "email-service"
        shutil.copy(program("email-service"), copy)
        copy.chmod(0o755)
        super().__init__(folder, env, "--reuid=%d" % NOBODY, "--regid=%d" % NOBODY, "--clear-groups", "--", str(copy))

    def executable(self):
        return "/usr/bin/setpriv"


def readable(pid, name):
    """Can another process of the same user read it?"""
    script = "import os,sys; os.listdir(sys.argv[1]) if os.path.isdir(sys.argv[1]) else open(sys.argv[1], 'rb').close()"
    done = subprocess.run(["setpriv", "--reuid=%d" % NOBODY, "--regid=%d" % NOBODY, "--clear-groups", "--",
                           "/usr/bin/python3", "-c", script, "/proc/%d/%s" % (pid, name)],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", timeout=30)
    assert done.returncode == 0 or "PermissionError" in done.stderr, done.stderr
    return done.returncode == 0


def core_limit(pid):
    limits = Path("/proc/%d/limits" % pid).read_text()
    return re.search(r"^Max core file size\s+(\S+)", limits, re.MULTILINE).group(1)


@pytest.fixture
def as_nobody(stack):
    if os.geteuid() != 0:
        pytest.skip("running a program as another user needs root")

    def start(**env):
        service = AsNobody(stack.folder / "nobody", dict(stack.env, **env))
        stack.services.append(service)
        return service.wait_ready()
    return start


def test_nobody_looks_into_it(stack, as_nobody):
    service = as_nobody()
    assert core_limit(service.process.pid) == "0"
    assert [name for name in OWN_FILES if readable(service.process.pid, name)] == []
    # It can still look at itself.
    assert service.metric("process_open_fds") > 5 and service.metric("process_resident_memory_bytes") > 0
    stack.wait_mark(stack.publish_new())


def test_it_can_be_allowed(as_nobody):
    """For debugging; and the proof that the other test can fail."""
    service = as_nobody(EMAIL_CORE_DUMPS="true")
    assert [name for name in OWN_FILES if readable(service.process.pid, name)] == list(OWN_FILES)


def test_no_core_dump(stack):
    """Also where kernel.core_pattern is a pipe, for which the limit does not count."""
    service = stack.start()
    os.kill(service.process.pid, signal.SIGSEGV)
    status = service.process.popen.wait(30)
    assert status != 0
    assert not [path for path in service.folder.iterdir() if "core" in path.name]
    service._checked = True  # it did not end in order


# ---- the service manager's protocol, without systemd ----


class ManagerSocket:
    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(20)

    def wait(self, wanted):
        """The status line that comes with a state."""
        while True:
            lines = self.socket.recv(4096).decode().split("\n")
            if lines[0] == wanted:
                return dict(line.split("=", 1) for line in lines)["STATUS"]


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_it_tells_its_manager(stack, folder, kind):
    address = str(folder / "notify") if kind == "path" else "\0email-test-%d" % os.getpid()
    manager = ManagerSocket(address)
    service = stack.start(ready=False, NOTIFY_SOCKET=address.replace("\0", "@"), WATCHDOG_USEC=400000)
    manager.wait("READY=1")
    service.wait_ready()
    wait_for(lambda: manager.wait("WATCHDOG=1") == "ready", 20, "the status")
    stack.redis.kill()
    wait_for(lambda: manager.wait("WATCHDOG=1").startswith("not ready"), 20, "the status")
    os.kill(service.process.pid, signal.SIGTERM)
    manager.wait("STOPPING=1")
    assert service.wait() == 0


def test_a_manager_that_is_gone_does_no_harm(stack, folder):
    service = stack.start(NOTIFY_SOCKET=str(folder / "nobody-there"), WATCHDOG_USEC=200000, WATCHDOG_PID=1)
    stack.wait_mark(stack.publish_new())
    assert service.terminate() == 0


@pytest.mark.parametrize("name", ["relative", "@", "/" + "x" * 200])
def test_a_manager_that_cannot_be(stack, name):
    done = run("email-service", env=dict(stack.env, NOTIFY_SOCKET=name, EMAIL_SERVICE_LISTEN="127.0.0.1"))
    assert done.returncode == 1 and "NOTIFY_SOCKET" in done.stdout
