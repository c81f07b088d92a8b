"""What is known of tables and marts when DataHub is told of them.

What belongs here: the facts, as plain values. What does not: where they come from (``observe.py``)
and what becomes of them (``describe.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.owners import OwnersSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import MartLineageError
from carbon_pipelines.mart.lineage import ColumnLineage
from carbon_pipelines.mart.project import Mart
from carbon_pipelines.serving.datahub.superset import SupersetExport
from carbon_pipelines.serving.datahub.urns import Names
from carbon_pipelines.source.relation import SourceRelation


@dataclass(frozen=True, slots=True)
class LakeColumn:
    """A column of an Iceberg table.

    Attributes:
        attnum: Of the source column that it holds, where there is one.
    """

    name: str
    type: str
    required: bool
    description: str | None = None
    attnum: int | None = None


@dataclass(frozen=True, slots=True)
class LakeSnapshot:
    """One commit of an Iceberg table; times are milliseconds since 1970.

    Attributes:
        position: Of the source that the table stands at; None if it does not say.
        built_from: Certified snapshot ids that a mart was made of, by ``database.table``.
    """

    snapshot_id: int
    at: int
    operation: str
    added_rows: int
    deleted_rows: int
    rows: int | None
    position: str | None = None
    built_from: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class LakeFacts:
    """An Iceberg table as the catalog has it; snapshots oldest first.

    Attributes:
        certified: Columns as the certified snapshot calls them, to what they are called now; None
            if nothing of the table is certified.
    """

    columns: tuple[LakeColumn, ...]
    partitioned_by: frozenset[str] = frozenset()
    snapshots: tuple[LakeSnapshot, ...] = ()
    certified: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """An expectation that was not met, or of which nothing is known."""

    label: str
    status: str
    reason: str
    unexpected_rows: int | None


@dataclass(frozen=True, slots=True)
class KeptScore:
    """A score as the history keeps it.

    Attributes:
        current: Whether it was made of the expectations that are declared now: what is not among
            its violations has then passed.
    """

    score_id: str
    snapshot_id: int
    at: int
    position: str
    rows: int
    score: float | None
    threshold: float
    passes: bool
    dimensions: Mapping[str, float | None]
    violations: tuple[Violation, ...]
    current: bool


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A declared table: in its source, in the lake, and as it was scored, oldest first."""

    table: TableSpec
    relation: SourceRelation | None
    lake: LakeFacts | None
    scores: tuple[KeptScore, ...] = ()


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """A declared database.

    Attributes:
        source_name: What PostgreSQL calls it.
        trino_catalog: Where Trino has views of it; None where that is not configured.
    """

    database: DatabaseSpec
    source_name: str
    tables: tuple[TableFacts, ...]
    trino_catalog: str | None = None


@dataclass(frozen=True, slots=True)
class MartFacts:
    """A mart, what each of its columns is made of, and its table in the lake.

    Attributes:
        error: Why nobody can tell what its columns are made of; what was told of that stays.
    """

    mart: Mart
    columns: Mapping[str, ColumnLineage]
    lake: LakeFacts | None
    error: MartLineageError | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """Where marts can be seen: None where that is not configured."""

    doris_database: str | None = None
    trino_catalog: str | None = None
    superset: SupersetExport | None = None


@dataclass(frozen=True, slots=True)
class MartsFacts:
    """All marts, and where they are shown."""

    marts: tuple[MartFacts, ...]
    shown: Shown = Shown()


@dataclass(frozen=True, slots=True)
class Setting:
    """What everything is told with: the environment of DataHub, and who answers for what."""

    names: Names
    owners: OwnersSpec | None = None
