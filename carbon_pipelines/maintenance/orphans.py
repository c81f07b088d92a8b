"""Objects under a table's location that nothing refers to.

What belongs here: listing, holding against everything reachable, and the plan. What does not:
moving anything (``quarantine.py``).

Of each reachable file nine bytes are held, of the listing one page, and of the orphans so many as
one plan takes; so a table of millions of files is looked through in tens of megabytes.

An object is an orphan if the metadata that the catalog names does not reach it, neither before the
listing nor after it, nor what an expiry has still to clean up, and it has lain there longer than
any writer takes from its first file to its commit.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.errors import (
    CommitConflictError,
    CopyUnderWayError,
    MetadataFileMissingError,
    RemovalForbiddenError,
    RetentionZeroError,
    YoungOrphansError,
)
from carbon_pipelines.lake.connection import lake_errors, load_lake_table
from carbon_pipelines.lake.manifest_reading import read_manifest_list
from carbon_pipelines.lake.staging import BRANCH as FIRST_COPY
from carbon_pipelines.maintenance.expiry_work import pending_work
from carbon_pipelines.maintenance.locations import lies_in, normalise, table_roots
from carbon_pipelines.maintenance.missing import check_nothing_missing
from carbon_pipelines.maintenance.neighbours import Neighbour, check_alone, load_neighbours
from carbon_pipelines.maintenance.path_set import PathSet
from carbon_pipelines.maintenance.pointer import check_pointer, is_metadata_file, reached_by
from carbon_pipelines.maintenance.reachable import (
    live_files,
    own_files,
    reachable_files,
    snapshot_files,
)
from carbon_pipelines.maintenance.storage import Storage, StoredObject, open_storage

FLOOR = timedelta(days=3)
"""No writer takes so long from its first file to its commit."""
QUARANTINE = "_carbon_quarantine"
"""Directory in a table's location; other engines pass over names that begin with ``_``."""
MOST_ORPHANS = 50_000
"""Orphans that one plan takes; the rest is left to the next."""
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class OrphanRules:
    """What counts as an orphan.

    Attributes:
        min_age: A younger object is left alone.
        may_take_running: Allow an age below ``FLOOR``: files of a commit under way may go.

    Raises:
        YoungOrphansError: The age is below the floor without the word for it.
        RetentionZeroError: The age is zero or less.
    """

    min_age: timedelta = FLOOR
    may_take_running: bool = False

    def __post_init__(self) -> None:
        if self.min_age <= timedelta(0):
            raise RetentionZeroError("the age of orphans", self.min_age)
        if self.min_age < FLOOR and not self.may_take_running:
            seconds = int(self.min_age.total_seconds())
            raise YoungOrphansError(seconds, int(FLOOR.total_seconds()))


@dataclass(frozen=True, slots=True)
class OrphanPlan:
    """Objects to be quarantined, and what was looked at.

    Attributes:
        table: ``<namespace>/<name>``.
        orphans: Oldest first within each page of the listing.
        listed: Objects under the table's location, quarantine left out.
        reachable: Files that the metadata reaches.
        young: Unreferenced objects that are not old enough.
        more: Orphans that are left to the next plan.
        snapshots: Known when it was made; what later ones reach is no orphan.
    """

    table: str
    rules: OrphanRules
    orphans: tuple[StoredObject, ...]
    listed: int
    reachable: int
    young: int
    more: int
    snapshots: frozenset[int] = field(repr=False, default=frozenset())

    def __bool__(self) -> bool:
        """Whether there are orphans."""
        return bool(self.orphans)

    @property
    def size_bytes(self) -> int:
        """Of all orphans."""
        return sum(one.size_bytes for one in self.orphans)

    def describe(self, shown: int = 20) -> str:
        """The plan as a table, at most ``shown`` objects."""
        lines = [
            f"{self.table}: {len(self.orphans):,} orphans of {self.size_bytes:,} bytes among "
            f"{self.listed:,} objects; {self.reachable:,} are reachable, {self.young:,} are "
            f"unreferenced and younger than {self.rules.min_age}"
            + (f"; {self.more:,} orphans are left to the next plan" if self.more else "")
        ]
        lines += [
            f"    {one.modified_at:%Y-%m-%d %H:%M:%S}  {one.size_bytes:>14,}  {one.path}"
            for one in self.orphans[:shown]
        ]
        more = len(self.orphans) - shown
        return "\n".join([*lines, f"    and {more:,} more"] if more > 0 else lines)


@dataclass(slots=True)
class _Listing:
    """What a listing found so far."""

    unreferenced: list[StoredObject] = field(default_factory=list[StoredObject])
    metadata: list[StoredObject] = field(default_factory=list[StoredObject])
    listed: int = 0
    young: int = 0
    more: int = 0


def plan_orphans(
    catalog: Catalog,
    identifier: tuple[str, str],
    rules: OrphanRules,
    now: datetime,
    *,
    neighbours: Sequence[Neighbour] | None = None,
) -> OrphanPlan:
    """Find the orphans of a table; touches nothing.

    ``neighbours`` are all tables of the catalog, loaded here if not given.

    Raises:
        TableOverlapError: Its files cannot be told from another table's.
        StalePointerError: The catalog may not name its newest state (retryable).
        SecondCatalogError: Two catalogs write it.
        CopyUnderWayError: The age is below the floor and a first copy is writing (retryable).
        TableFilesMissingError: Files that its snapshots need are gone; each is named.
        MetadataFileMissingError: Likewise a manifest or manifest list.
        StoreInterruptedError: The store stopped answering (retryable).
    """
    label = "/".join(identifier)
    table = load_lake_table(catalog, identifier)
    check_removable(table, rules)
    check_alone(table, load_neighbours(catalog) if neighbours is None else neighbours)
    for _ in range(ATTEMPTS):
        try:
            with lake_errors(f"Iceberg table {label}"):
                return _plan(catalog, table, rules, now)
        except MetadataFileMissingError as missing:
            table = load_lake_table(catalog, identifier)
            if table.metadata.snapshot_by_id(missing.snapshot_id) is not None:
                raise
            # an expiry came in between: look again without its snapshots
    raise CommitConflictError(label, ATTEMPTS)


def check_removable(table: Table, rules: OrphanRules) -> None:
    """Refuse a table whose unreferenced files may be somebody's.

    Raises:
        RemovalForbiddenError: Other tables may use its files.
        CopyUnderWayError: The age is below the floor and a first copy is writing (retryable).
    """
    label = "/".join(table.name())
    if table.properties.get("gc.enabled", "true").lower() == "false":
        raise RemovalForbiddenError(label)
    if rules.min_age < FLOOR and FIRST_COPY in table.metadata.refs:
        raise CopyUnderWayError(label, FIRST_COPY)


def _plan(catalog: Catalog, before: Table, rules: OrphanRules, now: datetime) -> OrphanPlan:
    label = "/".join(before.name())
    reached = reachable_files(before.io, before.metadata, before.metadata_location, label)
    kept = PathSet(one.path for one in reached)
    storage = open_storage(before.location(), before.io.properties)
    listing = _list(before, kept, storage, rules, now)
    after = catalog.load_table(before.name())
    known = {one.snapshot_id for one in before.metadata.snapshots}
    later = PathSet(later_files(after, known))
    unknown = [one for one in listing.metadata if one.path not in later]
    for path, metadata in check_pointer(after, unknown, storage, now):
        for file in reached_by(after, path, metadata):
            later.add(file.path)
    check_nothing_missing(after, kept, storage)
    orphans = tuple(one for one in listing.unreferenced if one.path not in later)
    return OrphanPlan(
        label,
        rules,
        orphans,
        listing.listed,
        len(kept),
        listing.young,
        listing.more,
        frozenset(one.snapshot_id for one in after.metadata.snapshots),
    )


def _list(
    table: Table, kept: PathSet, storage: Storage, rules: OrphanRules, now: datetime
) -> _Listing:
    found = _Listing()
    cleaned = PathSet(_being_cleaned(table))
    quarantine = f"{normalise(table.location())}/{QUARANTINE}"
    seen_twice = PathSet()
    prefixes = _prefixes(table)
    for page in (page for prefix in prefixes for page in storage.pages(prefix)):
        objects = [one for one in page if not lies_in(normalise(one.path), quarantine)]
        found.listed += len(objects)
        reached = kept.contains(one.path for one in objects)
        for one in (one for one, is_kept in zip(objects, reached, strict=True) if not is_kept):
            if is_metadata_file(one.path):
                found.metadata.append(one)
            if one.path in cleaned or (len(prefixes) > 1 and not seen_twice.add_new(one.path)):
                continue
            if now - one.modified_at < rules.min_age:
                found.young += 1
            elif len(found.unreferenced) < MOST_ORPHANS:
                found.unreferenced.append(one)
            else:
                found.more += 1
    return found


def _prefixes(table: Table) -> list[str]:
    """Prefixes to list: the table's, by their exact names and by their normalised ones."""
    roots = table_roots(table.location(), table.properties)
    named = [table.location(), *table.properties.values()]
    exact = {one.rstrip("/") for one in named if normalise(one) in roots and "/" in one}
    by_key = {one.partition("://")[2] or one.removeprefix("file:"): one for one in roots}
    by_key |= {one.partition("://")[2] or one.removeprefix("file:"): one for one in exact}
    return sorted(by_key.values())


def _being_cleaned(table: Table) -> Iterator[str]:
    """What expiries have taken from the table and not deleted yet: the next one does."""
    for work in pending_work(table.metadata, "/".join(table.name())):
        for file in work.statistics:
            yield file.path
        for _, path in work.lists:
            yield path
            try:
                for manifest in read_manifest_list(table.io, path):
                    yield manifest.manifest_path
                    for file in live_files(table.io, manifest):
                        yield file.path
            except FileNotFoundError:
                continue


def later_files(table: Table, known: Collection[int]) -> Iterator[str]:
    """What ``table`` reaches by itself and by snapshots that are not among ``known``.

    Raises:
        MetadataFileMissingError: A manifest of it is not there (any more).
    """
    yield from (one.path for one in own_files(table.metadata, table.metadata_location))
    new = [one for one in table.metadata.snapshots if one.snapshot_id not in known]
    for file in snapshot_files(table.io, new, "/".join(table.name())):
        yield file.path
