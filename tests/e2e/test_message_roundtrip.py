"""What the service composes, read back by an independent parser (Python's email, policy default), field by field.

Needs no server: the compose tool takes one event on stdin and writes the message.
"""

import base64
import json
import random
import re
import subprocess
from datetime import datetime, timezone
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import default as policy

import pytest

from lib_service import program

SENDER = "Shop <shop@example.com>"
DATE_MS = 1700000000000

WORDS = "The quick brown fox jumps over the lazy dog "
# Every character that JSON strings and our decoder take, once; one of each 97 beyond the first 2048.
CHARACTERS = "".join(
    chr(c) for c in [*range(1, 0x800), *range(0x800, 0x110000, 97)] if not 0xD800 <= c <= 0xDFFF
)


def event(**fields):
    return {"messageID": "m-1", "to": "to@example.org", "subject": "Hello", "text": "Hello\n", **fields}


def compose_bytes(ev, sender=SENDER, date=DATE_MS):
    command = [program("compose"), sender] + ([] if date is None else [str(date)])
    done = subprocess.run(command, input=json.dumps(ev).encode(), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def check_wire(wire):
    """What holds for every message, whatever is in it."""
    assert wire.endswith(b"\r\n")
    assert b"\n" not in wire.replace(b"\r\n", b"") and b"\r" not in wire.replace(b"\r\n", b"")
    assert b"\0" not in wire
    for line in wire.split(b"\r\n"):
        assert len(line) <= 996
        assert not line.startswith((b".", b"From "))
        assert line == line.rstrip(b" \t")
    for line in wire.split(b"\r\n\r\n", 1)[0].split(b"\r\n"):
        assert len(line) <= 998
        if b"=?utf-8?" in line:
            assert len(line) <= 76 or line.startswith(b"X-NNN")  # which leaves no room
            assert all(len(word) <= 75 for word in re.findall(rb"=\?utf-8\?.*?\?=", line))


def compose(ev, **options):
    wire = compose_bytes(ev, **options)
    check_wire(wire)
    assert wire.isascii()
    message = message_from_bytes(wire, policy=policy)
    for part in message.walk():
        assert part.defects == []
        for name in part:
            assert [value.defects for value in part.get_all(name)] == [()] * len(part.get_all(name))
    return message


def lines(text):
    return text.replace("\r\n", "\n")


def content(part):
    """A text part's content; RFC 2045's line ends on the wire are CRLF."""
    return lines(part.get_payload(decode=True).decode(part.get_content_charset()))


SUBJECTS = {
    "ascii": "Your code is 123456",
    "empty": "",
    "long": (WORDS * 10).strip(),
    "utf8": "Grüße aus Köln",
    "utf8 long": "Schöne Grüße aus dem äußersten Süden " * 12 + "!",
    "japanese": "ご注文の確認 " * 30 + "。",
    "emoji": "🎉👩‍👩‍👧‍👦🏳️‍🌈" * 20,
    "combining": "e\u0301\u0302" * 100,
    "right to left": "שלום \u202eעולם\u202c مرحبا بالعالم",
    "encoded-word": "=?utf-8?q?x?=",
    "two encoded-words": "=?utf-8?q?x?= =?utf-8?b?eA==?=",
    "part of an encoded-word": "a =? b ?= c",
    "leading space": "  hello",
    "trailing space": "hello  ",
    "only spaces": "   ",
    "one space": " ",
    "runs of spaces": "a  b   c",
    "space runs and utf8": "  ä  ö   ü ",
    "no-break space": "\u00a0a\u00a0b\u00a0",
    "2000 characters without a space": "x" * 2000,
    "2000 characters of utf8 without a space": "ü" * 2000,
    "a word of 67 characters": "y" * 67 + " " + "z" * 67 + " w",
    "a word of 68 characters": "y" * 68 + " " + "z" * 68,
    "specials": "a, b; c: <d@e.f> \"g\" (h) \\ [i] %20 =20 _ ?",
    "looks like a header": "Bcc: victim@example.org",
    "line separators": "a\u2028b\u2029c\u0085d",
    "10000 bytes": ("0123456789abcdef " * 600).strip()[:10000].strip(),
}


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_subject(subject):
    message = compose(event(subject=subject))
    assert str(message["Subject"]) == subject
    assert message.keys() == ["Date", "From", "To", "Subject", "Message-ID", "MIME-Version", "Content-Type",
                              "Content-Transfer-Encoding"]


NAMES = {
    "atoms": "Ann Smith",
    "quotes": 'Ann "Annie" Smith',
    "backslashes": "Ann \\ Smith \\\\",
    "comma": "Smith, Ann",
    "dot": "Ann B. Smith",
    "specials": "a@b <c>; (d): [e]",
    "utf8": "Jürgen Groß",
    "utf8 with specials": 'Groß, "Jürgen" <x@y>',
    "japanese": "山田 太郎",
    "emoji": "👩‍💻 Team",
    "encoded-word": "=?utf-8?q?x?=",
    "long atoms": ("Maximilian " * 20).strip(),
    "long without a space": "n" * 255,
    "long utf8 without a space": "ü" * 127,
    "long utf8": ("Jürgen " * 30).strip(),
    "runs of spaces": "a  b",
    "apostrophe": "Sinéad O'Connor",
}


def read_name(message, field):
    """The display name by RFC 2047, whose decoding Python's address parser gets wrong: it keeps the white space
    between encoded-words, which section 6.2 says to drop, and drops runs of white space within them."""
    raw = dict(message.raw_items())[field].replace("\r\n", "")
    words = raw.rpartition("<")[0].strip()
    if words.startswith("=?"):
        return str(make_header(decode_header(words)))
    return message[field].addresses[0].display_name


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_display_name(name):
    person = {"email": "ann@example.org", "name": name}
    message = compose(event(to=[person, person], cc=person, replyTo=person, **{"from": person}))
    for field, count in ("From", 1), ("To", 2), ("Cc", 1), ("Reply-To", 1):
        assert [a.addr_spec for a in message[field].addresses] == ["ann@example.org"] * count
    assert read_name(message, "From") == name
    assert read_name(message, "Cc") == name
    assert read_name(message, "Reply-To") == name
    if len(name) < 40 and "  " not in name:
        assert [a.display_name for a in message["To"].addresses] == [name, name]


def test_hundred_recipients():
    to = [{"email": f"person.number.{i}@example.org", "name": ["", "Plain Name", "Näme, Ünusual"][i % 3]}
          for i in range(60)]
    cc = [f"Copy {i} <copy{i}@example.org>" for i in range(40)]
    message = compose(event(to=to, cc=cc))
    assert [(a.display_name, a.addr_spec) for a in message["To"].addresses] == [
        (p["name"], p["email"]) for p in to]
    assert [str(a) for a in message["Cc"].addresses] == cc


def test_longest_address():
    address = "l" * 64 + "@" + ".".join(["d" * 61, "e" * 61, "f" * 61, "org"])
    message = compose(event(to=[{"email": address, "name": "Ann"}, address]))
    assert [a.addr_spec for a in message["To"].addresses] == [address, address]


@pytest.mark.parametrize("local", ["a+b", "o'neil", "!#$%&'*+-/=?^_`{|}~", '"so me"', '"a@b"', '"a\\"b"', "a.b.c"])
def test_local_parts(local):
    message = compose(event(to=f"{local}@example.org"))
    assert message["To"].addresses[0].addr_spec == f"{local}@example.org"


def test_internationalised_domain():
    message = compose(event(to="Jörg <joerg@bücher.example>", **{"from": "me@例え.テスト"}))
    assert message["To"].addresses[0].addr_spec == "joerg@xn--bcher-kva.example"
    assert message["From"].addresses[0].addr_spec == "me@xn--r8jz45g.xn--zckzah"
    assert message["Message-ID"] == "<m-1@xn--r8jz45g.xn--zckzah>"


def test_utf8_local_part_is_raw_and_alone():
    wire = compose_bytes(event(to="Jörg <jörg@example.org>", subject="Grüße", text="Grüße"))
    check_wire(wire)
    raw = [line for line in wire.split(b"\r\n") if not line.isascii()]
    assert raw == ["To: =?utf-8?B?SsO2cmc=?= <jörg@example.org>".encode()]
    assert b"Subject: =?utf-8?" in wire


def test_bcc_is_nowhere():
    wire = compose_bytes(event(bcc=["hidden@example.org", "Secret <secret@example.org>"]))
    for trace in b"hidden", b"secret", b"Secret", b"bcc":
        assert trace not in wire and trace.upper() not in wire.upper()


def test_sender():
    message = compose(event())
    assert message["From"] == SENDER
    assert message["Reply-To"] is None
    message = compose(event(replyTo="Desk <desk@example.net>", **{"from": "Me <me@example.net>"}))
    assert message["From"] == "Me <me@example.net>"
    assert message["Reply-To"] == "Desk <desk@example.net>"
    assert message["Message-ID"] == "<m-1@example.net>"
    assert compose(event(), sender="bare@example.com")["From"] == "bare@example.com"


BODIES = {
    "one line": "Hello\n",
    "no final newline": "Hello",
    "empty": "",
    "newline": "\n",
    "newlines": "\n\n\n",
    "crlf": "a\r\nb\r\n",
    "crlf without the last": "a\r\nb",
    "mixed line ends": "a\nb\r\nc\n",
    "dots": ".\n..\n.a\n\n.\n",
    "dot alone": ".",
    "end of data": "a\r\n.\r\nMAIL FROM:<x@y>\r\n",
    "from lines": "From me\nFrom you\n>From them\nFrom\n",
    "very long line": "x" * 5000 + "\n",
    "very long line of words": WORDS * 100,
    "line of 996": "x" * 996 + "\n",
    "line of 997": "x" * 997 + "\n",
    "trailing blanks": "a \nb\t\nc  \n \n\t\n",
    "trailing blank at the end": "a ",
    "lone cr": "a\rb\r\rc\r",
    "cr cr lf": "a\r\r\nb\r\r\n",
    "tabs": "a\tb\n\tc\n",
    "boundary": "--=_b1_mixed\n--=_b2_alternative--\n",
    "signature": "Hello\n-- \nMe\n",
    "equals signs": "a=b =20 =3D =\n=\n",
    "encoded-word": "=?utf-8?q?x?=\n",
    "utf8": "Grüße aus Köln\n",
    "utf8 without newline": "Grüße aus Köln",
    "long utf8 line": "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich " * 50,
    "japanese": "こんにちは\n世界" * 100,
    "japanese mixed ends": "こ\r\n世\n" * 77 + "界\r",
    "emoji": "🎉" * 500,
    "bom": "\ufeffHello\n",
    "controls": "".join(map(chr, [*range(1, 32), 127])),
    "every kind of character": CHARACTERS,
    "soft break next to a dot": "x" * 75 + ".y\n" + "x" * 75 + "From z\n" + "x" * 74 + " \n",
    "700 kB of ascii": (WORDS * 2 + "\n") * 7800,
    "300 kB of utf8": "Zwölf Boxkämpfer jagen Viktor\n" * 9000,
}


def expected_text(message, body):
    """What a text reads back as: a 7bit one that is the whole message has to end with a line end."""
    bare = message["Content-Transfer-Encoding"] == "7bit" and body and not body.endswith("\n")
    return lines(body) + ("\n" if bare else "")


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_text(body):
    message = compose(event(text=body))
    assert message.get_content_type() == "text/plain" and message.get_content_charset() == "utf-8"
    assert content(message) == expected_text(message, body)
    assert lines(message.get_content()) == expected_text(message, body)


def test_final_line_end():
    for body in "Hello", "Your code is 123456.":
        message = compose(event(text=body))
        assert message["Content-Transfer-Encoding"] == "7bit"
        assert lines(message.get_content()) == body + "\n"
    assert compose(event(text="Grüße")).get_content() == "Grüße"


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_html_and_text(body):
    if len(body) > 200000:
        body = body[:200000]
    message = compose(event(text=body, html=body + "<p>"))
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert content(text) == lines(body)
    assert content(html) == lines(body) + "<p>"
    assert message.get_body(("plain",)) is text and message.get_body(("html",)) is html


def test_html_only():
    message = compose({"messageID": "m", "to": "a@b.example", "subject": "s", "html": "<p>é</p>"})
    assert message.get_content_type() == "text/html"
    assert message.get_content() == "<p>é</p>"


def attachment(filename="a.bin", content=b"", content_type="application/octet-stream", **more):
    return {"filename": filename, "contentType": content_type, "content": base64.b64encode(content).decode(),
            **more}


ATTACHMENTS = {
    "empty": b"",
    "one byte": b"\0",
    "every byte": bytes(range(256)),
    "every byte often": bytes(range(256)) * 1000,
    "57 bytes": b"a" * 57,
    "58 bytes": b"a" * 58,
    "114 bytes": b"a" * 114,
    "line ends": b"a\rb\nc\r\nd\n",
    "looks like a boundary": b"\r\n--=_b1_mixed--\r\n",
}


@pytest.mark.parametrize("data", ATTACHMENTS.values(), ids=ATTACHMENTS)
def test_attachment_content(data):
    message = compose(event(attachments=[attachment(content=data), attachment("b.bin", data)]))
    assert message.get_content_type() == "multipart/mixed"
    text, *files = message.iter_parts()
    assert content(text) == "Hello\n"
    assert [f.get_filename() for f in files] == ["a.bin", "b.bin"]
    for part in files:
        assert part.get_content_disposition() == "attachment"
        assert part.get_content() == data


FILENAMES = {
    "spaces": "my holiday photo.jpg",
    "quotes": 'a "b" c.txt',
    "backslash": "a\\b.txt",
    "semicolon": "a; filename=b.txt",
    "percent": "100%25.txt",
    "apostrophe": "it's.txt",
    "utf8": "Übersicht für März.pdf",
    "japanese": "請求書.pdf",
    "emoji": "🎉.png",
    "60 characters": "a" * 56 + ".txt",
    "61 characters": "a" * 57 + ".txt",
    "255 characters": "a" * 251 + ".txt",
    "long utf8": "ü" * 125 + ".pdf",
    "long emoji": "🎉" * 60 + ".png",
    "encoded-word": "=?utf-8?q?x?=.txt",
    "rfc 2231": "utf-8''a%20b",
    "path": "../../etc/passwd",
    "long with specials": "a*'%b " * 40 + ".txt",
}


@pytest.mark.parametrize("filename", FILENAMES.values(), ids=FILENAMES)
def test_filename(filename):
    message = compose(event(attachments=[attachment(filename, b"x")]))
    (part,) = message.iter_attachments()
    assert part.get_filename() == filename


def test_white_space_around_a_filename():
    wire = compose_bytes(event(attachments=[attachment(" a .txt ", b"x")]))
    assert b"filename*=utf-8''%20a%20.txt%20\r\n" in wire  # Python strips what it decodes


@pytest.mark.parametrize("content_type", ["application/pdf", "image/svg+xml", "text/csv; charset=utf-8; header=present",
                                          'text/plain; charset="utf-8"; format=flowed; note="a b"',
                                          "application/vnd.openxmlformats-officedocument.wordprocessingml.document; " +
                                          "; ".join(f"parameter{i}=value{i}" for i in range(8))])
def test_content_type(content_type):
    message = compose(event(attachments=[attachment("a", b"x", content_type)]))
    (part,) = message.iter_attachments()
    kind, *parameters = content_type.split("; ")
    assert part.get_content_type() == kind
    assert part["Content-Type"].params == {
        k: v.strip('"') for k, v in (p.split("=", 1) for p in parameters)}


def test_inline_images():
    images = [attachment("logo.png", b"png", "image/png", contentID="logo@shop"),
              attachment("photo.jpg", b"jpg", "image/jpeg", contentID="photo-1")]
    pdf = attachment("bill.pdf", b"pdf", "application/pdf")
    html = '<img src="cid:logo@shop"><img src="cid:photo-1">'
    message = compose(event(html=html, attachments=[pdf, *images]))
    assert [p.get_content_type() for p in message.walk()] == [
        "multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png",
        "image/jpeg", "application/pdf"]
    related = message.get_body(("related",))
    assert related["Content-Type"].params["type"] == "text/html"
    page, logo, photo = related.iter_parts()
    assert content(page) == html
    assert (logo["Content-ID"], photo["Content-ID"]) == ("<logo@shop>", "<photo-1>")
    assert logo.get_content_disposition() == photo.get_content_disposition() == "inline"
    assert (logo.get_content(), photo.get_content()) == (b"png", b"jpg")
    assert [p.get_filename() for p in message.iter_attachments()] == ["bill.pdf"]


def test_inline_image_in_html_only():
    ev = event(html="<img src=cid:x>", attachments=[attachment("x.png", b"x", "image/png", contentID="x")])
    del ev["text"]
    assert [p.get_content_type() for p in compose(ev).walk()] == ["multipart/related", "text/html", "image/png"]


def test_inline_image_without_html():
    message = compose(event(attachments=[attachment("x.png", b"x", "image/png", contentID="x")]))
    assert [p.get_content_type() for p in message.walk()] == ["multipart/mixed", "text/plain", "image/png"]
    image = list(message.iter_parts())[1]
    assert (image["Content-ID"], image.get_content_disposition()) == ("<x>", "inline")


HEADERS = {
    "X-Tag": "welcome",
    "List-Unsubscribe": "<https://example.com/unsubscribe?" + "u=0123456789&" * 40 + ">, <mailto:out@example.com>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    "References": " ".join(f"<message.number.{i}@example.com>" for i in range(60)),
    "In-Reply-To": "<message.number.59@example.com>",
    "X-Query": "<https://example.com/?a=?b>",
    "X-Utf8": "Grüße aus Köln " * 20 + "!",
    "X-Encoded-Word": "=?utf-8?q?x?=",
    "X-Empty": "",
    "X-Longest-Word": "w" * 900,
    "X-Runs": "a  b   c",
    "X-" + "N" * 62: "é" * 40,
    "X-Longest": ("0123456789 " * 740).strip(),
    "Auto-Submitted": "auto-generated",
}


@pytest.mark.parametrize("name", HEADERS)
def test_extra_header(name):
    message = compose(event(headers={name: HEADERS[name]}))
    assert message[name] == HEADERS[name]


def test_all_extra_headers():
    message = compose(event(headers=HEADERS))
    for name, value in HEADERS.items():
        assert message.get_all(name) == [value]
    assert sorted(message.keys()) == sorted([
        "Date", "From", "To", "Subject", "Message-ID", "MIME-Version", "Content-Type",
        "Content-Transfer-Encoding", *HEADERS])


def test_white_space_around_an_extra_header_is_dropped():
    assert compose(event(headers={"X-Tag": "  a b  "}))["X-Tag"] == "a b"


MESSAGE_IDS = ["a", "a.b", ".a", "a.", "a..b", "...", "%", "%2E", "%25", "a%..b", "<a>", '"a"', "a@b", "a@b@c", "(a)",
               "a,b", "a;b", "a:b", "\\", "[a]", "=?utf-8?q?x?=", "=", "?", "A", "!#$&'*+-/=?^_`{|}~", "x" * 200,
               "@" * 200, "." * 200]


def test_message_ids():
    seen = {}
    for message_id in MESSAGE_IDS:
        message = compose(event(messageID=message_id))
        again = compose(event(messageID=message_id, to="other@example.org", subject="Other", text="Other"))
        value = str(message["Message-ID"])
        assert value == str(again["Message-ID"])
        assert re.fullmatch(r"<[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@example\.com>",
                            value)
        seen[value] = message_id
    assert len(seen) == len(MESSAGE_IDS)


@pytest.mark.parametrize("moment", ["1970-01-01T00:00:00Z", "2000-02-29T12:34:56Z", "2024-12-31T23:59:59.999Z",
                                    "2025-07-09T08:07:06+02:00", "9999-12-31T23:59:59Z"])
def test_date(moment):
    message = compose(event(createdAt=moment), date=None)
    wanted = datetime.fromisoformat(moment.replace("Z", "+00:00")).replace(microsecond=0)
    assert message["Date"].datetime == wanted.astimezone(timezone.utc)
    assert str(message["Date"]).endswith(" +0000")
    assert message["Date"].datetime.strftime("%a") == str(message["Date"])[:3]


def test_no_date():
    assert "Date" not in compose(event(), date=None)
    assert "Date" not in compose(event(), date=-1)


PIECES = ["a", "Hello", " ", "  ", ".", ",", '"', "\\", "<", ">", "@", "=", "?", "=?", "?=", "=?utf-8?q?x?=", "_", "%41", ";",
          "x" * 60, "é", "日本", "🎉", "\u0301", "\u202e", "From ", "--=_b1_mixed"]
BODY_PIECES = [*PIECES, "\n", "\n", "\r\n", "\r", "\t", " \n", "\n.", "\nFrom ", "\n\n", "\x01", "\x7f", "y" * 900]


@pytest.mark.parametrize("seed", range(60))
def test_generated_event(seed):
    source = random.Random(seed)

    def text(pieces, most):
        return "".join(source.choices(pieces, k=source.randrange(most)))

    ascii_only = [p for p in PIECES if p.isascii()]
    ev = event(subject=text(source.choice([PIECES, ascii_only]), 60), text=text(BODY_PIECES, 200),
               headers={"X-Tag": text(source.choice([PIECES, ascii_only]), 14)})
    if source.randrange(2):
        ev["html"] = text([p for p in BODY_PIECES if p.isascii() or source.randrange(2)], 200)
    files = [(text(PIECES, 8) + "a", source.randbytes(source.randrange(300))) for _ in range(source.randrange(3))]
    ev["attachments"] = [attachment(name.strip(), data) for name, data in files]
    message = compose(ev)
    assert str(message["Subject"]) == ev["subject"]
    assert message["X-Tag"] == ev["headers"]["X-Tag"].strip(" ")
    expected = lines(ev["text"]) if message.is_multipart() else expected_text(message, ev["text"])
    assert lines(message.get_body(("plain",)).get_content()) == expected
    if "html" in ev:
        assert lines(message.get_body(("html",)).get_content()) == lines(ev["html"])
    assert [(a.get_filename(), a.get_content()) for a in message.iter_attachments()
            if a.get_content_disposition()] == [(name.strip(), data) for name, data in files]


def test_composing_again_gives_the_same_bytes():
    ev = event(to=[{"email": "a@example.org", "name": "Jürgen"}] * 3, cc="b@example.org", html="<p>Grüße", headers=HEADERS,
               subject=SUBJECTS["emoji"], attachments=[attachment("ü", b"x", contentID="c"), attachment("v", b"y")])
    first = compose_bytes(ev)
    assert first == compose_bytes(ev)
    backwards = dict(reversed(ev.items()), headers=dict(reversed(HEADERS.items())))
    assert first == compose_bytes(backwards)


def test_template_must_be_filled_in_before():
    ev = {"messageID": "m", "to": "a@b.example", "template": "welcome"}
    done = subprocess.run([program("compose"), SENDER], input=json.dumps(ev).encode(), capture_output=True, timeout=60)
    assert done.returncode == 1 and b"neither text nor html" in done.stderr and done.stdout == b""


@pytest.mark.parametrize("bad", [b"", b"{}", b'{"messageID":"m","to":"a@b.example","subject":"a\\r\\nBcc: x","text":"t"}'])
def test_bad_event(bad):
    done = subprocess.run([program("compose"), SENDER], input=bad, capture_output=True, timeout=60)
    assert done.returncode == 1 and done.stderr and done.stdout == b""
