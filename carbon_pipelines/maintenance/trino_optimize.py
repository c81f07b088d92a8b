"""Compaction by Trino: its ``optimize``, watched from outside.

What belongs here: asking for it, what its failures mean, and whether the snapshots that it made
have the rows of the ones before them. What does not: compaction by ourselves (``compact.py``),
which is proven before its commit; Trino commits by itself, so the proof comes after, and says so
if it fails.

Trino checks a commit against what others committed meanwhile and fails where they touched its
files; merges go on and win. Its snapshots carry no progress of ours: merges find theirs behind.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, ancestors_of
from trino.exceptions import Error, TrinoQueryError

from carbon_pipelines.embedded.endpoints import TrinoEndpoint
from carbon_pipelines.errors import (
    OptimizedRowsError,
    OptimizeFailedError,
    OptimizeInterruptedError,
)
from carbon_pipelines.lake.connection import lake_errors, load_lake_table
from carbon_pipelines.lake.delete_file import count_rows
from carbon_pipelines.lake.trino import open_trino, table_name
from carbon_pipelines.maintenance.compaction import SMALL
from carbon_pipelines.maintenance.table_facts import load_facts

_TRINO_ID = "trino_query_id"
"""Summary property of every snapshot that Trino makes."""
_CONFLICTS = frozenset({"ICEBERG_COMMIT_ERROR", "TRANSACTION_CONFLICT"})
_PASSING = frozenset({"EXTERNAL", "INTERNAL_ERROR", "INSUFFICIENT_RESOURCES"})
"""Types of errors that are not the question's fault."""


@dataclass(frozen=True, slots=True)
class Optimized:
    """What Trino did; files are those of the table before and after, merges of meanwhile included.

    Attributes:
        snapshot_ids: That Trino made.
        cpu_seconds: Trino's.
    """

    label: str
    snapshot_ids: tuple[int, ...]
    files_before: int
    files_after: int
    deletes_before: int
    deletes_after: int
    seconds: float
    cpu_seconds: float

    def sentence(self) -> str:
        """What was done, as one line."""
        spent = f"({self.seconds:.1f} s, {self.cpu_seconds:.1f} CPU-s of Trino)"
        if not self.snapshot_ids:
            return f"{self.label}: Trino found nothing to compact {spent}"
        return (
            f"{self.label}: {self.files_before:,} data files and {self.deletes_before:,} delete "
            f"files became {self.files_after:,} and {self.deletes_after:,} by Trino {spent}"
        )


def optimize_table(
    trino: TrinoEndpoint, catalog: Catalog, identifier: tuple[str, str]
) -> Optimized:
    """Have Trino write the table's small files again, and those that have deletes.

    Raises:
        TableNotCopiedError: There is no such table.
        OptimizeFailedError: Trino refused, failed or lost to other commits.
        OptimizedRowsError: What it committed has another number of rows.
    """
    label = "/".join(identifier)
    table = load_lake_table(catalog, identifier)
    with lake_errors(f"Iceberg table {label}"):
        before = load_facts(table)
        known = {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
        small = int(before.target_bytes * SMALL)
        started = time.monotonic()
        cpu_seconds = _execute(trino, identifier, small)
        seconds = time.monotonic() - started
        table = load_lake_table(catalog, identifier)
        made = list(_made(table, known))
        for snapshot in made:
            _check(table, snapshot, label)
        after = load_facts(table)
    return Optimized(
        label,
        tuple(snapshot.snapshot_id for snapshot in made),
        len(before.files),
        len(after.files),
        before.delete_files,
        after.delete_files,
        seconds,
        cpu_seconds,
    )


def _execute(trino: TrinoEndpoint, identifier: tuple[str, str], small_bytes: int) -> float:
    """Run it; Trino's CPU-seconds."""
    label = "/".join(identifier)
    names = table_name(trino, identifier)
    try:
        with open_trino(trino) as connection:
            cursor = connection.cursor()
            cursor.execute(
                f"ALTER TABLE {names} EXECUTE optimize(file_size_threshold => '{small_bytes}B')"
            ).fetchall()
            stats = cursor.stats or {}
    except TrinoQueryError as error:
        passing = error.error_name in _CONFLICTS or error.error_type in _PASSING
        kind = OptimizeInterruptedError if passing else OptimizeFailedError
        raise kind(label, f"{error.error_name}: {error.message}") from error
    except (Error, OSError) as error:
        state = f"{trino.scheme}://{trino.host}:{trino.port}: {error}".partition("\n")[0][:300]
        raise OptimizeInterruptedError(label, state) from error
    return float(stats.get("cpuTimeMillis", 0)) / 1000


def _made(table: Table, known: set[int]) -> Iterator[Snapshot]:
    """Trino's new snapshots that only replaced files."""
    for snapshot in ancestors_of(table.current_snapshot(), table.metadata):
        if snapshot.snapshot_id in known:
            return
        summary = snapshot.summary
        if (
            summary is not None
            and summary.operation == Operation.REPLACE
            and _TRINO_ID in summary.additional_properties
        ):
            yield snapshot


def _check(table: Table, snapshot: Snapshot, label: str) -> None:
    parent = snapshot.parent_snapshot_id
    if parent is None:
        return
    before = count_rows(table.metadata.snapshot_by_id(parent), table.io)
    after = count_rows(snapshot, table.io)
    if before != after:
        raise OptimizedRowsError(
            label, snapshot_id=snapshot.snapshot_id, before=before, after=after
        )
