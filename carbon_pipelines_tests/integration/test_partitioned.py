"""A partitioned table is one table of the lake, whatever becomes of its partitions."""

import pyarrow as pa
import pytest

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import PartitionTruncatedError, TableParkedError
from carbon_pipelines.lake import first_copy
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.first_copy import FirstCopy
from carbon_pipelines.lake.keys import KeySet
from carbon_pipelines.lake.row_swap import swap_rows
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.conftest import running_postgres
from carbon_pipelines_tests.integration.partition_effects import (
    FOLLOWED_PARTITIONS,
    KEY,
    PARTITIONED_TABLE,
    RECOPIED_PARTITIONS,
)
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    pipeline.execute(*PARTITIONED_TABLE)
    return pipeline


def execute_in_one(pipeline: Pipeline, *statements: str) -> None:
    with pipeline.connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_its_rows_and_ddl_on_it_are_followed_in_place(pipeline: Pipeline) -> None:
    pipeline.declare("t", KEY)
    pipeline.follow("t")
    assert pipeline.differences("t") == 0
    for place, (name, statements) in enumerate(FOLLOWED_PARTITIONS.items()):
        (execute_in_one if place % 2 else pipeline.__class__.execute)(pipeline, *statements)

        synced = pipeline.follow("t")

        assert (synced.recopied, synced.copied_rows) == ((), 0), name
        assert pipeline.differences("t") == 0, name


def test_ddl_that_has_no_effect_in_place_is_answered_by_a_copy(pipeline: Pipeline) -> None:
    pipeline.declare("t", KEY, recopies_per_hour=len(RECOPIED_PARTITIONS))
    pipeline.follow("t")
    for name, statements in RECOPIED_PARTITIONS.items():
        pipeline.execute(
            "UPDATE t SET n = n + 1 WHERE id % 5 = 0",
            *statements,
            "UPDATE t SET n = n + 1 WHERE id % 5 = 0",
        )

        synced = pipeline.follow("t")

        assert name.split(":")[0] in "".join(synced.recopied), name
        assert len(synced.recopied) == 1, name
        assert pipeline.differences("t") == 0, name
    assert pipeline.follow("t").recopied == ()


def test_all_of_it_in_postgresql_15_is_verified(stack: Stack) -> None:
    with running_postgres("15") as server:
        server.create_database("leaves")
        pipeline = Pipeline(stack, SourceDatabase("leaves", server.dsn("leaves")))
        pipeline.execute(*PARTITIONED_TABLE)
        table = pipeline.declare("t", KEY)
        pipeline.follow("t")
        for statements in FOLLOWED_PARTITIONS.values():
            execute_in_one(pipeline, *statements)
        pipeline.drain()

        verification = verify_table(table, pipeline.database, pipeline.endpoints)
        assert (verification.verified, verification.source_rows) == (True, 40)
        pipeline.execute(*RECOPIED_PARTITIONS["some of its partitions were truncated: several"])
        pipeline.drain()
        verification = verify_table(table, pipeline.database, pipeline.endpoints)
        assert verification.verified, verification.sentence()
        assert pipeline.differences("t") == 0
        pipeline.close()


def test_a_large_value_of_a_row_that_the_lake_lost_is_read_from_its_partition(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "ALTER TABLE t_1 ALTER doc SET STORAGE EXTERNAL",
        "UPDATE t SET doc = repeat(md5(id::text), 900) WHERE day < '2024-01-03'",
    )
    pipeline.declare("t", KEY)
    pipeline.follow("t")
    table = pipeline.iceberg("t")
    (lost, day) = next(
        (row["id"], row["day"]) for row in table.scan("day < '2024-01-03'").to_arrow().to_pylist()
    )
    swapped = swap_rows(
        table,
        KEY,
        KeySet((pa.array([lost], pa.int64()), pa.array([day], pa.date32()))),
        arrow_schema(table.schema()).empty_table(),
        pipeline.progress("t").to_properties(),
    )
    assert swapped is not None
    assert pipeline.differences("t") == 1
    pipeline.execute(f"UPDATE t SET n = -1 WHERE id = {lost}")

    assert pipeline.follow("t").recopied == ()
    assert pipeline.differences("t") == 0


def test_a_truncated_partition_parks_the_table_where_that_is_declared(pipeline: Pipeline) -> None:
    pipeline.declare("t", KEY, on_rewrite="park")
    pipeline.follow("t")
    pipeline.execute("UPDATE t SET n = 5", "TRUNCATE t_1", "UPDATE t SET n = 6")

    with pytest.raises(PartitionTruncatedError, match="partitions were truncated"):
        pipeline.follow("t")
    with pytest.raises(TableParkedError, match="partitions were truncated"):
        pipeline.sync("t")

    rows = pipeline.iceberg("t").scan().to_arrow()
    assert (rows.num_rows, set(rows.column("n").to_pylist())) == (300, {5})


@pytest.mark.parametrize(
    ("meanwhile", "resumes"),
    [("UPDATE t SET day = day + 1, n = 7 WHERE id % 2 = 0", True), ("VACUUM FULL t_3", False)],
)
def test_a_copy_of_many_ranges_goes_on_where_its_partitions_are_as_they_were(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, meanwhile: str, *, resumes: bool
) -> None:
    monkeypatch.setattr(first_copy, "READERS", 1)
    monkeypatch.setattr(first_copy, "RANGE_BYTES", 8192 * 12)
    table = pipeline.declare("t", KEY)
    pipeline.drain()

    def interrupt(index: int) -> None:
        if index == 1:
            raise KeyboardInterrupt

    copy = FirstCopy(
        pipeline.catalog,
        table,
        pipeline.database,
        pipeline.endpoints,
        report=lambda _: None,
        after_range=interrupt,
    )
    with pytest.raises(KeyboardInterrupt):
        copy.run()
    pipeline.execute(meanwhile)
    lines: list[str] = []
    pipeline.follow("t", report=lines.append)

    assert any("resuming after 2 ranges" in line for line in lines) == resumes
    assert pipeline.differences("t") == 0
