"""A scriptable SMTP relay for the tests: one thread a connection, everything recorded, misbehaves on demand.

    server = SmtpServer().start()
    server.reject("mail", "451 later", times=1)      # the first MAIL is refused for now
    server.reject("rcpt", "550 no", recipient="bad@example.com")
    server.drop("dot", after=True)                   # takes mails, then drops the connection without a reply
    server.accept()                                  # behaves again

Stages: banner, ehlo, helo, starttls, auth, mail, rcpt, data, body, dot, rset, quit. The first rule that fits and is not
used up decides; without one the relay behaves.
"""
import base64
import collections
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path


class Dropped(Exception):
    """The connection ends here."""


@dataclass
class Rule:
    stage: str
    action: object  # called with the session: true where the stage's usual reply is to follow
    times: int = None  # how often; None: always
    skip: int = 0  # so many occurrences are left alone first
    recipient: str = None  # rcpt: this address only
    take: bool = False  # dot: the mail is taken before the action
    at: int = 0  # body: once so many bytes have come


@dataclass
class Mail:
    sender: str
    recipients: list
    data: bytes  # without stuffing and final dot
    parameters: str  # of MAIL
    connection: int
    time: float
    tls: bool
    user: str
    round_trips: int  # of the connection, up to this mail's end


@dataclass
class Command:
    line: str
    chunk: int  # number of the read that completed it: equal ones came together
    time: float


@dataclass
class Transcript:
    number: int
    commands: list = field(default_factory=list)
    tls: bool = False
    user: str = None
    ended: bool = False
    bytes_in: int = 0
    round_trips: int = 0  # how often the client waited for a reply before it went on

    def verbs(self):
        return [c.line.split(" ")[0].split(":")[0].upper() for c in self.commands]


class Session:
    """One connection, on its own thread."""

    def __init__(self, server, sock, number):
        self.server, self.socket = server, sock
        self.transcript = Transcript(number)
        self.buffer, self.chunk = b"", 0
        self.sender, self.parameters, self.recipients = None, "", []
        self.mail = None  # the last one that came to its end
        self.idle = False  # between two mails
        self.spoke = False  # since the last read

    # -- bytes --

    def write(self, data):
        self.server.running.wait()
        self.spoke = True
        self.socket.sendall(data)

    def pause(self, seconds):
        if self.server.stopping.wait(seconds):
            raise Dropped

    def peer_is_gone(self):
        self.socket.settimeout(0.001)
        try:
            return self.socket.recv(1, 0 if self.transcript.tls else socket.MSG_PEEK) == b""
        except (TimeoutError, ssl.SSLWantReadError):
            return False
        finally:
            self.socket.settimeout(None)

    def read(self):
        self.server.running.wait()
        data = self.socket.recv(65536)
        self.server.running.wait()
        if not data:
            raise Dropped
        self.chunk += 1
        self.transcript.round_trips += self.spoke
        self.spoke = False
        self.transcript.bytes_in += len(data)
        self.buffer += data

    def read_line(self):
        while b"\n" not in self.buffer:
            self.read()
        line, self.buffer = self.buffer.split(b"\n", 1)
        text = line.rstrip(b"\r").decode("utf-8", "surrogateescape")
        self.transcript.commands.append(Command(text, self.chunk, time.monotonic()))
        return text

    def answer(self, stage, text, recipient=None):
        """Says `text`, or does what the rule for this stage wants; true where the answer was the usual one."""
        rule = self.server.arrive(stage, recipient)
        if rule and not rule.action(self):
            return False
        self.write(text.encode() + b"\r\n")
        return True

    # -- the conversation --

    def run(self):
        if self.server.tls == "implicit":
            self.start_tls()
        self.answer("banner", "220 test.example ESMTP")
        while True:
            line = self.read_line()
            self.idle = False
            handler = getattr(self, "do_" + line.split(" ")[0].split(":")[0].lower(), None)
            if handler:
                handler(line)
            else:
                self.write(b"500 5.5.1 what\r\n")

    def start_tls(self):
        self.socket = self.server.context.wrap_socket(self.socket, server_side=True)
        self.transcript.tls = True

    def do_ehlo(self, line):
        server = self.server
        words = ["SIZE %d" % server.size_limit if w == "SIZE" else w for w in sorted(server.capabilities)]
        if server.tls == "starttls" and not self.transcript.tls and server.offer_starttls:
            words.append("STARTTLS")
        if server.auth:
            words.append("AUTH " + server.auth_mechanisms)
        lines = ["test.example"] + words
        self.answer("ehlo", "\r\n".join("250%s%s" % (" " if n == len(lines) - 1 else "-", word)
                                        for n, word in enumerate(lines)))

    def do_helo(self, line):
        self.answer("helo", "250 test.example")

    def do_starttls(self, line):
        if self.answer("starttls", "220 go ahead"):
            self.start_tls()

    def do_auth(self, line):
        words = line.split(" ")
        if words[1].upper() == "PLAIN":
            token = words[2] if len(words) > 2 else self.challenge("")
            _, user, password = base64.b64decode(token).decode().split("\0")
        else:
            user = base64.b64decode(self.challenge("Username:")).decode()
            password = base64.b64decode(self.challenge("Password:")).decode()
        if (user, password) != self.server.auth:
            self.answer("auth", "535 5.7.8 authentication failed")
        elif self.answer("auth", "235 2.7.0 welcome"):
            self.transcript.user = user

    def challenge(self, text):
        self.write(b"334 " + base64.b64encode(text.encode()) + b"\r\n")
        return self.read_line()

    def do_mail(self, line):
        address, _, parameters = line[len("MAIL FROM:"):].partition(" ")
        sizes = [int(p[5:]) for p in parameters.split() if p.startswith("SIZE=")]
        if self.sender is not None:
            self.write(b"503 5.5.1 nested MAIL\r\n")
        elif sizes and sizes[0] > self.server.size_limit:
            self.write(b"552 5.3.4 too large\r\n")
        elif self.answer("mail", "250 2.1.0 ok"):
            self.sender, self.parameters, self.recipients = address[1:-1], parameters, []

    def do_rcpt(self, line):
        address = line[len("RCPT TO:<"):-1]
        if self.sender is None:
            self.write(b"503 5.5.1 MAIL first\r\n")
        elif self.answer("rcpt", "250 2.1.5 ok", recipient=address):
            self.recipients.append(address)

    def do_data(self, line):
        if self.sender is None or not (self.recipients or self.server.data_without_recipients):
            self.write(b"554 5.5.1 no valid recipients\r\n")
        elif self.answer("data", "354 go ahead"):
            self.take_message()

    def take_message(self):
        rule = self.server.arrive("body")
        while not (self.buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self.buffer):
            self.read()
            if rule and len(self.buffer) >= rule.at:
                rule.action(self)
                rule = None
        text, self.buffer = (b"\r\n" + self.buffer).split(b"\r\n.\r\n", 1)
        self.meet_what_follows()
        lines = text[2:].split(b"\r\n") if text else []
        data = b"".join(line[line.startswith(b"."):] + b"\r\n" for line in lines)
        self.end_message(Mail(self.sender, self.recipients, data, self.parameters, self.transcript.number,
                              time.monotonic(), self.transcript.tls, self.transcript.user,
                              self.transcript.round_trips))

    def meet_what_follows(self):
        """Some relays offer PIPELINING, but not behind a dot."""
        if not self.buffer or not self.server.behind:
            return
        self.server.seen["behind"] += 1
        if self.server.behind == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raise Dropped
        self.buffer = b""

    def end_message(self, mail):
        self.sender, self.recipients = None, []
        self.mail = mail
        self.server.bodies.append(mail.data)
        rule = self.server.arrive("dot")
        if rule and rule.take:
            self.server.mails.append(mail)
        if rule and not rule.action(self):
            return
        self.idle = True
        self.server.mails.append(mail)
        self.write(b"250 2.0.0 taken\r\n")

    def do_rset(self, line):
        self.sender, self.recipients = None, []
        self.answer("rset", "250 2.0.0 reset")

    def do_quit(self, line):
        self.answer("quit", "221 2.0.0 bye")
        raise Dropped


class SmtpServer:
    """tls: None, "starttls" or "implicit", with certfile (certificate and key). auth: (user, password)."""

    def __init__(self, port=0, host="127.0.0.1", tls=None, certfile=None, auth=None):
        self.host, self.port, self.tls, self.auth = host, port, tls, auth
        self.context = None
        if certfile:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certfile)
        self.capabilities = {"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE", "ENHANCEDSTATUSCODES"}
        self.size_limit = 50_000_000
        self.auth_mechanisms = "PLAIN LOGIN"
        self.offer_starttls = True
        self.data_without_recipients = False
        self.behind = None  # what follows a dot at once: None: heeded, "drop": not heeded, "reset": closes over it
        self.max_sessions = None  # more at once are turned away with 421
        self.rules, self.mails, self.bodies, self.sessions = [], [], [], []
        self.seen, self.held = collections.Counter(), collections.Counter()  # by stage
        self.releases = 0
        self.lock = threading.Lock()
        self.running, self.stopping = threading.Event(), threading.Event()
        self.running.set()
        self.listener, self.threads, self.live = None, [], set()

    # -- life --

    def start(self):
        self.stopping.clear()
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.listener = socket.create_server((self.host, self.port), backlog=512, family=family)
        self.port = self.listener.getsockname()[1]
        self._spawn(self._accept_connections, self.listener)
        return self

    def stop(self):
        """Drops all connections; start() takes the same port again."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self.running.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for session in self.live:
                _shut(session.socket)
            threads, self.threads = self.threads, []
        for thread in threads:
            thread.join(5)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    def freeze(self):
        self.running.clear()

    def thaw(self):
        self.running.set()

    def _spawn(self, target, *args):
        self.threads.append(threading.Thread(target=target, args=args, daemon=True))
        self.threads[-1].start()

    def _accept_connections(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                if self.stopping.is_set():
                    sock.close()
                    return
                session = Session(self, sock, len(self.sessions) + 1)
                self.live.add(session)
                self.sessions.append(session.transcript)
                crowded = self.max_sessions is not None and len(self.live) > self.max_sessions
                self._spawn(self._serve, session, crowded)

    def _serve(self, session, crowded):
        session.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if crowded:
                session.write(b"421 4.7.0 too many connections\r\n")
            else:
                session.run()
        except (Dropped, OSError, ValueError):
            pass  # OSError includes what TLS can fail with
        with self.lock:
            self.live.discard(session)
            session.transcript.ended = True
        session.socket.close()

    # -- behaviour --

    def rule(self, stage, action, **how):
        with self.lock:
            self.rules.append(Rule(stage, action, **how))

    def reject(self, stage, reply, raw=False, close=False, **how):
        """Says `reply` instead: text, lines parted by CR LF; raw: bytes as they are."""
        data = reply if raw else (reply.encode() if isinstance(reply, str) else reply) + b"\r\n"

        def act(session):
            session.write(data)
            if close:
                raise Dropped
        self.rule(stage, act, **how)

    def drop(self, stage, after=False, reset=False, **how):
        """Closes the connection; at the dot with `after`: having taken the mail. reset: with a RST."""

        def act(session):
            if reset:
                session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raise Dropped
        self.rule(stage, act, take=after, **how)

    def hold(self, stage, **how):
        """Says nothing until accept(); then the usual."""

        def act(session):
            before = self.releases
            self.held[stage] += 1
            while self.releases == before:
                session.pause(0.005)
                if session.peer_is_gone():
                    raise Dropped
            return True
        self.rule(stage, act, **how)

    def delay(self, stage, seconds, **how):
        def act(session):
            session.pause(seconds)
            return True
        self.rule(stage, act, **how)

    def drip(self, stage, interval=1.0, text="250 a byte now and then", **how):
        def act(session):
            for byte in text.encode() + b"\r\n":
                session.write(bytes([byte]))
                session.pause(interval)
        self.rule(stage, act, **how)

    def flood(self, stage, data, **how):
        """Says `data` again and again, until the peer has enough."""

        def act(session):
            while True:
                session.write(data * 100)
        self.rule(stage, act, **how)

    def accept(self):
        """Behaves again: no more rules, and what is held goes on."""
        with self.lock:
            self.rules.clear()
            self.releases += 1

    def close_idle(self, say=None, timeout=10):
        """Closes the connections between two mails, after saying `say` (bytes)."""
        with self.lock:
            idle = [session for session in self.live if session.idle]
        for session in idle:
            if say:
                session.write(say)
            _shut(session.socket)
        self.wait(lambda: all(session.transcript.ended for session in idle), timeout)

    def arrive(self, stage, recipient=None):
        """Notes that a session came to this stage; the rule that it is to obey."""
        with self.lock:
            self.seen[stage] += 1
            for rule in self.rules:
                if rule.stage != stage or rule.times == 0 or rule.recipient not in (None, recipient):
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return None

    # -- what happened --

    def bodies_seen(self):
        """Each message whose final dot came, taken or not."""
        return list(self.bodies)

    @property
    def connections(self):
        return len(self.sessions)

    @property
    def pipelined(self):
        """Did two commands ever come in one piece?"""
        return any(a.chunk == b.chunk for t in self.sessions for a, b in zip(t.commands, t.commands[1:]))

    def wait(self, condition, timeout=10):
        """Waits until condition() is true."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, "the relay waited in vain; seen: %s" % dict(self.seen)
            time.sleep(0.005)

    def wait_seen(self, stage, count=1, timeout=10):
        self.wait(lambda: self.seen[stage] >= count, timeout)

    def wait_held(self, stage, count=1, timeout=10):
        self.wait(lambda: self.held[stage] >= count, timeout)

    def wait_mails(self, count, timeout=10):
        self.wait(lambda: len(self.mails) >= count, timeout)
        return list(self.mails)


def _shut(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


# ---- certificates ----


def make_certificates(folder):
    """ca.pem, other-ca.pem, and certificate with key: good.pem (localhost, 127.0.0.1), wrong-host.pem, expired.pem."""
    folder = Path(folder)
    ca = _issue(folder / "ca.pem", "Test CA", None, [])
    _issue(folder / "other-ca.pem", "Other CA", None, [])
    _issue(folder / "good.pem", "localhost", ca, ["localhost", "127.0.0.1"])
    _issue(folder / "wrong-host.pem", "mail.example", ca, ["mail.example"])
    _issue(folder / "expired.pem", "localhost", ca, ["localhost", "127.0.0.1"], expired=True)
    return folder


def _issue(path, name, issuer, hosts, expired=False):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_key, issuer_name = issuer or (key, subject)
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    end = now + datetime.timedelta(days=-1 if expired else 30)
    builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer_name)
               .public_key(key.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(now - datetime.timedelta(days=60)).not_valid_after(end)
               .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
               .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
               .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
                              critical=False))
    if hosts:
        names = [x509.IPAddress(ipaddress.ip_address(h)) if h[0].isdigit() else x509.DNSName(h) for h in hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    pem = builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    if issuer is not None:
        pem += key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                 serialization.NoEncryption())
    path.write_bytes(pem)
    return key, subject
