"""Scoring one table snapshot: from its declaration to a score with reasons.

What belongs here: which snapshot, which other tables, whether the expectations fit, and the order
of it all. What does not: each of these steps, and keeping the score (``history.py``).

Another table that an expectation reads is read as it stands at this moment. If it has come less far
than the scored one, or farther, keys may look like orphans that are none; the reason then says
where both stand.
"""

import hashlib
import json
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import duckdb
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.expectations import ExpectationSpec, References
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import TRINO_VARIABLE, TrinoEndpoint
from carbon_pipelines.errors import (
    ExpectationsMisfitError,
    SettingMissingError,
    TableNotCopiedError,
)
from carbon_pipelines.lake.connection import load_table
from carbon_pipelines.lake.state import CREATED, TableProgress, find_carrier, read_progress
from carbon_pipelines.quality.checks import Surroundings, plan_check
from carbon_pipelines.quality.custom_sql import custom_misfits, steady_labels
from carbon_pipelines.quality.engine_counts import EngineCounts
from carbon_pipelines.quality.engine_pass import EnginePass
from carbon_pipelines.quality.fit import LakeColumns, misfits, reference_misfits
from carbon_pipelines.quality.increment import Sums, load_increment
from carbon_pipelines.quality.judging import unscorable
from carbon_pipelines.quality.lake_scan import scan_sql
from carbon_pipelines.quality.relations import Relation, name_relations
from carbon_pipelines.quality.score import Score, judge_score
from carbon_pipelines.quality.sql_text import DUCKDB, FILE_COLUMN, TRINO

SCORE_VERSION = "1"
"""Version of how outcomes become a score; a new one makes scores that are not compared."""


Runner = Literal["pass", "great_expectations", "trino"]


@dataclass(frozen=True, slots=True)
class ScoredTable:
    """The score of one table snapshot.

    Attributes:
        version: Of the expectations and of how they are weighed: what was scored against.
        position: Up to which change of the source the snapshot goes.
        sums: What the next score against the same expectations need not read again.
    """

    label: str
    snapshot_id: int
    version: str
    scored_at: datetime
    rows: int
    position: str
    score: Score
    sums: Sums | None
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class _Pinned:
    """One table of the lake at one snapshot."""

    table: TableSpec
    iceberg: Table
    columns: LakeColumns
    snapshot_id: int
    progress: TableProgress
    relation: Relation


def expectations_version(table: TableSpec) -> str:
    """What a table is scored against, as a short text that changes with it."""
    declared = {
        "version": SCORE_VERSION,
        "expectations": [one.model_dump(mode="json") for one in table.expectations],
        "quality": table.quality.model_dump(mode="json", exclude={"drop"}),
    }
    text = json.dumps(declared, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def score_table(
    catalog: Catalog,
    engine: duckdb.DuckDBPyConnection,
    database: DatabaseSpec,
    table: TableSpec,
    *,
    now: datetime,
    snapshot_id: int | None = None,
    runner: Runner = "pass",
    sums: Sums | None = None,
    trino: TrinoEndpoint | None = None,
) -> ScoredTable:
    """Score a table at ``snapshot_id``, or at the newest snapshot of ``main``.

    Args:
        catalog: The lake's.
        engine: From ``lake_scan.open_engine``; its relations are replaced.
        database: That of ``table``.
        table: With its expectations.
        now: What the age of values is taken from, with a time zone.
        snapshot_id: A table snapshot.
        runner: Who counts the standard kinds; the score is the same.
        sums: Of an earlier score against the same expectations: what they tell is not read again.
        trino: Where it is, for the runner of that name.

    Raises:
        TableNotCopiedError: There is nothing to score.
        ExpectationsMisfitError: Expectations do not fit the table's columns; nothing was read.
        LakeUnreadableError: DuckDB cannot read the snapshot.
        RunnerMissingError: The runner is not installed.
        RunnerUnavailableError: The runner does not answer (retryable).
        SettingMissingError: Nothing says where the runner is.
    """
    began = _cpu_seconds()
    pinned = _pin(catalog, table, snapshot_id)
    if pinned is None:
        raise TableNotCopiedError(table.label)
    others = _others(catalog, database, table)
    absent = _absent(table, database, others)
    name_relations(engine, [pinned.relation, *(other.relation for other in others.values())])
    written = [one for one in table.expectations if one.label not in absent]
    _check_fit(engine, pinned, others, written)
    around = Surroundings(
        table=table,
        columns=pinned.columns,
        others={name: other.table for name, other in others.items()},
        now=now,
        dialect=DUCKDB,
    )
    given: Mapping[str, int] = {}
    if runner == "great_expectations":
        from carbon_pipelines.quality.gx_run import run_great_expectations

        given = run_great_expectations(engine, around, written).counts
    elif runner == "trino":
        given = _by_trino(trino, around, [pinned, *others.values()], written)
    counts = EngineCounts(
        engine,
        around,
        pinned.snapshot_id,
        increment=load_increment(pinned.iceberg, pinned.snapshot_id, sums),
        steady=steady_labels(engine, written, pinned.columns),
        parents={name: other.snapshot_id for name, other in others.items()},
    )
    run = EnginePass(counts, _notes(pinned, others), given)
    found = run.run([plan_check(one, around) for one in written])
    told = {one.label: one for one in found}
    outcomes = [
        told[one.label] if one.label in told else unscorable(one, absent[one.label])
        for one in table.expectations
    ]
    return ScoredTable(
        label=table.label,
        snapshot_id=pinned.snapshot_id,
        version=expectations_version(table),
        scored_at=now,
        rows=run.rows,
        position=str(pinned.progress.position),
        score=judge_score(outcomes, table.quality),
        sums=run.sums,
        cpu_seconds=_cpu_seconds() - began,
    )


def _by_trino(
    trino: TrinoEndpoint | None,
    around: Surroundings,
    pinned: Sequence[_Pinned],
    written: Sequence[ExpectationSpec],
) -> Mapping[str, int]:
    """What Trino counts of the same snapshots."""
    from carbon_pipelines.quality.trino_run import TrinoSnapshot, run_trino

    if trino is None:
        raise SettingMissingError(TRINO_VARIABLE, "the Trino that counts expectations")
    there = replace(around, dialect=TRINO)
    snapshots = [TrinoSnapshot(one.table, one.snapshot_id) for one in pinned]
    return run_trino(trino, snapshots, [plan_check(one, there) for one in written])


def _pin(catalog: Catalog, table: TableSpec, snapshot_id: int | None = None) -> _Pinned | None:
    """A table at a snapshot; None if nothing was copied to it yet."""
    iceberg = load_table(catalog, table.identifier)
    if iceberg is None:
        return None
    newest = iceberg.current_snapshot()
    snapshot = newest if snapshot_id is None else iceberg.snapshot_by_id(snapshot_id)
    carrier = find_carrier(iceberg.metadata, snapshot) if snapshot else None
    properties = carrier.summary.additional_properties if carrier and carrier.summary else {}
    if snapshot is None or not properties or CREATED in properties:
        return None
    schemas = iceberg.schemas()
    schema = schemas.get(snapshot.schema_id or 0, iceberg.schema())
    number = snapshot.snapshot_id
    return _Pinned(
        table,
        iceberg,
        LakeColumns.of(schema, table),
        number,
        read_progress(properties, table.label),
        Relation(
            table,
            scan_sql(iceberg, table, number),
            scan_sql(iceberg, table, number, file_column=FILE_COLUMN),
        ),
    )


def _others(catalog: Catalog, database: DatabaseSpec, table: TableSpec) -> dict[str, _Pinned]:
    """The other tables that expectations read, by logical name, those that have a copy."""
    names = {name for one in table.expectations for _, name in one.names_tables} - {table.name}
    pinned = ((name, _pin(catalog, database.table(name))) for name in sorted(names))
    return {name: found for name, found in pinned if found is not None}


def _absent(
    table: TableSpec, database: DatabaseSpec, others: Mapping[str, _Pinned]
) -> dict[str, str]:
    """Why expectations cannot be checked now, by label: a table that they read is not there."""
    return {
        one.label: f"{database.name}/{name} has no copy in the lake yet"
        for one in table.expectations
        for _, name in one.names_tables
        if name != table.name and name not in others
    }


def _check_fit(
    engine: duckdb.DuckDBPyConnection,
    pinned: _Pinned,
    others: Mapping[str, _Pinned],
    written: Sequence[ExpectationSpec],
) -> None:
    """Raise ExpectationsMisfitError with everything that does not fit the columns."""
    checked = pinned.table.model_copy(update={"expectations": tuple(written)})
    problems = [*misfits(checked, pinned.columns), *custom_misfits(engine, checked)]
    for one in written:
        if isinstance(one, References):
            to = others.get(one.table, pinned)
            problems += reference_misfits(pinned.columns, one, to.table, to.columns)
    if problems:
        raise ExpectationsMisfitError(
            pinned.table.label, sorted(problems, key=lambda found: found[1])
        )


def _notes(pinned: _Pinned, others: Mapping[str, _Pinned]) -> dict[str, str]:
    """Where tables stand that are compared and do not stand at the same position, by label."""
    here = pinned.progress.position
    notes: dict[str, str] = {}
    for one in pinned.table.expectations:
        apart = [
            f"{name} is at {others[name].progress.position}"
            for _, name in one.names_tables
            if name in others and others[name].progress.position != here
        ]
        if apart:
            notes[one.label] = f"; {', '.join(apart)}, this table at {here}"
    return notes


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
