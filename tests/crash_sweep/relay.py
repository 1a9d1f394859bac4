"""A relay that has each mail on its disk, synced, before it says 250."""

import hashlib
import json
import os

from lib_process import wait_for
from smtp_server import SmtpServer


class MailLedger(list):
    """SmtpServer's list of mails; what is appended is on the disk when append() returns."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self._file = open(path, "ab", buffering=0)

    def append(self, mail):
        line = {"event": mail.recipients[0].split("@")[0], "recipients": mail.recipients,
                "sha256": hashlib.sha256(mail.data).hexdigest()}
        self._file.write(json.dumps(line).encode() + b"\n")
        os.fdatasync(self._file.fileno())
        super().append(mail)

    def read(self):
        """From the disk."""
        with open(self.path, "rb") as file:
            return [json.loads(line) for line in file]

    def close(self):
        self._file.close()


class Relay:
    def __init__(self, folder):
        self.server = SmtpServer()
        self.server.mails = MailLedger(folder / "mails.jsonl")
        self.server.start()
        self.port = self.server.port

    @property
    def mails(self):
        return self.server.mails

    def drain(self):
        """Waits until it has read all that a dead client had sent."""
        wait_for(lambda: not self.server.live, 20, "the relay to see the end of its connections")

    def copies(self, event):
        return [mail["sha256"] for mail in self.server.mails.read() if mail["event"] == event]

    def forget(self):
        """Before the next event: what the last one left."""
        self.drain()
        self.server.bodies.clear()

    @property
    def dots(self):
        return len(self.server.bodies)

    def behave(self, path):
        """As the events of this path need it."""
        self.server.accept()
        if path == "refused":
            self.server.reject("dot", "550 5.7.1 refused")
        elif path == "slow":  # longer than it takes to renew the claim, and to commit what is done
            self.server.delay("data", 1.5)

    def stop(self):
        self.server.stop()
        self.server.mails.close()
