"""Telling DataHub what it lacks, in an order that a crash cannot spoil.

What belongs here: asking, planning, telling. What does not: what to tell (``describe.py``) and
what of it is lacking (``plan.py``).

The order: the list of urns, so that nothing is told that nobody remembers; what things are; what
happened, of each series the closing event last; then, if that is wanted, what is gone is hidden and
the list forgets it. Whatever was not told is lacking in the next plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from carbon_pipelines.errors import MetadataRefusedError
from carbon_pipelines.serving.datahub.plan import (
    Emission,
    inventory,
    plan_emission,
    removal,
)
from carbon_pipelines.serving.datahub.proposal import Proposal
from carbon_pipelines.serving.datahub.server import DataHubServer
from carbon_pipelines.serving.datahub.urns import Names


@dataclass(frozen=True, slots=True)
class Told:
    """What one run told.

    Attributes:
        urns: How many entities DataHub knows of the scope.
        left: Urns that are declared no more, and that DataHub still shows.
        version: Of DataHub.
    """

    scope: str
    urns: int
    aspects: int
    events: int
    unchanged: int
    removed: int
    left: tuple[str, ...]
    version: str
    seconds: float

    def sentence(self) -> str:
        """What was done, as one line."""
        gone = f", {self.removed:,} removed" if self.removed else ""
        left = f"; {len(self.left):,} are declared no more and still shown" if self.left else ""
        return (
            f"serving/datahub/{self.scope}: {self.aspects:,} aspects and {self.events:,} events "
            f"told, {self.unchanged:,} known already{gone}{left}"
        )


def load_plan(server: DataHubServer, scope: str, wanted: Sequence[Proposal]) -> Emission:
    """Ask DataHub what it knows, and plan what to tell; nothing is told.

    Raises:
        DataHubUnavailableError, DataHubAccessError, DataHubAnswerError: As for every request.
    """
    names = Names(server.settings.env)
    lists = [one for one in wanted if one.sharing != "event"]
    known = server.read([inventory(names, scope, ()), *lists])
    heard = {
        (one.urn, one.aspect): last
        for one in {(one.urn, one.aspect): one for one in wanted if one.closes}.values()
        for last in [server.last_event(one.entity, one.urn, one.aspect)]
    }
    return plan_emission(names, scope, wanted, known, heard)


def emit(
    server: DataHubServer, scope: str, wanted: Sequence[Proposal], *, remove: bool = False
) -> Told:
    """Tell DataHub of a scope what it lacks.

    Args:
        server: Which DataHub.
        scope: A database's name, or that of all marts.
        wanted: Everything that it should know of it.
        remove: Whether what is declared no more is hidden there.

    Raises:
        MetadataRefusedError: It refuses some of it; the rest was told.
        DataHubUnavailableError, DataHubAccessError, DataHubAnswerError: As for every request.
    """
    began = server.clock.now()
    version = server.check()
    plan = load_plan(server, scope, wanted)
    before = server.told
    refused = server.tell([plan.before] if plan.before else [])
    # Without the list, what is told now could never be removed.
    if not refused:
        refused = [*server.tell(plan.aspects), *_tell_events(server, plan.events)]
        if remove and not refused:
            refused = server.tell([removal(urn) for urn in plan.gone])
            if not refused and plan.after is not None:
                refused = server.tell([plan.after])
    if refused:
        named = [(one.urn, one.aspect, reason) for one, reason in refused]
        raise MetadataRefusedError(server.settings.label, named, server.told - before)
    return Told(
        scope=scope,
        urns=len({one.urn for one in wanted}),
        aspects=len(plan.aspects),
        events=len(plan.events),
        unchanged=plan.unchanged,
        removed=len(plan.gone) if remove else 0,
        left=() if remove else plan.gone,
        version=version,
        seconds=server.clock.now() - began,
    )


def _tell_events(server: DataHubServer, events: Sequence[Proposal]) -> list[tuple[Proposal, str]]:
    """Closing events last, oldest first, and none of a series of which something was refused.

    DataHub then lacks it in the next plan too, and all that came after it.
    """
    refused = server.tell([one for one in events if not one.closes])
    waiting: dict[str, list[Proposal]] = {}
    for one in events:
        if one.closes:
            waiting.setdefault(one.series, []).append(one)
    while waiting:
        for series in {one.series for one, _ in refused}:
            waiting.pop(series, None)
        refused += server.tell([one.pop(0) for one in waiting.values()])
        waiting = {series: left for series, left in waiting.items() if left}
    return refused
