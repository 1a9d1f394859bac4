"""Debian's redis-server on a loopback port of its own."""

import shutil
from pathlib import Path

import redis

from lib_process import Process, free_port, release_port, wait_for


class RedisServer:
    """Port and settings stay over stop, kill and restart; the data too after persist()."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process = None
        self._client = None
        self._append_only = "no"

    def start(self):
        argv = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--dir", str(self.folder), "--daemonize", "no", "--maxmemory-policy", "noeviction",
                "--appendfsync", "always", "--appendonly", self._append_only]
        with open(self.folder / "redis.log", "ab") as log:
            self.process = Process(argv, stdout=log, stderr=log)
        wait_for(self._answers, 15, lambda: "redis-server:\n" + self.log_tail())
        return self

    def log_tail(self):
        return (self.folder / "redis.log").read_text(errors="replace")[-3000:]

    def _answers(self):
        assert self.process.running, "redis-server ended:\n" + self.log_tail()
        try:
            return self.client.ping()
        except redis.exceptions.ConnectionError:
            return False

    @property
    def client(self):
        if self._client is None:
            self._client = redis.Redis("127.0.0.1", self.port, socket_timeout=5, decode_responses=True)
        return self._client

    def persist(self):
        """From now on every write survives a kill."""
        self._append_only = "yes"
        self.client.config_set("appendonly", "yes")
        wait_for(lambda: not self.client.info("persistence")["aof_rewrite_in_progress"]
                 and self.client.info("persistence")["aof_last_bgrewrite_status"] == "ok", 15, "the AOF")

    def stop(self):
        self.process.terminate(timeout=10)

    def kill(self):
        self.process.kill()

    def freeze(self):
        self.process.freeze()

    def thaw(self):
        self.process.thaw()

    def destroy(self):
        if self._client is not None:
            self._client.close()
        if self.process:
            self.process.kill()
        release_port(self.port)
        shutil.rmtree(self.folder, ignore_errors=True)
