"""Running emailctl against a stack, and dead letters made by hand."""

import json
import subprocess

from lib_service import SANITIZERS, assert_no_sanitizer_report, program
from lib_stack import event


def run_ctl(stack, *args, stdin=None, timeout=60, cwd=None, **env):
    """Runs emailctl on the stack; env adds to its variables, None takes one out."""
    merged = dict(stack.env, **env)
    merged = {name: str(value) for name, value in merged.items() if value is not None}
    given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run([program("emailctl"), *map(str, args)], env=dict(SANITIZERS, **merged),
                          cwd=cwd or stack.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout, **given)
    assert_no_sanitizer_report(done.stderr)
    return done


def good(done):
    assert done.returncode == 0, "exit %d\n%s%s" % (done.returncode, done.stdout, done.stderr)
    return done.stdout


def listed(stack, *args):
    return [json.loads(line) for line in good(run_ctl(stack, "dlq", "list", "--json", *args)).splitlines()]


def bury(stack, value=None, reason="rejected", key=b"key", headers=(), failed_at="2026-11-21T08:00:00.000Z", **fields):
    """Puts a dead letter into the queue as the service would; the messageID."""
    value = value if value is not None else event(**fields)
    raw = json.dumps(value).encode() if isinstance(value, dict) else value
    ours = {"dlq-reason": reason, "dlq-error": "550 no", "dlq-attempts": "1", "dlq-topic": stack.topic,
            "dlq-partition": "0", "dlq-offset": "7", "dlq-failed-at": failed_at}
    ours.update(dict(headers))
    plain = [(name, text.encode()) for name, text in ours.items() if text is not None]
    stack.kafka.produce(stack.dlq_topic, [(key, raw, [("origin", b"a test"), *plain])], partition=0)
    return value["messageID"] if isinstance(value, dict) else None
