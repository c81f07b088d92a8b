"""Receivers that do not accept what they are sent.

What belongs here: since when and why, when they are asked again, and the alert about it. What does
not: sending. A receiver that refused for good (401, 404) is asked again every five minutes, so that
it comes back by itself once somebody has mended it; whoever asked for a pause gets it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from carbon_pipelines.alerts.alert import Alert
from carbon_pipelines.alerts.pages import Pages
from carbon_pipelines.alerts.sending import Refusal, Sent
from carbon_pipelines.alerts.telling import Known

ASK_AGAIN_SECONDS = 300.0
TOLD_AFTER_SECONDS = 600.0
"""How long a receiver may not answer before the default one is told."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Since when a receiver accepts nothing, why, and when it is asked again."""

    since: float
    reason: str
    lasting: bool
    ask_at: float

    def counts(self, now: float) -> bool:
        """Whether others are told instead."""
        return self.lasting or now - self.since >= TOLD_AFTER_SECONDS


def fold_troubles(
    troubles: Mapping[str, Trouble], sent: Sent, *, now: float
) -> Mapping[str, Trouble]:
    """The troubles after messages were sent."""
    after = dict(troubles)
    accepting = {message.receiver for message in sent.accepted}
    for name in accepting:
        after.pop(name, None)
    for name, refusal in sent.refused.items():
        known = troubles.get(name)
        since = now if known is None or name in accepting else known.since
        after[name] = Trouble(since, refusal.reason, refusal.lasting, now + _pause(refusal))
    return after


def _pause(refusal: Refusal) -> float:
    asked = refusal.retry_after_seconds or 0.0
    return max(asked, ASK_AGAIN_SECONDS) if refusal.lasting else asked


def still_waited_for(
    troubles: Mapping[str, Trouble], known: Mapping[str, Known]
) -> Mapping[str, Trouble]:
    """Without those of receivers that nothing waits for: nobody would learn that they are over."""
    waiting = {
        name
        for entry in known.values()
        for name in (entry.owed if entry.ended_at is None else entry.owed | entry.receipts.keys())
    }
    return {name: trouble for name, trouble in troubles.items() if name in waiting}


def asked_now(
    receivers: Iterable[str], troubles: Mapping[str, Trouble], *, now: float
) -> Collection[str]:
    """The receivers that are sent something now; the others are waited for."""
    return frozenset(
        name for name in receivers if name not in troubles or troubles[name].ask_at <= now
    )


def trouble_alerts(
    troubles: Mapping[str, Trouble], pages: Pages, *, now: float
) -> Mapping[str, Alert]:
    """One alert for each receiver that others are told instead of, by fingerprint."""
    alerts: list[Alert] = []
    for name, trouble in troubles.items():
        if not trouble.counts(now):
            continue
        alerts.append(
            Alert(
                name="ReceiverRefused",
                severity="critical",
                labels={"receiver": name},
                summary=(
                    f"{name} accepts no alerts: {trouble.reason}. What is for it waits, and the "
                    "default receivers are told instead. Correct its variable or the receiver "
                    "itself; it is asked again every few minutes."
                ),
                since=trouble.since,
                link=pages.ui,
                runbook=pages.runbook("ReceiverRefused", None),
            )
        )
    return {alert.fingerprint: alert for alert in alerts}
