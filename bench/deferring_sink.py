"""A relay that answers 450 to the first RCPT for an address that begins with "defer", which smtp-sink cannot do by
recipient. A process of its own, one epoll; slower than smtp-sink: it shows what a mail costs the client, not rates."""

import multiprocessing
import selectors
import socket

EHLO = b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"


class Session:
    def __init__(self, sink, sock):
        self.sink, self.sock = sink, sock
        self.buffer, self.in_message, self.recipients = b"", False, 0

    def on_readable(self):
        try:
            data = self.sock.recv(262144)
        except ConnectionError:
            data = b""
        self.buffer += data
        answers = []
        while self.step(answers):
            pass
        if answers:
            self.sock.sendall(b"".join(answers))
        return bool(data)

    def step(self, answers):
        """One command, or the end of a message."""
        mark = b"\r\n.\r\n" if self.in_message else b"\r\n"
        line, found, rest = self.buffer.partition(mark)
        if not found:
            return False
        self.buffer = rest
        answers.append(self.take_message() if self.in_message else self.command(line))
        return True

    def take_message(self):
        self.in_message = False
        self.sink.taken.value += 1
        return b"250 2.0.0 taken\r\n"

    def command(self, line):
        verb = line[:4].upper()
        if verb == b"EHLO":
            return EHLO
        if verb == b"MAIL":
            self.recipients = 0
        if verb == b"RCPT":
            address = line[9:].partition(b">")[0]
            if address.startswith(b"defer") and address not in self.sink.deferred:
                self.sink.deferred.add(address)
                return b"450 4.2.0 not now\r\n"
            self.recipients += 1
        if verb == b"DATA":
            if not self.recipients:
                return b"554 5.5.1 no valid recipients\r\n"
            self.in_message = True
            return b"354 go ahead\r\n"
        return b"221 2.0.0 bye\r\n" if verb == b"QUIT" else b"250 2.0.0 ok\r\n"


class DeferringSink:
    def __init__(self, _folder):
        self.taken = multiprocessing.Value("Q", 0, lock=False)
        self.deferred = set()
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = listener.getsockname()[1]
        self.process = multiprocessing.get_context("fork").Process(target=self.serve, args=(listener,), daemon=True)
        self.process.start()
        listener.close()

    def serve(self, listener):
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        sock, _ = listener.accept()
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        selector.register(sock, selectors.EVENT_READ, Session(self, sock))
                        sock.sendall(b"220 sink.example ESMTP\r\n")
                    elif not key.data.on_readable():
                        selector.unregister(key.fileobj)
                        key.fileobj.close()

    def count(self):
        return self.taken.value

    def messages(self):
        return None  # it keeps none

    def destroy(self):
        self.process.kill()
        self.process.join()
