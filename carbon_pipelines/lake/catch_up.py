"""Bringing one branch of a table up to a point of its topic, batch by batch.

What belongs here: reading events, dropping those that the table has already (restarted capture, first
copy), following the source's schema at its place, and cutting batches of bounded size. What does not:
what one batch does (``merge.py``) and the first copy (``first_copy.py``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    CommitConflictError,
    SourceTableReplacedError,
    StateMissingError,
    UnsupportedSchemaChangeError,
)
from carbon_pipelines.lake.change_batch import ChangeBatch, EnvelopeReader, concat_batches
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.evolution import apply_change, captured_columns, plan_change
from carbon_pipelines.lake.merge import Merge, Merged, MergeHooks
from carbon_pipelines.lake.state import CopyEdge, TableProgress
from carbon_pipelines.lake.types import json_type
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.stream.consumer import RawBatch, TopicState, read_batches
from carbon_pipelines.stream.schemas import load_schema_versions

BATCH_EVENTS = 500_000
"""Events merged in one commit at most, unless one Kafka read brings a little more."""
BATCH_BYTES = 192 * 1024 * 1024
"""Bytes of envelopes merged in one commit at most, likewise."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What catching up did: counts over all its commits, and where the table stands."""

    progress: TableProgress
    table: Table
    events: int = 0
    upserted_rows: int = 0
    deleted_rows: int = 0
    commits: int = 0


class CatchUp:
    """Merges a topic into one branch of a table.

    Args:
        bootstrap: Kafka's bootstrap servers.
        topic: The table's topic as it is now; its ``high`` is where reading ends.
    """

    def __init__(
        self,
        catalog: Catalog,
        table: TableSpec,
        bootstrap: str,
        topic: TopicState,
        *,
        branch: str = MAIN_BRANCH,
        hooks: MergeHooks | None = None,
    ) -> None:
        self._catalog, self._spec, self._bootstrap, self._topic = catalog, table, bootstrap, topic
        self._merge = Merge(catalog, table, branch=branch, hooks=hooks)
        self._relations: dict[int, SourceRelation] = {}

    def run(
        self, table: Table, progress: TableProgress, *, until_lsn: int | None = None
    ) -> CaughtUp:
        """Merge events from ``progress`` to the topic's end, or those with commit LSN <= ``until_lsn``.

        Raises:
            UnsupportedSchemaChangeError: A DDL cannot be followed; events before it are merged.
            MalformedEnvelopeError: A message is no change event; nothing of its batch is merged.
            OffsetGapError: Kafka no longer holds the next offset.
        """
        done = CaughtUp(progress, table)
        for batch, next_offset in self._batches(progress, until_lsn):
            if batch is None:
                done = self._pass(done, next_offset)
            else:
                done = self._apply(done, batch, next_offset)
        return done

    def _pass(self, done: CaughtUp, next_offset: int) -> CaughtUp:
        """Remember offsets that hold no event (aborted transactions), so that reading comes to rest."""
        base = done.progress
        after = base.moved_to(base.position, next_offset, base.schema_version)
        return _added(done, self._merge.record(base, after), after, 0)

    def _apply(self, done: CaughtUp, batch: ChangeBatch, next_offset: int) -> CaughtUp:
        base = done.progress
        table, usable, refused = self._follow_schema(done.table, batch, base)
        if usable < len(batch):
            next_offset = int(batch.offset[usable])
            batch = batch.slice(0, usable)
        if usable:
            version = max(base.schema_version, int(batch.schema_version.max()))
            position = max(
                base.position, Position(int(batch.commit_lsn[-1]), int(batch.ordinal[-1]))
            )
            after = base.moved_to(position, next_offset, version)
            merged = self._merge.apply(self._unseen(batch, base), base, after)
            done = _added(done, merged, after, len(batch))
        else:
            done = CaughtUp(
                base, table, done.events, done.upserted_rows, done.deleted_rows, done.commits
            )
        if refused is not None:
            raise refused
        return done

    def _unseen(self, batch: ChangeBatch, base: TableProgress) -> ChangeBatch:
        """Without events at or below the table's position and without those that the copy holds."""
        lsn, ordinal = base.position.commit_lsn, base.position.ordinal
        fresh = (batch.commit_lsn > lsn) | ((batch.commit_lsn == lsn) & (batch.ordinal > ordinal))
        return batch.filter(fresh & ~in_copy(batch.commit_lsn, batch.xid, base.edge))

    def _batches(
        self, progress: TableProgress, until_lsn: int | None
    ) -> Iterator[tuple[ChangeBatch | None, int]]:
        """Batches and the offset after each; no batch for a tail that holds no event."""
        parts: list[ChangeBatch] = []
        size_bytes, next_offset, passed = 0, progress.next_offset, progress.next_offset
        self._known(progress.schema_version)
        for raw in read_batches(
            self._bootstrap, self._topic.topic, progress.next_offset, self._topic.high
        ):
            next_offset = raw.next_offset
            if not raw.values:
                continue
            part = self._decode(raw)
            cut = len(part)
            if until_lsn is not None:
                cut = int(np.searchsorted(part.commit_lsn, until_lsn, side="right"))
            if cut < len(part):
                next_offset = int(part.offset[cut])
                part = part.slice(0, cut)
            if len(part):
                parts.append(part)
                size_bytes += sum(map(len, raw.values))
            if cut < len(raw.values):
                break
            if sum(map(len, parts)) >= BATCH_EVENTS or size_bytes >= BATCH_BYTES:
                yield concat_batches(parts), next_offset
                parts, size_bytes, passed = [], 0, next_offset
        if parts:
            yield concat_batches(parts), next_offset
        elif next_offset > passed:
            yield None, next_offset

    def _decode(self, raw: RawBatch) -> ChangeBatch:
        batch = self._reader().read(raw)
        unknown = set(np.unique(batch.schema_version).tolist()) - set(self._relations)
        if not unknown:
            return batch
        for version in sorted(unknown):
            self._known(version)
        return self._reader().read(raw)

    def _reader(self) -> EnvelopeReader:
        columns = {
            column.name: json_type(column.type)
            for _, relation in sorted(self._relations.items())
            for column in captured_columns(relation, self._spec)
        }
        return EnvelopeReader(self._topic.topic, columns, self._spec.key)

    def _known(self, version: int) -> SourceRelation:
        if version not in self._relations:
            found = load_schema_versions(self._bootstrap, self._spec.database, [version])
            self._relations.update(found)
        return self._relations[version]

    def _follow_schema(
        self, table: Table, batch: ChangeBatch, base: TableProgress
    ) -> tuple[Table, int, UnsupportedSchemaChangeError | SourceTableReplacedError | None]:
        """Evolve the table for the batch's versions; the number of events that it can take."""
        for version in np.unique(batch.schema_version).tolist():
            if version <= base.schema_version:
                continue
            relation = self._known(version)
            try:
                if relation.oid != base.relation_oid:
                    raise SourceTableReplacedError(
                        self._spec.label, base.relation_oid, relation.oid
                    )
                table = evolve_table(self._catalog, table, relation, self._spec)
            except (UnsupportedSchemaChangeError, SourceTableReplacedError) as refused:
                first = int(np.flatnonzero(batch.schema_version == version)[0])
                return table, first, refused
        return table, len(batch), None


def _added(done: CaughtUp, merged: Merged, after: TableProgress, events: int) -> CaughtUp:
    return CaughtUp(
        after,
        merged.table,
        done.events + events,
        done.upserted_rows + merged.upserted_rows,
        done.deleted_rows + merged.deleted_rows,
        done.commits + 1,
    )


def check_relation(label: str, copied_oid: int, found_oid: int) -> None:
    """Events must come from the relation that was copied.

    Raises:
        SourceTableReplacedError: It was dropped and another took its name.
    """
    if copied_oid != found_oid:
        raise SourceTableReplacedError(label, copied_oid, found_oid)


def in_copy(commit_lsn: np.ndarray, xid: np.ndarray, edge: CopyEdge | None) -> np.ndarray:
    """Which events the first copy holds already.

    Above the copy's LSN the xid is never consulted: 32-bit xids come round again.
    """
    if edge is None:
        return np.zeros(len(commit_lsn), dtype=bool)
    below = commit_lsn <= edge.through_lsn
    held = np.zeros(len(commit_lsn), dtype=bool)
    if below.any():
        held[below] = edge.visibility.sees_many(xid[below])
    return held


def evolve_table(
    catalog: Catalog, table: Table, relation: SourceRelation, spec: TableSpec
) -> Table:
    """Make the table's schema hold rows of ``relation``; a no-op where it does already.

    The change is a metadata commit of its own, before the first rows that need it: without those rows
    it only shows a column of NULLs, and it is planned from the table, so it happens once.
    """
    change = plan_change(table, relation, spec)
    if not change:
        return table
    with lake_errors(f"Iceberg table {spec.label}"):
        transaction = table.transaction()
        apply_change(transaction, change)
        try:
            transaction.commit_transaction()
        except CommitFailedException as conflict:
            raise CommitConflictError(spec.label, 1) from conflict
    fresh = load_table(catalog, spec.identifier)
    if fresh is None:
        raise StateMissingError(spec.label)
    return fresh
