"""Real mail servers as the next hop: Postfix, Exim and OpenSMTPD from Debian's packages, each relaying to a sink.

Postfix is installed (its package brings smtp-sink). Exim and OpenSMTPD conflict with it, so their packages are unpacked
into a root folder of their own, with the libraries they need, and run there by chroot. All need root: a mail server
changes users. Each has its own configuration, spool and log in a temporary folder and listens on loopback only.
"""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from lib_kafka import cache_dir
from lib_process import Process, free_port, port_answers, release_port, wait_for

# Package → what else it needs that a Debian machine need not have.
PACKAGES = {"exim4-daemon-light": ["libidn12", "libgnutls-dane0t64", "libgnutls-dane0", "libidn12t64"],
            "opensmtpd": ["libevent-2.1-7t64", "libevent-2.1-7"]}

USERS = """root:x:0:0:root:/root:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
Debian-exim:x:997:997::/nonexistent:/bin/false
opensmtpd:x:996:996::/var/empty:/bin/false
opensmtpq:x:995:995::/nonexistent:/bin/false
"""
GROUPS = "root:x:0:\nnogroup:x:65534:\nDebian-exim:x:997:\nopensmtpd:x:996:\nopensmtpq:x:995:\nmail:x:8:\n"


def _download(package, folder):
    """Fetches one package; false where the archive has none of that name."""
    done = subprocess.run(["apt-get", "download", "-q", package], cwd=folder, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    return done.returncode == 0


def _unpack(package, root):
    for deb in Path(root).glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(deb), str(root)], check=True)
        deb.unlink()


def _libraries(program, root):
    """What the program loads, as it stands on this machine or in its root."""
    inside = ":".join(str(p) for p in Path(root).glob("usr/lib/*-linux-gnu*"))
    listed = subprocess.run(["ldd", str(program)], env=dict(os.environ, LD_LIBRARY_PATH=inside),
                            stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "not found" not in listed, listed
    return {Path(path) for path in re.findall(r"(/\S+)", listed)}


def _complete(root, program):
    """Makes the folder a root that the program can live in."""
    named = set(Path("/lib").resolve().glob("*-linux-gnu*/libnss_files.so.2"))
    for library in _libraries(root / program, root) | named:
        if str(library).startswith(str(root)):
            target = root / "usr/lib" / library.name
        else:
            target = root / str(library).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(library.resolve(), target)
        beside = root / "usr/lib" / library.name  # where every loader looks
        if not beside.exists():
            shutil.copy(library.resolve(), beside)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text(USERS)
    (root / "etc/group").write_text(GROUPS)
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    for name in ("tmp", "dev", "var/empty", "var/run", "run"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)


def unpacked(package, program):
    """The folder with the package's root; filled by whoever comes first."""
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / ("root-" + package)
    with open(cache / "lock-mta", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "complete").exists():
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(mode=0o755)
            if not _download(package, root):
                pytest.skip("SKIPPED: apt-get download %s does not work here" % package)
            for more in PACKAGES[package]:
                _download(more, root)
            _unpack(package, root)
            _complete(root, program)
            (root / "complete").touch()
    return root


class MailServer:
    """One server with a folder of its own; `port` takes mail, all of it goes on to `sink_port`."""

    name = None
    round_trips = 1  # a mail, in steady state

    def __init__(self, folder, sink_port):
        if os.geteuid() != 0:
            pytest.skip("SKIPPED: a mail server needs root")
        self.folder, self.sink_port, self.port = Path(folder), sink_port, free_port()
        self.folder.mkdir(parents=True, mode=0o755)
        self.log = self.folder / "server.log"
        self.process = None

    def run(self, argv):
        with open(self.log, "ab") as log:
            self.process = Process(argv, cwd="/", stdout=log, stderr=log)
        wait_for(self.answers, 60, lambda: "%s:\n%s" % (self.name, self.log.read_text(errors="replace")[-3000:]))
        return self

    def answers(self):
        assert self.process.running, "%s ended:\n%s" % (self.name, self.log.read_text(errors="replace")[-3000:])
        return port_answers(self.port)

    def stop(self):
        if self.process:
            self.process.terminate(10)
        release_port(self.port)


class Postfix(MailServer):
    name = "Postfix"

    def start(self):
        folder = self.folder
        for name in ("queue", "data", "etc"):
            (folder / name).mkdir()
        shutil.chown(folder / "data", "postfix")
        libexec = subprocess.run(["postconf", "-d", "-h", "daemon_directory"], stdout=subprocess.PIPE,
                                 text=True, check=True).stdout.strip()
        (folder / "etc/main.cf").write_text("\n".join([
            "compatibility_level = 3.6", "queue_directory = %s/queue" % folder, "data_directory = %s/data" % folder,
            "daemon_directory = " + libexec, "mail_owner = postfix", "setgid_group = postdrop",
            "myhostname = relay.test", "mydestination =", "mynetworks = 127.0.0.0/8", "inet_interfaces = 127.0.0.1",
            "inet_protocols = ipv4", "relayhost = [127.0.0.1]:%d" % self.sink_port, "maillog_file = /dev/stdout",
            "smtpd_peername_lookup = no", "smtp_dns_support_level = disabled", "smtp_host_lookup = native",
            "default_destination_concurrency_limit = 5", "smtpd_tls_security_level = none",
            "alias_maps =", "alias_database =", ""]))
        services = ["%d inet n - n - - smtpd" % self.port]
        services += ["pickup unix n - n 60 1 pickup", "cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr",
                     "rewrite unix - - n - - trivial-rewrite", "bounce unix - - n - 0 bounce",
                     "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce", "verify unix - - n - 1 verify",
                     "flush unix n - n 1000? 0 flush", "proxymap unix - - n - - proxymap", "smtp unix - - n - - smtp",
                     "relay unix - - n - - smtp", "showq unix n - n - - showq", "error unix - - n - - error",
                     "retry unix - - n - - error", "discard unix - - n - - discard", "anvil unix - - n - 1 anvil",
                     "scache unix - - n - 1 scache", "postlog unix-dgram n - n - 1 postlogd", ""]
        (folder / "etc/master.cf").write_text("\n".join(services))
        return self.run(["postfix", "-c", str(folder / "etc"), "start-fg"])

    def stop(self):
        subprocess.run(["postfix", "-c", str(self.folder / "etc"), "abort"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        super().stop()


class Jailed(MailServer):
    """In a root folder of its own: a copy of the unpacked one."""

    package = program = None

    def jail(self):
        root = self.folder / "root"
        shutil.copytree(unpacked(self.package, self.program), root, symlinks=True)
        os.mknod(root / "dev/null", 0o020666, os.makedev(1, 3))
        os.chmod(root / "dev/null", 0o666)
        os.mknod(root / "dev/urandom", 0o020666, os.makedev(1, 9))
        os.chmod(root / "dev/urandom", 0o666)
        return root

    def run_in(self, root, argv):
        return self.run(["chroot", str(root), *argv])


class Exim(Jailed):
    name, package, program = "Exim", "exim4-daemon-light", "usr/sbin/exim4"

    def start(self):
        root = self.jail()
        for name in ("spool", "log"):
            (root / name).mkdir()
            os.chown(root / name, 997, 997)
        (root / "exim.conf").write_text("\n".join([
            "exim_path = /usr/sbin/exim4", "spool_directory = /spool", "log_file_path = /log/%slog",
            "pid_file_path = /run/exim.pid", "local_interfaces = 127.0.0.1", "daemon_smtp_ports = %d" % self.port,
            "primary_hostname = relay.test", "acl_smtp_rcpt = all", "host_lookup =", "rfc1413_query_timeout = 0s",
            "smtp_accept_max = 100", "smtp_accept_queue_per_connection = 0", "smtp_enforce_sync = true",
            "tls_advertise_hosts =", "disable_ipv6 = true", "begin acl", "all:", "  accept", "begin routers", "on:",
            "  driver = manualroute", "  route_list = * 127.0.0.1", "  self = send", "  transport = sink",
            "begin transports", "sink:", "  driver = smtp", "  port = %d" % self.sink_port, "  hosts_avoid_tls = *",
            "  allow_localhost", "begin retry", "* * F,1h,5s", ""]))
        return self.run_in(root, ["/usr/sbin/exim4", "-C", "/exim.conf", "-bdf", "-q5s"])


class OpenSmtpd(Jailed):
    name, package, program = "OpenSMTPD", "opensmtpd", "usr/sbin/smtpd"
    round_trips = 4  # it offers no PIPELINING: one command at a time

    def start(self):
        root = self.jail()
        spool = root / "var/spool/smtpd"
        spool.mkdir(parents=True)
        spool.chmod(0o711)
        (root / "smtpd.conf").write_text("\n".join([
            "listen on 127.0.0.1 port %d" % self.port, 'action "on" relay host smtp://127.0.0.1:%d' % self.sink_port,
            'match from any for any action "on"', ""]))
        return self.run_in(root, ["/usr/sbin/smtpd", "-d", "-f", "/smtpd.conf"])


SERVERS = [Postfix, Exim, OpenSmtpd]


# ---- counting round trips on the way ----

class Wire:
    """A TCP forwarder that counts, for each connection, how often the client went on after it had heard something."""

    def __init__(self, to_port):
        self.to_port, self.port = to_port, free_port()
        self.round_trips, self.stopping = [], False
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.to_port))
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number, heard = len(self.round_trips), threading.Event()
            self.round_trips.append(0)
            threading.Thread(target=self._forward, args=(server, client, None, heard), daemon=True).start()
            threading.Thread(target=self._forward, args=(client, server, number, heard), daemon=True).start()

    def _forward(self, source, target, number, heard):
        while True:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            if not data:
                for sock in (source, target):
                    try:
                        sock.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass
                return
            if number is None:
                heard.set()
            elif heard.is_set():
                heard.clear()
                self.round_trips[number] += 1
            target.sendall(data)

    def stop(self):
        self.listener.close()
        release_port(self.port)
