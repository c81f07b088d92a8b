"""DDL that the lake follows in place, between DML, in one batch and in one transaction."""

import re
from datetime import timedelta

import pytest

from carbon_pipelines.source.connection import session
from carbon_pipelines.source.visibility import current_insert_lsn
from carbon_pipelines.stream.drain import wait_captured
from carbon_pipelines_tests.integration.ddl_effects import FOLLOWED, FOLLOWED_TABLE
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration


RENAMED_KEY = (
    "DELETE FROM t WHERE id = 2",
    "ALTER TABLE t RENAME id TO number",
    "UPDATE t SET a = 1 WHERE number = 3",
    "UPDATE t SET number = -4 WHERE number = 4",
    "DELETE FROM t WHERE number = 5",
    "UPDATE t SET b = 'the large value stays' WHERE number = 6",
)
NEVER = (
    "ALTER TABLE t RENAME b TO never",
    "UPDATE t SET never = 'never'",
    "ALTER TABLE t ADD not_ever int DEFAULT 1",
)


def dml(number: int) -> tuple[str, ...]:
    """Changes of columns that every statement above leaves in place."""
    return (
        f"UPDATE t SET r = r + 1 WHERE d = {number}.25",
        f"DELETE FROM t WHERE d = {number + 1}.25",
        f"UPDATE t SET d = d + 0.5 WHERE d = {number + 2}.25",
    )


def of(table: str, statements: tuple[str, ...]) -> list[bytes]:
    """The statements, written for ``t``, about another table."""
    return [re.sub(r"\bt\b", table, statement).encode() for statement in statements]


def make_tables(pipeline: Pipeline, names: list[str]) -> dict[str, str]:
    """A copied table for each name; name -> table."""
    tables = {name: f"t{number}" for number, name in enumerate(names)}
    with pipeline.connect() as connection:
        for table in tables.values():
            for statement in of(table, FOLLOWED_TABLE):
                connection.execute(statement)
    for table in tables.values():
        pipeline.declare(table)
    pipeline.drain()
    for table in tables.values():
        pipeline.sync(table)
    return tables


def test_ddl_between_dml_is_followed_without_a_copy(pipeline: Pipeline) -> None:
    tables = make_tables(pipeline, [*FOLLOWED])
    with pipeline.connect() as connection:
        connection.autocommit = True
        for name, table in tables.items():
            for statement in of(table, (*dml(10), *FOLLOWED[name], *dml(20))):
                connection.execute(statement)

    assert outcome(pipeline, tables) == dict.fromkeys(tables, (0, 0, set()))
    pipeline.drain()
    assert not any(pipeline.sync(table).committed for table in tables.values())


def test_ddl_and_dml_in_one_transaction_are_followed_and_what_is_taken_back_is_not(
    pipeline: Pipeline,
) -> None:
    tables = make_tables(pipeline, [name for name in FOLLOWED if "enum" not in name])
    with pipeline.connect() as connection:
        for name, table in tables.items():
            for statement in of(table, (*dml(10), *FOLLOWED[name], *dml(20))):
                connection.execute(statement)
            connection.rollback()
            for statement in of(table, dml(30)):
                connection.execute(statement)
            with connection.transaction(force_rollback=True):
                for statement in of(table, NEVER):
                    connection.execute(statement)
            for statement in of(table, (*FOLLOWED[name], *dml(40))):
                connection.execute(statement)
            connection.commit()

    assert outcome(pipeline, tables) == dict.fromkeys(tables, (0, 0, set()))


def test_many_ddl_in_one_batch_are_followed_one_after_another(pipeline: Pipeline) -> None:
    tables = make_tables(pipeline, ["many"])
    many = (
        *FOLLOWED["a renamed column"],
        *dml(10),
        *FOLLOWED["a column with a constant default"],
        "ALTER TABLE t RENAME c TO a",
        "UPDATE t SET a = a + 1 WHERE id < 50",
        "ALTER TABLE t ALTER a TYPE bigint",
        "UPDATE t SET a = 5000000000 WHERE id = 9",
        "ALTER TABLE t DROP z, ADD z text DEFAULT 'z'",
        "UPDATE t SET z = a::text WHERE id < 20",
    )
    with pipeline.connect() as connection:
        connection.autocommit = True
        for statement in of("t0", many):
            connection.execute(statement)

    assert outcome(pipeline, tables) == {"many": (0, 0, set())}


def test_a_renamed_key_is_followed_once_the_declaration_has_its_new_name(
    pipeline: Pipeline,
) -> None:
    make_tables(pipeline, ["key"])
    with pipeline.connect() as connection:
        for statement in of("t0", (*dml(10), *RENAMED_KEY, *dml(20))):
            connection.execute(statement)
    with session(pipeline.dsn) as connection:
        lsn = current_insert_lsn(connection)
    wait_captured(pipeline.database, pipeline.endpoints, lsn, timeout=timedelta(minutes=2))
    assert pipeline.sync("t0").key == ("number",)
    pipeline.declare("t0", ["number"])

    assert outcome(pipeline, {"key": "t0"}) == {"key": (0, 0, set())}


def outcome(pipeline: Pipeline, tables: dict[str, str]) -> dict[str, tuple[int, int, set[str]]]:
    """For each table: rows copied anew, rows that differ, and columns that one end has alone."""
    pipeline.drain()
    found: dict[str, tuple[int, int, set[str]]] = {}
    for name, table in tables.items():
        copied = pipeline.sync(table).copied_rows
        in_lake = {field.name for field in pipeline.iceberg(table).schema().fields}
        extra = in_lake ^ source_columns(pipeline, table)
        found[name] = (copied, pipeline.differences(table), extra)
    return found


def source_columns(pipeline: Pipeline, table: str) -> set[str]:
    with pipeline.connect() as connection:
        rows = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0"
            " AND NOT attisdropped",
            [table],
        ).fetchall()
    return {row[0] for row in rows}


def test_what_the_owner_says_of_table_and_columns_is_said_in_the_lake(pipeline: Pipeline) -> None:
    pipeline.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int)",
        "COMMENT ON TABLE t IS 'Trades'",
        "COMMENT ON COLUMN t.n IS 'Lots'",
        "INSERT INTO t VALUES (1, 1)",
    )
    pipeline.declare("t")
    first = pipeline.follow("t")
    pipeline.execute(
        "COMMENT ON TABLE t IS 'Trades of a day'",
        "COMMENT ON COLUMN t.n IS NULL",
        "UPDATE t SET n = 2",
        "COMMENT ON COLUMN t.id IS 'Number of the trade'",
    )
    second = pipeline.follow("t")
    docs = {f.name: f.doc for f in pipeline.iceberg("t").schema().fields}
    pipeline.execute("COMMENT ON TABLE t IS NULL")
    third = pipeline.follow("t")

    assert (first.comment, first.column_comments) == ("Trades", {"n": "Lots"})
    assert (second.comment, docs) == ("Trades of a day", {"id": "Number of the trade", "n": None})
    assert (third.comment, "comment" in pipeline.iceberg("t").properties) == (None, False)
    assert second.copied_rows == third.copied_rows == 0
    assert pipeline.differences("t") == 0
