"""What has to be told to DataHub: what it should know, without what it does. Pure.

What belongs here: comparing both sides, what people added there, and what is declared no more. What
does not: asking and telling (``server.py``).

What was told is written down in DataHub itself, beside the job that tells it: a list of urns. So
that nothing is forgotten, the list has a new urn before the urn is told, and has an old one until
that is removed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from carbon_pipelines.serving.datahub.datasets import DECLARED
from carbon_pipelines.serving.datahub.proposal import TIME, Aspect, Proposal, written
from carbon_pipelines.serving.datahub.runs import FLOW
from carbon_pipelines.serving.datahub.urns import Names, classification_urn

LISTED = frozenset({"dataset", "chart", "dashboard", "assertion", "dataJob"})
"""Entities that are removed when they are declared no more."""
URNS = "carbon.urns"
"""The list's name among the job's properties."""
_OUR_TAGS = classification_urn("")

Known = Mapping[tuple[str, str], Any]
"""Values by urn and aspect."""


@dataclass(frozen=True, slots=True)
class Emission:
    """What is to be told.

    Attributes:
        before: The list of urns as it has to be before anything else is told.
        aspects: What DataHub lacks or has otherwise, in order.
        events: What it has not heard of, in order.
        unchanged: How many proposals it knows already.
        gone: Urns that it has from us, and that are declared no more.
        after: The list as it has to be once these are removed; None if there are none.
    """

    before: Proposal | None
    aspects: tuple[Proposal, ...]
    events: tuple[Proposal, ...]
    unchanged: int
    gone: tuple[str, ...]
    after: Proposal | None

    @property
    def is_nothing(self) -> bool:
        """Whether DataHub knows all of it, whatever it has besides."""
        return self.before is None and not self.aspects and not self.events

    def sentences(self) -> list[str]:
        """The plan, one line each."""
        counts: dict[tuple[str, str], int] = {}
        for one in (*self.aspects, *self.events):
            counts[one.entity, one.aspect] = counts.get((one.entity, one.aspect), 0) + 1
        lines = [f"tell {n:,} x {aspect} of {entity}" for (entity, aspect), n in counts.items()]
        lines += [f"remove {urn}" for urn in self.gone]
        return [*lines, f"{self.unchanged:,} are known already"]


def job_of(names: Names, scope: str) -> str:
    """The job that tells DataHub of a scope."""
    return names.job(f"serving/datahub/{scope}")


def inventory(names: Names, scope: str, urns: Iterable[str]) -> Proposal:
    """The list of what was told, as a property of that job."""
    info: Aspect = {
        "customProperties": {URNS: json.dumps(sorted(set(urns)), separators=(",", ":"))},
        "name": f"serving/datahub/{scope}",
        "description": f"Tells DataHub what {FLOW} knows of {scope}.",
        "type": {"string": "COMMAND"},
        "flowUrn": names.flow(),
    }
    return Proposal("dataJob", job_of(names, scope), "dataJobInfo", info)


def plan_emission(
    names: Names,
    scope: str,
    wanted: Sequence[Proposal],
    known: Known,
    heard: Mapping[tuple[str, str], int | None],
) -> Emission:
    """What DataHub lacks.

    Args:
        names: Of its environment.
        scope: A database's name, or that of all marts.
        wanted: Everything that it should know.
        known: What it knows of these aspects, and of the list.
        heard: Time of the newest event of each series' closing one, by urn and aspect.
    """
    aspects: list[Proposal] = []
    events: list[Proposal] = []
    closing = {one.series: (one.urn, one.aspect) for one in wanted if one.closes}
    for one in wanted:
        if one.sharing == "event":
            last = heard.get(closing[one.series])
            if last is None or one.value[TIME] > last:
                events.append(one)
            continue
        found = known.get((one.urn, one.aspect))
        told = _shared_with_people(one, found)
        if told is not None and (found is None or written(found) != told.text):
            aspects.append(told)
    listed = set(_listed(known, names, scope))
    ours = {one.urn for one in wanted if one.entity in LISTED}
    before, after = inventory(names, scope, listed | ours), inventory(names, scope, ours)
    found = known.get((before.urn, before.aspect))
    gone = tuple(sorted(listed - ours))
    return Emission(
        before=None if found is not None and written(found) == before.text else before,
        aspects=tuple(aspects),
        events=tuple(events),
        unchanged=len(wanted) - len(aspects) - len(events),
        gone=gone,
        after=after if gone else None,
    )


def removal(urn: str) -> Proposal:
    """That an entity is no more: it is hidden in DataHub, and nothing of it is deleted."""
    return Proposal(urn.split(":", 3)[2], urn, "status", {"removed": True})


def _listed(known: Known, names: Names, scope: str) -> Iterable[str]:
    info = known.get((job_of(names, scope), "dataJobInfo")) or {}
    return json.loads((info.get("customProperties") or {}).get(URNS) or "[]")


def _shared_with_people(one: Proposal, found: Any) -> Proposal | None:
    """The aspect with what people added to it; None if it is theirs."""
    if one.sharing == "ours" or found is None:
        # An empty list need not be told where there is none.
        return None if one.sharing == "merged" and not any(_listed_in(one.value)) else one
    if one.sharing == "seeded":
        return None
    merge = {"ownership": _owners, "globalTags": _tags, "domains": _domains}[one.aspect]
    return replace(one, value=merge(one.value, found))


def _listed_in(value: Aspect) -> Iterable[Any]:
    return (value.get(name) for name in ("owners", "tags", "domains"))


def _owners(wanted: Aspect, found: Aspect) -> Aspect:
    """Ours, and behind them those of another origin."""
    ours = list(wanted["owners"])
    named = {one["owner"] for one in ours}
    others = [
        one
        for one in found.get("owners") or []
        if (one.get("source") or {}).get("type") != DECLARED and one.get("owner") not in named
    ]
    # The rest of it is kept as it is: DataHub writes there by itself who belongs to which type.
    return {**wanted, **found, "owners": [*ours, *others]}


def _tags(wanted: Aspect, found: Aspect) -> Aspect:
    """The classification, and behind it every tag that is none."""
    others = [
        one for one in found.get("tags") or [] if not str(one.get("tag")).startswith(_OUR_TAGS)
    ]
    return {**found, "tags": [*wanted["tags"], *others]}


def _domains(wanted: Aspect, found: Aspect) -> Aspect:
    """Theirs: an entity has one domain, and whoever moved it knew why."""
    return found if found.get("domains") else wanted
