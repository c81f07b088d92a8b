"""Making a table's present rows, files and manifests those of a table that never had the person's.

What belongs here: the order of commits on ``main``. What does not: snapshots from before
(``erasure_expiry.py``) and what is in no snapshot (``erasure_litter.py``).

In this order, each planned anew where another commit came first:
1. live rows are deleted, by position deletes as a merge deletes them. A mirror has none left, for
   its source has none; a history has ended versions, an appended table all of its rows;
2. data files that hold such rows, deleted by now, are written again without them. That is a
   compaction of just these files, with its proofs, beside merges;
3. manifests that tell of files that are gone are written again without, for such an entry has the
   bounds of the file's columns: the least and greatest of their values.
Each is one snapshot that carries the table's progress. A process that dies in between leaves the
table whole, and the same call goes on from there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.errors import CommitConflictError, ErasureLeftError
from carbon_pipelines.lake.commit import commit_files, discard_files
from carbon_pipelines.lake.connection import lake_errors, load_lake_table
from carbon_pipelines.lake.deltas import plan_deletes, write_deletes
from carbon_pipelines.lake.lookup import FoundRows, live_rows
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.table_files import load_table_files
from carbon_pipelines.maintenance.carried import carried_state
from carbon_pipelines.maintenance.chosen_files import plan_chosen
from carbon_pipelines.maintenance.compact import CompactionSettings, apply_compaction
from carbon_pipelines.maintenance.erasure_request import Cleansed
from carbon_pipelines.maintenance.person_snapshots import PersonSnapshots
from carbon_pipelines.maintenance.table_facts import load_facts, why_refused

ERASED = "carbon.erased"
"""Summary property of the snapshots that an erasure makes: whose request it was."""
ATTEMPTS = 20
EVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class CleansingDone:
    """What was done to a table; ``rows`` were live, ``files`` are data files written again."""

    state: Cleansed
    rows: int
    files: int


def cleanse_table(
    catalog: Catalog,
    identifier: tuple[str, str],
    person: PersonSnapshots,
    number: str,
    state: Cleansed | None,
    *,
    settings: CompactionSettings | None = None,
    after_commit: Callable[[], None] = lambda: None,
) -> CleansingDone:
    """Bring ``main`` to where nothing of it is the person's.

    Args:
        catalog: Where the table is.
        identifier: The table.
        person: Finds the rows.
        number: Of the request, for the summary of snapshots.
        state: What an earlier call came to.
        settings: How files are written again.
        after_commit: Called after each commit of its own; for tests.

    Raises:
        ErasureLeftError: A file that holds such rows cannot be written again.
        ErasureUnreadableError: A data file cannot be read, so nobody can tell.
        CommitConflictError: Others committed first again and again (retryable).
    """
    label = "/".join(identifier)
    rows = files = 0
    changed = False
    table = load_lake_table(catalog, identifier)
    for _ in range(ATTEMPTS):
        with lake_errors(f"Iceberg table {label}"):
            holding = person.present(table)
            if state is not None and not (holding or changed):
                return CleansingDone(state, rows, files)
            if not holding and not person.telling_of_gone(table):
                cleansed = _cleansed(table, person, state, changed=changed)
                return CleansingDone(cleansed, rows, files)
            notes = {**carried_state(table, label), ERASED: number}
            live = find_live_rows(table, person) if holding else []
            if live:
                done = _delete(table, live, notes)
                rows += sum(len(found.positions) for found in live) if done else 0
            elif holding:
                files += _rewrite(catalog, table, frozenset(holding), settings)
                done = None
            else:
                done = _forget(table, notes)
        if done is not None or holding:
            changed = True
            after_commit()
        table = done or load_lake_table(catalog, identifier)
    raise CommitConflictError(label, ATTEMPTS)


def find_live_rows(table: Table, person: PersonSnapshots) -> list[FoundRows]:
    """The person's rows that ``main`` shows, by data file.

    Raises:
        ErasureLeftError: The table is one that we do not write.
    """
    files = load_table_files(table.current_snapshot(), table.io)
    if refused := why_refused(table, files):
        raise ErasureLeftError("/".join(table.name()), refused)
    positions = person.files.find(one.file.file_path for one in files.data)
    found: list[FoundRows] = []
    for data in files.data:
        rows = positions[data.file.file_path]
        if rows is not None and len(rows):
            keys = np.zeros(len(rows), dtype=np.int64)
            found.append(live_rows(files, table.io, data, rows, keys))
    return [one for one in found if len(one.positions)]


def _delete(table: Table, live: list[FoundRows], notes: dict[str, str]) -> Table | None:
    """The table without the rows; None if another commit came first."""
    files = load_table_files(table.current_snapshot(), table.io)
    deletes = plan_deletes(live)
    written = write_deletes(deletes, table.io, table.location_provider())
    changes = FileChanges(
        (), written, deletes.removed_data, deletes.removed_deletes, files.manifests
    )
    committed = commit_files(table, changes, notes)
    if committed is None:
        discard_files(table.io, written)
        return None
    return committed.table


def _rewrite(
    catalog: Catalog, table: Table, paths: frozenset[str], settings: CompactionSettings | None
) -> int:
    """How many of the files at ``paths`` were written again."""
    plan = plan_chosen(load_facts(table), paths, "it holds rows that are to be erased")
    if plan.left:
        raise ErasureLeftError(plan.label, *plan.left[0])
    return apply_compaction(plan, catalog, settings=settings).removed_files


def _forget(table: Table, notes: dict[str, str]) -> Table | None:
    """The table whose manifests tell of live files alone; None if another commit came first."""
    files = load_table_files(table.current_snapshot(), table.io)
    changes = FileChanges(manifests=files.manifests)
    committed = commit_files(table, changes, notes, same_rows=True, forget=True)
    return committed.table if committed is not None else None


def _cleansed(
    table: Table, person: PersonSnapshots, before: Cleansed | None, *, changed: bool
) -> Cleansed:
    """The state of ``table``; one that never had such a row has been clean for ever."""
    head = table.current_snapshot()
    older = frozenset(person.find(table, None))
    if before is not None:
        older |= before.snapshots
    if head is None or not (changed or older):
        return Cleansed((head.sequence_number or 0) if head is not None else 0, EVER, older)
    at = datetime.fromtimestamp(head.timestamp_ms / 1000, UTC)
    return Cleansed(head.sequence_number or 0, at, older)
