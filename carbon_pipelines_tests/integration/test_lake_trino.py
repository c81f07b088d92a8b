"""Trino, which shares no code with our writer, reads what PostgreSQL holds."""

from datetime import UTC

import psycopg
import pytest
from trino.dbapi import Cursor

from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = [pytest.mark.integration, pytest.mark.trino]

TABLE = """
CREATE TYPE mood AS ENUM ('calm', 'hot');
CREATE TABLE t (id bigint, part int, n smallint, amount numeric(12, 2), free numeric, f double
precision,   flag boolean, word varchar(40), doc text, d date, tm time, ts timestamp, tz
timestamptz, u uuid,   js jsonb, b bytea, m mood, ints int[], words text[], PRIMARY KEY (id, part));
INSERT INTO t SELECT g, g % 3, g % 100, g * 1.25, g * 1.000001, g / 7.0, g % 2 = 0, 'word ' || g,
  repeat(md5(g::text), 120), date '2020-01-01' + (g % 900)::int, time '01:02:03' + g * interval '1
  ms', timestamp '2020-01-01' + g * interval '1.5 s', timestamptz '2020-01-01 00:00+00' + g *
  interval '1 h', gen_random_uuid(), jsonb_build_object('k', g), decode(md5(g::text), 'hex'),
  'calm', ARRAY[g, NULL,
  3], ARRAY['a,b', NULL, '"q"'] FROM generate_series(1, 3000) g;
"""


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    pipeline.execute(TABLE)
    pipeline.declare("t", ("id", "part"))
    return pipeline


def read_postgres(pipeline: Pipeline) -> list[tuple[object, ...]]:
    with psycopg.connect(pipeline.dsn) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.execute("SELECT * FROM t ORDER BY id, part").fetchall()
        names = [c.name for c in connection.execute("SELECT * FROM t LIMIT 0").description or ()]
        texts = connection.execute(
            "SELECT js::text, free::text FROM t ORDER BY id, part"
        ).fetchall()
    js, free = names.index("js"), names.index("free")
    return [
        tuple(
            text[0] if i == js else text[1] if i == free else value for i, value in enumerate(row)
        )
        for row, text in zip(rows, texts, strict=True)
    ]


def read_trino(pipeline: Pipeline, trino: Cursor) -> list[tuple[object, ...]]:
    rows = trino.execute(f"SELECT * FROM lake.{pipeline.name}.t ORDER BY id, part").fetchall()
    return [
        tuple(v.astimezone(UTC) if getattr(v, "tzinfo", None) else v for v in row) for row in rows
    ]


def test_trino_reads_exactly_what_postgresql_holds_after_copy_and_merges(
    pipeline: Pipeline, trino: Cursor
) -> None:
    pipeline.follow("t")
    assert read_trino(pipeline, trino) == read_postgres(pipeline)
    for turn in range(6):
        pipeline.execute(
            f"UPDATE t SET n = n + 1, amount = amount + 0.01 WHERE id % 7 = {turn}",
            f"DELETE FROM t WHERE id % 31 = {turn}",
            f"UPDATE t SET id = id + 10000 WHERE id % 37 = {turn} AND id < 10000",
            f"INSERT INTO t (id, part, word) VALUES ({20000 + turn}, 0, 'new')",
        )
        pipeline.follow("t")
    pipeline.execute("ALTER TABLE t ADD COLUMN tag text", "UPDATE t SET tag = 'x' WHERE id % 5 = 0")

    pipeline.follow("t")

    assert read_trino(pipeline, trino) == read_postgres(pipeline)


def test_trino_reads_a_table_that_was_partitioned_otherwise_and_copied_anew(
    pipeline: Pipeline, trino: Cursor
) -> None:
    by_part = [{"column": "part", "transform": "identity"}]
    by_day = [{"column": "tz", "transform": "month"}, {"column": "flag", "transform": "identity"}]
    pipeline.declare("t", ("id", "part"), partitioning=by_part, sort_order=[{"column": "n"}])
    pipeline.follow("t")

    pipeline.declare("t", ("id", "part"), partitioning=by_day, sort_order=[{"column": "word"}])
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.execute("UPDATE t SET n = -1 WHERE id % 7 = 0", "DELETE FROM t WHERE id % 5 = 0")
    pipeline.follow("t")

    assert read_trino(pipeline, trino) == read_postgres(pipeline)
    where = "flag AND tz >= TIMESTAMP '2020-03-01 00:00:00 UTC' AND n = -1"
    table = f"lake.{pipeline.name}.t"
    (found,) = trino.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchall()
    with psycopg.connect(pipeline.dsn) as connection:
        expected = connection.execute(f"SELECT count(*) FROM t WHERE {where}".encode()).fetchone()
    assert tuple(found) == expected
