"""One attempt to reach one receiver: HTTP or SMTP.

What belongs here: requests, answers, and what an answer means. What does not: attempts and waits
(``sending.py``), and bodies (``payloads.py``).

No reason that leaves here holds a URL, a token or a password: the words of the HTTP and mail
libraries may, so of an exception only its kind and errno are told.
"""

import smtplib
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import Any

from carbon_pipelines.alerts.pages import Pages
from carbon_pipelines.alerts.payloads import (
    alertmanager_body,
    idempotency_key,
    mail,
    slack_body,
    webhook_body,
)
from carbon_pipelines.alerts.routing import Mailbox, Receiver
from carbon_pipelines.alerts.sending import Deliver, Refusal
from carbon_pipelines.alerts.telling import Message

TIMEOUTS_SECONDS = (3.0, 8.0)
"""To connect, and to answer."""
AGAIN_STATUSES = frozenset({408, 425, 429})
"""Answers of the 400s that ask for another attempt."""


def make_deliver(
    receivers: Mapping[str, Receiver], pages: Pages, *, clock: Callable[[], float]
) -> Deliver:
    """What ``sending.send`` calls: the receiver of a batch is that of its first message."""

    def deliver(batch: Sequence[Message]) -> Refusal | None:
        receiver = receivers[batch[0].receiver]
        now = clock()
        if receiver.kind == "email":
            assert receiver.mailbox is not None
            sender = receiver.mailbox.sender
            letter = mail(batch, sender=sender, recipient=receiver.address, now=now)
            return hand_over(letter, receiver.mailbox)
        bodies: dict[str, Callable[[], Any]] = {
            "slack": lambda: slack_body(batch),
            "webhook": lambda: webhook_body(batch, receiver=receiver.name, pages=pages),
            "alertmanager": lambda: alertmanager_body(batch, now=now),
        }
        return post(receiver, bodies[receiver.kind](), idempotency_key(batch), now=now)

    return deliver


def post(receiver: Receiver, body: Any, key: str, *, now: float) -> Refusal | None:
    """POST a JSON body; a redirect is refused, for a secret would go elsewhere."""
    import requests

    headers = {"Idempotency-Key": key}
    if receiver.token is not None:
        headers["Authorization"] = f"Bearer {receiver.token}"
    try:
        answer = requests.post(
            receiver.url,
            json=body,
            headers=headers,
            auth=receiver.basic,
            timeout=TIMEOUTS_SECONDS,
            allow_redirects=False,
        )
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema):
        return Refusal("the address in its variable is none", lasting=True)
    except requests.exceptions.InvalidSchema:
        return Refusal("the address in its variable is not http or https", lasting=True)
    except requests.exceptions.SSLError:
        return Refusal("its certificate was not accepted")
    except requests.exceptions.Timeout:
        return Refusal("it did not answer in time")
    except (requests.exceptions.RequestException, ValueError) as error:
        return Refusal(f"it cannot be reached ({type(error).__name__})")
    return judge_answer(answer.status_code, answer.headers.get("Retry-After"), now=now)


def judge_answer(status: int, retry_after: str | None, *, now: float) -> Refusal | None:
    """What an HTTP status means: 2xx is yes, 429 and 5xx are later, everything else is no."""
    if 200 <= status < 300:
        return None
    reason = f"it answered {status}"
    if status in AGAIN_STATUSES or status >= 500:
        return Refusal(reason, retry_after_seconds=_seconds(retry_after, now))
    return Refusal(reason, lasting=True)


def _seconds(retry_after: str | None, now: float) -> float | None:
    """Retry-After as seconds: a number, or a date (RFC 9110, 10.2.3); anything else is nothing."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.fromtimestamp(now, UTC)).total_seconds())


def hand_over(letter: EmailMessage, mailbox: Mailbox) -> Refusal | None:
    """Give a mail to the server, under TLS with a checked certificate, or not at all."""
    context = ssl.create_default_context()
    timeout = TIMEOUTS_SECONDS[1]
    try:
        if mailbox.security == "tls":
            server = smtplib.SMTP_SSL(mailbox.host, mailbox.port, timeout=timeout, context=context)
        else:
            server = smtplib.SMTP(mailbox.host, mailbox.port, timeout=timeout)
        with server:
            if mailbox.security == "starttls":
                server.starttls(context=context)
            if mailbox.user is not None:
                server.login(mailbox.user, mailbox.password or "")
            server.send_message(letter)
    except smtplib.SMTPRecipientsRefused as error:
        [(code, _)] = error.recipients.values()
        return Refusal(f"the mail server refused the address ({code})", lasting=code >= 500)
    except smtplib.SMTPResponseException as error:
        what = "login" if isinstance(error, smtplib.SMTPAuthenticationError) else "mail"
        reason = f"the mail server refused the {what} ({error.smtp_code})"
        return Refusal(reason, lasting=error.smtp_code >= 500)
    except smtplib.SMTPNotSupportedError:
        return Refusal(
            "the mail server does not offer TLS or the login that is needed", lasting=True
        )
    except ssl.SSLError:
        return Refusal("the mail server's certificate was not accepted")
    except (smtplib.SMTPException, OSError) as error:
        return Refusal(f"the mail server cannot be reached ({type(error).__name__})")
    return None
