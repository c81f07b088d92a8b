"""What is known of a database or of the marts now, read from where it is.

What belongs here: reading the source's catalogs, the lake's and the history of scores. What does
not: what becomes of it (``describe.py``).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot, ancestors_of

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.quality import DIMENSIONS
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import MartLineageError, SettingMissingError, TableMissingError
from carbon_pipelines.lake.certificate import CERTIFIED
from carbon_pipelines.lake.connection import load_table, open_catalog
from carbon_pipelines.lake.evolution import SOURCE_COLUMNS, load_source_columns
from carbon_pipelines.lake.state import CREATED
from carbon_pipelines.mart.compiled import load_compiled
from carbon_pipelines.mart.lineage import ColumnLineage, mart_lineage
from carbon_pipelines.mart.project import NAMESPACE, Mart
from carbon_pipelines.quality.kept_scores import load_kept_scores
from carbon_pipelines.quality.scoring import expectations_version
from carbon_pipelines.serving.datahub.facts import (
    DatabaseFacts,
    KeptScore,
    LakeColumn,
    LakeFacts,
    LakeSnapshot,
    MartFacts,
    MartsFacts,
    Shown,
    TableFacts,
    Violation,
)
from carbon_pipelines.serving.datahub.superset import load_declared
from carbon_pipelines.serving.doris_settings import load_doris_settings
from carbon_pipelines.source.connection import SourceConnection, connect
from carbon_pipelines.source.relation import SourceRelation, load_relation

NEWEST_SCORES = 20
NEWEST_SNAPSHOTS = 50
NEWEST_BUILDS = 5
"""So much of the past is told where DataHub knows nothing of it."""
BUILT_FROM = "carbon.built_from"
"""Of a mart's snapshot: the certified snapshots that it was made of, as JSON."""
BUILDS = "mart_build"
"""Schema of marts in the compiled project."""


def observe_database(database: DatabaseSpec, endpoints: Endpoints) -> DatabaseFacts:
    """A database as it is now.

    Raises:
        SourceError: PostgreSQL does not answer, or refuses us.
        LakeUnavailableError: The lake does not answer (retryable).
    """
    dsn = endpoints.source_dsn(database.name)
    labels = [table.label for table in database.tables if table.expectations]
    with open_catalog(endpoints.lake) as catalog:
        lakes = {table.name: lake_facts(catalog, table.identifier) for table in database.tables}
        kept = load_kept_scores(catalog, labels, newest=NEWEST_SCORES)
    with connect(dsn) as source:
        relations = {table.name: _relation(source, table) for table in database.tables}
        name = source.info.dbname
    return DatabaseFacts(
        database=database,
        source_name=name,
        trino_catalog=trino_catalog(endpoints),
        tables=tuple(
            TableFacts(
                table=table,
                relation=relations[table.name],
                lake=lakes[table.name],
                scores=tuple(
                    kept_score(table, row, violations)
                    for row, violations in kept.get(table.label, ())
                ),
            )
            for table in database.tables
        ),
    )


def observe_marts(
    marts: Sequence[Mart],
    endpoints: Endpoints,
    environ: Mapping[str, str],
    *,
    project: Path,
    cache: Path,
) -> MartsFacts:
    """The marts as they are now, and where they can be seen.

    Raises:
        MartCompileError: Nobody can tell what their columns are made of.
        LakeUnavailableError: The lake does not answer (retryable).
        DataHubExportError: Superset's files cannot be understood.
    """
    models = load_compiled(project, cache)
    sources = sorted({source for mart in marts for source in mart.sources})
    with open_catalog(endpoints.lake) as catalog:
        tables = {source: lake_facts(catalog, source) for source in sources}
        built = {mart.name: lake_facts(catalog, (NAMESPACE, mart.name)) for mart in marts}
    read = {
        source: lake.certified
        for source, lake in tables.items()
        if lake is not None and lake.certified is not None
    }
    # A model of a table that was never certified was never built, and cannot be followed.
    known = [mart for mart in marts if all(source in read for source in mart.sources)]
    return MartsFacts(
        marts=tuple(
            mart_facts(mart, models, read, _newest_builds(built[mart.name])) for mart in known
        ),
        shown=observe_shown(endpoints, environ),
    )


def mart_facts(
    mart: Mart,
    models: Mapping[str, str],
    read: Mapping[tuple[str, str], Mapping[str, str]],
    lake: LakeFacts | None,
) -> MartFacts:
    """A mart, its columns followed through its SQL as far as that can be done.

    Args:
        mart: Which one.
        models: SQL of each model by its relation.
        read: Columns of the tables that it reads, to what they are called now.
        lake: Its table.
    """
    names = {source: list(columns) for source, columns in read.items()}
    try:
        made = mart_lineage(f"{BUILDS}.{mart.name}", models, names)
    except MartLineageError as error:
        # The others are told all the same; whoever runs this hears of it.
        return MartFacts(mart, {}, lake, error)
    return MartFacts(mart, {name: _as_called_now(one, read) for name, one in made.items()}, lake)


def _certified_columns(table: Table) -> dict[str, str] | None:
    """Columns as the certified snapshot calls them, to what they are called now.

    One that is gone by now keeps its name. None for a table that was never certified.
    """
    ref = table.metadata.refs.get(CERTIFIED)
    snapshot = table.metadata.snapshot_by_id(ref.snapshot_id) if ref is not None else None
    if snapshot is None:
        return None
    schemas = {schema.schema_id: schema for schema in table.metadata.schemas}
    now = table.schema()
    schema = schemas.get(snapshot.schema_id or 0, now)
    return {
        field.name: now.find_column_name(field.field_id) or field.name for field in schema.fields
    }


def _as_called_now(
    made: ColumnLineage, names: Mapping[tuple[str, str], Mapping[str, str]]
) -> ColumnLineage:
    columns = {
        (database, table, names[database, table].get(column, column))
        for database, table, column in made.columns
    }
    return ColumnLineage(tuple(sorted(columns)), made.rows_of)


def observe_shown(endpoints: Endpoints, environ: Mapping[str, str]) -> Shown:
    """Where marts can be seen, as it is configured."""
    doris = load_doris_settings(environ)
    return Shown(
        doris_database=doris.database if doris else None,
        trino_catalog=trino_catalog(endpoints),
        superset=load_declared(environ),
    )


def trino_catalog(endpoints: Endpoints) -> str | None:
    """The catalog of Trino that has the lake; None if nobody says where Trino is."""
    try:
        return endpoints.trino.catalog
    except SettingMissingError:
        return None


def lake_facts(catalog: Catalog, identifier: tuple[str, str]) -> LakeFacts | None:
    """A table of the lake; None if it has none."""
    table = load_table(catalog, identifier)
    if table is None:
        return None
    schema = table.schema()
    partitioned = {schema.find_column_name(field.source_id) for field in table.spec().fields} - {
        None
    }
    return LakeFacts(
        columns=tuple(_columns(table)),
        partitioned_by=frozenset(name for name in partitioned if name),
        snapshots=tuple(_snapshots(table)),
        certified=_certified_columns(table),
    )


def _columns(table: Table) -> Iterator[LakeColumn]:
    attnums: dict[int, int] = {}
    if SOURCE_COLUMNS in table.properties:
        attnums = {field: int(attnum) for attnum, field in load_source_columns(table).items()}
    for field in table.schema().fields:
        yield LakeColumn(
            name=field.name,
            type=str(field.field_type),
            required=field.required,
            description=field.doc,
            attnum=attnums.get(field.field_id),
        )


def _snapshots(table: Table) -> list[LakeSnapshot]:
    """Those that the table's newest snapshot comes from, oldest first."""
    found: list[LakeSnapshot] = []
    for snapshot in ancestors_of(table.current_snapshot(), table.metadata):
        told = _snapshot(snapshot)
        if told is not None:
            found.append(told)
        if len(found) == NEWEST_SNAPSHOTS:
            break
    return found[::-1]


def _snapshot(snapshot: Snapshot) -> LakeSnapshot | None:
    summary = snapshot.summary
    if summary is None or CREATED in summary.additional_properties:
        return None
    said: Mapping[str, Any] = summary.additional_properties
    return LakeSnapshot(
        snapshot_id=snapshot.snapshot_id,
        at=snapshot.timestamp_ms,
        operation=summary.operation.value,
        added_rows=int(said.get("added-records", 0)),
        deleted_rows=int(said.get("deleted-records", 0))
        + int(said.get("added-position-deletes", 0)),
        rows=int(said["total-records"]) if "total-records" in said else None,
        position=said.get("carbon.position"),
        built_from=_built_from(said.get(BUILT_FROM)),
    )


def _built_from(text: str | None) -> Mapping[str, int]:
    return {str(name): int(found) for name, found in json.loads(text or "{}").items()}


def _newest_builds(lake: LakeFacts | None) -> LakeFacts | None:
    return replace(lake, snapshots=lake.snapshots[-NEWEST_BUILDS:]) if lake else None


def _relation(source: SourceConnection, table: TableSpec) -> SourceRelation | None:
    try:
        return load_relation(source, table.source_schema, table.source_table)
    except TableMissingError:
        # It was dropped or renamed: the declaration stands, and its columns are as they were told.
        return None


def kept_score(
    table: TableSpec, row: Mapping[str, Any], violations: Sequence[Mapping[str, Any]]
) -> KeptScore:
    """A row of the history and its violations."""
    return KeptScore(
        score_id=row["score_id"],
        snapshot_id=row["snapshot_id"],
        at=int(row["scored_at"].timestamp() * 1000),
        position=row["position"],
        rows=row["rows"],
        score=row["score"],
        threshold=row["threshold"],
        passes=row["passes"],
        dimensions={name: row[name] for name in DIMENSIONS},
        violations=tuple(
            Violation(
                label=one["expectation"],
                status=one["status"],
                reason=one["reason"],
                unexpected_rows=one["unexpected_rows"],
            )
            for one in violations
        ),
        current=row["expectations_version"] == expectations_version(table),
    )
