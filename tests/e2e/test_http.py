"""HTTP: paths, methods, and clients that behave badly."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib_process import wait_for
from lib_stack import event


@pytest.mark.parametrize("path", ["/health", "/live", "/ready", "/stats", "/metrics", "/"])
def test_paths_and_methods(stack, path):
    service = stack.start()
    assert service.http(path).status == 200
    assert service.http(path + "?probe=1").status == 200
    head = service.http(path, method="HEAD")
    assert head.status == 200 and head.body == ""
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = service.http(path, method=method, body=b"x" * 10)
        assert answer.status == 405, method
        assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("path", ["/nothing", "/health/", "/healthz", "//", "/../etc/passwd", "/%00", "/stats/x"])
def test_unknown_path(stack, path):
    assert stack.start().http(path).status == 404


def test_metrics_are_prometheus_text(stack):
    service = stack.start()
    stack.wait_mark(stack.publish_new())
    answer = service.http("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    typed = {line.split()[2]: line.split()[3] for line in answer.body.splitlines() if line.startswith("# TYPE")}
    for name in ("email_events_consumed_total", "email_sent_total", "email_duplicates_total",
                 "email_retries_total", "email_dead_letters_total"):
        assert typed[name] == "counter", name
    for name in ("email_delivery_seconds", "email_end_to_end_seconds"):
        assert typed[name] == "histogram", name
        assert service.metric(name + "_count") == 1
        assert service.metric(name + "_bucket", le="+Inf") == 1
    for name in ("email_in_flight", "email_retry_waiting", "email_consumer_lag", "email_smtp_connections",
                 "email_idempotency_records", "email_kafka_up", "email_redis_up", "email_smtp_up",
                 "email_build_info", "process_resident_memory_bytes", "process_open_fds"):
        assert typed[name] == "gauge", name
    assert service.metric("email_consumer_lag", topic=stack.topic) == 0
    assert service.metric("email_kafka_up") == service.metric("email_redis_up") == 1
    for line in answer.body.splitlines():
        if not line.startswith("#"):
            float(line.rsplit(" ", 1)[1])


def test_idempotency_records_cost_nothing(stack):
    """No KEYS and no full SCAN per request."""
    service = stack.start()
    stack.wait_mark(stack.publish_new())
    client = stack.redis.client
    client.config_resetstat()
    for _ in range(200):
        assert service.http("/health").status == 200
    calls = {name: info["calls"] for name, info in client.info("commandstats").items()}
    assert "cmdstat_keys" not in calls
    assert sum(n for name, n in calls.items() if name != "cmdstat_config|resetstat") < 100, calls


def test_stalling_clients_slow_no_delivery(stack):
    """Silent, half-finished and unread connections stay open while mails go out."""
    service = stack.start()
    stalled = []
    try:
        for i in range(40):
            client = socket.create_connection(("127.0.0.1", service.port), timeout=5)
            stalled.append(client)
            if i % 4 == 1:
                client.sendall(b"GET /stats HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            elif i % 4 == 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
            elif i % 4 == 3:
                client.sendall(b"POST /stats HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx")
        begin = time.monotonic()
        stack.publish(*[event() for _ in range(100)])
        stack.wait_mails(100)
        assert time.monotonic() - begin < 10
        wait_for(lambda: service.status("/live") == 200, 15, "an answer beside forty stalled clients")
    finally:
        for client in stalled:
            client.close()


def test_a_dripping_client_is_cut(stack):
    """A byte a second is no idle time; the request as a whole has a deadline."""
    service = stack.start()
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as client:
        client.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\nX-Drip: ")
        client.settimeout(0.25)

        def cut():
            try:
                client.sendall(b"a")
                return client.recv(1000) == b""
            except socket.timeout:
                return False
            except OSError:
                return True

        wait_for(cut, 60, "the end of the dripping request")


def test_requests_beyond_bounds(stack):
    service = stack.start()
    for request in (b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 1000000 + b"\r\n\r\n",
                    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 4096, b"garbage\r\n\r\n",
                    b"GET http://[ HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", service.port), timeout=1) as client:
            try:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                client.recv(4096)
            except OSError:
                pass  # cut off while sending: that is fine
    assert service.status("/live") == 200


def test_many_clients_at_once(stack):
    service = stack.start()
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: service.status("/stats"), range(300)))
    assert set(statuses) == {200}


def test_page_for_people(stack):
    service = stack.start()
    message_id = stack.publish(event(subject="<script>alert(1)</script>", messageID="m-<script>alert(1)</script>"))
    stack.wait_mark(message_id)
    answer = service.http("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "<html" in answer.body.lower()
    assert "<script>alert" not in answer.body
    assert "user@example.com" not in answer.body
