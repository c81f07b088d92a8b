"""Following the source's DDL at its place in the stream.

What belongs here: reading the DDL history of one table, committing what can be followed in place,
and saying where merging has to stop before what cannot. What does not: planning a change
(``schema_change.py``), and reading events under it (``event_reading.py``, ``normalise.py``).

The history is read whole, not only the versions that events name: a rewrite or a lost key between
two rows of a table would otherwise go unseen. Its topic's end is asked for before the table's topic
is, so every event below a DDL's position has been seen when the DDL is reached.

The Iceberg table takes a change before the events that lie before it in the stream: those are read
under the columns that the table has then, so what they say of a column that is no more is left out,
and what they cannot say of a new one is what PostgreSQL shows for rows of that time. A process that
dies between the two leaves a table whose columns are ahead of its rows: the next one goes on from
those columns, and does not follow again what is followed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    HistoryColumnError,
    LakeError,
    LayoutColumnGoneError,
    PartitionTruncatedError,
    ProtectedColumnMissingError,
    RelationRewrittenError,
    SchemaVersionMissingError,
    SourceTableAwayError,
    SourceTableReplacedError,
    StateMissingError,
    UnkeyedChangeError,
    UnrecordedShapeError,
    UnsupportedSchemaChangeError,
    UnsupportedTypeError,
)
from carbon_pipelines.lake.connection import load_table
from carbon_pipelines.lake.evolution import followed_version
from carbon_pipelines.lake.normalise import Normaliser
from carbon_pipelines.lake.present import present_spec
from carbon_pipelines.lake.schema_change import plan_change
from carbon_pipelines.lake.schema_commit import commit_change
from carbon_pipelines.lake.state import TableProgress
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.stream.envelope import PARTITION_TRUNCATED, UNKEYED, UNRECORDED
from carbon_pipelines.stream.schemas import load_schema_history
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import ddl_topic

_REFUSALS = (
    HistoryColumnError,
    SourceTableAwayError,
    UnsupportedSchemaChangeError,
    UnsupportedTypeError,
    ProtectedColumnMissingError,
    LayoutColumnGoneError,
    SourceTableReplacedError,
)
_STOPPING = {
    UNRECORDED: UnrecordedShapeError,
    PARTITION_TRUNCATED: PartitionTruncatedError,
    UNKEYED: UnkeyedChangeError,
}
"""Versions that events name which no row of the history has: they are never merged."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Where merging ends: before events above ``position``; ``error`` says why, if it is one."""

    position: Position
    error: LakeError | None


class SchemaFollower:
    """The schema versions of one table, from its progress on.

    Args:
        until_lsn: A DDL above it is left for later.
        frozen: A DDL that changes the table is refused: its files are not published yet.

    Attributes:
        spec: The declaration under the names of the newest version followed.
        stop: The first DDL that is not followed, or event that cannot be, or ``None``.
        version: The newest version followed.
        ddl_offset: Offset of the DDL topic up to which everything was considered.
        steps: What was changed, for people.
    """

    def __init__(
        self,
        catalog: Catalog,
        table: TableSpec,
        bootstrap: str,
        progress: TableProgress,
        *,
        until_lsn: int | None = None,
        frozen: bool = False,
    ) -> None:
        self._catalog, self._declared, self._bootstrap = catalog, table, bootstrap
        self._progress, self._until_lsn, self._frozen = progress, until_lsn, frozen
        self._relations: dict[int, SourceRelation] = {}
        self._normaliser: Normaliser | None = None
        self.spec, self.stop = table, None
        self.version, self.ddl_offset = progress.schema_version, progress.ddl_offset
        self.steps: list[str] = []

    stop: Stop | None

    def begin(self) -> None:
        """Follow what happened since the progress; reads nothing where nothing did."""
        state = load_topic_state(self._bootstrap, ddl_topic(self._declared.database))
        if state.high > self.ddl_offset:
            self._refresh()

    def ensure_known(self) -> None:
        """Have at least the relation of the table's own version, to decode with."""
        if not self._relations:
            self._refresh()

    @property
    def present(self) -> SourceRelation | None:
        """The relation of the newest version followed, once it was read."""
        return self._relations.get(self.version)

    @property
    def normaliser(self) -> Normaliser:
        """Reads events of every version that was followed.

        Raises:
            SchemaVersionMissingError: The DDL topic lacks the table's own version.
        """
        if self._normaliser is None:
            self._require(self.version)
            present = self._relations[self.version]
            self._normaliser = Normaliser(self.spec, present, self._relations.values())
        return self._normaliser

    def learn(self, version: int, position: Position) -> None:
        """Read the history again for the version that the event at ``position`` names.

        Raises:
            SchemaVersionMissingError: The DDL topic, just read, lacks it.
        """
        self._refresh()
        if version in _STOPPING:
            before = Position(position.commit_lsn, position.ordinal - 1)
            if self.stop is None or before < self.stop.position:
                self.stop = Stop(before, _STOPPING[version](self._declared.label, str(position)))
            return
        if self.stop is None or position <= self.stop.position:
            self._require(version)

    def _require(self, version: int) -> None:
        if version not in self._relations:
            raise SchemaVersionMissingError(ddl_topic(self._declared.database), [version])

    def _refresh(self) -> None:
        """Read the history and follow every version that can be."""
        history = load_schema_history(self._bootstrap, self._declared.database)
        self.stop = None
        if not self._frozen:
            at = followed_version(self._load(), self._progress.schema_version)
            self.version = max(self.version, at)
        for index, (position, relation) in enumerate(history.rows):
            if relation.oid == self._progress.relation_oid and relation.version <= self.version:
                self._relations[relation.version] = relation
            elif self._concerns(relation):
                if self._until_lsn is not None and position.commit_lsn > self._until_lsn:
                    self.stop = Stop(position, None)
                    return
                try:
                    self._check_whereabouts(relation, history.rows[index + 1 :])
                    self._follow(relation)
                except _REFUSALS as refused:
                    self.stop = Stop(position, refused)
                    return
        self._take_names()
        self.ddl_offset = history.next_offset

    def _concerns(self, relation: SourceRelation) -> bool:
        if relation.oid == self._progress.relation_oid:
            return True
        newer = relation.version > self._progress.schema_version
        return newer and self._has_declared_name(relation) and not relation.dropped

    def _has_declared_name(self, relation: SourceRelation) -> bool:
        declared = (self._declared.source_schema, self._declared.source_table)
        return (relation.schema, relation.name) == declared

    def _check_whereabouts(
        self, relation: SourceRelation, later: Sequence[tuple[Position, SourceRelation]]
    ) -> None:
        """Refuse a row of another table, and of ours if it is dropped or away under another name.

        Changes of a table that is away are in its topic, so one that has come back is followed;
        if it was out of the publication meanwhile, a row in between says "rewritten".
        """
        label, own = self._declared.label, self._progress.relation_oid
        if relation.oid != own:
            raise SourceTableReplacedError(label, own, relation.oid)
        if self._has_declared_name(relation) and not relation.dropped:
            return
        for _, successor in later:
            if self._concerns(successor) and successor.oid != own:
                raise SourceTableReplacedError(label, own, successor.oid)
        newest = next((row for _, row in reversed(later) if row.oid == own), relation)
        if newest.dropped:
            raise SourceTableAwayError(label, now=None)
        if self._declared.debezium is not None and not self._has_declared_name(relation):
            # a connector goes by names: what happens under another one is not in the topic
            change = f"calls the table {relation.label}, so that changes of its rows go unseen"
            raise UnsupportedSchemaChangeError(label, change, relation.version)
        if not self._has_declared_name(newest):
            raise SourceTableAwayError(label, now=newest.label)

    def _follow(self, relation: SourceRelation) -> None:
        label = self._declared.label
        before = self.present
        spec = present_spec(self._declared, relation, [*self._relations.values(), relation])
        table = self._load()
        change = plan_change(table, relation, spec, before)
        if change and self._frozen:
            raise RelationRewrittenError(label, how="changed its columns")
        if change:
            versions = (self._progress.schema_version, relation.version)
            commit_change(table, label, change, versions)
            self.steps += change.steps
        self._relations[relation.version] = relation
        self.version = relation.version
        self._take_names()

    def _take_names(self) -> None:
        if self.present is not None:
            self.spec = present_spec(self._declared, self.present, self._relations.values())
        self._normaliser = None

    def _load(self) -> Table:
        table = load_table(self._catalog, self._declared.identifier)
        if table is None:
            raise StateMissingError(self._declared.label)
        return table
