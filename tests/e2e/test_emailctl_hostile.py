"""A dead letter may hold anything; what reaches the terminal of whoever looks at it is text."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib_emailctl import bury, run_ctl
from lib_stack import event, new_id

# Escape sequences: clear the screen, a window title that is typed back, a link, an 8-bit CSI, a direction override.
EVIL = "\x1b[2J\x1b]0;rm -rf ~\x07\x1b]8;;http://evil.example\x1b\\\x9b31m\u202e\u2066\u2028\x7f\r\x08\x00"
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
OURS = ("reason", "error", "smtp-reply", "topic", "partition", "offset", "failed-at", "attempts", "recipients", "redriven",
        "truncated")


@pytest.fixture
def hostile(stack):
    """Letters with all of it in each place."""
    for name in OURS:
        bury(stack, key=(EVIL + "key").encode(), headers={"dlq-" + name: EVIL + name})
    bury(stack, headers={EVIL + "name": "value", "name": EVIL}, reason=EVIL)
    bury(stack, event(messageID="m" + EVIL, subject=EVIL, **{EVIL: EVIL}))
    bury(stack, EVIL.encode())
    bury(stack, EVIL.encode("utf-16"))
    bury(stack, b"\x9b31m\x1b[2J\xff\xfe")
    bury(stack, b'{"messageID":"' + EVIL.encode() + b'"')
    # Only some recipients were refused: redriving writes a messageID of its own.
    bury(stack, event(messageID="x" + EVIL), headers={"dlq-recipients": json.dumps(["user@example.com"])})
    bury(stack, event(messageID=new_id(), to=["user@example.com", "b@example.com"]),
         headers={"dlq-recipients": json.dumps(["b@example.com", EVIL])})
    return stack


def looked_at(stack, *args):
    done = run_ctl(stack, *args)
    for text in (done.stdout, done.stderr):
        found = FORBIDDEN.search(text)
        assert not found, "%r shows %r in %r" % (args, found.group(), text[max(0, found.start() - 60):found.end() + 60])
    return done.stdout + done.stderr


def test_nothing_reaches_the_terminal(hostile):
    assert "key" in looked_at(hostile, "dlq", "show", "0:0")
    count = sum(hostile.kafka.end_offsets(hostile.dlq_topic).values())
    for args in (["dlq", "list"], ["dlq", "list", "--json"], ["dlq", "purge", "--all", "--dry-run"],
                 ["dlq", "redrive", "--dry-run"], ["dlq", "redrive", "--dry-run", "--force"],
                 ["dlq", "list", "--reason", EVIL.replace("\0", "")], ["dlq", "show", "--message-id", EVIL.replace("\0", "")]):
        looked_at(hostile, *args)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda offset: looked_at(hostile, "dlq", "show", "0:%d" % offset), range(count)))
        shown = pool.map(lambda offset: looked_at(hostile, "dlq", "show", "--json", "0:%d" % offset), range(count))
        assert len([json.loads(line) for text in shown for line in text.splitlines()]) == count
    assert "skipped" in looked_at(hostile, "dlq", "redrive")
    looked_at(hostile, "dlq", "redrive", "--force", "--again")


def test_operands_and_flags(stack):
    evil = EVIL.replace("\0", "")
    for args in (["dlq", "show", evil], ["dlq", "redrive", evil], ["publish", "--to", evil, "--subject", evil, "--text", "x"],
                 ["publish", "--dry-run", "--to", "a@b.example", "--subject", "x", "--text", "x", "--attach", evil],
                 ["publish", "--dry-run", "--to", "a@b.example", "--text", "x", "--header", evil]):
        looked_at(stack, *args)
