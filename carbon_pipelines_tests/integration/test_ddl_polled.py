"""DDL of a source whose role may not create event triggers, as on a managed service."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from random import Random

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import (
    TableMissingError,
    TableParkedError,
    UnrecordedShapeError,
    UnsupportedSchemaChangeError,
)
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.source.connection import session
from carbon_pipelines.source.visibility import current_insert_lsn
from carbon_pipelines.stream.drain import wait_captured
from carbon_pipelines_tests.conftest import SourceDatabase, fresh_source
from carbon_pipelines_tests.integration.conftest import debian_source
from carbon_pipelines_tests.integration.partition_effects import KEY, PARTITIONED_TABLE
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.polled_effects import (
    POLLED_TABLE,
    TOUCHED,
    TOUCHED_PARTITIONS,
    UNHARMED,
    UNHARMED_PARTITIONS,
)

pytestmark = pytest.mark.integration


@contextmanager
def owned(admin: str, source: SourceDatabase) -> Iterator[SourceDatabase]:
    """The database under its owner, who is no superuser."""
    role = f"{source.name}_owner"
    with psycopg.connect(admin, autocommit=True) as connection:
        for statement in (
            "CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'secret'",
            "ALTER DATABASE {database} OWNER TO {role}",
        ):
            names = {"role": sql.Identifier(role), "database": sql.Identifier(source.name)}
            connection.execute(sql.SQL(statement).format(**names))
    with psycopg.connect(source.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(sql.Identifier(role)))
    yield SourceDatabase(source.name, make_conninfo(source.dsn, user=role, password="secret"))


BOTH_VERSIONS = pytest.mark.parametrize(
    "source", ["18", pytest.param("15", marks=pytest.mark.nightly)], indirect=True
)


@pytest.fixture
def source(request: pytest.FixtureRequest, stack: Stack) -> Iterator[SourceDatabase]:
    if getattr(request, "param", "18") == "18":
        with fresh_source(stack) as made, owned(stack.admin_dsn, made) as source:
            yield source
    else:
        with debian_source() as made, owned(made.dsn, made) as source:
            yield source


@pytest.fixture
def pipeline(stack: Stack, source: SourceDatabase) -> Iterator[Pipeline]:
    made = Pipeline(stack, source)
    yield made
    made.close()


def of(table: str, statement: str) -> str:
    """The statement, written for ``t``, about another table."""
    return re.sub(r"\bt(?=\b|_)", table, statement)


def make(pipeline: Pipeline, table: str, **more: object) -> None:
    pipeline.execute(*(of(table, statement) for statement in POLLED_TABLE))
    pipeline.declare(table, **more)


def run_between_looks(
    pipeline: Pipeline, effects: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[int, int, int]]:
    """For each: copies anew, more of them without cause, and rows that differ at the end."""
    tables = {name: f"t{number}" for number, name in enumerate(effects)}
    for table in tables.values():
        make(pipeline, table)
    pipeline.follow_all()
    for name, table in tables.items():
        pipeline.execute(
            f"UPDATE {table} SET last = 80 WHERE id = 8",
            *(of(table, statement) for statement in effects[name]),
            f"DELETE FROM {table} WHERE id = 2",
        )
    pipeline.drain()
    copied = {name: len(pipeline.sync(table).recopied) for name, table in tables.items()}
    for table in tables.values():
        pipeline.execute(f"DELETE FROM {table} WHERE id = 1")
    pipeline.drain()
    again = {name: len(pipeline.sync(table).recopied) for name, table in tables.items()}
    differ = {name: pipeline.differences(table) for name, table in tables.items()}
    return {name: (copied[name], again[name], differ[name]) for name in tables}


@BOTH_VERSIONS
def test_ddl_that_leaves_rows_as_they_are_is_followed_without_a_copy(pipeline: Pipeline) -> None:
    assert run_between_looks(pipeline, UNHARMED) == dict.fromkeys(UNHARMED, (0, 0, 0))


@BOTH_VERSIONS
def test_ddl_that_may_have_changed_rows_unseen_is_answered_by_one_copy(pipeline: Pipeline) -> None:
    assert run_between_looks(pipeline, TOUCHED) == dict.fromkeys(TOUCHED, (1, 0, 0))


@BOTH_VERSIONS
def test_ddl_on_partitions_is_followed_or_answered_by_one_copy(pipeline: Pipeline) -> None:
    pipeline.execute(*PARTITIONED_TABLE)
    pipeline.declare("t", KEY, recopies_per_hour=len(TOUCHED_PARTITIONS))
    pipeline.follow("t")
    copies: dict[str, int] = {}
    for name, statements in {**UNHARMED_PARTITIONS, **TOUCHED_PARTITIONS}.items():
        pipeline.execute(
            "UPDATE t SET n = n + 1 WHERE id % 5 = 0",
            *statements,
            "UPDATE t SET n = n + 1 WHERE id % 7 = 0",
        )
        copies[name] = len(pipeline.follow("t").recopied)
        assert pipeline.differences("t") == 0, name

    assert copies == dict.fromkeys(UNHARMED_PARTITIONS, 0) | dict.fromkeys(TOUCHED_PARTITIONS, 1)
    assert pipeline.follow("t").recopied == ()


def test_a_declaration_may_leave_the_decision_to_people_and_the_reason_is_told(
    pipeline: Pipeline,
) -> None:
    make(pipeline, "t", on_rewrite="park")
    pipeline.follow("t")
    pipeline.execute(
        "UPDATE t SET n = 80 WHERE id = 8",
        "ALTER TABLE t ALTER doc TYPE text USING upper(doc)",
        "UPDATE t SET n = 90 WHERE id = 9",
    )
    pipeline.drain()

    reason = "found by a look at the source .*: rows may have changed without events"
    with pytest.raises(UnsupportedSchemaChangeError, match=reason):
        pipeline.sync("t")
    with pytest.raises(TableParkedError, match=reason):
        pipeline.sync("t")
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)

    assert pipeline.follow("t").recopied == ()
    assert pipeline.differences("t") == 0


def test_a_table_under_another_name_is_parked_until_it_is_back(pipeline: Pipeline) -> None:
    make(pipeline, "t")
    pipeline.follow("t")
    pipeline.execute("ALTER TABLE t RENAME TO t_old", "UPDATE t_old SET n = -1 WHERE id = 3")
    pipeline.drain()
    with pytest.raises(TableMissingError, match=r"is now public\.t_old"):
        pipeline.sync("t")
    with pytest.raises(TableParkedError, match=r"is now public\.t_old"):
        pipeline.sync("t")
    pipeline.execute("DELETE FROM t_old WHERE id = 5", "ALTER TABLE t_old RENAME TO t")

    assert pipeline.follow("t").recopied == ()
    assert pipeline.differences("t") == 0


def test_a_ddl_after_the_look_stops_its_table_before_rows_of_another_shape(
    pipeline: Pipeline,
) -> None:
    make(pipeline, "t", on_rewrite="park")
    pipeline.follow("t")
    pipeline.drain()
    pipeline.execute(
        "UPDATE t SET n = 80 WHERE id = 8",
        "ALTER TABLE t RENAME n TO z",
        "UPDATE t SET z = 90 WHERE id = 9",
    )
    with session(pipeline.dsn) as connection:
        lsn = current_insert_lsn(connection)
    wait_captured(pipeline.database, pipeline.endpoints, lsn, timeout=timedelta(minutes=2))

    with pytest.raises(UnrecordedShapeError):
        pipeline.sync("t")
    in_lake = pipeline.iceberg("t").scan("id IN (8, 9)").to_arrow().column("n").to_pylist()
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)

    assert sorted(in_lake) == [9, 80]
    assert pipeline.follow("t").recopied == ()
    assert pipeline.differences("t") == 0


CHANCES = (
    "UPDATE t SET n = n + 1 WHERE id % 7 = {digit}",
    "UPDATE t SET last = last + 1 WHERE id % 7 = {digit}",
    "DELETE FROM t WHERE id % 11 = {digit}",
    "INSERT INTO t (id, n, doc) SELECT g, g, 'new' FROM generate_series(1, 20) g"
    " ON CONFLICT DO NOTHING",
    "UPDATE t SET mood = NULL WHERE id % 7 = {digit}",
    "TRUNCATE t",
    "VACUUM FULL t",
    "CLUSTER t USING t_pkey",
    "ALTER TABLE t ALTER doc TYPE text USING doc || '{digit}'",
    "ALTER TABLE t ALTER n TYPE bigint USING n + {digit}",
    "ALTER TABLE t ALTER n TYPE int",
    "ALTER TABLE t ADD more int DEFAULT {digit}; ALTER TABLE t DROP more",
    "ALTER TABLE t ADD more float8 DEFAULT random(); ALTER TABLE t DROP more",
    "ALTER TABLE t DROP last; ALTER TABLE t ADD last int DEFAULT {digit}",
    "ALTER TABLE t DROP last; ALTER TABLE t ADD last int",
    "ALTER TABLE t RENAME n TO x; ALTER TABLE t RENAME last TO n; ALTER TABLE t RENAME x TO last",
    "ALTER TABLE t ALTER n SET STATISTICS {digit}",
    "ALTER TABLE t RENAME TO t_away; UPDATE t_away SET n = {digit}; ALTER TABLE t_away RENAME TO t",
    "DO $$ BEGIN ALTER TYPE t_mood RENAME VALUE 'calm' TO 'x'; ALTER TYPE t_mood RENAME VALUE"
    " 'cross' TO 'calm'; ALTER TYPE t_mood RENAME VALUE 'x' TO 'cross'; END $$",
    "BEGIN; ALTER TABLE t ALTER doc TYPE text USING 'never'; ROLLBACK",
)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_between_two_looks_the_lake_is_as_its_source_after_the_second(
    pipeline: Pipeline, seed: int
) -> None:
    random = Random(seed)
    make(pipeline, "t", recopies_per_hour=1000)
    pipeline.follow("t")
    for look in range(25):
        between = [
            random.choice(CHANCES).format(digit=random.randint(1, 6))
            for _ in range(random.randint(1, 5))
        ]
        pipeline.execute(*between)

        pipeline.follow("t")

        assert pipeline.differences("t") == 0, (look, between)
