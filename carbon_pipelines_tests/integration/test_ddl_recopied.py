"""DDL that has no effect in place: the table is copied anew by itself, but not without end."""

import json
import re

import pytest

from carbon_pipelines.catalog.table import PartitionField
from carbon_pipelines.errors import LayoutColumnGoneError, RecopyLimitError, TableParkedError
from carbon_pipelines.lake.automatic import RECOPIES
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines_tests.integration.ddl_effects import RECOPIED, RECOPIED_TABLE
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration


def of(table: str, statement: str) -> str:
    """The statement, written for ``t``, about another table."""
    return re.sub(r"\bt(?=\b|_)", table, statement)


def make(pipeline: Pipeline, table: str, **more: object) -> None:
    pipeline.execute(*(of(table, statement) for statement in RECOPIED_TABLE))
    pipeline.declare(table, **more)


def test_ddl_that_has_no_effect_in_place_is_answered_by_a_copy(pipeline: Pipeline) -> None:
    tables = {name: f"t{number}" for number, name in enumerate(RECOPIED)}
    for table in tables.values():
        make(pipeline, table)
    pipeline.drain()
    for table in tables.values():
        pipeline.sync(table)
    for name, table in tables.items():
        pipeline.execute(
            f"UPDATE {table} SET n = 80 WHERE id = 8",
            *(of(table, statement) for statement in RECOPIED[name]),
            f"UPDATE {table} SET n = n WHERE id < 5",
        )

    pipeline.drain()
    said = {name: pipeline.sync(table) for name, table in tables.items()}
    for table in tables.values():
        pipeline.execute(f"DELETE FROM {table} WHERE id = 1")
    pipeline.drain()
    again = {table: pipeline.sync(table).copied_rows for table in tables.values()}

    for name, synced in said.items():
        assert name.split(":")[0] in "".join(synced.recopied), name
        assert synced.copied_rows > 0, name
    assert again == dict.fromkeys(tables.values(), 0)
    different = {name: pipeline.differences(table) for name, table in tables.items()}
    assert different == dict.fromkeys(tables, 0)


def test_readers_keep_the_old_rows_until_the_copy_is_whole_and_the_reason_is_told(
    pipeline: Pipeline,
) -> None:
    make(pipeline, "t")
    pipeline.follow("t")
    pipeline.execute("ALTER TABLE t ALTER n TYPE bigint USING n + 100")
    pipeline.drain()
    lines: list[str] = []
    seen: list[list[int]] = []

    def report(line: str) -> None:
        lines.append(line)
        seen.append(pipeline.iceberg("t").scan("id = 9").to_arrow().column("n").to_pylist())

    synced = pipeline.sync("t", report=report)

    assert "copying anew, because" in lines[0]
    assert seen == [[9]] * len(lines)
    assert pipeline.iceberg("t").scan("id = 9").to_arrow().column("n").to_pylist() == [109]
    assert len(synced.recopied) == 1


def test_a_table_that_asks_too_often_is_parked_with_the_reason(pipeline: Pipeline) -> None:
    make(pipeline, "t", recopies_per_hour=2)
    pipeline.follow("t")
    for _ in range(2):
        pipeline.execute("ALTER TABLE t ALTER n TYPE int USING n + 1")
        assert pipeline.follow("t").copied_rows == 60
    pipeline.execute("ALTER TABLE t ALTER n TYPE int USING n + 1")
    pipeline.drain()

    with pytest.raises(RecopyLimitError, match=r"2 times within an hour .* rewrites the table"):
        pipeline.sync("t")
    with pytest.raises(TableParkedError, match="rewrites the table"):
        pipeline.sync("t")

    begun = json.loads(pipeline.iceberg("t").properties[RECOPIES])
    assert len(begun) == 2
    assert len(pipeline.iceberg("t").scan().to_arrow()) == 60


def test_a_copy_that_a_crash_ended_goes_on_and_is_counted_once(pipeline: Pipeline) -> None:
    make(pipeline, "t", recopies_per_hour=1)
    pipeline.follow("t")
    pipeline.execute("ALTER TABLE t ALTER n TYPE int USING n + 1")
    pipeline.drain()

    def die(line: str) -> None:
        if "copied" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.sync("t", report=die)
    pipeline.execute("UPDATE t SET n = n + 1 WHERE id < 9")
    pipeline.follow("t")

    assert len(json.loads(pipeline.iceberg("t").properties[RECOPIES])) == 1
    assert pipeline.differences("t") == 0


def test_a_declaration_may_leave_the_decision_to_people(pipeline: Pipeline) -> None:
    make(pipeline, "t", on_rewrite="park")
    pipeline.follow("t")
    pipeline.execute("ALTER TABLE t RENAME n TO m", "ALTER TABLE t ALTER m TYPE int USING m + 1")
    pipeline.drain()

    with pytest.raises(Exception, match="rewrites the table"):
        pipeline.sync("t")
    with pytest.raises(TableParkedError):
        pipeline.sync("t")

    assert pipeline.iceberg("t").schema().find_field("m").field_id == 2
    assert RECOPIES not in pipeline.iceberg("t").properties


def test_an_error_that_passes_is_no_reason_for_a_copy(pipeline: Pipeline) -> None:
    make(pipeline, "t")
    pipeline.follow("t")
    pipeline.execute("UPDATE t SET n = 1")
    pipeline.drain()

    def fail() -> None:
        raise OSError

    with pytest.raises(Exception, match="does not answer"):
        pipeline.sync("t", hooks=MergeHooks(before_write=fail))

    assert pipeline.sync("t").recopied == ()
    assert RECOPIES not in pipeline.iceberg("t").properties


def test_tables_that_swap_names_are_both_copied_anew_and_no_row_is_in_the_other(
    pipeline: Pipeline,
) -> None:
    for number, table in enumerate(("a", "b", "c")):
        pipeline.execute(
            f"CREATE TABLE {table} (id bigint PRIMARY KEY, n int)",
            f"INSERT INTO {table} SELECT g, {number} FROM generate_series(1, 50) g",
        )
        pipeline.declare(table)
    pipeline.drain()
    for table in pipeline.tables:
        pipeline.sync(table)
    pipeline.execute("UPDATE a SET n = 10 WHERE id = 1", "UPDATE b SET n = 11 WHERE id = 1")
    with pipeline.connect() as connection:
        for statement in (
            "UPDATE a SET n = 20 WHERE id = 2",
            "ALTER TABLE a RENAME TO tmp",
            "UPDATE tmp SET n = 30 WHERE id = 3",
            "ALTER TABLE b RENAME TO a",
            "UPDATE a SET n = 41 WHERE id = 4",
            "ALTER TABLE tmp RENAME TO b",
            "UPDATE b SET n = 50 WHERE id = 5",
        ):
            connection.execute(statement.encode())
    pipeline.execute("DELETE FROM a WHERE id = 6", "INSERT INTO b VALUES (60, 60)")

    pipeline.drain()
    copied = {table: pipeline.sync(table).copied_rows > 0 for table in pipeline.tables}
    pipeline.execute("UPDATE a SET n = 70 WHERE id = 7", "UPDATE b SET n = 80 WHERE id = 7")
    pipeline.drain()
    again = {table: pipeline.sync(table).copied_rows for table in pipeline.tables}

    assert copied == {"a": True, "b": True, "c": False}
    assert again == {"a": 0, "b": 0, "c": 0}
    assert {t: pipeline.differences(t) for t in pipeline.tables} == {"a": 0, "b": 0, "c": 0}


@pytest.mark.parametrize(
    "change", ["ALTER TABLE t DROP n", "ALTER TABLE t ALTER n TYPE text USING 'n' || n"]
)
def test_a_table_whose_partition_column_goes_is_parked_and_says_what_to_do(
    pipeline: Pipeline, change: str
) -> None:
    by_n = (PartitionField(column="n", transform="bucket[4]"),)
    make(pipeline, "t", partitioning=by_n)
    pipeline.follow("t")
    pipeline.execute("UPDATE t SET doc = 'before' WHERE id = 1", change, "DELETE FROM t")
    pipeline.drain()

    with pytest.raises(LayoutColumnGoneError, match=r'n, by which .* partitioned, .* "name"'):
        pipeline.sync("t")
    with pytest.raises(TableParkedError, match="partitioned"):
        pipeline.sync("t")

    rows = pipeline.iceberg("t").scan("id < 3").to_arrow().column("doc").to_pylist()
    assert sorted(rows)[0] == "before"
    assert len(rows) == 2
