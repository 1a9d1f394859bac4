"""HTTP changes nothing and reflects nothing: every method on every path, and what is no method and no path."""

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor

from lib_process import wait_for
from lib_stack import event

PATHS = ["/", "/health", "/live", "/ready", "/stats", "/metrics"]
ODD_PATHS = ["*", "/admin", "/shutdown", "/reset", "/stats/reset", "/-/reload", "/debug/pprof/", "/metrics/",
             "/..;/stats", "/%2e%2e/", "/health%00", "/HEALTH", "//health", "/./health", "/health;x=1", "localhost:80",
             "http://other.example/admin", "/<script>alert(1)</script>", "/\"onmouseover=\"x", "/\xff\xfe"]
USUAL = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
METHODS = [*USUAL, "TRACE", "CONNECT", "PROPFIND", "MKCOL", "PURGE", "get", "X" * 200]
MARK = "kanari-reflected"


def ask(port, method, target, body=b"", headers=()):
    """One request as it is, whatever it is; the whole answer, b"" where the connection was closed without one."""
    lines = ["%s %s HTTP/1.1" % (method, target), "Host: 127.0.0.1", "Connection: close", "X-Mark: " + MARK]
    lines += ["Content-Length: %d" % len(body)] if body else []
    request = "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        answer = b""
        try:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)  # nothing follows, whatever the headers promise
            while piece := client.recv(65536):
                answer += piece
        except TimeoutError:
            raise
        except OSError:  # closed on us, perhaps before we were done
            pass
        return answer


def status_of(answer):
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(found.group(1)) if found else 0


def state_of(service):
    """What a request could have changed: counters and the way it works, not what passes with time."""
    stats = service.stats()
    metrics = [line for line in service.http("/metrics").body.splitlines()
               if re.match(r"email_(events_consumed|sent|duplicates|retries|dead_letters)", line)]
    return stats["events"], stats["ttl_hours"], metrics, service.status("/ready"), service.logs("Shutting down")


def test_nothing_changes_anything(stack):
    service = stack.start()
    stack.wait_mark(stack.publish_new())
    wait_for(lambda: service.stats()["events"]["sent"] == 1, 10, "the count")
    before, keys = state_of(service), sorted(stack.redis.client.keys("*"))
    for method in METHODS:
        for path in PATHS:
            for target in (path, path + "?token=1&level=debug&ttl_hours=1"):
                body = b'{"shutdown":true,"level":"debug"}' if method != "TRACE" else b""
                answer = ask(service.port, method, target, body)
                assert status_of(answer) in (405, 400, 404, 501, 0), (method, target, answer[:200])
                assert method not in USUAL or status_of(answer) == 405, (method, target)
                assert MARK.encode() not in answer, "TRACE and its kin repeat the request"
    for method in ["GET", "HEAD", *METHODS]:
        for target in ODD_PATHS:
            answer = ask(service.port, method, target)
            assert status_of(answer) in (404, 400, 405, 501, 0), (method, target, answer[:200])
            assert method != "GET" or target == "*" or status_of(answer) in (404, 400), (target, answer[:200])
            for reflected in (MARK.encode(), b"<script", b"onmouseover", b"pprof"):
                assert reflected not in answer
    assert state_of(service) == before
    assert sorted(stack.redis.client.keys("*")) == keys
    assert service.logs(level="debug") == []
    # And it works on.
    stack.wait_mark(stack.publish_new())


STRANGE_HEADERS = [
    ["Content-Length: 5", "Transfer-Encoding: chunked"], ["Transfer-Encoding: chunked, identity"],
    ["Content-Length: 1, 2"], ["Content-Length: 99999999999999999999"], ["Host: other.example"], ["X: " + "y" * 20000],
    ["Authorization: Basic " + "A" * 3000], ["Range: bytes=0-" + "1," * 2000], ["X: a\x00b"], ["Upgrade: websocket"],
    ["Expect: 100-continue"]]


def test_strange_headers(stack):
    service = stack.start()
    cases = [(method, headers) for headers in STRANGE_HEADERS for method in ("GET", "POST")]
    with ThreadPoolExecutor(len(cases)) as pool:  # some wait for the end of their time
        answers = pool.map(lambda case: ask(service.port, case[0], "/live", headers=case[1]), cases)
    for case, answer in zip(cases, answers):
        assert status_of(answer) in (100, 200, 400, 405, 411, 413, 414, 431, 501, 0), (case, answer[:200])
    assert service.status("/live") == 200


def test_headers_of_every_answer(stack):
    service = stack.start()
    for path in [*PATHS, "/nothing"]:
        for method in ("GET", "HEAD", "POST"):
            headers = service.http(path, method=method).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert headers["referrer-policy"] == "no-referrer"
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
            assert "script-src" not in policy and "unsafe-eval" not in policy
            assert not {"access-control-allow-origin", "set-cookie", "server", "x-powered-by"} & headers.keys()


def test_page_of_hostile_events(stack):
    """What publishers choose is text on the page, whatever it looks like."""
    service = stack.start()
    hostile = ["<script>alert(1)</script>", "\"><img/src=x/onerror=alert(1)>", "'onload='alert(1)",
               "</style><svg/onload=1>", "&lt;b&gt;", "{{7*7}}", "javascript:alert(1)"]
    for n, text in enumerate(hostile):
        stack.publish(event(messageID="%d%s" % (n, text)))
        stack.publish(event(messageID="bad-%d%s" % (n, text), to="nobody"))
    service.wait_log("Email moved to dead letter queue", len(hostile))
    wait_for(lambda: service.stats()["events"]["sent"] == len(hostile), 10, "the mails")
    page = service.http("/").body
    assert page.count("bad-0") == 1, "they are on the page"
    for tag in re.findall(r"<[^>]*>", page):
        assert not re.match(r"<\s*(script|img|iframe|object|embed|link|base|form|input)", tag, re.IGNORECASE), tag
        assert not re.search(r"\son\w+\s*=|javascript:", tag, re.IGNORECASE), tag
    assert "&lt;script&gt;" in page and "&amp;lt;b&amp;gt;" in page
    for path in ("/stats", "/ready", "/health"):
        assert "<script" not in json.dumps(service.http(path).json())
