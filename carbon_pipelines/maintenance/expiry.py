"""Which snapshots of a table go, and why each of the others stays.

What belongs here: the rules, as a pure function of a table's metadata. What does not: removing
anything (``expiry_commit.py``, ``expiry_files.py``).

A snapshot stays if any of these holds:
* a branch or tag that has not expired is at it; ``main``, ``certified`` and a first copy's branch
  never expire, a lease does when its time is over (``leases.py``);
* it is among the newest of a branch: ``at_least``, or the branch's own ``min-snapshots-to-keep``;
* it is younger than ``max_age``, or its branch's own ``max-snapshot-age-ms``, and not beyond
  ``at_most``; one that is on no branch is beyond it once so many of ``main`` are newer;
* it is, or leads by its parents to, the newest one that carries ``carbon.*`` state, from any branch
  or tag that stays: progress is found by walking ancestors, and a gap on the way would end the walk
  (``lake/state.py``);
* the table is parked at it: the mark counts only while ``main`` descends from it.
Source: Iceberg spec, "Snapshot retention policy".
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot, ancestors_of
from pyiceberg.table.update import TableUpdate

from carbon_pipelines.errors import RemovalForbiddenError
from carbon_pipelines.lake.certificate import CERTIFIED
from carbon_pipelines.lake.parking import find_parked
from carbon_pipelines.lake.staging import BRANCH as FIRST_COPY
from carbon_pipelines.lake.state import find_carrier
from carbon_pipelines.maintenance.leases import MARKER, find_lease
from carbon_pipelines.maintenance.retention import Retention, milliseconds

EVERLASTING = frozenset({MAIN_BRANCH, CERTIFIED, FIRST_COPY})
MOST_SNAPSHOTS = 500
"""Snapshots that one commit removes; the rest go with the next."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A snapshot, or a branch or tag with its snapshot, and why it goes or stays."""

    name: str
    snapshot_id: int
    at: datetime
    reason: str

    def sentence(self) -> str:
        """One line of the plan."""
        return f"{self.name:<22} {self.at:%Y-%m-%d %H:%M:%S}  {self.reason}"


@dataclass(frozen=True, slots=True)
class ExpiryPlan:
    """What goes and what stays, decided on ``table`` as it stood.

    Attributes:
        table: ``<namespace>/<name>``.
        snapshots: Those that go, oldest first.
        refs: Branches and tags that go.
        kept: The snapshots that stay, newest first.
        heads: Where every branch and tag was; the plan holds only while they are there.
        more: Snapshots that go with the next plan.
        updates: Made in the same commit, before anything goes.
    """

    table: str
    snapshots: tuple[Judged, ...]
    refs: tuple[Judged, ...]
    kept: tuple[Judged, ...]
    heads: Mapping[str, int] = field(default_factory=dict[str, int])
    more: int = 0
    updates: tuple[TableUpdate, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything goes."""
        return bool(self.snapshots or self.refs)

    @property
    def snapshot_ids(self) -> tuple[int, ...]:
        """Ids of the snapshots that go."""
        return tuple(one.snapshot_id for one in self.snapshots)

    def describe(self, shown: int = 20) -> str:
        """The plan as a table, at most ``shown`` lines of each part."""
        lines = [
            f"{self.table}: {len(self.snapshots)} snapshots go, {len(self.kept)} stay"
            + (f", {self.more} go later" if self.more else "")
        ]
        for title, part in (
            ("branches and tags that go", self.refs),
            ("snapshots that go", self.snapshots),
            ("snapshots that stay", self.kept),
        ):
            if part:
                lines += [f"  {title}:", *(f"    {one.sentence()}" for one in part[:shown])]
                lines += [f"    and {len(part) - shown} more"] if len(part) > shown else []
        return "\n".join(lines)


def plan_expiry(
    metadata: TableMetadata, table: str, retention: Retention, now: datetime
) -> ExpiryPlan:
    """Decide what goes; touches nothing.

    Raises:
        RemovalForbiddenError: The table's files may be other tables' too.
        StateFormatError: The table is parked by a program of another format version.
    """
    if metadata.properties.get("gc.enabled", "true").lower() == "false":
        raise RemovalForbiddenError(table)
    refs_going = dict(_expired_refs(metadata, retention, now))
    reasons: dict[int, str] = {}
    for snapshot_id, reason in _kept(metadata, table, retention, now, refs_going):
        reasons.setdefault(snapshot_id, reason)
    oldest_first = sorted(metadata.snapshots, key=lambda one: one.timestamp_ms)
    going = [one for one in oldest_first if one.snapshot_id not in reasons]
    branches = _on_branches(metadata, refs_going)
    return ExpiryPlan(
        table,
        tuple(judged(one, _why(one, branches, retention, now)) for one in going[:MOST_SNAPSHOTS]),
        tuple(
            Judged(name, ref.snapshot_id, _at(metadata.snapshot_by_id(ref.snapshot_id)), reason)
            for name, ref in sorted(metadata.refs.items())
            if (reason := refs_going.get(name)) is not None
        ),
        tuple(
            judged(one, reasons[one.snapshot_id])
            for one in reversed(oldest_first)
            if one.snapshot_id in reasons
        ),
        {name: ref.snapshot_id for name, ref in metadata.refs.items()},
        max(0, len(going) - MOST_SNAPSHOTS),
    )


def _expired_refs(
    metadata: TableMetadata, retention: Retention, now: datetime
) -> Iterator[tuple[str, str]]:
    """Branches and tags that go, and why."""
    leases = [one for name in metadata.refs if (one := find_lease(metadata, name)) is not None]
    leased = {lease.snapshot_id for lease in leases if lease.holds(now)}
    for name, ref in metadata.refs.items():
        snapshot = metadata.snapshot_by_id(ref.snapshot_id)
        if name in EVERLASTING or snapshot is None:
            continue
        if name.startswith(MARKER):
            if ref.snapshot_id not in leased:
                yield name, "no lease of its snapshot holds any more"
            continue
        own = ref.max_ref_age_ms
        age = milliseconds(own) if own is not None else retention.max_ref_age
        if age is not None and now - _at(snapshot) >= age:
            ended = f"{_at(snapshot) + age:%Y-%m-%d %H:%M:%S}"
            yield name, f"expired at {ended}" if own else f"older than {age}"


def _kept(
    metadata: TableMetadata,
    table: str,
    retention: Retention,
    now: datetime,
    refs_going: Mapping[str, str],
) -> Iterator[tuple[int, str]]:
    """Snapshots that stay, each as often as there is a reason, the strongest first."""
    refs = {name: ref for name, ref in metadata.refs.items() if name not in refs_going}
    for name, ref in sorted(refs.items(), key=lambda item: (item[0] != MAIN_BRANCH, item[0])):
        lease = find_lease(metadata, name)
        if lease is not None and lease.until is not None:
            yield ref.snapshot_id, f"leased by {lease.owner} until {lease.until:%Y-%m-%d %H:%M:%S}"
        yield ref.snapshot_id, f"{ref.snapshot_ref_type} {name} is at it"
    for name in refs_going:
        if name.startswith(MARKER):
            yield metadata.refs[name].snapshot_id, "its lease is over; goes with the next expiry"
    yield from _state_kept(metadata, table, refs)
    for name, ref in refs.items():
        if ref.snapshot_ref_type == SnapshotRefType.BRANCH:
            yield from _branch_kept(metadata, name, ref, retention, now)
    yield from _branchless_kept(metadata, refs_going, retention, now)


def _state_kept(
    metadata: TableMetadata, table: str, refs: Mapping[str, SnapshotRef]
) -> Iterator[tuple[int, str]]:
    """What has to stay so that walking ancestors finds what it finds now."""
    parked = find_parked(metadata, table)
    for name, ref in refs.items():
        head = metadata.snapshot_by_id(ref.snapshot_id)
        carrier = find_carrier(metadata, head) if head is not None else None
        ends = [(carrier.snapshot_id, "carries the state of")] if carrier is not None else []
        if parked is not None and name == MAIN_BRANCH:
            ends.append((parked.snapshot_id, "is where the table is parked on"))
        for end, what in ends:
            for snapshot in ancestors_of(head, metadata):
                reached = snapshot.snapshot_id == end
                yield snapshot.snapshot_id, f"{what if reached else 'leads to the state of'} {name}"
                if reached:
                    break


def _branch_kept(
    metadata: TableMetadata, name: str, ref: SnapshotRef, retention: Retention, now: datetime
) -> Iterator[tuple[int, str]]:
    own_age = ref.max_snapshot_age_ms
    age = milliseconds(own_age) if own_age is not None else retention.max_age
    at_least = ref.min_snapshots_to_keep or retention.at_least
    at_most = None if own_age is not None else retention.at_most
    head = metadata.snapshot_by_id(ref.snapshot_id)
    for number, snapshot in enumerate(ancestors_of(head, metadata)):
        old = now - _at(snapshot)
        if number < at_least:
            yield snapshot.snapshot_id, f"among the newest {at_least} of {name}"
        elif old < age and (at_most is None or number < at_most or old < retention.spared):
            yield snapshot.snapshot_id, f"younger than {age}"


def _branchless_kept(
    metadata: TableMetadata, refs_going: Mapping[str, str], retention: Retention, now: datetime
) -> Iterator[tuple[int, str]]:
    """Snapshots on no branch: they stay for their age as long as ``main``'s of their time do."""
    on_branches = _on_branches(metadata, refs_going)
    main = sorted(one.timestamp_ms for one in ancestors_of(metadata.current_snapshot(), metadata))
    at_most = _most_of_main(metadata, retention)
    for snapshot in metadata.snapshots:
        old = now - _at(snapshot)
        if snapshot.snapshot_id in on_branches or old >= retention.max_age:
            continue
        newer = len(main) - bisect_right(main, snapshot.timestamp_ms)
        if at_most is None or newer < at_most or old < retention.spared:
            yield snapshot.snapshot_id, f"on no branch, younger than {retention.max_age}"


def _most_of_main(metadata: TableMetadata, retention: Retention) -> int | None:
    """How many of ``main``'s newest snapshots stay for their age; all if it has an age itself."""
    main = metadata.refs.get(MAIN_BRANCH)
    if main is None or main.max_snapshot_age_ms is not None or retention.at_most is None:
        return None
    return max(retention.at_most, main.min_snapshots_to_keep or retention.at_least)


def _on_branches(metadata: TableMetadata, refs_going: Mapping[str, str]) -> frozenset[int]:
    """Snapshots that belong to a branch that stays."""
    found: set[int] = set()
    for name, ref in metadata.refs.items():
        if name not in refs_going and ref.snapshot_ref_type == SnapshotRefType.BRANCH:
            head = metadata.snapshot_by_id(ref.snapshot_id)
            found.update(one.snapshot_id for one in ancestors_of(head, metadata))
    return frozenset(found)


def _why(
    snapshot: Snapshot, on_branches: frozenset[int], retention: Retention, now: datetime
) -> str:
    if snapshot.snapshot_id not in on_branches:
        if now - _at(snapshot) >= retention.max_age:
            return f"on no branch, older than {retention.max_age}"
        return "on no branch, older than what main keeps"
    if now - _at(snapshot) < retention.max_age and retention.at_most is not None:
        return f"beyond the newest {max(retention.at_most, retention.at_least)}"
    return "older than its branch keeps, and beyond the newest it keeps"


def judged(snapshot: Snapshot, reason: str) -> Judged:
    """A snapshot, and why it goes or stays."""
    return Judged(str(snapshot.snapshot_id), snapshot.snapshot_id, _at(snapshot), reason)


def _at(snapshot: Snapshot | None) -> datetime:
    assert snapshot is not None
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
