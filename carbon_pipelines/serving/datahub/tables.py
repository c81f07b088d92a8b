"""A declared table in PostgreSQL, Kafka, the lake and Trino, and how columns get through them.

What belongs here: these datasets of a table. What does not: what is expected of its rows
(``assertions.py``) and its merges (``runs.py``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from carbon_pipelines.catalog.rules import HISTORY_COLUMNS
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.lake.evolution import captured_columns
from carbon_pipelines.lake.types import json_type
from carbon_pipelines.serving.datahub.datasets import ColumnSource, Dataset
from carbon_pipelines.serving.datahub.facts import DatabaseFacts, LakeColumn, TableFacts
from carbon_pipelines.serving.datahub.schemas import Column
from carbon_pipelines.serving.datahub.urns import Names, field_urn
from carbon_pipelines.source.relation import SourceColumn
from carbon_pipelines.stream.topics import topic_of

VIEWS = "certified_"
"""Before a database's name: the schema of Trino that has views of what is certified of it."""
_JSON: dict[str, object] = {
    "com.linkedin.schema.KafkaSchema": {
        "documentSchema": "",
        "documentSchemaType": "JSON",
        "keySchemaType": "JSON",
    }
}
_ENVELOPE = (
    Column("op", "string", nullable=False, description="c, u, d, r, t or m: what happened."),
    Column("ts_ms", "int64", nullable=False, description="When it was committed."),
    Column("source", "struct", nullable=False, description="Where in the source it happened."),
)


def source_urn(names: Names, facts: DatabaseFacts, table: TableSpec) -> str:
    """The table in PostgreSQL."""
    return names.dataset("postgres", facts.source_name, table.source_schema, table.source_table)


def topic_urn(names: Names, table: TableSpec) -> str:
    """Its topic."""
    return names.dataset("kafka", topic_of(table))


def lake_urn(names: Names, database: str, table: str) -> str:
    """A table of the lake."""
    return names.dataset("iceberg", database, table)


def table_datasets(names: Names, facts: DatabaseFacts, of: TableFacts) -> Iterator[Dataset]:
    """All of them; columns are told as far as their system was seen to have them."""
    yield _source(names, facts, of)
    yield _topic(names, facts, of)
    yield _lake(names, of)
    if facts.trino_catalog is not None and of.lake is not None and of.lake.certified is not None:
        yield _view(names, facts.trino_catalog, of, of.lake.certified)


def _source(names: Names, facts: DatabaseFacts, of: TableFacts) -> Dataset:
    table, relation = of.table, of.relation
    columns = relation.columns + relation.unsent if relation else ()
    return Dataset(
        urn=source_urn(names, facts, table),
        kind="Table",
        description=table.description,
        owner=table.owner,
        domain=table.database,
        columns=tuple(
            Column(
                path=column.name,
                type=column.type.name,
                nullable=column.nullable,
                description=column.comment,
                classification=_classification(table, column.name),
                is_key=column.name in table.key,
                kind="EnumType" if column.type.kind == "e" else None,
            )
            for column in sorted(columns, key=lambda column: column.attnum)
        ),
        properties={"carbon.stage": "source", "carbon.table": table.label},
    )


def _topic(names: Names, facts: DatabaseFacts, of: TableFacts) -> Dataset:
    table, source = of.table, source_urn(names, facts, of.table)
    sent = captured_columns(of.relation, table) if of.relation else ()
    row = [(column, _json_name(column, table)) for column in sent]
    return Dataset(
        urn=topic_urn(names, table),
        kind="Topic",
        description=f"Every change of {table.source_schema}.{table.source_table}, in order.",
        owner=table.owner,
        domain=table.database,
        form=_JSON,
        columns=(
            Column("before", "struct", description="The row before, as far as PostgreSQL sent it."),
            *(_in_row("before", table, column, kind) for column, kind in row),
            Column("after", "struct", description="The row after; null for a delete."),
            *(_in_row("after", table, column, kind) for column, kind in row),
            *_ENVELOPE,
        )
        if sent
        else (),
        properties={
            "carbon.stage": "stream",
            "carbon.table": table.label,
            "carbon.capture": facts.database.capture,
        },
        copies=True,
        made_of=tuple(
            ColumnSource(f"{image}.{column.name}", (field_urn(source, column.name),))
            for image in ("before", "after")
            for column in sent
        ),
    )


def _lake(names: Names, of: TableFacts) -> Dataset:
    table, lake = of.table, of.lake
    topic = topic_urn(names, table)
    by_attnum = {one.attnum: one for one in of.relation.columns} if of.relation else {}
    columns = lake.columns if lake else ()
    # The lake calls a column as its source did when it last followed it.
    source_names = {
        column.name: by_attnum[column.attnum].name
        for column in columns
        if column.attnum in by_attnum
    }
    return Dataset(
        urn=lake_urn(names, table.database, table.name),
        kind="Table",
        description=table.description,
        owner=table.owner,
        domain=table.database,
        columns=tuple(
            Column(
                path=column.name,
                type=column.type,
                nullable=not column.required,
                description=column.description,
                classification=_classification(table, source_names.get(column.name, column.name)),
                is_key=column.name in table.key,
                is_partition=lake is not None and column.name in lake.partitioned_by,
            )
            for column in columns
        ),
        properties={
            "carbon.stage": "lake",
            "carbon.table": table.label,
            "carbon.mode": table.mode,
            "carbon.freshness_seconds": str(int(table.freshness.total_seconds())),
        },
        copies=not table.is_history,
        made_of=tuple(_from_topic(topic, columns, source_names)),
    )


def _view(names: Names, catalog: str, of: TableFacts, certified: Mapping[str, str]) -> Dataset:
    """What is certified of the table, as people query it in Trino."""
    table, lake = of.table, lake_urn(names, of.table.database, of.table.name)
    columns = {column.path: column for column in _lake(names, of).columns}
    return Dataset(
        urn=names.dataset("trino", catalog, f"{VIEWS}{table.database}", table.name),
        kind="View",
        description=f"{table.description} Certified snapshots alone.",
        owner=table.owner,
        domain=table.database,
        columns=tuple(
            replace(columns[now], path=name, is_partition=False)
            for name, now in certified.items()
            if now in columns
        ),
        properties={"carbon.stage": "serving", "carbon.table": table.label},
        copies=True,
        made_of=tuple(
            ColumnSource(name, (field_urn(lake, now),))
            for name, now in certified.items()
            if now in columns
        ),
    )


def _from_topic(
    topic: str, columns: tuple[LakeColumn, ...], source_names: dict[str, str]
) -> Iterator[ColumnSource]:
    for column in columns:
        if column.name in source_names:
            path = f"after.{source_names[column.name]}"
            yield ColumnSource(column.name, (field_urn(topic, path),))
        elif column.name in HISTORY_COLUMNS:
            path = "ts_ms" if column.type.startswith("timestamp") else "source"
            yield ColumnSource(column.name, (field_urn(topic, path),))


def _in_row(image: str, table: TableSpec, column: SourceColumn, kind: str) -> Column:
    return Column(
        path=f"{image}.{column.name}",
        type=kind,
        nullable=image == "before" or column.nullable,
        description=column.comment,
        classification=_classification(table, column.name),
    )


def _json_name(column: SourceColumn, table: TableSpec) -> str:
    """What JSON has of a column, as it is read from there."""
    return str(json_type(column.type, table.declared_type(column.name)))


def _classification(table: TableSpec, column: str) -> str | None:
    spec = table.columns.get(column)
    return spec.classification if spec else None
