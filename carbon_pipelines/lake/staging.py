"""The hidden branch on which a first copy grows until it is whole.

What belongs here: what the branch remembers (``carbon.staged_*`` beside the usual progress), the
commits that begin it, put files on it, give it up and publish it as ``main``. What does not:
copying (``first_copy.py``) and whether a copy can be gone on with (``copy_start.py``).

Merges go on beside a copy. A commit that gives way to one of theirs is made again with the same
files, as long as the branch stands where this copy left it; a branch that somebody else moved ends
the copy.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from typing import TypeVar

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import ancestors_of
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    RemoveSnapshotRefUpdate,
    SetSnapshotRefUpdate,
)

from carbon_pipelines.errors import CommitConflictError, StateMissingError
from carbon_pipelines.lake.commit import UNANSWERED, commit_files, commit_updates, unknown_commit
from carbon_pipelines.lake.connection import load_table
from carbon_pipelines.lake.layout import Layout, plan_layout_updates
from carbon_pipelines.lake.manifest_reading import manifests_of
from carbon_pipelines.lake.mode import keeps_history
from carbon_pipelines.lake.parking import ended
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.state import (
    TableProgress,
    find_carrier,
    load_progress,
    read_progress,
)
from carbon_pipelines.source.leaves import Piece

BRANCH = "carbon_first_copy"
"""Name of the branch; readers of ``main`` never see it."""
COMMIT_ATTEMPTS = 40
"""Times that a commit gives way to others of the table, before that is reported as a conflict."""

T = TypeVar("T")


class ReadersAheadError(Exception):
    """Readers see what was merged beside the copy, up to ``readers``; ``first_copy.py`` answers."""

    def __init__(self, readers: TableProgress) -> None:
        self.readers = readers
        super().__init__(f"readers are at {readers.position}")


@dataclass(frozen=True, slots=True)
class StagedCopy:
    """How far a copy has come.

    Attributes:
        progress: Where the stream is to be read from, with the first snapshot's edge.
        ranges: What every range is made of, in order.
        done: Indexes of the ranges that are on the branch.
        last_through_lsn: The newest snapshot's L; the branch is consistent once past it.
        snapshots: Number of source snapshots that the ranges come from.
        filenodes: pg_class.relfilenode of the files that ``ranges`` are pages of, by table oid.
        schema_id: Of the Iceberg schema that the files are written with.
    """

    progress: TableProgress
    ranges: Sequence[Sequence[Piece]]
    done: frozenset[int]
    last_through_lsn: int
    snapshots: int
    filenodes: Mapping[int, int]
    schema_id: int

    def to_properties(self) -> dict[str, str]:
        """The summary properties of a snapshot on the branch."""
        return {
            **self.progress.to_properties(),
            "carbon.staged_pieces": json.dumps([list(map(astuple, one)) for one in self.ranges]),
            "carbon.staged_done": json.dumps(sorted(self.done)),
            "carbon.staged_last_through": str(self.last_through_lsn),
            "carbon.staged_snapshots": str(self.snapshots),
            "carbon.staged_filenodes": json.dumps(list(self.filenodes.items())),
            "carbon.staged_schema": str(self.schema_id),
        }


def load_staged(table: Table, label: str) -> StagedCopy | None:
    """The unfinished copy on the branch, or ``None`` if there is none that can be gone on with."""
    head = table.metadata.snapshot_by_name(BRANCH)
    carrier = find_carrier(table.metadata, head) if head is not None else None
    if carrier is None or carrier.summary is None:
        return None
    properties = carrier.summary.additional_properties
    # missing: the branch was merged into already, or its rows cannot be told apart from moved ones
    if "carbon.staged_filenodes" not in properties:
        return None
    return StagedCopy(
        read_progress(properties, label),
        [
            [Piece(*piece) for piece in one]
            for one in json.loads(properties["carbon.staged_pieces"])
        ],
        frozenset(json.loads(properties["carbon.staged_done"])),
        int(properties["carbon.staged_last_through"]),
        int(properties["carbon.staged_snapshots"]),
        dict(json.loads(properties["carbon.staged_filenodes"])),
        int(properties["carbon.staged_schema"]),
    )


def beside_others(catalog: Catalog, table: Table, attempt: Callable[[Table], T]) -> T:
    """Do ``attempt`` on ``table``, and again on the table as it is then while others commit first.

    ``attempt`` raises CommitFailedException where that is so.

    Raises:
        CommitConflictError: Others won again and again, or the table was created anew (retryable).
    """
    label, uuid = "/".join(table.name()), table.metadata.table_uuid
    for _ in range(COMMIT_ATTEMPTS):
        try:
            return attempt(table)
        except CommitFailedException:
            table = reload_table(catalog, table)
            if table.metadata.table_uuid != uuid:
                raise CommitConflictError(label, 1) from None
    raise CommitConflictError(label, COMMIT_ATTEMPTS)


def reload_table(catalog: Catalog, table: Table) -> Table:
    """The table as the catalog has it now."""
    namespace, name = table.name()
    fresh = load_table(catalog, (namespace, name))
    if fresh is None:
        raise StateMissingError(f"{namespace}/{name}")
    return fresh


def discard_branch(catalog: Catalog, table: Table) -> Table:
    """Give an unfinished copy up; its files stay unreferenced until orphans are removed.

    Returns:
        The table as it is without the branch.

    Raises:
        CommitConflictError: Somebody else wrote to the branch meanwhile (retryable).
    """
    head = _head(table)

    def attempt(table: Table) -> Table:
        _check_head(table, head)
        if head is not None:
            with table.manage_snapshots() as snapshots:
                snapshots.remove_branch(BRANCH)
        return table

    return beside_others(catalog, table, attempt)


def stage_files(
    catalog: Catalog, table: Table, staged: StagedCopy, files: Sequence[DataFile], schema: Schema
) -> Table:
    """Put the ``files`` of one range, written with ``schema``, on the branch.

    The branch has to stand where it does in ``table``, which is as this copy last left it;
    ``staged`` is how far the copy has come with these files.

    Raises:
        CommitConflictError: Somebody else wrote to the branch meanwhile (retryable).
        CommitUnknownError: The answer was lost, the catalog does not show the snapshot (retryable).
    """
    head = table.metadata.snapshot_by_name(BRANCH)
    manifests = manifests_of(head, table.io)
    changes, properties = FileChanges(added_data=files, manifests=manifests), staged.to_properties()

    def attempt(table: Table) -> Table:
        _check_head(table, head.snapshot_id if head is not None else None)
        committed = commit_files(table, changes, properties, branch=BRANCH, schema=schema)
        if committed is None:
            raise CommitFailedException
        _check_head(committed.table, committed.snapshot_id)
        return committed.table

    return beside_others(catalog, table, attempt)


def publish(
    catalog: Catalog, table: Table, layout: Layout, *, copied: TableProgress | None = None
) -> Table:
    """Set ``main`` to the branch's head and drop the branch, in one commit.

    ``layout`` becomes the table's, and a parked table flows again with it. The branch must be as it
    was in ``table``: another process may have given the copy up and begun its own. ``main`` may
    have moved on: what was merged into it meanwhile is merged into the new rows by the next run,
    from where the copy stands. Readers that must not be taken back in time are not: ``copied`` is
    what the branch carries then.

    Raises:
        ReadersAheadError: Readers see more than ``copied``; nothing was done.
        CommitConflictError: Somebody else wrote to the branch meanwhile (retryable).
        CommitUnknownError: The answer was lost, the catalog does not show the copy (retryable).
    """
    head = table.metadata.refs[BRANCH].snapshot_id

    def attempt(table: Table) -> Table:
        if _is_published(table, head):  # by an attempt whose answer said otherwise
            return table
        _check_head(table, head)
        if keeps_history(table):  # another process has published it first
            raise CommitConflictError("/".join(table.name()), 1)
        if copied is not None:
            _check_readers(table, copied)
        refs = table.metadata.refs
        main = refs[MAIN_BRANCH].snapshot_id if MAIN_BRANCH in refs else None
        updates = (
            SetSnapshotRefUpdate.model_validate(
                {"ref-name": MAIN_BRANCH, "snapshot-id": head, "type": "branch"}
            ),
            RemoveSnapshotRefUpdate.model_validate({"ref-name": BRANCH}),
            *plan_layout_updates(table, layout),
            *ended(table.properties, {"by": "carbon", "reason": "copied anew"}),
        )
        requirements = (
            AssertRefSnapshotId.model_validate({"ref": MAIN_BRANCH, "snapshot-id": main}),
            AssertRefSnapshotId.model_validate({"ref": BRANCH, "snapshot-id": head}),
        )
        try:
            return commit_updates(table, (updates, requirements))
        except UNANSWERED as lost:
            fresh = reload_table(catalog, table)
            if _is_published(fresh, head):
                return fresh
            raise unknown_commit(table, head, lost) from lost

    return beside_others(catalog, table, attempt)


def _head(table: Table) -> int | None:
    ref = table.metadata.refs.get(BRANCH)
    return ref.snapshot_id if ref is not None else None


def _check_head(table: Table, head: int | None) -> None:
    """The branch stands at ``head`` (None: there is none), or another process has taken it."""
    if _head(table) != head:
        raise CommitConflictError("/".join(table.name()), 1)


def _check_readers(table: Table, copied: TableProgress) -> None:
    """Refuse what is further back in the topic that readers have their rows from."""
    with suppress(StateMissingError):  # what they have is not ours: it has no place in a topic
        readers = load_progress(table.metadata, "/".join(table.name()))
        if readers is None or _topic(readers) != _topic(copied):
            return
        if readers.next_offset > copied.next_offset:
            raise ReadersAheadError(readers)


def _topic(progress: TableProgress) -> tuple[str, str, str, int]:
    return (
        progress.cluster_id,
        progress.topic_id,
        progress.system_identifier,
        progress.generation,
    )


def _is_published(table: Table, head: int) -> bool:
    main = table.metadata.snapshot_by_name(MAIN_BRANCH)
    return (
        _head(table) is None
        and main is not None
        and any(snapshot.snapshot_id == head for snapshot in ancestors_of(main, table.metadata))
    )
