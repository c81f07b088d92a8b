"""Which assets have fallen behind, and which of them are worth a run now.

What belongs here: the decision, pure and without a clock of its own. What does not: looking
(``observe.py``) and asking Dagster (``databases.py``).

The decision keeps one promise on each side. An asset that is behind gets a run. And it comes to
rest, even though what is observed over-counts: Kafka offsets include transaction markers and
WAL bytes include everybody's, so an asset can look behind when there is nothing to do. Therefore:

* after a run that succeeded, an asset is asked for again only if its end has moved since it was
  asked for: what remains below that end is not work, the run would have done it;
* after a run that did not succeed, it is asked for again, but each time later, so that a table that
  cannot be merged costs a few failed runs an hour and not one per tick;
* while a run for it is queued or running, it is not asked for at all.

No ``run_key`` carries any of this: Dagster remembers those for ever, and a unit that failed once
would never run again.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta

FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one asset is behind.

    ``behind`` counts in the unit of ``end`` (offsets of a topic, bytes of WAL); None means it was
    never materialized at all.
    """

    asset: str
    behind: int | None
    end: int


@dataclass(frozen=True, slots=True)
class Asked:
    """The last request for an asset: where its end was, when (epoch seconds), how often in vain."""

    end: int
    at: float
    times: int


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """Assets to run now, and what to remember until the next tick."""

    assets: tuple[str, ...]
    asked: Mapping[str, Asked]


def plan_requests(
    lags: Iterable[Lag],
    *,
    asked: Mapping[str, Asked],
    materialized_at: Mapping[str, float],
    in_flight: Collection[str],
    now: float,
) -> RequestPlan:
    """Choose the assets to run now.

    Args:
        lags: What was observed at this tick; an asset that could not be observed is left out.
        asked: What the last tick said to remember.
        materialized_at: When each asset last succeeded, in epoch seconds, as far as it did.
        in_flight: Assets of runs that have not ended.
        now: Epoch seconds.
    """
    chosen: list[str] = []
    remembered = dict(asked)
    for lag in lags:
        before = remembered.get(lag.asset)
        if lag.behind == 0:
            remembered.pop(lag.asset, None)
            continue
        succeeded = before is not None and materialized_at.get(lag.asset, 0.0) >= before.at
        if lag.asset in in_flight or not _due(lag, before, succeeded=succeeded, now=now):
            continue
        times = 1 if before is None or succeeded else before.times + 1
        chosen.append(lag.asset)
        remembered[lag.asset] = Asked(end=lag.end, at=now, times=times)
    return RequestPlan(tuple(chosen), remembered)


def _due(lag: Lag, before: Asked | None, *, succeeded: bool, now: float) -> bool:
    if before is None:
        return True
    if succeeded:
        return lag.end != before.end
    wait = min(FIRST_WAIT * 2 ** min(before.times - 1, 10), LONGEST_WAIT)
    return now - before.at >= wait.total_seconds()


def encode_asked(asked: Mapping[str, Asked]) -> str:
    """The sensor's cursor."""
    return json.dumps({"format": 1, "asked": {name: asdict(one) for name, one in asked.items()}})


def decode_asked(cursor: str | None) -> Mapping[str, Asked]:
    """Read a cursor; one of another format is forgotten, which costs one run per lagging asset."""
    document = json.loads(cursor) if cursor else {}
    if document.get("format") != 1:
        return {}
    return {name: Asked(**one) for name, one in document["asked"].items()}
