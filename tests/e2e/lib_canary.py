"""Unique strings in every private part of an event, and the search for them in what the programs say."""

import base64
import json
import random
import uuid
from pathlib import Path

WORDS = "amber birch cedar dune ember fjord glade heron islet jade knoll larch mesa north otter".split()


def _phrase():
    """Words like those of a person: no digit in them that would make them easy to find."""
    return " ".join(random.sample(WORDS, 6))


class Canaries:
    def __init__(self):
        unique = uuid.uuid4().hex[:8]
        self.addresses = {name: "kanari-%s-%s@canary.example" % (name, unique)
                          for name in ("to", "refused", "cc", "bcc", "from", "reply")}
        self.names = {name: "Kanari %s" % _phrase() for name in ("to", "from", "reply")}
        self.subject = "Subject " + _phrase()
        self.text = "Body of %s" % _phrase()
        self.html = "<p>Page of %s</p>" % _phrase()
        self.code = str(random.randrange(10 ** 7, 10 ** 8))
        self.attachment_name = "file-%s.txt" % unique
        self.attachment = "Attached %s" % _phrase()
        self.header = "Header %s" % _phrase()
        self.data = "Data %s" % _phrase()
        self.metadata = "Metadata %s" % _phrase()
        self.record_header = "record-header-%s" % unique
        self.key = "kanari-key-%s@canary.example" % unique
        self.smtp_user = "login-%s@canary.example" % unique
        self.smtp_password = "smtp-Pass-%s" % unique
        self.redis_password = "redis-Pass-%s" % unique
        self.kafka_password = "kafka-Pass-%s" % unique
        self.secrets = {"smtp": self.smtp_password, "redis": self.redis_password, "kafka": self.kafka_password}

    def event(self, message_id, **fields):
        a, n = self.addresses, self.names
        value = {
            "messageID": message_id, "type": "verification_code",
            "to": [{"email": a["to"], "name": n["to"]}], "cc": a["cc"], "bcc": [a["bcc"]],
            "from": "%s <%s>" % (n["from"], a["from"]), "replyTo": {"email": a["reply"], "name": n["reply"]},
            "subject": self.subject, "text": "%s\nYour code is %s.\n" % (self.text, self.code),
            "html": self.html + "<b>%s</b>" % self.code,
            "headers": {"X-Canary": self.header}, "metadata": {"note": self.metadata},
            "attachments": [{"filename": self.attachment_name, "contentType": "text/plain",
                             "content": base64.b64encode(self.attachment.encode()).decode()}]}
        value.update(fields)
        return {name: field for name, field in value.items() if field is not None}

    def echo(self, code):
        """What a relay that repeats all that it was told may say: no more than 512 octets a reply."""
        a, n = self.addresses, self.names
        pieces = ["<%s>: refused" % a["to"], "from <%s>" % a["from"], "reply to %s" % a["reply"],
                  "bcc %s" % a["bcc"].upper(), 'subject "%s"' % self.subject, "code %s" % self.code,
                  "name %s" % n["to"], "text %s" % self.text, "in %s" % self.attachment_name,
                  self.header, self.html]
        lines = ["%d-5.7.1 %s" % (code, piece) for piece in pieces] + ["%d 5.7.1 not wanted" % code]
        return "\r\n".join(lines)

    def login_echo(self):
        plain = "\0%s\0%s" % (self.smtp_user, self.smtp_password)
        return "535 5.7.8 no login for %s with %s (%s, %s, %s)" % (
            self.smtp_user, self.smtp_password, base64.b64encode(plain.encode()).decode(),
            base64.b64encode(self.smtp_password.encode()).decode(), base64.b64encode(self.smtp_user.encode()).decode())

    # ---- the search ----

    def private(self):
        """What must be seen at no level."""
        found = {"subject": self.subject, "text": self.text, "html": self.html, "code": self.code,
                 "attachment name": self.attachment_name, "attachment": self.attachment, "header": self.header,
                 "data": self.data, "metadata": self.metadata, "record header": self.record_header}
        found.update(("password of " + name, secret) for name, secret in self.secrets.items())
        found.update(("base64 of password of " + name, base64.b64encode(secret.encode()).decode().rstrip("="))
                     for name, secret in self.secrets.items())
        found["AUTH PLAIN"] = base64.b64encode(
            ("\0%s\0%s" % (self.smtp_user, self.smtp_password)).encode()).decode().rstrip("=")
        return found

    def personal(self):
        """What may be seen at level debug only."""
        found = {"address " + name: address.split("@")[0] for name, address in self.addresses.items()}
        found.update(("name " + name, text) for name, text in self.names.items())
        found.update({"key": self.key.split("@")[0], "login": self.smtp_user.split("@")[0]})
        return found

    def check(self, what, text, debug=False):
        """Fails where `text` holds one of them, also as a piece of 16 characters, or escaped as JSON."""
        haystack = text.lower()
        wanted = dict(self.private(), **({} if debug else self.personal()))
        for name, canary in wanted.items():
            for form in {canary, json.dumps(canary)[1:-1]}:
                form = form.lower()
                size = min(16, len(form))
                for at in range(len(form) - size + 1):
                    place = haystack.find(form[at:at + size])
                    assert place < 0, "%s shows the %s: …%s…" % (what, name, text[max(0, place - 150):place + 150])

    def check_process(self, pid):
        """What the kernel shows of how it was started."""
        for name in ("cmdline", "environ"):
            shown = Path("/proc/%d/%s" % (pid, name)).read_bytes()
            assert shown and not [s for s in self.secrets.values() if s.encode() in shown], shown

    def check_http(self, service):
        for path in ("/", "/health", "/live", "/ready", "/stats", "/metrics", "/nothing?" + self.code, "/" + self.key):
            answer = service.http(path)
            self.check(path, answer.body + json.dumps(answer.headers))

    def check_letter(self, letter):
        """All that the service adds to a dead letter but dlq-recipients, which is there to name them."""
        for name, text in letter.dlq.items():
            if name != "recipients":
                self.check("dlq-%s of a letter (%s)" % (name, letter.reason), text)
