"""The programs of docs/producer.md in other languages: taken from the document, built and run as they stand there.

Each language's Kafka client is fetched once, at the version that tests/publishers pins, into the cache that keeps
Kafka's jars too.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib_kafka import cache_dir, kafka_jars

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "producer.md"
CLIENTS = ROOT / "tests" / "publishers"

# What Java's own partitioner (murmur2 of the key) makes of ada@example.com on three partitions: all agree on it.
ADA_PARTITION = 2


def snippets(language):
    return re.findall(r"^```%s\n(.*?)^```" % language, DOCUMENT.read_text(encoding="utf-8"), re.M | re.S)


def run(*command, env=None, cwd=None, timeout=300):
    done = subprocess.run([str(c) for c in command], env=dict(os.environ, **(env or {})), cwd=cwd, timeout=timeout,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, "%s\n%s" % (" ".join(map(str, command)), done.stdout)
    return done.stdout


def _fetch(*command, env=None, cwd=None):
    """Like run, but the network gets three chances."""
    for attempt in range(1, 4):
        try:
            return run(*command, env=env, cwd=cwd)
        except AssertionError:
            if attempt == 3:
                raise
            time.sleep(attempt)


def _cached(name, fill):
    """The folder `name` in the cache; `fill` makes it, in whichever process comes first."""
    cache = cache_dir()
    folder = cache / name
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / (name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            filling = Path(tempfile.mkdtemp(prefix="filling-", dir=cache))
            try:
                fill(filling)
                filling.rename(folder)
            finally:
                shutil.rmtree(filling, ignore_errors=True)
    return folder


# ---- each returns the command that publishes one event ----

def python(folder):
    [program] = snippets("python")
    (folder / "publish.py").write_text(program, encoding="utf-8")
    return [sys.executable, folder / "publish.py"]


def _fill_node(folder):
    for name in ("package.json", "package-lock.json"):
        shutil.copy(CLIENTS / "node" / name, folder)
    # ci: the very package whose checksum the lock file has.
    _fetch("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)


def node(folder):
    [program] = snippets("js")
    lock = (CLIENTS / "node" / "package-lock.json").read_text(encoding="utf-8")
    version = re.search(r'"node_modules/kafkajs": \{\s*"version": "([^"]+)"', lock).group(1)
    (folder / "node_modules").symlink_to(_cached("kafkajs-" + version, _fill_node) / "node_modules")
    (folder / "publish.mjs").write_text(program, encoding="utf-8")
    return ["node", folder / "publish.mjs"]


def go(folder):
    [program] = snippets("go")
    for name in ("go.mod", "go.sum"):
        shutil.copy(CLIENTS / "go" / name, folder)
    (folder / "main.go").write_text(program, encoding="utf-8")
    # GOTOOLCHAIN: never another compiler from the network. modcacherw: the cache can be deleted as any other.
    env = {"GOMODCACHE": str(cache_dir() / "go-modules"), "GOCACHE": str(cache_dir() / "go-build"),
           "GOFLAGS": "-mod=readonly -modcacherw", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    _fetch("go", "mod", "download", env=env, cwd=folder)
    run("go", "build", "-o", "publish", ".", env=env, cwd=folder)
    return [folder / "publish"]


def java(folder):
    [program] = snippets("java")
    (folder / "PublishEmail.java").write_text(program, encoding="utf-8")
    jars = str(kafka_jars() / "*")
    run("javac", "-Werror", "-Xlint:all,-processing,-path", "-cp", jars, "-d", folder, folder / "PublishEmail.java")
    return ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", "%s:%s" % (folder, jars), "PublishEmail"]
