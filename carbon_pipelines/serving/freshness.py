"""Freshness stage by stage: where the newest changes are, and what holds the others up.

What belongs here: the stages of a table or mart as values, made of what was read. What does not:
reading (``freshness_reading.py``) and showing (``freshness_page.py``).

Two numbers for each stage. *Behind* is of now: how long the oldest change has been waiting that the
stage lacks; no stage is less behind than the one before it, so the first that is later than
promised is the one that holds the change up. *Arrived after* is of what is there: how old the
newest change was when the stage first had it; from stage to stage it grows by what each one takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from carbon_pipelines.lake.reached import Place, Reached
from carbon_pipelines.stream.event_times import EventTimes, TopicTimes

CAPTURED, MERGED, CERTIFIED, MART = "captured", "merged", "certified", "mart"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a table or mart.

    Attributes:
        name: ``captured``, ``merged``, ``certified``, ``mart``, or the system that shows it.
        position: In the source; None if the stage has nothing, or does not say.
        committed_at: When the newest change that it has was committed in PostgreSQL.
        since: When the stage first had that.
        behind_seconds: As of now, at most; None: not known, or nothing came so far.
        of: The table that this is of, where a mart reads several.
    """

    name: str
    position: str | None
    committed_at: datetime | None
    since: datetime | None
    behind_seconds: float | None
    of: str | None = None

    @property
    def arrived_after_seconds(self) -> float | None:
        """How old the newest change was when the stage first had it."""
        if self.committed_at is None or self.since is None:
            return None
        return max(0.0, (self.since - self.committed_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Freshness:
    """A table or mart from its source to where people look.

    ``promise`` is how far behind the last stage may be.
    """

    label: str
    owner: str
    promise: timedelta
    stages: tuple[Stage, ...]

    @property
    def held_by(self) -> Stage | None:
        """The first stage that is further behind than is promised of the last; None if none is."""
        most = self.promise.total_seconds()
        late = (one for one in self.stages if (one.behind_seconds or 0.0) > most)
        return next(late, None)


@dataclass(frozen=True, slots=True)
class TableStanding:
    """What a lake table says of itself.

    ``merged`` and ``certified`` are where it stands and since when; ``visible`` what each system
    was seen to show.
    """

    merged: tuple[Place, datetime] | None
    certified: tuple[Place, datetime | None] | None
    visible: Mapping[str, Reached] = field(default_factory=dict[str, Reached])

    def offsets(self) -> set[int]:
        """Of its topic, next to which times are asked for."""
        places = [one[0] for one in (self.merged, self.certified) if one is not None]
        places += [place for one in self.visible.values() for place in one.sources.values()]
        return {place.next_offset for place in places}


@dataclass(frozen=True, slots=True)
class MartStanding:
    """What a mart's table says of itself."""

    built: Reached | None
    visible: Mapping[str, Reached] = field(default_factory=dict[str, Reached])


@dataclass(frozen=True, slots=True)
class SourceTimes:
    """Of one table: times of its topic, and how far behind its database's capture is."""

    topic: TopicTimes
    capture_behind: float


def table_stages(
    label: str, standing: TableStanding, times: SourceTimes, now: datetime
) -> tuple[Stage, ...]:
    """The stages of one table."""
    newest = times.topic.newest
    captured = Stage(
        CAPTURED,
        None,
        newest.committed_at if newest is not None else None,
        newest.captured_at if newest is not None else None,
        times.capture_behind,
    )
    stages = [captured]
    for name, reached in ((MERGED, standing.merged), (CERTIFIED, standing.certified)):
        place, since = reached if reached is not None else (None, None)
        stages.append(_stage(name, {label: place}, since, {label: times}, now))
    for system, shown in sorted(standing.visible.items()):
        stages.append(
            _stage(system, {label: shown.sources.get(label)}, shown.at, {label: times}, now)
        )
    return tuple(_never_less(stages))


def mart_stages(
    tables: Mapping[str, Sequence[Stage]],
    standing: MartStanding,
    times: Mapping[str, SourceTimes],
    now: datetime,
) -> tuple[Stage, ...]:
    """The stages of one mart: those of the table that is most behind, then its own."""
    stages = [
        max(
            (
                replace(s, of=label)
                for label, found in tables.items()
                for s in found
                if s.name == name
            ),
            key=lambda one: (one.behind_seconds is None, one.behind_seconds or 0.0),
        )
        for name in (CAPTURED, MERGED, CERTIFIED)
    ]
    for name, reached in ((MART, standing.built), *sorted(standing.visible.items())):
        places = {label: reached.sources.get(label) if reached else None for label in tables}
        since = reached.at if reached is not None else None
        stages.append(_stage(name, places, since, times, now))
    return tuple(_never_less(stages))


def _stage(
    name: str,
    places: Mapping[str, Place | None],
    since: datetime | None,
    times: Mapping[str, SourceTimes],
    now: datetime,
) -> Stage:
    """A stage that has come to these places of its tables."""
    behind: float | None = 0.0
    newest: datetime | None = None
    worst = next(iter(places))
    for label, place in places.items():
        beside = times[label].topic.beside.get(place.next_offset) if place is not None else None
        if place is None or beside is None:
            return Stage(name, None, None, None, None, of=label if len(places) > 1 else None)
        lacks = _age(beside.after, now)
        if lacks > behind:
            behind, worst = lacks, label
        has = beside.before.committed_at if beside.before is not None else None
        newest = max(filter(None, (newest, has)), default=None)
    found = places[worst]
    return Stage(
        name,
        found.position if found is not None else None,
        newest,
        since,
        behind,
        of=worst if len(places) > 1 else None,
    )


def _age(event: EventTimes | None, now: datetime) -> float:
    if event is None or event.committed_at is None:
        return 0.0
    return max(0.0, (now - event.committed_at).total_seconds())


def _never_less(stages: Sequence[Stage]) -> list[Stage]:
    """No stage is less behind than the one before it: it cannot have what that one lacks."""
    found: list[Stage] = []
    least = 0.0
    for one in stages:
        behind = one.behind_seconds
        if behind is not None:
            least = behind = max(least, behind)
        found.append(replace(one, behind_seconds=behind))
    return found
