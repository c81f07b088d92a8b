"""What each kind of receiver is sent, pure.

What belongs here: messages to a JSON body or a mail, escaped and bounded. What does not: sending
(``sending.py``). Formats:

* Alertmanager: ``POST /api/v2/alerts`` of its OpenAPI (``api/v2/openapi.yaml``);
* webhook: the body of Alertmanager's ``webhook_config``, version 4, so that one receiver serves
  both;
* Slack: the text of an incoming webhook, with ``&``, ``<`` and ``>`` escaped, which also takes the
  meaning from ``<!channel>`` and from links that a message did not make.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

from carbon_pipelines.alerts.pages import Pages
from carbon_pipelines.alerts.routing import ALERTMANAGER
from carbon_pipelines.alerts.telling import Message
from carbon_pipelines.alerts.wording import clip, moment

AT_ONCE, AT_ONCE_FOR_ALERTMANAGER = 20, 500
"""Alerts in one message; more of them are more messages."""
SLACK_LONGEST = 40_000
"""Characters of a text that Slack takes; so many alerts, each bounded, stay below it."""
ALERTMANAGER_HOLDS_SECONDS = 900.0
"""How long Alertmanager keeps an alert firing that we do not tell again: a restart is shorter."""
NEVER = "0001-01-01T00:00:00Z"
"""What Alertmanager writes where an alert has no end yet."""
_SHORT_SUMMARY = 400
_MARKS = {"critical": ":red_circle:", "warning": ":large_yellow_circle:"}


def batches(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Messages for one receiver, as many as are sent at once."""
    to_alertmanager = bool(messages) and messages[0].receiver == ALERTMANAGER
    size = AT_ONCE_FOR_ALERTMANAGER if to_alertmanager else AT_ONCE
    for start in range(0, len(messages), size):
        yield messages[start : start + size]


def idempotency_key(messages: Sequence[Message]) -> str:
    """The same for each attempt to send the same messages together."""
    said = "\n".join(sorted(message.key for message in messages))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def headline(messages: Sequence[Message]) -> str:
    """How many of what, or what the only one is."""
    if len(messages) == 1:
        alert, status = messages[0].alert, messages[0].status
        words = alert.severity if status == "firing" else "resolved"
        return clip(f"[{words}] {alert.name} {alert.about}", 150)
    firing = sum(message.status == "firing" for message in messages)
    parts = [f"{firing} firing"] * (firing > 0)
    parts += [f"{len(messages) - firing} resolved"] * (firing < len(messages))
    return f"{len(messages)} alerts: {', '.join(parts)}"


def alertmanager_body(messages: Sequence[Message], *, now: float) -> list[dict[str, Any]]:
    """Alerts as Alertmanager takes them; one that fires ends unless it is told again in time."""
    return [
        {
            "labels": dict(message.alert.all_labels),
            "annotations": dict(message.alert.annotations),
            "startsAt": timestamp(message.alert.since),
            "endsAt": timestamp(
                now + ALERTMANAGER_HOLDS_SECONDS
                if message.ended_at is None
                else max(message.ended_at, message.alert.since)
            ),
            "generatorURL": message.alert.link,
        }
        for message in messages
    ]


def webhook_body(messages: Sequence[Message], *, receiver: str, pages: Pages) -> dict[str, Any]:
    """What Alertmanager would post; the group is the receiver's, labels in common are named."""
    alerts = [message.alert for message in messages]
    firing = any(message.status == "firing" for message in messages)
    return {
        "version": "4",
        "groupKey": f'{{}}:{{receiver="{receiver}"}}',
        "truncatedAlerts": 0,
        "status": "firing" if firing else "resolved",
        "receiver": receiver,
        "groupLabels": {},
        "commonLabels": _common([alert.all_labels for alert in alerts]),
        "commonAnnotations": _common([alert.annotations for alert in alerts]),
        "externalURL": pages.ui,
        "alerts": [
            {
                "status": message.status,
                "labels": dict(message.alert.all_labels),
                "annotations": dict(message.alert.annotations),
                "startsAt": timestamp(message.alert.since),
                "endsAt": NEVER if message.ended_at is None else timestamp(message.ended_at),
                "generatorURL": message.alert.link,
                "fingerprint": message.alert.fingerprint,
            }
            for message in messages
        ],
    }


def slack_body(messages: Sequence[Message]) -> dict[str, Any]:
    """One text; ``text`` alone, so that it reads the same in a notification."""
    head = f"*{slack_escaped(headline(messages))}*" if len(messages) > 1 else ""
    parts = [head, *(_slack_lines(message) for message in messages)]
    text = "\n".join(part for part in parts if part)
    return {"text": text, "unfurl_links": False, "unfurl_media": False}


def slack_escaped(text: str) -> str:
    """Text that Slack shows as it is (docs.slack.dev, "Formatting message text")."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _slack_lines(message: Message) -> str:
    alert = message.alert
    mark = _MARKS[alert.severity] if message.status == "firing" else ":large_green_circle:"
    title = clip(f"{alert.name} {alert.about}", 200)
    lines = [f"{mark} *{slack_escaped(title)}* {slack_escaped(_when(message))}"]
    if message.status == "firing":
        lines.append(slack_escaped(clip(alert.summary, _SHORT_SUMMARY)))
    links = [_slack_link(alert.link, "Dagster"), _slack_link(alert.runbook, "what to do")]
    lines.append(" · ".join(link for link in links if link))
    return "\n".join(line for line in lines if line)


def _slack_link(address: str, words: str) -> str:
    if not address:
        return ""
    if not re.fullmatch(r"https?://[^\s|<>]{1,500}", address):
        return slack_escaped(f"{words}: {clip(address, 200)}")
    return f"<{address.replace('&', '&amp;')}|{words}>"


def mail(messages: Sequence[Message], *, sender: str, recipient: str, now: float) -> EmailMessage:
    """Plain text; its Message-ID is the same for each attempt, by which it is known again."""
    made = EmailMessage(policy=SMTP)
    made["Subject"] = headline(messages)
    made["From"] = sender
    made["To"] = recipient
    made["Date"] = datetime.fromtimestamp(now, UTC)
    made["Message-ID"] = f"<{idempotency_key(messages)}@{sender.rpartition('@')[2]}>"
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence answers it
    made.set_content("\n\n".join(_mail_part(message) for message in messages) + "\n")
    return made


def _mail_part(message: Message) -> str:
    alert = message.alert
    lines = [f"{message.status.upper()}: {alert.name} {alert.about} ({alert.severity})"]
    lines += [_when(message), alert.summary]
    lines += [f"Dagster: {alert.link}"] * bool(alert.link)
    lines += [f"What to do: {alert.runbook}"] * bool(alert.runbook)
    lines.append(f"Fingerprint: {alert.fingerprint}")
    return "\n".join(lines)


def _when(message: Message) -> str:
    since = f"since {moment(message.alert.since)}"
    return since if message.ended_at is None else f"{since}, over at {moment(message.ended_at)}"


def _common(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The entries that all have, with the same value."""
    first, *rest = mappings
    return {
        name: value
        for name, value in first.items()
        if all(other.get(name) == value for other in rest)
    }


def timestamp(at: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
