"""Sending to receivers side by side, with patience and an end.

What belongs here: attempts, waits, and what became of each message. What does not: how one attempt
is made (``delivery.py``) and what is remembered (``telling.py``, ``troubles.py``).

Receivers have a thread each, so one that does not answer costs the others nothing. A message that
was answered with yes is never sent again. One that was not answered at all may have arrived: it is
sent again, with the same key.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from carbon_pipelines.alerts.payloads import batches
from carbon_pipelines.alerts.telling import Message

WAITS_SECONDS = (1.0, 2.0, 4.0)
BUDGET_SECONDS = 20.0
_SIDE_BY_SIDE = 16


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that was not accepted.

    ``lasting``: asking again the same way is of no use. ``retry_after_seconds``: as the receiver
    asked. ``reason`` holds no address.
    """

    reason: str
    lasting: bool = False
    retry_after_seconds: float | None = None


Deliver = Callable[[Sequence[Message]], Refusal | None]
"""One attempt to send messages together to their receiver; None: accepted."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of messages: accepted ones, and per receiver why not."""

    accepted: tuple[Message, ...] = ()
    refused: Mapping[str, Refusal] = field(default_factory=dict[str, Refusal])


def send(
    messages: Sequence[Message],
    deliver: Deliver,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    budget_seconds: float = BUDGET_SECONDS,
) -> Sent:
    """Send all messages, those of a receiver in order; returns within about ``budget_seconds``.

    After a refusal the rest of that receiver's messages wait for the next evaluation.
    """
    by_receiver: dict[str, list[Message]] = {}
    for message in messages:
        by_receiver.setdefault(message.receiver, []).append(message)
    if not by_receiver:
        return Sent()
    end = clock() + budget_seconds

    def tell(receiver: str) -> tuple[list[Message], Refusal | None]:
        accepted: list[Message] = []
        for batch in batches(by_receiver[receiver]):
            refusal = _attempt(batch, deliver, end, clock, sleep)
            if refusal is not None:
                return accepted, refusal
            accepted.extend(batch)
        return accepted, None

    with ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(by_receiver))) as pool:
        told = dict(zip(by_receiver, pool.map(tell, by_receiver), strict=True))
    return Sent(
        tuple(message for accepted, _ in told.values() for message in accepted),
        {name: refusal for name, (_, refusal) in told.items() if refusal is not None},
    )


def _attempt(
    batch: Sequence[Message],
    deliver: Deliver,
    end: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Refusal | None:
    """Deliver a batch, again after each wait that still fits; None: accepted."""
    if clock() >= end:
        return Refusal("no time was left in this evaluation")
    refusal = deliver(batch)
    for wait in WAITS_SECONDS:
        if refusal is None or refusal.lasting:
            return refusal
        asked = max(wait, refusal.retry_after_seconds or 0.0)
        if clock() + asked >= end:
            return refusal
        sleep(asked)
        refusal = deliver(batch)
    return refusal
