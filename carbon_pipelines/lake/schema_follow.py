"""Following the source's DDL at its place in the stream.

What belongs here: reading the DDL history of one table, applying what can be followed in place, and
saying where merging has to stop before what cannot. What does not: planning a change
(``evolution.py``) and events (``catch_up.py``).

The history is read whole, not only the versions that events name: a rewrite or a lost key between
two rows of a table would otherwise go unseen. Its topic's end is asked for before the table's topic
is, so every event below a DDL's position has been seen when the DDL is reached.
"""

from dataclasses import dataclass

import numpy as np
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    CommitConflictError,
    LakeError,
    ProtectedColumnMissingError,
    SchemaVersionMissingError,
    SourceTableReplacedError,
    StateMissingError,
    UnrecordedShapeError,
    UnsupportedSchemaChangeError,
    UnsupportedTypeError,
)
from carbon_pipelines.lake.change_batch import ChangeBatch
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.evolution import apply_change, plan_change
from carbon_pipelines.lake.state import TableProgress
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.stream.consumer import load_topic_state
from carbon_pipelines.stream.envelope import UNRECORDED
from carbon_pipelines.stream.schemas import SchemaHistory, load_schema_history
from carbon_pipelines.stream.topics import ddl_topic

_REFUSALS = (
    UnsupportedSchemaChangeError,
    UnsupportedTypeError,
    ProtectedColumnMissingError,
    SourceTableReplacedError,
)


@dataclass(frozen=True, slots=True)
class Stop:
    """Where merging ends: before events above ``position``; ``error`` says why, if it is one."""

    position: Position
    error: LakeError | None


class SchemaFollower:
    """The schema versions of one table, from its progress on.

    Attributes:
        relations: Versions whose events can be decoded, the table's own included.
        stop: The first DDL that is not followed, or event that cannot be, or ``None``.
        version: The newest version followed.
        ddl_offset: Offset of the DDL topic up to which everything was considered.
    """

    def __init__(
        self, catalog: Catalog, table: TableSpec, bootstrap: str, until_lsn: int | None
    ) -> None:
        self._catalog, self._spec, self._bootstrap = catalog, table, bootstrap
        self._until_lsn = until_lsn
        self._history: SchemaHistory | None = None
        self.relations: dict[int, SourceRelation] = {}
        self.stop: Stop | None = None
        self.version = 0
        self.ddl_offset = 0

    def begin(self, table: Table, progress: TableProgress) -> Table:
        """Follow what happened since ``progress``; reads nothing where nothing did."""
        self.version, self.ddl_offset = progress.schema_version, progress.ddl_offset
        state = load_topic_state(self._bootstrap, ddl_topic(self._spec.database))
        if state.high > progress.ddl_offset:
            return self.refresh(table, progress)
        return table

    def refresh(self, table: Table, progress: TableProgress) -> Table:
        """Read the history and evolve ``table`` through every version that can be followed."""
        self._history = load_schema_history(self._bootstrap, self._spec.database)
        self.stop = None
        for position, relation in self._history.rows:
            if relation.oid == progress.relation_oid and relation.version <= self.version:
                self.relations[relation.version] = relation
            elif self._concerns(relation, progress):
                if self._until_lsn is not None and position.commit_lsn > self._until_lsn:
                    self.stop = Stop(position, None)
                    return table
                try:
                    table = self._follow(table, relation, progress)
                except _REFUSALS as refused:
                    self.stop = Stop(position, refused)
                    return table
        self.ddl_offset = self._history.next_offset
        return table

    def ensure_known(self, table: Table, progress: TableProgress) -> Table:
        """Have at least the relation of the table's own version, to decode with."""
        return table if self.relations else self.refresh(table, progress)

    def check_known(self, versions: set[int]) -> None:
        """Raise where the DDL topic, just read, lacks a version that events name."""
        missing = sorted(versions - self.relations.keys() - {UNRECORDED})
        if missing and self.stop is None:
            raise SchemaVersionMissingError(ddl_topic(self._spec.database), missing)

    def stop_before_unrecorded(self, places: ChangeBatch, wanted: np.ndarray) -> None:
        """Stop before the first of the ``wanted`` events whose columns the history lacks."""
        unrecorded = wanted[places.schema_version[wanted] == UNRECORDED]
        if not len(unrecorded):
            return
        first = int(unrecorded[0])
        position = Position(int(places.commit_lsn[first]), int(places.ordinal[first]))
        before = Position(position.commit_lsn, position.ordinal - 1)
        if self.stop is None or before < self.stop.position:
            later = self._until_lsn is not None and position.commit_lsn > self._until_lsn
            error = None if later else UnrecordedShapeError(self._spec.label, str(position))
            self.stop = Stop(before, error)

    def _concerns(self, relation: SourceRelation, progress: TableProgress) -> bool:
        if relation.oid == progress.relation_oid:
            return not relation.dropped
        newer = relation.version > progress.schema_version
        return newer and self._has_declared_name(relation) and not relation.dropped

    def _has_declared_name(self, relation: SourceRelation) -> bool:
        declared = (self._spec.source_schema, self._spec.source_table)
        return (relation.schema, relation.name) == declared

    def _follow(self, table: Table, relation: SourceRelation, progress: TableProgress) -> Table:
        if relation.oid != progress.relation_oid:
            raise SourceTableReplacedError(self._spec.label, progress.relation_oid, relation.oid)
        if not self._has_declared_name(relation):
            # capture goes by names: what happens under another one is not in the topic
            change = f"calls the table {relation.label}, so that changes of its rows go unseen"
            raise UnsupportedSchemaChangeError(self._spec.label, change, relation.version)
        previous = self.relations.get(self.version)
        table = evolve_table(self._catalog, table, relation, self._spec, previous)
        self.relations[relation.version] = relation
        self.version = relation.version
        return table


def evolve_table(
    catalog: Catalog,
    table: Table,
    relation: SourceRelation,
    spec: TableSpec,
    previous: SourceRelation | None,
) -> Table:
    """Make the table's schema hold rows of ``relation``, which comes after ``previous``.

    A no-op where it does already.

    The change is a metadata commit of its own, before the first rows that need it: without those
    rows it only shows a column of NULLs, and it is planned from the table, so it happens once.
    """
    change = plan_change(table, relation, spec, previous)
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
