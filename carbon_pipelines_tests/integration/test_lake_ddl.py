"""What DDL does to a table that is captured: followed at its place, or stopped and copied anew."""

import pytest

from carbon_pipelines.errors import (
    ProtectedColumnMissingError,
    UnrecordedShapeError,
    UnsupportedSchemaChangeError,
)
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.stream.topics import topic_of
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.streaming import read_topic

pytestmark = pytest.mark.integration


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    pipeline.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int, doc text)",
        "INSERT INTO t SELECT g, g % 10, 'row ' || g FROM generate_series(1, 200) g",
    )
    pipeline.declare("t", on_rewrite="park")
    pipeline.follow("t")
    return pipeline


def recopy(pipeline: Pipeline) -> None:
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)


@pytest.mark.parametrize(
    ("away", "elsewhere", "back"),
    [
        ("ALTER TABLE t RENAME TO u", "u", "ALTER TABLE u RENAME TO t"),
        ("ALTER TABLE t SET SCHEMA other", "other.t", "ALTER TABLE other.t SET SCHEMA public"),
    ],
)
def test_what_happens_under_another_name_is_followed_where_the_table_comes_back(
    pipeline: Pipeline, away: str, elsewhere: str, back: str
) -> None:
    pipeline.execute(
        "CREATE SCHEMA other",
        "UPDATE t SET n = 70 WHERE id = 7",
        away,
        f"UPDATE {elsewhere} SET n = 80 WHERE id = 8",
        f"DELETE FROM {elsewhere} WHERE id = 9",
        back,
        "UPDATE t SET n = 100 WHERE id = 10",
    )

    assert pipeline.follow("t").copied_rows == 0
    assert pipeline.differences("t") == 0


def test_a_table_that_left_the_publication_for_a_while_is_copied_anew(
    pipeline: Pipeline,
) -> None:
    """As when a process with an older catalog sets the source up."""
    declared = pipeline.tables.pop("t")
    pipeline.execute("CREATE TABLE other (id bigint PRIMARY KEY)")
    pipeline.declare("other")
    pipeline.drain()
    pipeline.execute("UPDATE t SET n = 70 WHERE id = 7", "DELETE FROM t WHERE id = 8")
    pipeline.tables["t"] = declared

    pipeline.drain()
    with pytest.raises(UnsupportedSchemaChangeError, match="recopy"):
        pipeline.sync("t")
    recopy(pipeline)
    pipeline.execute("UPDATE t SET n = 90 WHERE id = 9")
    pipeline.follow("t")

    assert pipeline.differences("t") == 0


def test_a_copy_anew_sees_to_the_publication_before_it_reads(pipeline: Pipeline) -> None:
    pipeline.execute(
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "UPDATE t SET n = 50 WHERE id = 2",
        "ALTER TABLE t ADD PRIMARY KEY (id)",
    )

    recopy(pipeline)
    pipeline.execute("UPDATE t SET n = 70 WHERE id = 5", "DELETE FROM t WHERE id = 6")
    pipeline.follow("t")

    assert pipeline.differences("t") == 0


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE t ADD COLUMN more text",
        "ALTER TABLE t ADD COLUMN more text DEFAULT 'five'",
        "ALTER TABLE t RENAME n TO more",
        "ALTER TABLE t ALTER doc TYPE bytea USING doc::bytea, ADD COLUMN more int",
    ],
)
def test_rows_after_a_ddl_that_nothing_recorded_are_not_read_under_the_older_shape(
    pipeline: Pipeline, change: str
) -> None:
    pipeline.execute(
        "UPDATE t SET n = 70 WHERE id = 7",
        "ALTER EVENT TRIGGER carbon_ddl_command_end DISABLE",
        change,
        "UPDATE t SET more = '8' WHERE id = 8",
    )

    pipeline.drain()
    with pytest.raises(UnrecordedShapeError, match="recopy"):
        pipeline.sync("t")
    before = pipeline.iceberg("t").scan("n > 9").to_arrow().column("n").to_pylist()
    recopy(pipeline)
    pipeline.execute("UPDATE t SET more = '9' WHERE id = 9")
    pipeline.follow("t")

    assert before == [70]
    assert pipeline.differences("t") == 0


def test_a_rewrite_while_event_triggers_were_off_is_noticed_by_the_next_look(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "ALTER EVENT TRIGGER carbon_ddl_command_end DISABLE",
        "ALTER TABLE t ALTER doc TYPE text USING upper(doc)",
        "ALTER EVENT TRIGGER carbon_ddl_command_end ENABLE ALWAYS",
    )

    pipeline.drain()
    with pytest.raises(UnsupportedSchemaChangeError, match="found by a look at the source"):
        pipeline.sync("t")
    recopy(pipeline)
    pipeline.follow("t")

    assert pipeline.differences("t") == 0


def test_a_new_file_is_no_news_while_event_triggers_tell_of_rewrites(pipeline: Pipeline) -> None:
    pipeline.execute(
        "ALTER TABLE t ADD more int DEFAULT 7",
        "VACUUM FULL t",
        "UPDATE t SET n = 70 WHERE id = 7",
    )

    pipeline.follow("t")
    pipeline.follow("t")

    assert pipeline.differences("t") == 0


def test_a_copy_anew_passes_events_that_kafka_gets_only_afterwards(pipeline: Pipeline) -> None:
    pipeline.execute(
        "ALTER EVENT TRIGGER carbon_ddl_command_end DISABLE",
        "ALTER TABLE t ALTER n TYPE text USING 'n' || n, ADD COLUMN more text",
        "UPDATE t SET more = 'eight', n = 'x' WHERE id = 8",
    )

    recopy(pipeline)
    pipeline.execute("UPDATE t SET more = 'nine' WHERE id = 9")
    pipeline.follow("t")

    assert pipeline.differences("t") == 0


def test_a_label_of_an_enum_that_is_renamed_changes_rows_that_no_event_is_sent_for(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "CREATE TYPE mood AS ENUM ('calm', 'cross')",
        "CREATE TABLE day (id bigint PRIMARY KEY, mood mood)",
        "INSERT INTO day VALUES (1, 'cross')",
    )
    pipeline.declare("day", on_rewrite="park")
    pipeline.follow("day")
    pipeline.execute("ALTER TYPE mood ADD VALUE 'glad'", "INSERT INTO day VALUES (2, 'glad')")
    pipeline.follow("day")
    assert pipeline.differences("day") == 0
    pipeline.execute(
        "ALTER TYPE mood RENAME VALUE 'cross' TO 'angry'",
        "INSERT INTO day VALUES (3, 'angry')",
    )

    pipeline.drain()
    with pytest.raises(UnsupportedSchemaChangeError, match="renames cross to angry"):
        pipeline.sync("day")
    recopy_table(pipeline.tables["day"], pipeline.database, pipeline.endpoints)
    pipeline.follow("day")

    assert pipeline.differences("day") == 0


@pytest.mark.parametrize("recorded", [True, False])
def test_a_protected_column_that_is_renamed_leaves_neither_for_kafka_nor_for_the_lake(
    pipeline: Pipeline, *, recorded: bool
) -> None:
    pipeline.execute(
        "CREATE TABLE person (id bigint PRIMARY KEY, n int, name text)",
        "INSERT INTO person VALUES (1, 1, 'Ada')",
    )
    pipeline.declare("person", columns={"name": {"protect": "drop"}})
    pipeline.follow("person")
    unseen = ["ALTER EVENT TRIGGER carbon_ddl_command_end DISABLE"]
    pipeline.execute(
        *(unseen if not recorded else []),
        "ALTER TABLE person RENAME name TO called",
        "INSERT INTO person VALUES (2, 2, 'Grace')",
        "UPDATE person SET called = 'Ada Lovelace' WHERE id = 1",
    )

    pipeline.drain()
    sent = str(read_topic(pipeline.endpoints, topic_of(pipeline.tables["person"])))
    with pytest.raises((ProtectedColumnMissingError, UnrecordedShapeError)):
        pipeline.sync("person")
    with pytest.raises(ProtectedColumnMissingError, match="for name"):
        recopy_table(pipeline.tables["person"], pipeline.database, pipeline.endpoints)
    pipeline.declare("person", columns={"called": {"protect": "drop"}})
    recopy_table(pipeline.tables["person"], pipeline.database, pipeline.endpoints)
    pipeline.execute("INSERT INTO person VALUES (3, 3, 'Emmy')")
    pipeline.follow("person")

    assert "Grace" not in sent
    assert "Ada" not in sent
    assert [f.name for f in pipeline.iceberg("person").schema().fields] == ["id", "n"]
    assert pipeline.differences("person") == 0


def test_a_protection_that_is_lifted_is_followed_by_a_copy_alone(pipeline: Pipeline) -> None:
    pipeline.execute(
        "CREATE TABLE person (id bigint PRIMARY KEY, n int, name text)",
        "INSERT INTO person VALUES (1, 1, 'Ada')",
    )
    pipeline.declare("person", columns={"name": {"protect": "drop"}})
    pipeline.follow("person")
    pipeline.declare("person", on_rewrite="park")
    pipeline.execute("ALTER TABLE person ADD COLUMN more int", "INSERT INTO person VALUES (2)")

    pipeline.drain()
    with pytest.raises(UnsupportedSchemaChangeError, match="has name, which was there before"):
        pipeline.sync("person")
    recopy_table(pipeline.tables["person"], pipeline.database, pipeline.endpoints)
    pipeline.follow("person")

    assert pipeline.differences("person") == 0
