"""The transport against real mail servers as the next hop: what pipelining promises must hold with their code too."""

import shutil
import tempfile
from pathlib import Path

import pytest

from lib_mta import SERVERS, Wire
from lib_process import wait_for
from lib_sender import expect, sender  # noqa: F401 (a fixture)
from smtp_server import SmtpServer

MAILS = 60


@pytest.fixture(params=SERVERS, ids=lambda server: server.name)
def hop(request):
    """A mail server with a sink behind it, and a wire before it."""
    folder = Path(tempfile.mkdtemp(prefix="email-service-mta-"))
    folder.chmod(0o755)  # the servers drop their privileges
    with SmtpServer() as sink:
        sink.capabilities.discard("SMTPUTF8")
        server = request.param(folder / "server", sink.port)
        server.sink = sink
        try:
            server.start()
            server.wire = Wire(server.port)
            yield server
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)


def arrived(sink):
    return sorted(address for mail in list(sink.mails) for address in mail.recipients)


@pytest.mark.parametrize("connections", [1, 4])
def test_every_mail_once(hop, sender, connections):  # noqa: F811
    s = sender(hop.wire, connections=connections, timeout=60000, connect_timeout=20000)
    for number in range(MAILS):
        s.mail(number, to="u%d@example.com" % number, size=2500)
    for number in range(MAILS):
        expect(s.outcome(number, timeout=90), "sent", code=250)
    wanted = sorted("u%d@example.com" % number for number in range(MAILS))
    wait_for(lambda: len(arrived(hop.sink)) >= MAILS, 120,
             lambda: "%d mails at the sink\n%s" % (len(arrived(hop.sink)), hop.log.read_text(errors="replace")[-2000:]))
    assert arrived(hop.sink) == wanted
    # Greeting, EHLO, and then so many a mail.
    used = [count for count in hop.wire.round_trips if count > 2]
    assert len(used) == connections
    expected = hop.round_trips * MAILS
    assert expected <= sum(used) <= expected + 4 * connections, hop.wire.round_trips


def test_refusals_in_between(hop, sender):  # noqa: F811
    """A recipient that the server refuses by itself: the session and its neighbours go on."""
    s = sender(hop.wire, timeout=60000, connect_timeout=20000)
    bad = "u@" + "a" * 70 + ".example.com" if hop.name != "Postfix" else "u@[bad"
    for number in range(9):
        s.mail(number, to=bad if number % 3 == 1 else "u%d@example.com" % number)
    classes = [s.outcome(number, timeout=60)["class"] for number in range(9)]
    assert [c for n, c in enumerate(classes) if n % 3 != 1] == ["sent"] * 6
    wanted = sorted("u%d@example.com" % number for number in range(9) if number % 3 != 1)
    wait_for(lambda: set(wanted) <= set(arrived(hop.sink)), 60, lambda: "the mails; there are %s" % arrived(hop.sink))
    assert [a for a in arrived(hop.sink) if a in wanted] == wanted
