"""The servers of a chaos run: Kafka with a listener for each instance's proxy, Redis as in production, the relay."""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis

from lib_kafka import KafkaServer
from lib_process import Process, free_port, port_answers, release_port, wait_for

HERE = Path(__file__).resolve().parent

# A child dies with the thread that started it (PR_SET_PDEATHSIG): they are all started by one that lasts.
_starter = ThreadPoolExecutor(1)


def spawn(*args, **kwargs):
    return _starter.submit(Process, *args, **kwargs).result()


class ChaosKafka(KafkaServer):
    """One broker that every instance reaches by a listener of its own, whose advertised address is its proxy's."""

    def __init__(self, folder, slots):
        super().__init__(folder)
        self.slot_ports = [free_port() for _ in range(slots)]
        self.advertised = {}  # slot → port that it says it is reached by

    def _write_config(self):
        super()._write_config()
        names = {"PLAINTEXT": (self.port, self.port), "CONTROLLER": (self._controller_port, None)}
        for slot, port in enumerate(self.slot_ports):
            names["SLOT%d" % slot] = (port, self.advertised.get(slot, port))
        lines = {
            "listeners": ["%s://127.0.0.1:%d" % (n, p) for n, (p, _) in names.items()],
            "advertised.listeners": ["%s://127.0.0.1:%d" % (n, a) for n, (_, a) in names.items() if a],
            "listener.security.protocol.map": ["%s:PLAINTEXT" % n for n in names],
            "inter.broker.listener.name": ["PLAINTEXT"],
        }
        with open(self._config, "a", encoding="utf-8") as config:  # the last line of a name wins
            config.writelines("%s=%s\n" % (n, ",".join(v)) for n, v in lines.items())

    def start(self, wait=True):
        _starter.submit(super().start, False).result()
        if wait:
            self.wait_ready()
        return self

    def destroy(self):
        """Leaves the folder: its log may be evidence."""
        if self.process:
            self.process.kill()
        for port in (self.port, self._controller_port, *self.slot_ports):
            release_port(port)


class ChaosRedis:
    """Redis with appendonly yes, appendfsync everysec and noeviction; its data stay over a kill."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process = None
        self.client = redis.Redis("127.0.0.1", self.port, socket_timeout=10, decode_responses=True)
        self.aof_sizes = []  # (time, bytes) of the file that is appended to

    @staticmethod
    def command(folder, port):
        return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder),
                "--daemonize", "no", "--maxmemory-policy", "noeviction", "--appendonly", "yes",
                "--appendfsync", "everysec", "--aof-load-truncated", "yes", "--auto-aof-rewrite-percentage", "0"]

    def _launch(self, folder, port, client):
        with open(self.folder.parent / "redis.log", "ab") as log:
            process = spawn(self.command(folder, port), stdout=log, stderr=log)

        def answers():
            assert process.running, "redis-server ended, see redis.log"
            try:
                return client.ping()
            except (redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError):
                return False

        wait_for(answers, 20, "redis-server")
        return process

    def start(self):
        self.process = self._launch(self.folder, self.port, self.client)
        return self

    def kill(self):
        self.process.kill()

    def _growing_file(self):
        return max((self.folder / "appendonlydir").glob("*.incr.aof"), key=lambda p: p.stat().st_mtime)

    def note_size(self):
        self.aof_sizes.append((time.time(), self._growing_file().stat().st_size))

    def cut(self, killed_at, seconds):
        """What a power cut does: the last seconds before it, which everysec had not synced, are gone."""
        old = [size for at, size in self.aof_sizes if at <= killed_at - seconds]
        path = self._growing_file()
        size = min(old[-1] if old else 0, path.stat().st_size)
        lost = path.stat().st_size - size
        os.truncate(path, size)
        self.aof_sizes = [(at, s) for at, s in self.aof_sizes if s <= size]
        return lost

    def read_disk(self, read):
        """read(client) of a second Redis on a copy of the files, before the first one comes back to work."""
        copy = self.folder.parent / "redis-copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.folder, copy)
        port = free_port()
        client = redis.Redis("127.0.0.1", port, socket_timeout=10, decode_responses=True)
        process = self._launch(copy, port, client)
        try:
            return read(client)
        finally:
            client.close()
            process.kill()
            release_port(port)
            shutil.rmtree(copy, ignore_errors=True)

    def destroy(self):
        self.client.close()
        if self.process:
            self.process.kill()
        release_port(self.port)


class Relay:
    """relay.py as a process that can be killed; ledger and misbehaviour live in files."""

    def __init__(self, folder, seed):
        self.folder = Path(folder)
        self.port = free_port()
        self.ledger = self.folder / "relay-ledger.jsonl"
        self.mode_file = self.folder / "relay-mode.json"
        self.process = None
        self._seed, self._starts = seed, 0
        self.behave()

    def start(self):
        self._starts += 1
        with open(self.folder / "relay.log", "ab") as log:
            self.process = spawn(
                [sys.executable, str(HERE / "relay.py"), str(self.port), str(self.ledger), str(self.mode_file),
                 "%s-%d" % (self._seed, self._starts)], stdout=log, stderr=subprocess.STDOUT)

        def answers():
            assert self.process.running, "the relay ended, see relay.log"
            return port_answers(self.port)

        wait_for(answers, 20, "the relay")
        return self

    def misbehave(self, mode, share):
        self._write({"mode": mode, "share": share})

    def behave(self):
        self._write({})

    def _write(self, value):
        new = self.mode_file.with_suffix(".new")
        new.write_text(json.dumps(value))
        new.rename(self.mode_file)

    def lines(self):
        with open(self.ledger, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def destroy(self):
        if self.process:
            self.process.kill()
        release_port(self.port)


class Instance:
    """One place for an email-service: started, killed and started again; its log goes to a file."""

    def __init__(self, slot, folder, program, env):
        self.slot, self.program, self.env = slot, program, env
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "instance.log"
        self.http_port = free_port()
        self.process = None
        self.lives = []  # (pid, started, ended or None)

    @property
    def running(self):
        return self.process is not None and self.process.running

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def start(self):
        env = dict(self.env, EMAIL_SERVICE_LISTEN="127.0.0.1", EMAIL_SERVICE_PORT=str(self.http_port))
        with open(self.log, "ab") as log:
            self.process = spawn([self.program], env=env, cwd=self.folder, stdout=log, stderr=log)
        self.lives.append([self.process.pid, time.time(), None])

    def _ended(self):
        self.lives[-1][2] = time.time()

    def kill(self):
        self.process.kill()
        self._ended()

    def leave(self, timeout=40):
        """SIGTERM; the exit status."""
        status = self.process.terminate(timeout)
        self._ended()
        return status

    def pids_between(self, begin, end):
        return {pid for pid, started, ended in self.lives if started <= end and (ended is None or ended >= begin)}

    def last_words(self):
        return "".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-8:])

    def destroy(self):
        if self.running:
            self.process.kill()
        release_port(self.http_port)
