"""An erasure as people read it, before it is done and afterwards.

What belongs here: the plan's lines, from facts that others have found, and what a run has done.
What does not: finding facts (``erasure_asking.py``) and doing anything (``erasure.py``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH

from carbon_pipelines.lake.certificate import CERTIFIED
from carbon_pipelines.maintenance.erasure_expiry import certified_target, plan_early
from carbon_pipelines.maintenance.erasure_litter import LitterPlan
from carbon_pipelines.maintenance.erasure_request import Cleansed
from carbon_pipelines.maintenance.expiry import Judged
from carbon_pipelines.maintenance.leases import MARKER, find_lease
from carbon_pipelines.stream.retention import TopicRetention

NOW, OUTSIDE = "now", "not by us"
SHOWN = 20
_OTHERS = (
    ("what others made of the table: marts, extracts, caches", "until they are made anew"),
    (
        "caches of table metadata (CARBON_LAKE_CACHE_DIRECTORY) on other machines",
        "a day after the first --apply; where no merge runs any more, remove them",
    ),
    ("logs and Dagster's history of runs: errors quote values", "as kept there"),
    ("the source: its WAL, archives, backups, replicas", "as kept there"),
    ("the bucket: versions, replicas, backups, unfinished uploads", "as set there"),
)
_OF_MAIN = ("branch main", "carries the state of main", "leads to the state of main")


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One thing that goes: when, what, and why not before."""

    when: str
    what: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class ErasurePlan:
    """What an erasure does to one table and what belongs to it, and what it cannot reach.

    Attributes:
        label: The table.
        number: The request's name; empty for a new one.
        by: The date.
        lines: What goes, and what does not.
        finds_any: Whether anything has the key.
    """

    label: str
    number: str
    by: date
    lines: tuple[PlanLine, ...]
    finds_any: bool = True

    def describe(self) -> str:
        """The plan as a table."""
        request = f"request {self.number}" if self.number else "a new request"
        title = f"{self.label}: {request}, everything is gone by {self.by}"
        if not self.finds_any:
            title = f"{self.label}: nothing has this key; is it written as the table has it?"
        width = max((len(line.when) for line in self.lines), default=0)
        what = min(72, max((len(line.what) for line in self.lines), default=0))
        return "\n".join(
            [
                title,
                *(f"  {x.when:<{width}}  {x.what:<{what}}  {x.why}".rstrip() for x in self.lines),
            ]
        )


@dataclass(frozen=True, slots=True)
class Erased:
    """What one run did for one request.

    Attributes:
        label: The table.
        number: The request's name.
        by: Its date.
        finished: Whether nothing is left.
        rows: That readers saw and do not any more.
        files: Data files that were written again.
        snapshots: That went, of the table and the dead letters.
        refs: Branches, tags and leases that went.
        objects: Deleted with snapshots, from quarantine, as orphans, and metadata files.
        returned: Whether the source has the key again; its new rows are no part of this.
    """

    label: str
    number: str
    by: date
    finished: bool
    rows: int = 0
    files: int = 0
    snapshots: int = 0
    refs: tuple[str, ...] = ()
    objects: int = 0
    returned: bool = False

    def sentence(self) -> str:
        """What it did, as one line."""
        state = "all is gone" if self.finished else f"the rest goes by {self.by}"
        refs = f", {len(self.refs)} branches, tags and leases" if self.refs else ""
        again = "; the source has the key again, its new rows stay" if self.returned else ""
        return (
            f"{self.label}: request {self.number}: {self.rows:,} rows, {self.files:,} data files "
            f"written again, {self.snapshots:,} snapshots{refs} and {self.objects:,} objects are "
            f"gone; {state}{again}"
        )


@dataclass(frozen=True, slots=True)
class TableFindings:
    """What was found of one Iceberg table.

    Attributes:
        table: As loaded.
        live_rows: The person's that ``main`` shows.
        holding: Path -> rows, of the data files of ``main``.
        snapshots: Snapshot id -> why it counts.
        telling: How many manifests of ``main`` tell of files that are gone.
        cleansed: What an earlier run came to.
        litter: What is in no snapshot.
    """

    table: Table
    live_rows: int
    holding: Mapping[str, int]
    snapshots: Mapping[int, str]
    telling: int
    cleansed: Cleansed | None
    litter: LitterPlan

    @property
    def label(self) -> str:
        """The table as commands spell it."""
        return "/".join(self.table.name())


def table_lines(found: TableFindings, by: date, now: datetime) -> Iterator[PlanLine]:
    """What goes of one table."""
    due = now.astimezone(UTC).date() >= by
    at = NOW if due else str(by)
    if found.live_rows:
        yield PlanLine(NOW, f"{found.label}: {found.live_rows:,} rows that readers see")
    for path, rows in _some(sorted(found.holding.items())):
        name = path.rpartition("/")[2]
        yield PlanLine(NOW, f"{found.label}: data file {name} is written again", f"{rows:,} rows")
    more = len(found.holding) - SHOWN
    if more > 0:
        yield PlanLine(NOW, f"{found.label}: and {more:,} more data files")
    if found.telling and (found.holding or (found.snapshots and found.cleansed is None)):
        what = f"{found.label}: {found.telling:,} manifests that tell of gone files"
        yield PlanLine(NOW, what, "they have bounds of columns; written again without")
    early = plan_early(found.table, found.snapshots, now)
    for one in _some(early.snapshots):
        yield PlanLine(NOW, f"{found.label}: snapshot {one.snapshot_id}", one.reason)
    for one in _some(early.kept):
        yield PlanLine(at, f"{found.label}: snapshot {one.snapshot_id}", _kept_why(one))
    left = len(early.kept) + len(early.snapshots) - 2 * SHOWN
    if left > 0:
        yield PlanLine(at, f"{found.label}: {len(found.snapshots):,} snapshots in all")
    yield from _ref_lines(found, at)
    yield from _litter_lines(found, at)


def _ref_lines(found: TableFindings, at: str) -> Iterator[PlanLine]:
    metadata = found.table.metadata
    for name, ref in sorted(metadata.refs.items()):
        if ref.snapshot_id not in found.snapshots or name == MAIN_BRANCH or MARKER in name:
            continue
        lease = find_lease(metadata, name)
        if name == CERTIFIED:
            moves = certified_target(metadata, found.cleansed) is not None
            how = (
                "moves to the first snapshot without them: nothing but upkeep lies between"
                if moves
                else "falls unless it has moved on, or nothing but upkeep lies behind it"
            )
            yield PlanLine(at, f"{found.label}: {CERTIFIED}", how)
        elif lease is not None:
            until = "it is dropped" if lease.until is None else f"{lease.until:%Y-%m-%d %H:%M}"
            why = f"leased by {lease.owner} until {until}, and ends by then at the latest"
            yield PlanLine(at, f"{found.label}: lease {name}", why)
        else:
            yield PlanLine(at, f"{found.label}: {ref.snapshot_ref_type} {name}", "it is at one")


def _litter_lines(found: TableFindings, at: str) -> Iterator[PlanLine]:
    litter = found.litter
    for quarantine, files in litter.quarantined:
        what = f"{found.label}: {len(files):,} files of quarantine {quarantine.run}"
        yield PlanLine(at, what, "they hold such rows, or nobody can tell")
    if litter.orphans:
        what = f"{found.label}: {len(litter.orphans.orphans):,} orphans"
        yield PlanLine(at, what, "they hold such rows, or nobody can tell")
    if litter.orphans.young and (found.snapshots or found.holding or litter):
        what = f"{found.label}: {litter.orphans.young:,} unreferenced objects, looked at then"
        yield PlanLine(at, what, "too young: a commit that is under way may need them")


def outside_lines(
    retention: TopicRetention, unread: Sequence[int], by: date, gone_at: datetime
) -> Iterator[PlanLine]:
    """What is out of reach, and until when; the source had the key no more at ``gone_at``."""
    topic = f"Kafka topic {retention.topic}"
    if retention.keeps is None:
        how = "kept for ever (retention.ms); delete its records, or lower it"
        if retention.compacted:
            how = "until compaction has passed the tombstone of the key"
    else:
        until = gone_at.astimezone(UTC) + retention.keeps
        late = ", which is after the date" if until.date() > by else ""
        how = f"the last events of the key until {_text(until)} at the latest{late}"
    yield PlanLine(OUTSIDE, topic, how)
    if unread:
        offsets = ", ".join(map(str, unread[:5])) + (" ..." if len(unread) > 5 else "")
        what = f"dead letters that name no row: offsets {offsets}"
        yield PlanLine(OUTSIDE, what, "read them; a pending one goes by carbon replay --drop")
    for what, until in _OTHERS:
        yield PlanLine(OUTSIDE, what, until)


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _some(items: Sequence) -> Sequence:
    return items[:SHOWN]


def _kept_why(one: Judged) -> str:
    if one.reason.startswith(_OF_MAIN):
        return "main is at it until its rows are written again; then young"
    return one.reason


def early_date(now: datetime, floor: timedelta) -> date:
    """The first date that can be promised from ``now`` on."""
    moment = now.astimezone(UTC) + floor
    day = moment.date()
    return (
        day if moment == datetime(day.year, day.month, day.day, tzinfo=UTC) else day + timedelta(1)
    )
