"""email-service --health-check: what a container's health check runs."""

import json

from lib_process import free_port
from lib_service import run


def ask(service, **env):
    return run("email-service", "--health-check", env=dict(service.env, **env), cwd=service.folder)


def test_healthy(stack):
    service = stack.start()
    done = ask(service)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "healthy"


def test_daemon_that_listens_everywhere(stack):
    service = stack.start(EMAIL_SERVICE_LISTEN="0.0.0.0")
    assert ask(service).returncode == 0
    assert ask(service, EMAIL_SERVICE_LISTEN="127.0.0.1").returncode == 0


def test_unhealthy_without_redis(stack):
    service = stack.start()
    stack.redis.kill()
    service.wait_not_ready()
    done = ask(service)
    assert done.returncode == 1
    assert json.loads(done.stdout)["redis"] == "disconnected"


def test_frozen_daemon(stack):
    service = stack.start()
    service.freeze()
    done = ask(service)
    service.thaw()
    assert done.returncode == 1
    assert "no answer" in done.stderr


def test_no_daemon(folder):
    done = run("email-service", "--health-check", env={"EMAIL_SERVICE_PORT": str(free_port())}, cwd=folder)
    assert done.returncode == 1
    assert "no answer" in done.stderr


def test_wrong_configuration(folder):
    done = run("email-service", "--health-check", "--email-service-port", "0", env={}, cwd=folder)
    assert done.returncode == 2
    assert "EMAIL_SERVICE_PORT" in done.stderr
