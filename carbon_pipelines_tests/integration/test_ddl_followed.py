"""DDL that the lake follows in place, between DML, in one batch and in one transaction."""

import re
from collections.abc import Iterator

import pytest

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration

MAKE = (
    "CREATE TABLE t (id int PRIMARY KEY, a int, b text, r real, d numeric(8, 2), v varchar(9),"
    " doc text)",
    "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
    "INSERT INTO t SELECT g, g % 10, 'b' || g, g / 7.0, g + 0.25, 'v' || g,"
    " repeat(md5(g::text), 90) FROM generate_series(1, 60) g",
)


@pytest.fixture
def pipeline(stack: Stack, source: SourceDatabase) -> Iterator[Pipeline]:
    made = Pipeline(stack, source)
    yield made
    made.close()


FOLLOWED = {
    "a renamed column": (
        "ALTER TABLE t RENAME a TO z",
        "UPDATE t SET z = -1 WHERE id = 3",
    ),
    "two columns that swap names": (
        "ALTER TABLE t RENAME b TO x",
        "ALTER TABLE t RENAME v TO b",
        "ALTER TABLE t RENAME x TO v",
        "UPDATE t SET b = 'was v', v = 'was b' WHERE id = 3",
    ),
    "a dropped column": (
        "ALTER TABLE t DROP a",
        "UPDATE t SET b = 'x' WHERE id = 3",
    ),
    "a column dropped and added again with another type": (
        "ALTER TABLE t DROP a",
        "UPDATE t SET b = 'between' WHERE id = 3",
        "ALTER TABLE t ADD a text",
        "UPDATE t SET a = 'new' WHERE id = 4",
    ),
    "a column dropped and added in one statement": (
        "ALTER TABLE t DROP a, ADD a timestamptz",
        "UPDATE t SET a = now() WHERE id = 4",
    ),
    "a name that moves on to a new column": (
        "ALTER TABLE t RENAME a TO old_a",
        "ALTER TABLE t ADD a text",
        "UPDATE t SET a = 'new', old_a = 9 WHERE id = 4",
    ),
    "an integer key and column that become bigint": (
        "ALTER TABLE t ALTER id TYPE bigint",
        "ALTER TABLE t ALTER a TYPE bigint",
        "UPDATE t SET a = 5000000000 WHERE id = 3",
        "INSERT INTO t (id) VALUES (6000000000)",
        "DELETE FROM t WHERE id = 7",
    ),
    "real that becomes double precision": (
        "ALTER TABLE t ALTER r TYPE double precision",
        "UPDATE t SET r = 0.1 WHERE id = 3",
    ),
    "numeric and varchar that become longer": (
        "ALTER TABLE t ALTER d TYPE numeric(20, 2), ALTER v TYPE varchar(30)",
        "UPDATE t SET d = 123456789012.25, v = 'longer than nine' WHERE id = 3",
        "ALTER TABLE t ALTER v TYPE text",
        "UPDATE t SET v = 'as long as it likes to be, or longer' WHERE id = 4",
    ),
    "constraints": (
        "ALTER TABLE t ALTER b SET NOT NULL, ALTER a SET DEFAULT 5",
        "INSERT INTO t (id, b) VALUES (900, 'x')",
        "ALTER TABLE t ALTER b DROP NOT NULL, ALTER a DROP DEFAULT",
        "INSERT INTO t (id) VALUES (901)",
    ),
    "a large value left unchanged by an update after its column was renamed": (
        "UPDATE t SET doc = repeat(md5(id::text || 'x'), 90) WHERE id IN (3, 4)",
        "ALTER TABLE t RENAME doc TO paper",
        "UPDATE t SET b = 'touched' WHERE id IN (3, 5)",
    ),
    "a column with a constant default": (
        "ALTER TABLE t ADD c int DEFAULT 7",
        "UPDATE t SET c = 8 WHERE id = 3",
        "INSERT INTO t (id) VALUES (902)",
        "INSERT INTO t (id, c) VALUES (903, NULL)",
    ),
    "columns with constants of every form": (
        "ALTER TABLE t ADD c text NOT NULL DEFAULT E'it''s\\n', ADD e numeric(9, 3) DEFAULT -1.5,"
        " ADD f boolean DEFAULT true, ADD g timestamptz DEFAULT '2024-01-02 03:04:05.123456+02',"
        " ADD h date DEFAULT 'infinity', ADD i int[] DEFAULT '{1,NULL,3}', ADD j uuid DEFAULT"
        " '00000000-0000-0000-0000-00000000002a', ADD k bytea DEFAULT '\\x00ff', ADD l float8"
        " DEFAULT 'NaN', ADD m text[] DEFAULT ARRAY['a,b', NULL], ADD n time DEFAULT '12:30'",
        "UPDATE t SET c = 'own', i = NULL WHERE id = 3",
    ),
    "a default that changes after it filled the column": (
        "ALTER TABLE t ADD c int DEFAULT 7",
        "ALTER TABLE t ALTER c SET DEFAULT 9",
        "INSERT INTO t (id) VALUES (904)",
    ),
    "a filled column that is dropped again": (
        "ALTER TABLE t ADD c int DEFAULT 7",
        "UPDATE t SET c = 8 WHERE id = 3",
        "ALTER TABLE t DROP c",
    ),
    "a table that is emptied between": (
        "ALTER TABLE t RENAME a TO z",
        "TRUNCATE t RESTART IDENTITY CASCADE",
        "INSERT INTO t (id, z) VALUES (1, 1), (2, 2)",
        "ALTER TABLE t ADD c int DEFAULT 7",
        "UPDATE t SET z = 3 WHERE id = 1",
    ),
    "a new enum label": (
        "CREATE TYPE mood AS ENUM ('calm')",
        "ALTER TABLE t ADD m mood",
        "UPDATE t SET m = 'calm' WHERE id = 3",
        "ALTER TYPE mood ADD VALUE 'busy' BEFORE 'calm'",
    ),
}


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
            for statement in of(table, MAKE):
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
