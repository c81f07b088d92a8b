"""A large value that an update left unchanged, and the lake has no row for, comes from the source.

It is the value that the event left, or none: what later events make of the row is never in it.
"""

from collections.abc import Callable

import pyarrow as pa
import pytest

from carbon_pipelines.catalog.table import DeadLettersSpec
from carbon_pipelines.lake.catch_up import CatchUp
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.keys import KeySet
from carbon_pipelines.lake.reread import Rereading
from carbon_pipelines.lake.row_swap import swap_rows
from carbon_pipelines.source.position import parse_lsn
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.oracle import lake_rows, oracle

pytestmark = pytest.mark.integration

BIG = (
    "(SELECT string_agg(sha256((random() * g)::text::bytea)::text, '')"
    " FROM generate_series(1, 200) g)"
)
"""Some 13 kB that do not compress to a page."""
TABLE = """
CREATE TABLE t (id bigint, part char(3), n int, doc text, raw bytea, tags text[], price numeric,
                PRIMARY KEY (id, part))
"""
ROWS = f"""
INSERT INTO t
SELECT g, 'p', g, {BIG} || g, decode(replace({BIG}, '\\x', ''), 'hex'),
       ARRAY[{BIG} || g, NULL, 'a "b", c'], (repeat('1234567890', 1000) || g)::numeric
FROM generate_series(1, 6) g
"""


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    pipeline.execute(
        TABLE,
        *(f"ALTER TABLE t ALTER {c} SET STORAGE EXTERNAL" for c in ("doc", "raw", "tags", "price")),
        ROWS,
    )
    pipeline.declare("t", ("id", "part"))
    pipeline.follow("t")
    return pipeline


def lose(pipeline: Pipeline, *ids: int) -> None:
    """Take rows from the lake behind its back."""
    table = pipeline.iceberg("t")
    keys = KeySet((pa.array(ids, pa.int64()), pa.array(["p  "] * len(ids))))
    properties = pipeline.progress("t").to_properties()
    rows = arrow_schema(table.schema()).empty_table()
    swapped = swap_rows(table, ("id", "part"), keys, rows, properties)
    assert swapped is not None
    assert swapped.removed_rows == len(ids)


def merge_beside(pipeline: Pipeline, before_read: Callable[[], None]) -> None:
    """Merge what the topic holds; something happens once the snapshot of the source stands."""
    rereading = Rereading(pipeline.database, pipeline.endpoints, before_read=before_read)
    bootstrap = pipeline.endpoints.stream_bootstrap
    catch_up = CatchUp(pipeline.catalog, pipeline.tables["t"], bootstrap, rereading=rereading)
    catch_up.run(pipeline.iceberg("t"), pipeline.progress("t"))


def rows(pipeline: Pipeline, columns: str) -> list[tuple[object, ...]]:
    """The rows of the lake, by DuckDB alone."""
    with oracle(pipeline.endpoints) as engine:
        table = lake_rows(engine, pipeline.endpoints, pipeline.tables["t"].identifier)
        return engine.execute(f"SELECT {columns} FROM {table} ORDER BY id").fetchall()


def at_source(pipeline: Pipeline, columns: str) -> list[tuple[object, ...]]:
    with pipeline.connect() as connection:
        return connection.execute(f"SELECT {columns} FROM t ORDER BY id".encode()).fetchall()


def test_large_values_of_every_kind_are_read_again(pipeline: Pipeline) -> None:
    lose(pipeline, 1, 2, 3, 4, 5, 6)
    pipeline.execute(
        "UPDATE t SET n = n + 1",
        f"UPDATE t SET doc = {BIG} WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
    )

    synced = pipeline.follow("t")

    assert (synced.copied_rows, synced.progress.dead_letters) == (0, ())
    assert pipeline.differences("t") == 0
    assert len(rows(pipeline, "id")) == 5


@pytest.mark.parametrize(
    "later",
    [
        [f"UPDATE t SET doc = {BIG} WHERE id = 1"],
        ["UPDATE t SET doc = NULL WHERE id = 1", "UPDATE t SET n = 8 WHERE id = 1"],
        ["DELETE FROM t WHERE id = 1"],
        ["UPDATE t SET id = 101 WHERE id = 1"],
        ["DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES (1, 'p', 7, 'small')"],
        ["TRUNCATE t"],
        ["ALTER TABLE t ADD more int DEFAULT 4", "UPDATE t SET more = 5 WHERE id = 2"],
    ],
    ids=["set", "emptied", "deleted", "moved", "made anew", "truncated", "altered"],
)
def test_a_row_that_a_later_event_decides_is_what_that_event_makes_of_it(
    pipeline: Pipeline, later: list[str]
) -> None:
    lose(pipeline, 1, 2)
    pipeline.execute("UPDATE t SET n = 70 WHERE id <= 2")
    pipeline.drain()
    pipeline.execute(*later)

    synced = pipeline.sync("t")

    assert (synced.copied_rows, synced.progress.dead_letters) == (0, ())
    assert pipeline.differences("t") == 0


def test_a_later_event_that_leaves_the_value_alone_as_well_is_left_for_later(
    pipeline: Pipeline,
) -> None:
    lose(pipeline, 1)
    pipeline.execute("UPDATE t SET n = 70 WHERE id = 1")
    pipeline.drain()
    pipeline.execute("UPDATE t SET n = 71 WHERE id = 1")

    pipeline.sync("t")

    assert rows(pipeline, "id, n, doc")[0] == (1, 70, at_source(pipeline, "doc")[0][0])
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


@pytest.mark.parametrize(
    "change", [f"UPDATE t SET doc = {BIG} WHERE id = 1", "DELETE FROM t WHERE id = 1"]
)
def test_what_happens_after_the_look_at_the_source_is_not_in_the_row(
    pipeline: Pipeline, change: str
) -> None:
    lose(pipeline, 1)
    pipeline.execute("UPDATE t SET n = 70 WHERE id = 1")
    pipeline.drain()
    [before, *_] = at_source(pipeline, "id, n, doc")

    merge_beside(pipeline, lambda: pipeline.execute(change))

    assert rows(pipeline, "id, n, doc")[0] == before
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_a_truncate_between_the_look_and_the_read_is_followed(pipeline: Pipeline) -> None:
    lose(pipeline, 1)
    pipeline.execute("UPDATE t SET n = 70 WHERE id = 1")
    pipeline.drain()
    pending = ["TRUNCATE t"]

    merge_beside(pipeline, lambda: pipeline.execute(*pending) or pending.clear())

    assert rows(pipeline, "id") == []
    assert pipeline.differences("t") == 0


def test_an_open_transaction_that_has_set_the_value_already_has_no_say(pipeline: Pipeline) -> None:
    lose(pipeline, 1, 2)
    pipeline.execute("UPDATE t SET n = 70 WHERE id <= 2")
    [before, *_] = at_source(pipeline, "id, n, doc")
    with pipeline.connect() as connection:
        connection.execute(f"UPDATE t SET doc = {BIG} WHERE id = 1".encode())
        pipeline.follow("t")
        assert rows(pipeline, "id, n, doc")[0] == before
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_where_the_deciding_event_may_not_be_merged_yet_the_event_is_set_aside(
    pipeline: Pipeline,
) -> None:
    lose(pipeline, 1)
    pipeline.execute("UPDATE t SET n = 70 WHERE id = 1")
    with pipeline.connect() as connection:
        [(here,)] = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
    pipeline.execute(f"UPDATE t SET doc = {BIG} WHERE id = 1")
    pipeline.drain()
    pipeline.declare("t", ("id", "part"), dead_letters=DeadLettersSpec(at_most=1))

    aside = pipeline.sync("t", until_lsn=parse_lsn(here))

    assert len(aside.progress.dead_letters) == 1
    assert [row for row in rows(pipeline, "id") if row == (1,)] == []
    assert pipeline.follow("t").progress.dead_letters == ()
    assert pipeline.differences("t") == 0
