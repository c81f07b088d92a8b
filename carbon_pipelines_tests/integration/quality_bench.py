"""What the tests of verification share: a table of every common type, and damage to its copy.

What belongs here: making the source tables and changing the lake behind our back with PyIceberg.
What does not: the pipeline itself (``pipeline.py``) and assertions.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
from pyiceberg.table import Table

from carbon_pipelines.catalog.table import ColumnSpec, TableSpec
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines.quality.verification import Verification, VerifyLimits
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.pipeline import Pipeline

Rows = list[dict[str, object]]
ROWS = 400

SCHEMA = f"""
CREATE TYPE mood AS ENUM ('calm', 'busy');
CREATE TABLE reading (
    id integer, part text, small smallint, big bigint, price numeric(12,4), free numeric,
    ratio double precision, single real, flag boolean, code char(4), name varchar(40),
    at timestamptz, seen timestamp, due date, clock time, uid uuid, doc jsonb, raw json,
    bytes bytea, state mood, marks integer[], tags text[],
    PRIMARY KEY (id, part)
);
INSERT INTO reading
SELECT n, 'p' || n % 3, n % 100, n * 10000000000, n * 1.2345, n * 1.5, n / 7e0, n / 3e0,
       n % 2 = 0, 'c' || n % 5, 'name of ' || n,
       timestamptz '2024-01-31' + n * interval '1 hour 0.000001 second',
       CASE n % 9 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity' WHEN 2 THEN NULL
                  ELSE timestamp '1999-12-31 23:59:59.999999' END,
       CASE n % 7 WHEN 0 THEN date 'infinity' WHEN 1 THEN '0044-03-15 BC'
                  ELSE date '2024-02-29' + n END,
       time '00:00' + n * interval '1 minute 0.000001 second', md5(n::text)::uuid,
       jsonb_build_object('n', n, 'x', NULL),
       CASE WHEN n % 2 = 0 THEN ('{{ "n" :  ' || n || '}}')::json END, decode(md5(n::text), 'hex'),
       (ARRAY['calm', 'busy']::mood[])[1 + n % 2],
       CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN '{{}}' ELSE ARRAY[n, NULL] END,
       CASE n % 3 WHEN 0 THEN ARRAY['a b', 'c,"d"', NULL] WHEN 1 THEN '{{}}' END
FROM generate_series(1, {ROWS}) n;
CREATE TABLE entry (at timestamptz, word text, size integer);
INSERT INTO entry SELECT timestamptz '2024-01-01', 'w' || n % 10, n % 4
FROM generate_series(1, 200) n;
"""


class Bench(Pipeline):
    """A pipeline with tables ``reading`` (mirror) and ``entry`` (append), both copied."""

    @property
    def reading(self) -> TableSpec:
        return self.tables["reading"]

    @property
    def entry(self) -> TableSpec:
        return self.tables["entry"]

    def verify(self, table: TableSpec, limits: VerifyLimits | None = None) -> Verification:
        return verify_table(table, self.database, self.endpoints, limits=limits)

    def damage(
        self, table: TableSpec, change: Callable[[Rows], Sequence[dict[str, object]]]
    ) -> None:
        """Overwrite the copy, as ``damage_rows`` does."""
        damage_rows(self.iceberg(table.name), change)


def damage_rows(iceberg: Table, change: Callable[[Rows], Sequence[dict[str, object]]]) -> None:
    """Overwrite a table of the lake with changed rows, as a foreign writer would.

    Dates and timestamps are handed out as numbers, for Python has no infinite ones.
    """
    arrow = iceberg.scan().to_arrow()
    rows = arrow.cast(pa.schema([_numeric(field) for field in arrow.schema])).to_pylist()
    changed = pa.Table.from_pylist(
        list(change(rows)), schema=pa.schema([_numeric(field) for field in arrow.schema])
    )
    with warnings.catch_warnings(), iceberg.transaction() as transaction:
        warnings.filterwarnings("ignore", "Merge on read is not yet supported")
        # PyIceberg has no statistics of infinity
        transaction.set_properties({"write.metadata.metrics.default": "none"})
        transaction.overwrite(changed.cast(arrow.schema))


def _numeric(field: pa.Field) -> pa.Field:
    if pa.types.is_timestamp(field.type):
        return field.with_type(pa.int64())
    return field.with_type(pa.int32()) if pa.types.is_date32(field.type) else field


@contextmanager
def open_bench(stack: Stack, source: SourceDatabase) -> Iterator[Bench]:
    """Create both tables in an empty database and copy them."""
    bench = Bench(stack, source)
    bench.execute(*SCHEMA.split(";\n")[:-1])
    bench.declare("reading", ("id", "part"), columns={"free": ColumnSpec(type="decimal(18,4)")})
    bench.declare("entry", (), mode="append")
    bench.follow_all()
    yield bench
    bench.close()
