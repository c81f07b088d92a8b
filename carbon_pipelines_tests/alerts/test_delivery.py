"""Real receivers on 127.0.0.1: HTTP, and SMTP with TLS and a login."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from carbon_pipelines.alerts.delivery import judge_answer, make_deliver
from carbon_pipelines.alerts.evaluation import REMIND_SECONDS
from carbon_pipelines.alerts.pages import Pages
from carbon_pipelines.alerts.payloads import ALERTMANAGER_HOLDS_SECONDS
from carbon_pipelines.alerts.routing import ALERTMANAGER, Mailbox, Receiver, make_routing
from carbon_pipelines.alerts.sending import Refusal, Sent, send
from carbon_pipelines.alerts.telling import Message
from carbon_pipelines_tests.alerts.certificates import make_certificate
from carbon_pipelines_tests.alerts.receivers import Recorder, recording
from carbon_pipelines_tests.alerts.saying import alert, message

USER, PASSWORD = "carbon", "s3cr3t"


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recording() as made:
        yield made


def sent(receiver: Receiver, *messages: Message, slept: list[float] | None = None) -> Sent:
    deliver = make_deliver({receiver.name: receiver}, Pages(), clock=lambda: 2_000.0)
    waits: list[float] = [] if slept is None else slept
    return send(messages, deliver, sleep=waits.append)


@pytest.mark.parametrize("kind", ["slack", "webhook"])
def test_a_receiver_gets_a_message_once(recorder: Recorder, kind: Any) -> None:
    receiver = Receiver("r", kind, url=f"{recorder.url}/hook", token="t0ken")

    assert sent(receiver, message()) == Sent((message(),))
    assert len(recorder.bodies) == 1
    assert recorder.paths == ["/hook"]
    assert recorder.headers[0]["Content-Type"] == "application/json"
    assert recorder.headers[0]["Authorization"] == "Bearer t0ken"


def test_a_receiver_that_is_busy_is_asked_again_when_it_said(recorder: Recorder) -> None:
    recorder.answers = [(429, {"Retry-After": "7"}), (503, {})]
    slept: list[float] = []

    assert sent(Receiver("r", "slack", url=recorder.url), message(), slept=slept).refused == {}
    assert slept == [7.0, 2.0]
    assert len(recorder.bodies) == 1
    assert len({headers["Idempotency-Key"] for headers in recorder.headers}) == 1


def test_a_pause_that_is_longer_than_an_evaluation_is_left_to_a_later_one(
    recorder: Recorder,
) -> None:
    recorder.answers = [(429, {"Retry-After": "3600"})]
    slept: list[float] = []

    found = sent(Receiver("r", "slack", url=recorder.url), message(), slept=slept)

    assert found == Sent((), {"r": Refusal("it answered 429", retry_after_seconds=3600.0)})
    assert slept == []


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 410])
def test_a_no_is_not_asked_again(recorder: Recorder, status: int) -> None:
    recorder.answers = [(status, {"Location": f"{recorder.url}/elsewhere"})]

    found = sent(Receiver("r", "slack", url=recorder.url), message())

    assert found == Sent((), {"r": Refusal(f"it answered {status}", lasting=True)})
    assert len(recorder.paths) == 1


def test_nothing_of_an_address_is_told_when_nobody_answers(recorder: Recorder) -> None:
    for url in (
        "http://127.0.0.1:1/s3cr3t",
        "https://127.0.0.1:1/s3cr3t",
        "s3cr3t",
        "ftp://s3cr3t",
    ):
        receiver = Receiver("r", "slack", url=url)
        found = sent(receiver, message())
        assert found.accepted == ()
        assert "s3cr3t" not in str(found)
        assert "s3cr3t" not in repr(receiver)


def test_a_receiver_that_hangs_does_not_hold_up_another(recorder: Recorder) -> None:
    deliver = make_deliver(
        {"good": Receiver("good", "slack", url=recorder.url)}, Pages(), clock=lambda: 2_000.0
    )
    came: list[float] = []
    began = time.monotonic()

    def either(batch: Any) -> Refusal | None:
        if batch[0].receiver == "bad":
            time.sleep(0.5)
            return Refusal("it did not answer in time", lasting=True)
        came.append(time.monotonic() - began)
        return deliver(batch)

    found = send([message("bad"), message("good")], either)

    assert found.accepted == (message("good"),)
    assert set(found.refused) == {"bad"}
    assert came[0] < 0.4


def test_after_a_refusal_the_rest_waits_and_what_was_accepted_stays(recorder: Recorder) -> None:
    recorder.answers = [(200, {}), (404, {})]
    many = [message("r", asset=str(number)) for number in range(45)]

    found = sent(Receiver("r", "webhook", url=recorder.url), *many)

    assert found.accepted == tuple(many[:20])
    assert len(recorder.paths) == 2


def test_retry_after_may_be_a_date() -> None:
    assert judge_answer(429, "Thu, 01 Jan 1970 00:34:00 GMT", now=2_000.0) == Refusal(
        "it answered 429", retry_after_seconds=40.0
    )
    assert judge_answer(503, "soon", now=2_000.0) == Refusal("it answered 503")


def test_alertmanager_is_given_what_its_api_requires(recorder: Recorder) -> None:
    """Field by field the OpenAPI of Alertmanager's API v2: postableAlert."""
    uri = f"{recorder.url}/prefix/"
    routing = make_routing(None, {"CARBON_ALERTS_ALERTMANAGER_URI": uri})
    assert routing.routes(alert()) == (ALERTMANAGER,)

    found = sent(routing.receivers[ALERTMANAGER], message(ALERTMANAGER))

    assert found.refused == {}
    assert recorder.paths == ["/prefix/api/v2/alerts"]
    [[body]] = recorder.bodies
    assert set(body) == {"labels", "annotations", "startsAt", "endsAt", "generatorURL"}
    for name in ("labels", "annotations"):
        assert all(isinstance(value, str) and value for value in body[name].values())
    assert body["labels"]["alertname"]
    assert body["startsAt"] < body["endsAt"]
    assert REMIND_SECONDS * 4 < ALERTMANAGER_HOLDS_SECONDS


class Letters:
    """An SMTP server's handler that keeps what it is given."""

    def __init__(self) -> None:
        self.received: list[tuple[str, list[str], bytes]] = []
        self.refuse: str | None = None

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refuse is not None:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        self.received.append((str(envelope.mail_from), envelope.rcpt_tos, content))
        return "250 OK"


def authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
) -> AuthResult:
    right = isinstance(data, LoginPassword) and data == LoginPassword(
        USER.encode(), PASSWORD.encode()
    )
    return AuthResult(success=right, handled=right)


class MailServer(Controller):
    """On a free port; TLS from the first byte, or by STARTTLS before anything else."""

    def __init__(self, letters: Letters, context: ssl.SSLContext, security: str) -> None:
        implicit = security == "tls"
        options: dict[str, Any] = {} if implicit else {"tls_context": context}
        super().__init__(
            letters,
            hostname="127.0.0.1",
            port=0,
            ssl_context=context if implicit else None,
            authenticator=authenticate,
            auth_required=True,
            auth_require_tls=not implicit,
            require_starttls=not implicit,
            **options,
        )

    def _trigger_server(self) -> None:
        """The port is known once the server listens."""
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture(params=["starttls", "tls"])
def mail_server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Letters, Mailbox]]:
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    letters = Letters()
    server = MailServer(letters, context, request.param)
    server.start()
    try:
        yield (
            letters,
            Mailbox("localhost", server.port, request.param, "carbon@example.org", USER, PASSWORD),
        )
    finally:
        server.stop()


def by_mail(mailbox: Mailbox) -> Receiver:
    return Receiver("email:b@example.org", "email", address="b@example.org", mailbox=mailbox)


@pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")  # TLS is around all of it
def test_a_mail_is_handed_over_under_tls_after_a_login(
    mail_server: tuple[Letters, Mailbox],
) -> None:
    letters, mailbox = mail_server
    receiver = by_mail(mailbox)

    assert sent(receiver, message(receiver.name)).refused == {}
    [(sender, recipients, content)] = letters.received
    assert (sender, recipients) == ("carbon@example.org", ["b@example.org"])
    assert b"Subject: [critical] TableStale lake/market/credit" in content
    assert PASSWORD not in repr(receiver)


@pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")
def test_a_wrong_password_and_a_refused_address_are_final(
    mail_server: tuple[Letters, Mailbox],
) -> None:
    letters, mailbox = mail_server
    wrong = by_mail(
        Mailbox(mailbox.host, mailbox.port, mailbox.security, mailbox.sender, USER, "other")
    )
    refusal = Refusal("the mail server refused the login (535)", lasting=True)
    assert sent(wrong, message(wrong.name)).refused == {wrong.name: refusal}

    letters.refuse = "550 no such mailbox"
    receiver = by_mail(mailbox)
    refusal = Refusal("the mail server refused the address (550)", lasting=True)
    assert sent(receiver, message(receiver.name)).refused == {receiver.name: refusal}

    letters.refuse = "451 come back later"
    refusal = Refusal("the mail server refused the address (451)")
    assert sent(receiver, message(receiver.name)).refused == {receiver.name: refusal}
    assert letters.received == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")
def test_a_certificate_that_is_not_known_gets_no_password(
    mail_server: tuple[Letters, Mailbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    letters, mailbox = mail_server
    monkeypatch.delenv("SSL_CERT_FILE")
    receiver = by_mail(mailbox)

    refusal = Refusal("the mail server's certificate was not accepted")
    assert sent(receiver, message(receiver.name)).refused == {receiver.name: refusal}
    assert letters.received == []
