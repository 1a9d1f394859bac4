"""deploy/systemd: the unit's rating, and a systemd that runs the service under it, with all of its restrictions."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from lib_process import free_port, release_port, wait_for
from lib_service import SANITIZERS, EmailService, program
from lib_stack import event
from lib_systemd import Machine, obstacle

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy/systemd/email-service.service"
CREDENTIALS = ROOT / "deploy/systemd/credentials.conf"
PASSWORD = "relay-Secret-4711"
MAX_EXPOSURE = 1.5


def analyze(*args):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(["systemd-analyze", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60)


def test_rating():
    done = analyze("security", "--offline=true", str(UNIT))
    found = re.search(r"Overall exposure level for email-service\.service: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found.group(1)) <= MAX_EXPOSURE, done.stdout


def test_no_unknown_setting(folder):
    """systemd ignores what it doesn't know: a misspelt restriction would be none."""
    unit = folder / "email-service.service"
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/email-service", program("email-service")))
    done = analyze("verify", "--recursive-errors=no", str(unit))
    assert not re.search(r"email-service\.service.*(Unknown|Failed to parse|ignoring)", done.stderr), done.stderr
    drop_in = folder / "credentials.service"
    drop_in.write_text(CREDENTIALS.read_text() + "ExecStart=/bin/true\n")
    done = analyze("verify", "--recursive-errors=no", str(drop_in))
    assert not re.search(r"credentials\.service.*(Unknown|Failed to parse|ignoring)", done.stderr), done.stderr


class UnderSystemd(EmailService):
    """The HTTP side of a service that systemd runs; its log is a file."""

    def __init__(self, port, log):  # not a child of ours
        self.port, self.log = port, log

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def is_ready(self):
        return self.status("/ready") == 200


@pytest.fixture
def machine(folder):
    why = obstacle(folder)
    if why:
        pytest.skip(why)
    made = Machine(folder / "machine")
    yield made
    made.destroy()


def install(machine, stack, port):
    """The files as docs/systemd.md installs them, and a drop-in with what only the test needs."""
    settings = dict(stack.env, SMTP_USER="mailer", EMAIL_SERVICE_PORT=str(port), EMAIL_SERVICE_LISTEN="127.0.0.1")
    machine.copy(program("email-service"), "/usr/local/bin/email-service")
    machine.copy(UNIT, "/etc/systemd/system/email-service.service")
    machine.write("/etc/email-service/email-service.env",
                  "".join("%s=%s\n" % item for item in settings.items()), 0o600)
    machine.write("/etc/email-service/smtp-password", PASSWORD + "\n", 0o600)
    machine.write("/etc/systemd/system/email-service.service.d/credentials.conf",
                  "".join(line for line in CREDENTIALS.read_text().splitlines(True)
                          if "redis" not in line.lower()))
    machine.write("/etc/systemd/system/email-service.service.d/test.conf", """
        [Unit]
        DefaultDependencies=no
        [Service]
        StandardOutput=append:/run/test/log
        StandardError=append:/run/test/log
        # The leak checker needs ptrace.
        Environment="ASAN_OPTIONS=%s" "UBSAN_OPTIONS=%s"
        WatchdogSec=4
        TimeoutAbortSec=1
        RestartSec=100ms
        """ % (SANITIZERS["ASAN_OPTIONS"].replace("detect_leaks=1", "detect_leaks=0"), SANITIZERS["UBSAN_OPTIONS"]))
    for unit in ("network-online.target", "systemd-journald.socket"):
        (machine.files / "etc/systemd/system" / unit).symlink_to("/dev/null")


def proc(number, name):
    return Path("/proc/%d/%s" % (number, name)).read_text()


def check_restrictions(number):
    status = dict(line.split(":\t", 1) for line in proc(number, "status").splitlines() if ":\t" in line)
    assert "0" not in status["Uid"].split()
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert re.search(r"^Max core file size\s+0\s", proc(number, "limits"), re.MULTILINE)
    [root] = [line for line in proc(number, "mountinfo").splitlines() if line.split()[4] == "/"]
    assert "ro" in root.split()[5].split(",")
    assert PASSWORD not in proc(number, "environ") + proc(number, "cmdline")


def test_runs_under_its_unit(machine, stack, smtp):
    smtp.auth = ("mailer", PASSWORD)
    port = free_port()
    install(machine, stack, port)
    machine.boot("email-service.service")
    service = UnderSystemd(port, machine.shared / "log")

    def show(*names):
        return machine.show("email-service.service", *names)

    def explain():
        state = show("ActiveState", "Result", "ExecMainStatus", "StatusText")
        return "%s\n%s\n%s" % (state, machine.console(), service.text()[-3000:])

    def start_of(number_before=None):
        """The daemon's process number, once it is ready for work."""
        number = int(show("MainPID")["MainPID"])
        return number if number and number != number_before and service.is_ready() else None

    first = wait_for(start_of, 20, explain)
    wait_for(lambda: show("StatusText")["StatusText"] == "ready", 20, explain)
    assert show("ActiveState", "Type") == {"ActiveState": "active", "Type": "notify"}
    check_restrictions(machine.host_pid(first))
    message_id = stack.publish_new()
    [mail] = stack.wait_mails(1)
    assert mail.user == "mailer"
    stack.wait_mark(message_id)

    # A loop that hangs is missed, and what was published meanwhile is sent by the next process.
    os.kill(machine.host_pid(first), signal.SIGSTOP)
    stack.publish(event())
    wait_for(lambda: start_of(first), 40, explain)
    stack.wait_mails(2, timeout=30)
    assert show("NRestarts")["NRestarts"] == "1"

    machine.systemctl("stop", "email-service.service")
    state = show("ActiveState", "Result", "ExecMainStatus")
    assert state == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}, explain()
    assert '"msg":"Email service has stopped"' in service.text()
    assert PASSWORD not in service.text()
    assert len(stack.mails()) == 2
    release_port(port)
