"""What is wrong with one table of a source stops that table, and no other of its database.

When the cause is gone, the table goes on by itself.
"""

import re
from dataclasses import dataclass
from datetime import timedelta

import pytest

from carbon_pipelines import errors
from carbon_pipelines.defs.automation.observe import observe_lag
from carbon_pipelines.lake.automatic import RECOPIES
from carbon_pipelines.lake.parking import HISTORY, Parked, find_parked
from carbon_pipelines.stream.drain import Drained, drain
from carbon_pipelines_tests.integration.ddl_effects import PARKED
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    make(pipeline, "other")
    return pipeline


def make(pipeline: Pipeline, table: str) -> None:
    pipeline.execute(
        f"CREATE TABLE {table} (id int PRIMARY KEY, uid int NOT NULL UNIQUE, n int)",
        f"INSERT INTO {table} SELECT g, g, g FROM generate_series(1, 20) g",
    )
    pipeline.declare(table)


def of(table: str, statement: str) -> str:
    """The statement, written for ``t``, about another table."""
    return re.sub(r"\bt(?=\b|_)", table, statement)


def drained(pipeline: Pipeline) -> Drained:
    return drain(pipeline.database, pipeline.endpoints, timeout=timedelta(minutes=2))


def mark(pipeline: Pipeline, table: str) -> Parked | None:
    return find_parked(pipeline.iceberg(table).metadata, table)


def lags(pipeline: Pipeline) -> dict[str, int | None]:
    seen = observe_lag(pipeline.database, pipeline.endpoints).lags
    return {one.asset.rpartition("/")[2]: one.behind for one in seen}


@dataclass(frozen=True)
class Trouble:
    """What happens to table ``t``, what is said of it, and what takes the cause away."""

    error: type[errors.SourceError]
    says: str
    cause: tuple[str, ...]
    cure: tuple[str, ...]


SAID: dict[str, tuple[type[errors.SourceError], str]] = {
    "a table renamed": (
        errors.TableMissingError,
        r"public\.t is now public\.t_old in .*rename it back, or declare source public\.t_old",
    ),
    "a table moved to another schema": (
        errors.TableMissingError,
        r"public\.t is now s\.t in .*rename it back, or declare source s\.t",
    ),
    "a table dropped": (errors.TableMissingError, r"public\.t does not exist"),
    "a view in the place of a table": (errors.TableKindError, "a view"),
    "another key": (
        errors.KeyMismatchError,
        r"declares key \[id\], but PostgreSQL identifies its rows by \[uid\]",
    ),
    "no key": (errors.KeyMissingError, "REPLICA IDENTITY is DEFAULT"),
    "a key that is unique no more": (errors.KeyMismatchError, r"by \[uid\]"),
}
TROUBLES = {name: Trouble(*SAID[name], *statements) for name, statements in PARKED.items()}
UNRECORDED = (
    "ALTER EVENT TRIGGER carbon_ddl_command_end DISABLE",
    "ALTER EVENT TRIGGER carbon_sql_drop DISABLE",
)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param((), id="recorded"),
        pytest.param(UNRECORDED, id="unrecorded", marks=pytest.mark.nightly),
    ],
)
def test_what_is_wrong_with_a_table_parks_it_until_it_is_right_again(
    pipeline: Pipeline, first: tuple[str, ...]
) -> None:
    tables = {f"t{number}": trouble for number, trouble in enumerate(TROUBLES.values())}
    for table in tables:
        make(pipeline, table)
    pipeline.follow_all()
    pipeline.execute("CREATE SCHEMA s", *first, "DELETE FROM other WHERE id = 1")
    for table, trouble in tables.items():
        pipeline.execute(f"UPDATE {table} SET n = 100 WHERE id = 1")
        pipeline.execute(*(of(table, statement) for statement in trouble.cause))

    seen = drained(pipeline)
    pipeline.sync("other")
    for table, trouble in tables.items():
        with pytest.raises(trouble.error, match=of(table, trouble.says)):
            pipeline.sync(table)
        with pytest.raises(errors.TableParkedError, match=of(table, trouble.says)):
            pipeline.sync(table)

    assert {name: type(refusal) for name, refusal in seen.refused.items()} == {
        table: trouble.error for table, trouble in tables.items()
    }
    assert pipeline.differences("other") == 0
    marks = {table: mark(pipeline, table) for table in tables}
    assert {table: one and one.error for table, one in marks.items()} == {
        table: trouble.error.__name__ for table, trouble in tables.items()
    }
    for table in tables:  # everything up to the trouble is there
        rows = pipeline.iceberg(table).scan("id = 1").to_arrow().column("n").to_pylist()
        assert rows == [100], table
    waiting = lags(pipeline)
    assert {table: waiting[table] for table in tables} == dict.fromkeys(tables, 0)

    pipeline.execute("UPDATE other SET n = -1 WHERE id = 2")
    for table, trouble in tables.items():
        pipeline.execute(*(of(table, statement) for statement in trouble.cure))
    waiting = lags(pipeline)
    assert {table: waiting[table] for table in tables} == dict.fromkeys(tables, 1)
    assert drained(pipeline).refused == {}
    for table in tables:
        pipeline.sync(table)
        assert mark(pipeline, table) is None
        pipeline.execute(
            f"UPDATE {table} SET n = 77 WHERE id = 12", f"DELETE FROM {table} WHERE id = 13"
        )
    pipeline.drain()
    again = {table: pipeline.sync(table) for table in pipeline.tables}

    assert {table: synced.copied_rows for table, synced in again.items()} == dict.fromkeys(again, 0)
    different = {table: pipeline.differences(table) for table in again}
    assert different == dict.fromkeys(again, 0)


def test_changes_without_the_declared_key_stop_their_table_right_before_them(
    pipeline: Pipeline,
) -> None:
    make(pipeline, "t")
    pipeline.follow_all()
    pipeline.execute(
        *UNRECORDED,
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_uid_key",
        "INSERT INTO t VALUES (40, 40, 40)",
        "UPDATE t SET id = 103 WHERE uid = 3",
        "INSERT INTO t VALUES (50, 50, 50)",
        "UPDATE other SET id = 99 WHERE id = 1",
    )

    pipeline.drain()
    pipeline.sync("other")
    with pytest.raises(errors.KeyMismatchError):
        pipeline.sync("t")

    ids = pipeline.iceberg("t").scan().to_arrow().column("id").to_pylist()
    assert sorted(ids) == [*range(1, 21), 40]
    assert "does not carry the declared key" in pipeline.iceberg("t").properties[RECOPIES]
    assert pipeline.differences("other") == 0
    pipeline.execute("ALTER TABLE t REPLICA IDENTITY DEFAULT")
    assert pipeline.follow("t").copied_rows == 22
    assert pipeline.differences("t") == 0


def test_a_table_that_was_renamed_and_is_back_goes_on_without_a_copy(pipeline: Pipeline) -> None:
    make(pipeline, "t")
    pipeline.follow_all()
    pipeline.execute(
        "ALTER TABLE t RENAME TO t_old",
        "UPDATE t_old SET n = -1 WHERE id = 3",
        "ALTER TABLE t_old ADD more text DEFAULT 'x'",
    )
    pipeline.drain()
    pipeline.execute("DELETE FROM t_old WHERE id = 5")
    with pytest.raises(errors.TableMissingError, match=r"is now public\.t_old"):
        pipeline.follow("t")
    stands = pipeline.iceberg("t").scan("id IN (3, 5)").to_arrow().column("n").to_pylist()
    pipeline.execute(
        "UPDATE t_old SET more = 'away' WHERE id = 6",
        "ALTER TABLE t_old RENAME TO t",
        "UPDATE t SET n = -2 WHERE id = 7",
    )

    back = pipeline.follow("t")
    pipeline.execute("UPDATE t SET n = -3 WHERE id = 8")
    after = pipeline.follow("t")

    assert sorted(stands) == [3, 5]
    assert (back.copied_rows, after.copied_rows) == (0, 0)
    assert pipeline.differences("t") == 0
    assert "has the table as declared again" in pipeline.iceberg("t").properties[HISTORY]


def test_a_table_that_was_another_declaration_meanwhile_is_copied_anew(pipeline: Pipeline) -> None:
    make(pipeline, "t")
    make(pipeline, "u")
    pipeline.follow_all()
    pipeline.execute("DROP TABLE u", "ALTER TABLE t RENAME TO u", "UPDATE u SET n = 1")
    pipeline.drain()
    pipeline.sync("u")
    with pytest.raises(errors.TableMissingError, match=r"is now public\.u"):
        pipeline.sync("t")
    pipeline.execute("UPDATE u SET n = 2 WHERE id = 3")
    pipeline.follow("u")
    assert pipeline.differences("u") == 0
    pipeline.execute("DELETE FROM u WHERE id = 9", "ALTER TABLE u RENAME TO t")

    pipeline.drain()
    assert pipeline.sync("t").copied_rows == 19
    with pytest.raises(errors.TableMissingError, match=r"is now public\.t"):
        pipeline.sync("u")
    pipeline.execute("UPDATE t SET n = 3 WHERE id = 4")

    assert pipeline.follow("t").copied_rows == 0
    assert pipeline.differences("t") == 0


def test_a_table_that_cannot_be_captured_from_the_first_is_told_and_the_others_are_copied(
    pipeline: Pipeline,
) -> None:
    pipeline.declare("tpyo", source_table="typo")
    pipeline.execute("CREATE TABLE keyless (id int, n int)")
    pipeline.declare("keyless")

    seen = drained(pipeline)
    pipeline.sync("other")
    with pytest.raises(errors.TableMissingError, match=r"public\.typo does not exist"):
        pipeline.sync("tpyo")
    with pytest.raises(errors.KeyMissingError, match=r"public\.keyless .* no usable key"):
        pipeline.sync("keyless")

    assert set(seen.refused) == {"tpyo", "keyless"}
    assert pipeline.differences("other") == 0
    pipeline.execute("CREATE TABLE typo (id int PRIMARY KEY)", "INSERT INTO typo VALUES (1)")
    with pytest.raises(errors.TableNotPublishedError) as early:
        pipeline.sync("tpyo")
    assert early.value.retryable
    pipeline.follow("tpyo")
    assert pipeline.differences("tpyo") == 0


def test_a_new_key_that_is_declared_is_followed_after_a_copy(
    pipeline: Pipeline,
) -> None:
    make(pipeline, "t")
    pipeline.follow_all()
    pipeline.execute("ALTER TABLE t REPLICA IDENTITY USING INDEX t_uid_key")
    pipeline.drain()
    with pytest.raises(errors.KeyMismatchError):
        pipeline.sync("t")
    pipeline.tables["t"] = pipeline.tables["t"].model_copy(update={"key": ("uid",)})
    pipeline.execute("UPDATE t SET uid = 300 WHERE id = 3")

    pipeline.follow("t")
    pipeline.execute("DELETE FROM t WHERE id = 4")
    again = pipeline.follow("t")

    assert again.copied_rows == 0
    assert pipeline.differences("t") == 0
