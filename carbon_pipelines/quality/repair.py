"""Giving keys that differ the rows that the source has, in one commit.

What belongs here: the plan, which can be shown and touches nothing, and carrying it out. What does
not: finding the differences (``reconcile.py``) and the commit (``lake/replace_rows.py``, which also
says why a repair is exact beside a stream that goes on).

Why the plan's rows are right: a round compares the lake, standing at L, with a source snapshot that
sees exactly what was committed at or before L, at every key that the round did not leave out. So
the snapshot's row of a differing key is what a lake that stands at L has to show there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    RepairRefusedError,
    StateMissingError,
    TableMovedError,
    UnrepresentableValueError,
)
from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.connection import load_table, open_catalog
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.replace_rows import KnownRows, Replaced, RowReplacement, distinct_keys
from carbon_pipelines.quality.canonical import NO_LIST
from carbon_pipelines.quality.drilldown import Difference, Kind
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines.quality.verification import (
    NAMED_KEYS,
    DifferingRows,
    Verification,
    VerifyLimits,
)
from carbon_pipelines.source.position import Position

MAX_KEYS = 10_000
"""Keys of one repair; where more differ, the copy is not damaged but wrong."""
REPAIR_LIMITS = VerifyLimits(differences=MAX_KEYS, keep_rows=True)
"""Limits of a verification whose result can be repaired."""
ATTEMPTS = 5
"""Repairs made before keys that keep moving are given up."""


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What a repair does to one table.

    Attributes:
        table: Its declaration.
        differences: What is wrong at each key.
        known: The rows that the keys are to have.
        removed_rows: Rows of the lake at those keys.
        position: Where the lake stood when they were compared.
    """

    table: TableSpec
    differences: tuple[Difference, ...]
    known: tuple[KnownRows, ...]
    removed_rows: int
    position: Position

    @property
    def added_keys(self) -> int:
        """Keys of which the lake has no row."""
        return self._count("missing in lake")

    @property
    def replaced_keys(self) -> int:
        """Keys whose row is another, or is there more than once."""
        return self._count("changed", "duplicate in lake")

    @property
    def removed_keys(self) -> int:
        """Keys of which the source has no row."""
        return self._count("extra in lake")

    def _count(self, *kinds: Kind) -> int:
        return sum(difference.kind in kinds for difference in self.differences)

    def describe(self) -> str:
        """The plan in words; no values, for they may be confidential."""
        written = sum(part.rows.num_rows for part in self.known)
        lines = [
            f"{self.table.label}: gives {len(self.differences):,} keys the rows that the source "
            f"had at {self.position}, in one snapshot:",
            f"  {self.added_keys:,} keys are added, {self.replaced_keys:,} replaced, "
            f"{self.removed_keys:,} removed: {self.removed_rows:,} rows go, {written:,} rows come",
            *(f"  {difference}" for difference in self.differences[:NAMED_KEYS]),
        ]
        if len(self.differences) > NAMED_KEYS:
            lines.append(f"  and {len(self.differences) - NAMED_KEYS:,} more keys")
        lines.append("Keys that a change reaches before the commit are left for another round.")
        return "\n".join(lines)


def plan_repair(found: Verification, endpoints: Endpoints) -> RepairPlan:
    """What mends the differences in ``found``; reads the table's schema and touches nothing.

    Args:
        found: Made with ``REPAIR_LIMITS``.
        endpoints: Where the lake is.

    Raises:
        RepairRefusedError: A copy anew is what helps.
    """
    table = found.table
    if not table.key:
        raise RepairRefusedError(table.label, "it has no key to know a row by")
    if table.is_history:
        reason = "it keeps a history, and no event says since when a mended row would be valid"
        remedy = (
            "Find out what changed the lake's table besides us; a copy anew would drop the "
            'history, so begin a new one under another "name" if that cannot be undone.'
        )
        raise RepairRefusedError(table.label, reason, remedy=remedy)
    if found.schema_differences:
        raise RepairRefusedError(table.label, "; ".join(found.schema_differences))
    if found.differing_count > len(found.differing_keys):
        reason = f"{found.differing_count:,} keys differ, which is more than {MAX_KEYS:,}"
        raise RepairRefusedError(table.label, reason)
    with open_catalog(endpoints.lake) as catalog:
        iceberg = load_table(catalog, table.identifier)
    if iceberg is None:
        raise StateMissingError(table.label)
    schema = arrow_schema(iceberg.schema())
    return RepairPlan(
        table=table,
        differences=found.differing_keys,
        known=tuple(_known_rows(rows, table, schema) for rows in found.rows),
        removed_rows=sum(rows.lake_keys.num_rows for rows in found.rows),
        position=found.position,
    )


def apply_repair(
    plan: RepairPlan,
    endpoints: Endpoints,
    *,
    reason: str,
    by: str,
    hooks: MergeHooks | None = None,
) -> Replaced:
    """Carry ``plan`` out, in one snapshot that says who did it, and why.

    Raises:
        TableMovedError: The table was truncated, copied anew or changed its shape; plan again.
        CommitConflictError: Other writers won too many times (retryable).
    """
    notes = {
        "carbon.repair_reason": reason,
        "carbon.repair_by": by,
        "carbon.repair_as_of": str(plan.position),
    }
    with open_catalog(endpoints.lake) as catalog:
        replacement = RowReplacement(catalog, plan.table, endpoints.stream_bootstrap, hooks=hooks)
        return replacement.apply(plan.known, notes)


def repair_table(
    found: Verification,
    database: DatabaseSpec,
    endpoints: Endpoints,
    *,
    reason: str,
    by: str,
    report: Callable[[str], None],
) -> Verification:
    """Repair what ``found`` shows and compare again, until nothing differs.

    Args:
        found: Made with ``REPAIR_LIMITS``.
        database: The declaration of the table's database.
        endpoints: Where the services are.
        reason: Why, for those who read the table's history.
        by: Who, likewise.
        report: Takes the plan and what came of it.

    Returns:
        The last comparison; keys may still differ if they kept moving.

    Raises:
        RepairRefusedError: A copy anew is what helps.
        CarbonPipelinesError: As comparing and committing.
    """
    for _ in range(ATTEMPTS):
        if not found.differs:
            break
        plan = plan_repair(found, endpoints)
        report(plan.describe())
        try:
            report(_sentence(found.table, apply_repair(plan, endpoints, reason=reason, by=by)))
        except TableMovedError as moved:
            report(str(moved))
        found = verify_table(found.table, database, endpoints, limits=REPAIR_LIMITS)
        report(found.sentence())
    return found


def _sentence(table: TableSpec, done: Replaced) -> str:
    moved = f", {done.moved_keys:,} keys moved and were left out" if done.moved_keys else ""
    if done.snapshot_id is None:
        return f"{table.label}: nothing was repaired{moved}"
    return (
        f"{table.label}: {done.keys:,} keys repaired in snapshot {done.snapshot_id}: "
        f"{done.removed_rows:,} rows removed, {done.written_rows:,} written{moved}"
    )


def _known_rows(rows: DifferingRows, table: TableSpec, schema: pa.Schema) -> KnownRows:
    """The source's rows and both ends' keys, typed as the lake's."""
    lacking = [name for name in rows.source.column_names if name not in schema.names]
    lost = [name for name in lacking if rows.source.column(name).null_count < len(rows.source)]
    if lost:
        reason = f"the lake has no column {', '.join(lost)}, in which the source has values"
        raise RepairRefusedError(table.label, reason)
    source = _typed(rows.source.drop_columns(lacking), schema)
    in_lake = _typed(rows.lake_keys.select(list(table.key)), schema)
    if any(column.null_count for column in in_lake.columns):
        raise RepairRefusedError(table.label, "the lake holds rows whose key is NULL")
    keys = pa.concat_tables([source.select(list(table.key)), in_lake])
    return KnownRows(rows.progress, rows.relation, distinct_keys(keys), source)


def _typed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    fields = [schema.field(name) for name in rows.column_names]
    columns = {field.name: rows.column(field.name).combine_chunks() for field in fields}
    for name, values in columns.items():
        if pa.types.is_list(values.type) and pc.any(pc.equal(values.flatten(), NO_LIST)).as_py():
            raise UnrepresentableValueError(name, "list", "an array that is more than one list")
    arrays = [decode_column(columns[field.name], field.type, column=field.name) for field in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
