"""A systemd of the test's own: process 1 of fresh namespaces over a throw-away copy (overlay) of this machine's root.

It shares the network, so that servers on loopback are reached, and nothing else: the machine's own systemd, where there
is one, knows nothing of it. With its process 1 everything in it dies.
"""

import os
import shutil
import subprocess
import textwrap
import uuid
from pathlib import Path

from lib_process import Process, wait_for

SYSTEMD = "/usr/lib/systemd/systemd"

# Outside: a cgroup of its own, which becomes the root of what the namespace sees.
OUTER = """
set -e
mount --make-rprivate /
mkdir -p "$FOLDER/cgroup" "$FOLDER/overlay"
mount -t cgroup2 cgroup2 "$FOLDER/cgroup"
mkdir "$FOLDER/cgroup/$NAME"
echo $$ >"$FOLDER/cgroup/$NAME/cgroup.procs"
exec unshare --pid --fork --kill-child --ipc --uts --cgroup --mount-proc bash -c "$INNER"
"""

INNER = """
set -e
umount "$FOLDER/cgroup"
mount -t tmpfs tmpfs "$FOLDER/overlay"
cd "$FOLDER/overlay"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cd root
mount -t proc proc proc
mount --rbind /sys sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs run
mkdir run/test
mount --bind "$FOLDER/shared" run/test
cp -a "$FOLDER/files/." .
# Not chroot alone: under it no user namespace can be made (PrivateUsers).
pivot_root . mnt
exec chroot . bash -c 'cd / && umount -l /mnt && mount --make-rshared / && exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    %s --system --unit=test.target --log-target=console --show-status=no'
""" % SYSTEMD

PROBE = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$FOLDER"
mkdir "$FOLDER/upper" "$FOLDER/work" "$FOLDER/root" "$FOLDER/cgroup"
mount -t overlay overlay -o lowerdir=/,upperdir="$FOLDER/upper",workdir="$FOLDER/work" "$FOLDER/root"
mount -t cgroup2 cgroup2 "$FOLDER/cgroup"
mkdir "$FOLDER/cgroup/$NAME"
rmdir "$FOLDER/cgroup/$NAME"
"""

REMOVE = """
mount -t cgroup2 cgroup2 "$FOLDER/cgroup" && find "$FOLDER/cgroup/$NAME" -depth -type d -exec rmdir {} +
"""


def obstacle(folder):
    """Why systemd cannot be booted on this machine; None where it can."""
    if os.geteuid() != 0:
        return "booting systemd needs root"
    if not os.access(SYSTEMD, os.X_OK):
        return "there is no systemd to boot"
    done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--ipc", "--uts", "--cgroup", "bash", "-c", PROBE],
                          env=dict(os.environ, FOLDER=str(folder), NAME="probe-" + uuid.uuid4().hex),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    return None if done.returncode == 0 else "no namespaces or mounts here: " + done.stderr.strip()[-200:]


class Machine:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.shared = self.folder / "shared"  # /run/test in there
        self.files = self.folder / "files"  # what is laid over the root
        self.shared.mkdir(parents=True)
        self.environment = dict(os.environ, FOLDER=str(self.folder), NAME="email-test-" + uuid.uuid4().hex,
                                INNER=INNER)
        self.process = self.pid = None

    def write(self, path, text, mode=0o644):
        target = self.files / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
        target.chmod(mode)

    def copy(self, source, path):
        target = self.files / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

    def boot(self, *units):
        """Boots into a target that wants these units and nothing else."""
        self.write("/etc/systemd/system/test.target",
                   "[Unit]\nDescription=test\nDefaultDependencies=no\nWants=%s\n" % " ".join(units))
        console = open(self.folder / "console", "wb")
        self.process = Process(["unshare", "--mount", "bash", "-c", OUTER], env=self.environment,
                               stdout=console, stderr=console)
        console.close()
        self.pid = wait_for(self._process_1, 30, lambda: "systemd to boot:\n" + self.console())
        wait_for(lambda: self.systemctl("show", "test.target", "-p", "ActiveState", good=False).strip()
                 == "ActiveState=active", 30, lambda: "the target:\n" + self.console())
        return self

    def _process_1(self):
        """The host's number of the namespace's process 1, once it is systemd."""
        assert self.process.running, "the boot failed:\n" + self.console()
        for number in children(self.process.pid):
            try:
                if os.path.basename(os.readlink("/proc/%d/exe" % number)) == "systemd":
                    return number
            except OSError:
                pass
        return None

    def console(self):
        return (self.folder / "console").read_text(errors="replace")[-3000:]

    def systemctl(self, *args, good=True, timeout=60):
        done = subprocess.run(["nsenter", "--target", str(self.pid), "--mount", "--pid", "--root", "--wd=/",
                               "systemctl", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout)
        assert not good or done.returncode == 0, done.stderr + self.console()
        return done.stdout

    def show(self, unit, *names):
        """Properties of a unit by name."""
        lines = self.systemctl("show", unit, *["--property=" + n for n in names]).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def host_pid(self, inner):
        """What the host calls a process of the namespace."""
        for number in children(self.pid):
            try:
                status = Path("/proc/%d/status" % number).read_text()
            except OSError:
                continue
            if [line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:")] == [str(inner)]:
                return number
        return None

    def destroy(self):
        if self.process:
            self.process.kill()
            wait_for(lambda: not os.path.exists("/proc/%s" % self.pid), 10, "the end of the namespace")
            subprocess.run(["unshare", "--mount", "bash", "-c", REMOVE], env=self.environment, timeout=30, check=False,
                           stdin=subprocess.DEVNULL, capture_output=True)


def children(pid):
    """All descendants that the host's /proc knows."""
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        try:
            for task in os.listdir("/proc/%d/task" % parent):
                text = Path("/proc/%d/task/%s/children" % (parent, task)).read_text()
                found += map(int, text.split())
                todo += map(int, text.split())
        except OSError:
            continue
    return found
