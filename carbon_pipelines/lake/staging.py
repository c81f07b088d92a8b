"""The hidden branch on which a first copy grows until it is whole.

What belongs here: what the branch remembers (``carbon.staged_*`` beside the usual progress), giving
it up, and publishing it as ``main``. What does not: copying (``first_copy.py``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AssertRefSnapshotId,
    RemoveSnapshotRefUpdate,
    SetCurrentSchemaUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
)

from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.state import TableProgress, find_carrier, read_progress

BRANCH = "carbon_first_copy"
"""Name of the branch; readers of ``main`` never see it."""


@dataclass(frozen=True, slots=True)
class StagedCopy:
    """How far a copy has come.

    Attributes:
        progress: Where the stream is to be read from, with the first snapshot's edge.
        ranges: Page bounds of every range, in order: (first page, page after the last or None).
        done: Indexes of the ranges that are on the branch.
        last_through_lsn: The newest snapshot's L; the branch is consistent once past it.
        snapshots: Number of source snapshots that the ranges come from.
    """

    progress: TableProgress
    ranges: Sequence[tuple[int, int | None]]
    done: frozenset[int]
    last_through_lsn: int
    snapshots: int

    def to_properties(self) -> dict[str, str]:
        """The summary properties of a snapshot on the branch."""
        return {
            **self.progress.to_properties(),
            "carbon.staged_ranges": json.dumps(list(self.ranges)),
            "carbon.staged_done": json.dumps(sorted(self.done)),
            "carbon.staged_last_through": str(self.last_through_lsn),
            "carbon.staged_snapshots": str(self.snapshots),
        }


def load_staged(table: Table, label: str) -> StagedCopy | None:
    """The unfinished copy on the branch, or ``None``."""
    head = table.metadata.snapshot_by_name(BRANCH)
    carrier = find_carrier(table.metadata, head) if head is not None else None
    if carrier is None or carrier.summary is None:
        return None
    properties = carrier.summary.additional_properties
    if "carbon.staged_ranges" not in properties:
        return None
    return StagedCopy(
        read_progress(properties, label),
        [(first, last) for first, last in json.loads(properties["carbon.staged_ranges"])],
        frozenset(json.loads(properties["carbon.staged_done"])),
        int(properties["carbon.staged_last_through"]),
        int(properties["carbon.staged_snapshots"]),
    )


def discard_branch(catalog: Catalog, table: Table) -> Table:
    """Give an unfinished copy up; its files stay unreferenced until orphans are removed."""
    if BRANCH not in table.metadata.refs:
        return table
    with table.manage_snapshots() as snapshots:
        snapshots.remove_branch(BRANCH)
    fresh = load_table(catalog, (table.name()[0], table.name()[1]))
    assert fresh is not None
    return fresh


def stage_schema(table: Table, schema: Schema) -> tuple[Table, Schema]:
    """Add ``schema`` to the table without making it current; one that is there already is reused.

    Returns:
        The table as it is then, and the schema under its id.
    """
    for known in table.schemas().values():
        if known.fields == schema.fields:
            return table, known
    new = Schema(
        *schema.fields,
        schema_id=max(table.schemas()) + 1,
        identifier_field_ids=schema.identifier_field_ids,
    )
    transaction = table.transaction()
    transaction._stage((AddSchemaUpdate.model_validate({"schema": new}),))  # pyright: ignore[reportPrivateUsage]
    committed = transaction.commit_transaction()
    return committed, next(s for s in committed.schemas().values() if s.fields == schema.fields)


def publish(table: Table, label: str, schema: Schema, properties: Mapping[str, str]) -> Table:
    """Set ``main`` to the branch's head and drop the branch, in one commit.

    ``schema`` becomes current and ``properties`` are set with it. Both branches must be as they
    were in ``table``: another process may have given the copy up and begun its own.

    Raises:
        CommitConflictError: Somebody else wrote to the table meanwhile (retryable).
    """
    refs = table.metadata.refs
    head = refs[BRANCH].snapshot_id
    main = refs[MAIN_BRANCH].snapshot_id if MAIN_BRANCH in refs else None
    transaction = table.transaction()
    transaction._stage(  # pyright: ignore[reportPrivateUsage]
        (
            SetSnapshotRefUpdate.model_validate(
                {"ref-name": MAIN_BRANCH, "snapshot-id": head, "type": "branch"}
            ),
            RemoveSnapshotRefUpdate.model_validate({"ref-name": BRANCH}),
            SetCurrentSchemaUpdate.model_validate({"schema-id": schema.schema_id}),
            SetPropertiesUpdate(updates=dict(properties)),
        ),
        (
            AssertRefSnapshotId.model_validate({"ref": MAIN_BRANCH, "snapshot-id": main}),
            AssertRefSnapshotId.model_validate({"ref": BRANCH, "snapshot-id": head}),
        ),
    )
    with lake_errors(f"Iceberg table {label}"):
        return transaction.commit_transaction()
