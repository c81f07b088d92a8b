"""One evaluation: from a look at Dagster to what people were told.

What belongs here: the order of the steps. What does not: any of them. The look is taken before,
with what the memory says is new, and the memory is written after, by whoever calls this.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from carbon_pipelines.alerts.alert import Alert
from carbon_pipelines.alerts.firing import firing_alerts, unmaterialized
from carbon_pipelines.alerts.memory import Memory
from carbon_pipelines.alerts.observed import Look
from carbon_pipelines.alerts.pages import Pages
from carbon_pipelines.alerts.routing import ALERTMANAGER, Routing
from carbon_pipelines.alerts.runs import fold_runs, still_failing
from carbon_pipelines.alerts.scores import ScoreMark, follow_scores
from carbon_pipelines.alerts.sending import Sent
from carbon_pipelines.alerts.telling import Message, apply_receipts, plan_messages
from carbon_pipelines.alerts.troubles import (
    asked_now,
    fold_troubles,
    still_waited_for,
    trouble_alerts,
)

REMIND_SECONDS = 60.0
"""How often Alertmanager is told again of what still fires."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What fires, what was told, and what could not be."""

    memory: Memory
    firing: Mapping[str, Alert]
    sent: Sent
    waiting: int
    untold: int

    def sentence(self) -> str:
        """One line for the sensor's page."""
        news = sum(message.status == "firing" for message in self.sent.accepted)
        over = len(self.sent.accepted) - news
        parts = [f"{len(self.firing)} firing, {news} told, {over} told to be over"]
        if self.waiting:
            parts.append(f"{self.waiting} messages wait for their receivers")
        if self.untold:
            parts.append(f"not configured: {self.untold} alerts have no receiver with its variable")
        return "; ".join(parts) + "."


def evaluate(
    look: Look,
    memory: Memory,
    routing: Routing,
    pages: Pages,
    send: Callable[[Sequence[Message]], Sent],
) -> Evaluated:
    """Decide, send, and say what to remember; ``memory.until`` and ``seen`` are the look's."""
    now = look.at
    failing = still_failing(fold_runs(memory.failing, look.ended), look)
    never = unmaterialized(look, memory.never)
    marks = _marks(look, memory)
    troubles = {name: one for name, one in memory.troubles.items() if name in routing.receivers}
    firing = {
        **firing_alerts(look, failing, marks, never, pages),
        **trouble_alerts(troubles, pages, now=now),
    }
    known_way = replace(
        routing,
        out_of_order=frozenset(name for name, one in troubles.items() if one.counts(now)),
    )
    plan = plan_messages(
        firing,
        memory.known,
        known_way.routes,
        now=now,
        reminded={ALERTMANAGER: REMIND_SECONDS},
        reachable=routing.receivers,
    )
    asked = asked_now(routing.receivers, troubles, now=now)
    due = [message for message in plan.messages if message.receiver in asked]
    sent = send(due)
    known = apply_receipts(plan, sent.accepted, now=now)
    return Evaluated(
        memory=replace(
            memory,
            failing=failing,
            marks=marks,
            never=never,
            known=known,
            troubles=still_waited_for(fold_troubles(troubles, sent, now=now), known),
        ),
        firing=firing,
        sent=sent,
        waiting=len(plan.messages) - len(sent.accepted),
        untold=sum(not known_way.routes(alert) for alert in firing.values()),
    )


def _marks(look: Look, memory: Memory) -> Mapping[str, ScoreMark]:
    """What is remembered of scores, of the assets that still have one."""
    return {
        asset: follow_scores(
            memory.marks.get(asset, ScoreMark()),
            look.scores.get(asset, ()),
            points=watched.points,
            now=look.at,
        )
        for asset, watched in look.watched.items()
        if watched.points is not None and (asset in look.scores or asset in memory.marks)
    }
