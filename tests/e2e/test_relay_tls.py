"""TLS and authentication at the relay: what is required is had, or nothing is sent."""

import pytest

from lib_process import holds_for, wait_for
from lib_stack import Stack, event
from smtp_server import SmtpServer, make_certificates


@pytest.fixture
def certificates(folder):
    path = folder / "certificates"
    path.mkdir()
    return make_certificates(path)


@pytest.fixture
def relay(folder, kafka, redis, certificates):
    """Makes a stack whose relay is a server of the given kind, on the host that its certificate names."""
    made = []

    def make(certificate="good.pem", **options):
        if options.get("tls"):
            options["certfile"] = certificates / certificate
        server = SmtpServer(**options).start()
        stack = Stack(folder, kafka, redis, server)
        stack.create_topics()
        stack.env.update(SMTP_CA_FILE=str(certificates / "ca.pem"), SMTP_HOST="localhost",
                         SMTP_TLS={"starttls": "starttls", "implicit": "tls"}.get(options.get("tls"), "none"))
        made.append((stack, server))
        return stack

    yield make
    for stack, server in made:
        stack.finish()
        server.stop()


def outage(stack, service, message_id):
    """The relay as a whole is failing: not ready, nothing is sent, the event waits."""
    line = service.wait_log("Email delivery failed, will retry", messageID=message_id)
    service.wait_not_ready()
    holds_for(lambda: not stack.mails(), 0.4, "no mail")
    return line


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_tls(relay, tls):
    stack = relay(tls=tls)
    stack.start()
    stack.wait_mark(stack.publish_new())
    [mail] = stack.mails()
    assert mail.tls


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("certificate", ["expired.pem", "wrong-host.pem", "other-ca.pem"])
def test_bad_certificate(relay, certificates, tls, certificate):
    stack = relay(tls=tls, certificate="good.pem" if certificate == "other-ca.pem" else certificate)
    if certificate == "other-ca.pem":
        stack.env["SMTP_CA_FILE"] = str(certificates / "other-ca.pem")
    service = stack.start(SMTP_OUTAGE_POLICY="hold")
    outage(stack, service, stack.publish_new())
    assert service.metric("email_retries_total", reason="tls") >= 1


def test_certificate_replaced_ends_the_outage(relay, certificates):
    stack = relay(tls="starttls", certificate="expired.pem")
    service = stack.start(SMTP_OUTAGE_POLICY="hold")
    message_id = stack.publish_new()
    outage(stack, service, message_id)
    stack.smtp.context.load_cert_chain(certificates / "good.pem")
    stack.wait_mark(message_id)
    service.wait_ready()


def test_starttls_not_offered(relay):
    """Stripped by somebody in between: nothing is sent in clear."""
    stack = relay(tls="starttls")
    stack.smtp.offer_starttls = False
    service = stack.start(SMTP_OUTAGE_POLICY="hold")
    outage(stack, service, stack.publish_new())
    assert not any("MAIL" in session.verbs() for session in stack.smtp.sessions)


def test_starttls_refused(relay):
    stack = relay(tls="starttls")
    stack.smtp.reject("starttls", "454 4.7.0 not available")
    service = stack.start(SMTP_OUTAGE_POLICY="hold")
    outage(stack, service, stack.publish_new())
    assert not any("MAIL" in session.verbs() for session in stack.smtp.sessions)


@pytest.mark.parametrize("offered", [True, False])
def test_opportunistic(relay, offered):
    """With TLS where it is offered, in clear where not; only this mode may."""
    stack = relay(tls="starttls")
    stack.smtp.offer_starttls = offered
    stack.start(SMTP_TLS="opportunistic")
    stack.wait_mark(stack.publish_new())
    assert stack.mails()[0].tls == offered


def test_starttls_is_the_default(relay):
    stack = relay(tls="starttls")
    stack.start(SMTP_TLS=None)
    stack.wait_mark(stack.publish_new())
    assert stack.mails()[0].tls


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "PLAIN", "LOGIN"])
def test_authentication(relay, mechanisms):
    stack = relay(tls="starttls", auth=("user", "pass word"))
    stack.smtp.auth_mechanisms = mechanisms
    service = stack.start(SMTP_USER="user", SMTP_PASSWORD="pass word")
    stack.wait_mark(stack.publish_new())
    assert stack.mails()[0].user == "user"
    assert "pass word" not in service.tail(1000)


def test_wrong_password(relay):
    """An outage, not the mails' fault; the password is on no log."""
    stack = relay(tls="starttls", auth=("user", "right"))
    service = stack.start(SMTP_USER="user", SMTP_PASSWORD="wr0ng-password", SMTP_OUTAGE_POLICY="hold",
                          LOG_LEVEL="debug")
    message_id = stack.publish_new()
    outage(stack, service, message_id)
    assert service.metric("email_retries_total", reason="auth") >= 1
    assert "wr0ng" not in service.tail(10000)
    stack.smtp.auth = ("user", "wr0ng-password")
    stack.wait_mark(message_id)
    service.wait_ready()
    assert not stack.dead_letters()


def test_authentication_not_offered(relay):
    """Credentials are given: to send without them would be another sender's mail."""
    stack = relay(tls="starttls")
    service = stack.start(SMTP_USER="user", SMTP_PASSWORD="secret", SMTP_OUTAGE_POLICY="hold")
    outage(stack, service, stack.publish_new())
    assert not any("MAIL" in session.verbs() for session in stack.smtp.sessions)


def test_login_wanted_at_mail(relay):
    """A relay that takes connections from anybody, but no mail: not the mails' fault."""
    stack = relay()
    stack.smtp.reject("mail", "530 5.7.0 authentication required")
    service = stack.start(SMTP_OUTAGE_POLICY="hold")
    events = [event() for _ in range(20)]
    stack.publish(*events)
    service.wait_not_ready()
    wait_for(lambda: service.metric("email_retries_total", reason="auth") >= 5, 30, "retries")
    assert service.metric("email_smtp_up") == 0
    stack.smtp.accept()
    stack.wait_committed(timeout=60)
    assert len(stack.mails()) == 20 and not stack.dead_letters()
    service.wait_ready()


def test_not_a_tls_server(relay):
    stack = relay()
    service = stack.start(SMTP_TLS="tls", SMTP_CONNECT_TIMEOUT_SECONDS=1, SMTP_OUTAGE_POLICY="hold")
    outage(stack, service, stack.publish_new())


def test_outage_ends_with_each_event_once(relay):
    stack = relay(tls="starttls", auth=("user", "right"))
    stack.smtp.reject("auth", "454 4.7.0 temporary authentication failure", times=8)
    service = stack.start(SMTP_USER="user", SMTP_PASSWORD="right", SMTP_OUTAGE_POLICY="hold")
    events = [event() for _ in range(30)]
    stack.publish(*events)
    stack.wait_committed(timeout=60)
    assert len(stack.mails()) == 30
    service.wait_ready()
