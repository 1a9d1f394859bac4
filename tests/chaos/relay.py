"""The relay of a chaos run: an SMTP server in a process of its own, whose ledger survives kill -9.

    relay.py PORT LEDGER MODE_FILE SEED

Every mail is appended to the ledger, with one write(2) and fdatasync, before its 250 is written; a second line says
that the 250 was. MODE_FILE tells it how to misbehave: {"mode": …, "share": 0.5}; it is read anew for every command
where it matters, and "{}" means: behave. Recipients misbehave by name: refused-… 550, never-… 450, later-… 450 about
every second time.
"""

import asyncio
import hashlib
import json
import os
import random
import sys
import time


class Drop(Exception):
    """The connection ends here, without a word."""


class Ledger:
    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        # A number that no mail before has, in this process or in one that was killed.
        self._next = sum(1 for _ in open(path, "rb"))

    def _append(self, line):
        data = json.dumps(line).encode() + b"\n"
        assert os.write(self._fd, data) == len(data)

    def taken(self, mail):
        number, self._next = self._next, self._next + 1
        self._append(dict(mail, line="taken", number=number, pid=os.getpid(), time=time.time()))
        os.fdatasync(self._fd)
        return number

    def answered(self, number):
        self._append({"line": "answered", "number": number, "pid": os.getpid(), "time": time.time()})


class Misbehaviour:
    def __init__(self, path, rng):
        self._path, self._rng = path, rng

    def now(self, *modes):
        """The mode, where it is one of these and this occasion is to suffer."""
        try:
            with open(self._path, encoding="utf-8") as file:
                wanted = json.load(file)
        except FileNotFoundError:
            return None
        if wanted.get("mode") in modes and self._rng.random() < wanted["share"]:
            return wanted["mode"]
        return None


def _header(data, name):
    """A header's value, unfolded; None where it is missing or there twice."""
    head = data.split(b"\r\n\r\n", 1)[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    found = [line.split(b":", 1)[1].strip() for line in head.split(b"\r\n")
             if line.lower().startswith(name.lower() + b":")]
    return found[0].decode("ascii", "replace") if len(found) == 1 else None


class Session:
    def __init__(self, relay, reader, writer):
        self.ledger, self.bad, self.rng = relay
        self.reader, self.writer = reader, writer
        self.recipients, self.has_sender = [], False

    async def say(self, text):
        self.writer.write(text.encode() + b"\r\n")
        await self.writer.drain()

    async def line(self):
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise Drop
        return line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")

    async def run(self):
        if self.bad.now("banner"):
            raise Drop
        await self.say("220 relay.example ESMTP")
        while True:
            line = await self.line()
            verb = line.split(" ")[0].split(":")[0].upper()
            handler = getattr(self, "do_" + verb.lower(), None)
            if handler is None:
                await self.say("500 5.5.1 what")
            elif not await handler(line):
                return

    async def do_ehlo(self, _line):
        await self.say("250-relay.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 4000000")
        return True

    async def do_mail(self, _line):
        mode = self.bad.now("mail", "reply_421")
        if mode == "mail":
            raise Drop
        if mode == "reply_421":
            await self.say("421 4.3.2 going away")
            return False
        self.has_sender, self.recipients = True, []
        await self.say("250 2.1.0 ok")
        return True

    async def do_rcpt(self, line):
        address = line[len("RCPT TO:<"):].split(">")[0]
        word = address.split("-")[0]
        if word == "refused":
            await self.say("550 5.1.1 no such user")
        elif word == "never" or word == "later" and self.rng.random() < 0.5:
            await self.say("450 4.2.1 busy")
        elif self.bad.now("rcpt_451"):
            await self.say("451 4.3.0 later")
        else:
            self.recipients.append(address)
            await self.say("250 2.1.5 ok")
        return True

    async def do_data(self, _line):
        if not self.has_sender or not self.recipients:
            await self.say("554 5.5.1 no valid recipients")
            return True
        # A relay takes its time: there are mails before their dot when something is killed, and mails after it.
        await asyncio.sleep(self.rng.uniform(0, 0.06))
        await self.say("354 go ahead")
        await self.take(await self.read_body())
        self.has_sender, self.recipients = False, []
        return True

    async def read_body(self):
        dropping, lines = self.bad.now("body"), []
        while True:
            line = await self.reader.readline()
            if dropping or not line.endswith(b"\n"):
                raise Drop
            if line == b".\r\n":
                return b"".join(lines)
            lines.append(line[1:] if line.startswith(b".") else line)

    async def take(self, data):
        mode = self.bad.now("taken_drop", "taken_silent", "untaken_drop", "dot_451")
        await asyncio.sleep(self.rng.uniform(0.005, 0.12))
        if mode == "untaken_drop":
            raise Drop
        if mode == "dot_451":
            await self.say("451 4.3.0 queue is full")
            return
        number = self.ledger.taken({
            "message_id": _header(data, b"Message-ID"), "event": _header(data, b"X-Chaos-Event"),
            "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "recipients": self.recipients})
        if mode == "taken_drop":
            raise Drop
        if mode == "taken_silent":
            while await self.reader.read(4096):
                pass
            raise Drop
        self.writer.write(b"250 2.0.0 queued\r\n")
        self.ledger.answered(number)
        await self.writer.drain()

    async def do_rset(self, _line):
        self.has_sender, self.recipients = False, []
        await self.say("250 2.0.0 ok")
        return True

    async def do_noop(self, _line):
        await self.say("250 2.0.0 ok")
        return True

    async def do_quit(self, _line):
        await self.say("221 2.0.0 bye")
        return False


async def serve(port, ledger, mode_file, seed):
    rng = random.Random("relay-%s" % seed)
    relay = Ledger(ledger), Misbehaviour(mode_file, rng), rng

    async def connected(reader, writer):
        try:
            await Session(relay, reader, writer).run()
        except (Drop, ConnectionError):
            writer.transport.abort()
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port, limit=1 << 20)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:5]))
