"""A quick SMTP server for the soak: takes mails, refuses some for now and some for good, by the recipient's name.

    gone-…@    550 always
    busy-…@    450 the first time, then taken
    later-…@   451 to the message's end the first time, then taken

Its only output are lines with counts, once a second: mails taken and connections open.
"""

import asyncio
import sys


class Relay:
    def __init__(self):
        self.taken = self.connections = 0
        self.seen = set()  # recipients that were put off once

    def first_time(self, recipient):
        if recipient in self.seen:
            return False
        self.seen.add(recipient)
        return True


class Session(asyncio.Protocol):
    def __init__(self, relay):
        self.relay = relay
        self.buffer = b""
        self.in_data = False
        self.recipient = b""

    def connection_made(self, transport):
        self.transport = transport
        self.relay.connections += 1
        transport.write(b"220 soak.example ESMTP\r\n")

    def connection_lost(self, _error):
        self.relay.connections -= 1

    def data_received(self, data):
        self.buffer += data
        replies = []
        while self.buffer and (self.take_message(replies) if self.in_data else self.take_line(replies)):
            pass
        if replies:
            self.transport.write(b"".join(replies))

    def take_message(self, replies):
        end = self.buffer.find(b"\r\n.\r\n")
        if end < 0:
            return False
        self.buffer = self.buffer[end + 5:]
        self.in_data = False
        if self.recipient.startswith(b"later-") and self.relay.first_time(self.recipient):
            replies.append(b"451 4.3.0 later\r\n")
        else:
            self.relay.taken += 1
            replies.append(b"250 2.0.0 taken\r\n")
        return True

    def take_line(self, replies):
        line, newline, rest = self.buffer.partition(b"\r\n")
        if not newline:
            return False
        self.buffer = rest
        verb = line[:4].upper()
        if verb == b"EHLO":
            replies.append(b"250-soak.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
        elif verb == b"RCPT":
            replies.append(self.take_recipient(line))
        elif verb == b"DATA":
            self.in_data = bool(self.recipient)
            replies.append(b"354 go\r\n" if self.in_data else b"554 5.5.1 no valid recipients\r\n")
        elif verb == b"QUIT":
            replies.append(b"221 2.0.0 bye\r\n")
            self.transport.write(b"".join(replies))
            self.transport.close()
            return False
        else:  # MAIL, RSET, NOOP
            self.recipient = b""
            replies.append(b"250 2.0.0 ok\r\n")
        return True

    def take_recipient(self, line):
        name = line[line.find(b"<") + 1:line.find(b"@")]
        if name.startswith(b"gone-"):
            return b"550 5.1.1 no such user\r\n"
        if name.startswith(b"busy-") and self.relay.first_time(name):
            return b"450 4.2.1 busy\r\n"
        self.recipient = name
        return b"250 2.1.5 ok\r\n"


async def main():
    relay = Relay()
    server = await asyncio.get_running_loop().create_server(lambda: Session(relay), "127.0.0.1", int(sys.argv[1]))
    async with server:
        while True:
            print("%d %d" % (relay.taken, relay.connections), flush=True)
            await asyncio.sleep(1)


asyncio.run(main())
