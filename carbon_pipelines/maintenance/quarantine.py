"""Orphans on their way out: moved aside, kept for a while, brought back or removed.

What belongs here: the moves. What does not: what is an orphan (``orphans.py``) and what a manifest
says (``quarantine_record.py``).

``<table>/_carbon_quarantine/<run>/manifest.json`` is written before anything is moved and deleted
after everything is gone, so at any moment it names whatever is there. A move is a copy, a look at
the copy, and a delete. Before the deletes of each page the table is read again: what a commit has
taken meanwhile stays. After the last one it is read once more: what was taken since comes back.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.errors import QuarantineMissingError, RetentionZeroError
from carbon_pipelines.lake.connection import lake_errors, load_lake_table
from carbon_pipelines.maintenance.orphans import (
    OrphanPlan,
    check_removable,
    later_files,
)
from carbon_pipelines.maintenance.path_set import PathSet
from carbon_pipelines.maintenance.quarantine_record import (
    Moved,
    Quarantine,
    load_quarantines,
    new_quarantine,
)
from carbon_pipelines.maintenance.storage import (
    LARGEST_COPY_BYTES,
    WORKERS,
    Storage,
    in_pages,
    open_storage,
)

RETENTION = timedelta(days=7)
"""How long an orphan stays in quarantine."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What quarantining did.

    Attributes:
        run: Name of the quarantine; empty if there was nothing to move.
        files: Moved aside.
        kept: Orphans of the plan that stay where they are: a commit has taken them since, or they
            are larger than the store copies in one request.
    """

    table: str
    run: str
    files: int
    size_bytes: int
    kept: tuple[str, ...]

    def sentence(self) -> str:
        """What it did, as one line."""
        kept = f", {len(self.kept)} stay: {', '.join(self.kept[:3])}" if self.kept else ""
        if not self.run:
            return f"{self.table}: no orphans{kept}"
        return (
            f"{self.table}: {self.files:,} orphans of {self.size_bytes:,} bytes quarantined as "
            f"{self.run}{kept}"
        )


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back from quarantine."""

    table: str
    runs: tuple[str, ...]
    files: int
    size_bytes: int

    def sentence(self) -> str:
        """What it did, as one line."""
        runs = ", ".join(self.runs)
        return f"{self.table}: {self.files:,} files of {self.size_bytes:,} bytes are back ({runs})"


def apply_orphans(
    catalog: Catalog, identifier: tuple[str, str], plan: OrphanPlan, now: datetime
) -> Quarantined:
    """Move what ``plan`` says into quarantine, as far as it is unreferenced still.

    Raises:
        CopyUnderWayError: The age is below the floor and a first copy has begun (retryable).
        StoreInterruptedError: Some are moved, the manifest names them; run it again (retryable).
    """
    table = load_lake_table(catalog, identifier)
    check_removable(table, plan.rules)
    large = [one for one in plan.orphans if one.size_bytes > LARGEST_COPY_BYTES]
    wanted = [one for one in plan.orphans if one.size_bytes <= LARGEST_COPY_BYTES]
    if not wanted:
        return Quarantined(plan.table, "", 0, 0, tuple(one.path for one in large))
    storage = open_storage(table.location(), table.io.properties)
    quarantine = new_quarantine(table, wanted, plan, now)
    storage.write(quarantine.manifest, quarantine.to_json())
    taken: set[str] = set()
    gone: list[str] = []
    with lake_errors(f"Iceberg table {plan.table}"):
        for page in in_pages(quarantine.files):
            gone += _copy([(one.path, one.aside) for one in page], storage)
            taken |= set(_taken(catalog, identifier, plan.snapshots, page))
            storage.delete(one.path for one in page if one.path not in taken)
            storage.delete(one.aside for one in page if one.path in taken)
        late = _taken(catalog, identifier, plan.snapshots, quarantine.files) - taken
        _bring_back([one for one in quarantine.files if one.path in late], storage)
    taken |= late
    left = [one for one in quarantine.files if one.path not in taken.union(gone)]
    return Quarantined(
        plan.table,
        quarantine.run,
        len(left),
        sum(one.size_bytes for one in left),
        (*sorted(taken), *(one.path for one in large)),
    )


def apply_restore(table: Table, quarantines: Sequence[Quarantine]) -> Restored:
    """Bring files of ``quarantines`` back to where they were.

    A file that is there again stays as it is. What is back is as young as a new file.

    Raises:
        StoreInterruptedError: Some are back; run it again for the rest (retryable).
    """
    storage = open_storage(table.location(), table.io.properties)
    files, size_bytes = 0, 0
    for quarantine in quarantines:
        back = _bring_back(quarantine.files, storage)
        files, size_bytes = files + len(back), size_bytes + sum(one.size_bytes for one in back)
        storage.delete([quarantine.manifest])
    label, runs = "/".join(table.name()), tuple(one.run for one in quarantines)
    return Restored(label, runs, files, size_bytes)


def plan_restore(table: Table, run: str = "") -> tuple[Quarantine, ...]:
    """The quarantines that would come back: the one of that name, or all.

    Raises:
        QuarantineMissingError: There is none.
    """
    there = load_quarantines(table)
    chosen = tuple(one for one in there if run in ("", one.run))
    if not chosen:
        raise QuarantineMissingError("/".join(table.name()), run, [one.run for one in there])
    return chosen


def plan_removal(
    quarantines: Iterable[Quarantine], retention: timedelta, now: datetime
) -> tuple[Quarantine, ...]:
    """The quarantines that have lain for ``retention``.

    Raises:
        RetentionZeroError: It is zero or less.
    """
    if retention <= timedelta(0):
        raise RetentionZeroError("the retention of quarantine", retention)
    return tuple(one for one in quarantines if now - one.moved_at >= retention)


def apply_removal(table: Table, quarantines: Iterable[Quarantine]) -> None:
    """Remove the files of ``quarantines`` for good, the manifest last.

    Raises:
        StoreInterruptedError: The manifest still names the rest; run it again (retryable).
    """
    storage = open_storage(table.location(), table.io.properties)
    for quarantine in quarantines:
        for page in in_pages(quarantine.files):
            storage.delete(one.aside for one in page)
        storage.delete([quarantine.manifest])


def apply_removal_of(table: Table, quarantine: Quarantine, files: Sequence[Moved]) -> None:
    """Remove some files of a quarantine for good; its manifest goes with the last of them.

    Raises:
        StoreInterruptedError: The manifest still names them all; run it again (retryable).
    """
    storage = open_storage(table.location(), table.io.properties)
    for page in in_pages(files):
        storage.delete(one.aside for one in page)
    gone = {one.aside for one in files}
    left = replace(quarantine, files=tuple(x for x in quarantine.files if x.aside not in gone))
    if left.files:
        storage.write(left.manifest, left.to_json())
    else:
        storage.delete([left.manifest])


def _taken(
    catalog: Catalog,
    identifier: tuple[str, str],
    known: frozenset[int],
    files: Iterable[Moved],
) -> set[str]:
    """Which of ``files`` snapshots reach that were not there when the plan was made."""
    table = load_lake_table(catalog, identifier)
    reached = PathSet(later_files(table, known))
    return {one.path for one in files if one.path in reached}


def _copy(moves: Sequence[tuple[str, str]], storage: Storage) -> list[str]:
    """Copy all; those whose source somebody has deleted meanwhile."""
    with ThreadPoolExecutor(WORKERS) as pool:
        copied = list(pool.map(lambda move: storage.copy(*move), moves))
    return [source for (source, _), done in zip(moves, copied, strict=True) if not done]


def _bring_back(files: Sequence[Moved], storage: Storage) -> list[Moved]:
    """Copy files back that are aside and not where they were, then take away what was aside."""
    back: list[Moved] = []
    for page in in_pages(files):
        with ThreadPoolExecutor(WORKERS) as pool:
            found = list(pool.map(lambda one: _is_away(one, storage), page))
        away = [one for one, is_away in zip(page, found, strict=True) if is_away]
        _copy([(one.aside, one.path) for one in away], storage)
        storage.delete(one.aside for one in page)
        back += away
    return back


def _is_away(file: Moved, storage: Storage) -> bool:
    return storage.stat(file.path) is None and storage.stat(file.aside) is not None
