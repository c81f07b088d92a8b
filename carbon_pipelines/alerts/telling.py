"""What is told to whom now, and what is remembered of it.

What belongs here: the difference between what fires and what each receiver knows. What does not:
who receives what (``routing.py``) and the sending (``sending.py``).

For each alert and receiver there is a receipt from when a message was accepted. From these follow

* nothing is lost: a message without a receipt is planned again at every evaluation, and an alert
  that was over before it could be told is told as one that was;
* nothing is told twice: a message with a receipt is planned again only if what it says has changed,
  and then at most once an hour. ``Receivers`` that forget (Alertmanager) are reminded instead;
* nothing is left firing: whoever has a receipt of an alert is told once when it is over, and the
  receipt goes with that.

What is remembered is written after what was sent. A process that dies in between sends it again,
with the same fingerprint, start and state, from which a receiver knows it again.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from carbon_pipelines.alerts.alert import Alert

Status = Literal["firing", "resolved"]
CHANGE_WAIT_SECONDS = 3600.0
"""How long a receiver is left alone with a new wording of what it knows."""

Routes = Callable[[Alert], Collection[str]]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receiver accepted: that an episode is firing, in these words, and when."""

    since: float
    words: str
    at: float


@dataclass(frozen=True, slots=True)
class Known:
    """An alert that fires, or is over and not yet told to be.

    ``owed`` are receivers that should know of it and have not accepted it; ``ended_at`` is when it
    was first seen to be over.
    """

    alert: Alert
    receipts: Mapping[str, Receipt] = field(default_factory=dict[str, Receipt])
    owed: frozenset[str] = frozenset()
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One alert for one receiver. ``ended_at`` is set if it is over."""

    receiver: str
    alert: Alert
    ended_at: float | None = None

    @property
    def status(self) -> Status:
        """As Alertmanager calls it."""
        return "firing" if self.ended_at is None else "resolved"

    @property
    def key(self) -> str:
        """The same for each attempt to say the same: alert, episode and state."""
        return f"{self.alert.fingerprint}:{self.alert.since:.3f}:{self.status}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The messages to send now, and what is known if none of them is accepted."""

    messages: tuple[Message, ...]
    known: Mapping[str, Known]


def plan_messages(
    firing: Mapping[str, Alert],
    known: Mapping[str, Known],
    routes: Routes,
    *,
    now: float,
    reminded: Mapping[str, float] | None = None,
    reachable: Collection[str] | None = None,
) -> Plan:
    """Compare what fires with what is known.

    Args:
        firing: By fingerprint.
        known: What the evaluation before has left.
        routes: Whom an alert is for; only receivers that there are.
        now: Epoch seconds.
        reminded: Receivers that forget, and after how many seconds they are told again.
        reachable: Receivers that there are; a receipt of another is dropped. None: all.
    """
    reminded = reminded or {}
    messages: list[Message] = []
    after: dict[str, Known] = {}
    for mark, alert in firing.items():
        entry = _continued(alert, known.get(mark))
        receivers = sorted(routes(entry.alert))
        due = [name for name in receivers if _is_due(entry, name, now, reminded)]
        messages.extend(Message(name, entry.alert) for name in due)
        owed = frozenset(name for name in receivers if name not in entry.receipts)
        after[mark] = replace(entry, owed=owed | (entry.owed & frozenset(receivers)))
    for mark, entry in known.items():
        if mark in firing:
            continue
        ended_at = now if entry.ended_at is None else entry.ended_at
        waiting = entry.owed | entry.receipts.keys()
        if reachable is not None:
            waiting &= frozenset(reachable)
        messages.extend(Message(name, entry.alert, ended_at) for name in sorted(waiting))
        if waiting:
            receipts = {name: one for name, one in entry.receipts.items() if name in waiting}
            after[mark] = replace(
                entry, receipts=receipts, owed=entry.owed & waiting, ended_at=ended_at
            )
    return Plan(tuple(messages), after)


def _continued(alert: Alert, before: Known | None) -> Known:
    """The alert with the start of the episode that it goes on with, if it does."""
    if before is None:
        return Known(alert)
    if before.ended_at is not None:  # over, and wrong again before that was told
        return replace(before, alert=alert, ended_at=None)
    since = min(alert.since, before.alert.since)
    return replace(before, alert=replace(alert, since=since))


def _is_due(entry: Known, receiver: str, now: float, reminded: Mapping[str, float]) -> bool:
    receipt = entry.receipts.get(receiver)
    if receipt is None or receipt.since != entry.alert.since:
        return True
    wait = reminded.get(receiver)
    if wait is not None:
        return receipt.words != words_of(entry.alert) or now - receipt.at >= wait
    return receipt.words != words_of(entry.alert) and now - receipt.at >= CHANGE_WAIT_SECONDS


def words_of(alert: Alert) -> str:
    """What a receiver is told that may change, as a short text."""
    said = "\n".join((alert.summary, alert.runbook))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def apply_receipts(plan: Plan, accepted: Iterable[Message], *, now: float) -> Mapping[str, Known]:
    """What is known once ``accepted`` are; all of them are messages of the plan."""
    known = dict(plan.known)
    for message in accepted:
        entry = known[message.alert.fingerprint]
        receipts = dict(entry.receipts)
        if message.ended_at is None:
            receipts[message.receiver] = Receipt(message.alert.since, words_of(message.alert), now)
        else:
            receipts.pop(message.receiver, None)
        owed = entry.owed - {message.receiver}
        known[message.alert.fingerprint] = replace(entry, receipts=receipts, owed=owed)
    return {
        mark: entry
        for mark, entry in known.items()
        if entry.ended_at is None or entry.receipts or entry.owed
    }
