"""The sample market as DataHub is told of it, without a service.

What belongs here: its source tables read from the demo's own DDL, its lake on local files, its
marts as empty tables of the right columns, and scores. What does not: assertions.

That the shapes are those of a real PostgreSQL and a real lake is shown by
``integration/test_marts.py``, which draws the same picture from these.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import duckdb
from pyiceberg.catalog import Catalog

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.table_creation import create_table
from carbon_pipelines.mart.lake_table import replace_rows
from carbon_pipelines.mart.lineage import mart_lineage
from carbon_pipelines.mart.project import Mart, load_marts, require_project
from carbon_pipelines.quality.scoring import expectations_version
from carbon_pipelines.serving.datahub.describe import describe_database, describe_marts
from carbon_pipelines.serving.datahub.facts import (
    DatabaseFacts,
    LakeFacts,
    LakeSnapshot,
    MartFacts,
    MartsFacts,
    Setting,
    Shown,
    TableFacts,
)
from carbon_pipelines.serving.datahub.observe import BUILDS, kept_score, lake_facts
from carbon_pipelines.serving.datahub.proposal import Proposal
from carbon_pipelines.serving.datahub.superset import SupersetExport
from carbon_pipelines.serving.datahub.urns import Names
from carbon_pipelines.source.relation import SourceColumn, SourceRelation, SourceType
from carbon_pipelines_tests.lake.local_lake import numeric, open_local
from carbon_pipelines_tests.mart.compiled_models import sample_models

MARKET: DatabaseSpec = load_catalog().database("market")
MARTS: Sequence[Mart] = load_marts(require_project({}))
SETTING = Setting(Names("PROD"), load_catalog().owners)
MERGE = LakeSnapshot(77, 1_772_366_000_000, "overwrite", 5, 3, 1000, "0/1A2B:3")
SCORED = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)

_DDL = (files("carbon_pipelines.demo") / "schema.sql").read_text(encoding="utf-8")
_BASE = {
    # as the DDL spells it: pg_type.typname, format_type
    "integer": ("int4", "integer"),
    "bigint": ("int8", "bigint"),
    "smallint": ("int2", "smallint"),
    "text": ("text", "text"),
    "varchar": ("varchar", "character varying"),
    "char": ("bpchar", "character"),
    "boolean": ("bool", "boolean"),
    "date": ("date", "date"),
    "time": ("time", "time without time zone"),
    "timestamp": ("timestamp", "timestamp without time zone"),
    "timestamptz": ("timestamptz", "timestamp with time zone"),
    "real": ("float4", "real"),
    "double precision": ("float8", "double precision"),
    "numeric": ("numeric", "numeric"),
    "uuid": ("uuid", "uuid"),
    "bytea": ("bytea", "bytea"),
    "jsonb": ("jsonb", "jsonb"),
    "json": ("json", "json"),
}
_COLUMN = re.compile(r"(\w+)\s+(double precision|\w+)(\(\d+(?:,\d+)?\))?(\[\])?(.*?),?$")


@cache
def market() -> DatabaseFacts:
    """The sample database; of each table that is scored, one score."""
    catalog = lake()
    return DatabaseFacts(
        database=MARKET,
        source_name="market",
        trino_catalog="lake",
        tables=tuple(
            TableFacts(
                table=table,
                relation=source_relation(table),
                lake=_merged_once(table, lake_facts(catalog, table.identifier)),
                scores=(score(table),) if table.expectations else (),
            )
            for table in MARKET.tables
        ),
    )


def _merged_once(table: TableSpec, facts: LakeFacts | None) -> LakeFacts:
    """One merge, and a table that is scored is certified."""
    assert facts is not None
    certified = {one.name: one.name for one in facts.columns} if table.expectations else None
    return replace(facts, snapshots=(MERGE,), certified=certified)


@cache
def marts(shown: Shown | None = None) -> MartsFacts:
    """All marts, shown in Doris and Trino unless told otherwise."""
    catalog, models = lake(), sample_models()
    tables = {
        of.table.identifier: [column.name for column in of.lake.columns]
        for of in market().tables
        if of.lake is not None
    }
    return MartsFacts(
        marts=tuple(
            MartFacts(
                mart=mart,
                columns=mart_lineage(f"{BUILDS}.{mart.name}", models, tables),
                lake=lake_facts(catalog, ("mart", mart.name)),
            )
            for mart in MARTS
        ),
        shown=Shown(doris_database="mart", trino_catalog="lake") if shown is None else shown,
    )


def told_of_market(facts: DatabaseFacts | None = None) -> tuple[Proposal, ...]:
    """Everything of the sample database."""
    return describe_database(SETTING, facts or market())


def told_of_marts(superset: SupersetExport | None = None) -> tuple[Proposal, ...]:
    """Everything of the marts."""
    facts = marts()
    if superset is not None:
        facts = replace(facts, shown=replace(facts.shown, superset=superset))
    return describe_marts(SETTING, facts)


@cache
def lake() -> Catalog:
    """Empty tables of the market, and marts made of them by their own SQL."""
    catalog = open_local(Path(mkdtemp(prefix="carbon-datahub-")))
    engine = duckdb.connect()
    engine.execute("SET TimeZone = 'UTC'")
    for schema in ("market", "staging", BUILDS):
        engine.execute(f"CREATE SCHEMA {schema}")
    for table in MARKET.tables:
        made = create_table(catalog, table, source_relation(table))
        empty = arrow_schema(made.schema()).empty_table()
        engine.register("empty", empty)
        engine.execute(f"CREATE TABLE market.{table.name} AS SELECT * FROM empty")
    models = sample_models()
    for relation in sorted(models, key=lambda name: not name.startswith("staging.")):
        engine.execute(f"CREATE VIEW {relation} AS {models[relation]}")
    for mart in MARTS:

        def rows(name: str = mart.name) -> Any:
            cursor = engine.cursor()
            cursor.execute("SET TimeZone = 'UTC'")
            return cursor.execute(f"SELECT * FROM {BUILDS}.{name}").to_arrow_reader(10)

        built = ", ".join(f'"{".".join(source)}": 7' for source in mart.sources)
        replace_rows(catalog, ("mart", mart.name), rows, {"carbon.built_from": f"{{{built}}}"})
    return catalog


@cache
def source_relation(table: TableSpec) -> SourceRelation:
    """A table of the demo's DDL as PostgreSQL describes it."""
    found = re.search(rf"CREATE TABLE {table.source_table} \((.*?)\n\);", _DDL, re.DOTALL)
    assert found is not None
    columns: list[SourceColumn] = []
    for line in found[1].strip().splitlines():
        if line.strip().startswith("PRIMARY KEY"):
            continue
        name, kind, more, array, rest = _column(line.strip())
        columns.append(
            SourceColumn(
                attnum=len(columns) + 1,
                name=name,
                type=_type(kind, more, array=array),
                nullable=not ("NOT NULL" in rest or "PRIMARY KEY" in rest or name in table.key),
                key_position=table.key.index(name) if name in table.key else None,
            )
        )
    return SourceRelation(16384, "public", table.source_table, "r", "d", tuple(columns), 1)


def _column(line: str) -> tuple[str, str, str, bool, str]:
    found = _COLUMN.fullmatch(line)
    assert found is not None, line
    return found[1], found[2], found[3] or "", bool(found[4]), found[5]


def _type(kind: str, more: str, *, array: bool) -> SourceType:
    if kind not in _BASE:
        return SourceType(16500, -1, kind if "." in kind else f"public.{kind}", "e", kind)
    base, name = _BASE[kind]
    made = SourceType(0, -1, f"{name}{more}", "b", base)
    if kind == "numeric" and more:
        precision, scale = (int(one) for one in more.strip("()").split(","))
        made = numeric(precision, scale)
    if array:
        return SourceType(0, -1, f"{made.name}[]", "b", f"_{base}", made)
    return made


def score(table: TableSpec, **changes: Any) -> Any:
    """A score in which everything is met but the table's last expectation."""
    last = table.expectations[-1]
    row: Mapping[str, Any] = {
        "score_id": f"score-{table.name}",
        "snapshot_id": 77,
        "scored_at": SCORED,
        "position": "0/1A2B:3",
        "rows": 1000,
        "score": 96.25,
        "threshold": table.quality.threshold,
        "passes": True,
        "completeness": 100.0,
        "uniqueness": 100.0,
        "validity": 92.5,
        "consistency": None,
        "timeliness": 100.0,
        "accuracy": 100.0,
        "expectations_version": expectations_version(table),
        **changes,
    }
    violation = {
        "expectation": last.label,
        "status": "failed",
        "reason": "3 of 1,000 rows do not meet it",
        "unexpected_rows": 3,
    }
    return kept_score(table, row, [violation])
