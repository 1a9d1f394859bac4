"""Toxiproxy between the service and its servers: built once from its sources, kept in the tests' cache folder."""

import fcntl
import glob
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from lib_kafka import cache_dir
from lib_process import Process, free_port, port_answers, release_port, wait_for

VERSION = "v2.5.0"  # builds with Go 1.19 (Debian 12) and later; its checksum is verified by Go's checksum database
PACKAGE = "github.com/Shopify/toxiproxy/v2/cmd/server@" + VERSION


class Unavailable(Exception):
    """No Go, or no way to its module proxy."""


def _go():
    places = os.environ.get("PATH", "") + ":/usr/local/go/bin"
    found = shutil.which("go", path=places) or next(iter(sorted(glob.glob("/usr/lib/go-*/bin/go"))), None)
    if not found:
        raise Unavailable("there is no Go to build toxiproxy with (package golang-go: scripts/install-packages.sh test)")
    return found


def _build(folder):
    env = dict(os.environ, GOBIN=str(folder), GOFLAGS="-mod=mod -modcacherw", GOTOOLCHAIN="local", CGO_ENABLED="0",
               GOPATH=str(folder / "path"), GOCACHE=str(folder / "cache"), GOSUMDB="sum.golang.org")
    for name in ("GONOSUMDB", "GONOSUMCHECK", "GOINSECURE", "GOPRIVATE"):
        env.pop(name, None)  # the checksums are always verified
    for attempt in range(1, 4):
        done = subprocess.run([_go(), "install", PACKAGE], env=env, cwd=folder, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode == 0:
            return folder / "server"
        time.sleep(attempt)
    raise Unavailable("toxiproxy cannot be built (go install %s):\n%s" % (PACKAGE, done.stdout[-2000:]))


def program():
    """The server's path; built by whoever comes first."""
    cache = cache_dir()
    path = cache / ("toxiproxy-" + VERSION) / "toxiproxy-server"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock-toxiproxy", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            filling = Path(tempfile.mkdtemp(prefix="filling-", dir=cache))
            try:
                built = _build(filling)
                path.parent.mkdir(exist_ok=True)
                built.rename(path)
            finally:
                shutil.rmtree(filling, ignore_errors=True)
    return path


class Toxiproxy:
    """The server, and the proxies in it: (link, slot) → port. Only its own HTTP interface changes anything."""

    def __init__(self, log_path):
        self.ports = {}
        self._http_port = free_port()
        self._log = open(log_path, "ab")
        self.process = Process([str(program()), "-host", "127.0.0.1", "-port", str(self._http_port)],
                               stdout=self._log, stderr=self._log)
        wait_for(lambda: self.process.running and port_answers(self._http_port), 10, "toxiproxy")

    def _call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self._http_port, timeout=10)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status < 300, "toxiproxy: %s %s: %d %s" % (method, path, answer.status, text)
        finally:
            connection.close()

    def add(self, link, slot, upstream_port):
        """A proxy to that port; its own port."""
        port = free_port()
        self._call("POST", "/proxies", {"name": "%s-%d" % (link, slot), "listen": "127.0.0.1:%d" % port,
                                        "upstream": "127.0.0.1:%d" % upstream_port, "enabled": True})
        self.ports[(link, slot)] = port
        return port

    def poison(self, link, slot, details):
        kind = {"half_open": "timeout"}.get(details["toxic"], details["toxic"])
        self._call("POST", "/proxies/%s-%d/toxics" % (link, slot), {
            "name": "chaos", "type": kind, "stream": details["stream"], "toxicity": 1.0,
            "attributes": details["attributes"]})

    def heal(self, link, slot):
        self._call("DELETE", "/proxies/%s-%d/toxics/chaos" % (link, slot))

    def destroy(self):
        self.process.kill()
        self._log.close()
        for port in (self._http_port, *self.ports.values()):
            release_port(port)
