"""DDL that has no effect in place: the table is copied anew by itself, but not without end."""

import json
import re
from collections.abc import Iterator

import pytest

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import RecopyLimitError, TableParkedError
from carbon_pipelines.lake.automatic import RECOPIES
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration

MAKE = (
    "CREATE TYPE t_mood AS ENUM ('calm', 'cross')",
    "CREATE TABLE t (id bigint PRIMARY KEY, n int, doc varchar(20), o oid, mood t_mood,"
    " price numeric(8, 2), at timestamptz DEFAULT '2024-01-02 03:04:05.678912')",
    "INSERT INTO t SELECT g, g % 10, 'row ' || g || '       ', 3000000000, 'cross', g"
    " FROM generate_series(1, 60) g",
)

RECOPIED = {
    "rewrites the table": ("ALTER TABLE t ALTER n TYPE bigint USING n * 2",),
    "rewrites the table: USING in a function": (
        "DO $$ BEGIN ALTER TABLE t ALTER n TYPE bigint USING n * 2; END $$",
    ),
    "rewrites the table: several statements at once": (
        "ALTER TABLE t ALTER n TYPE bigint; ALTER TABLE t ALTER n TYPE bigint USING n + 1",
    ),
    "changes n from integer to smallint": ("ALTER TABLE t ALTER n TYPE smallint",),
    "changes n from integer to text": ("ALTER TABLE t ALTER n TYPE text",),
    "changes doc from character varying(20) to character(9)": (
        "ALTER TABLE t ALTER doc TYPE char(9)",
    ),
    "changes doc from character varying(20) to character varying(9)": (
        "ALTER TABLE t ALTER doc TYPE varchar(9)",
    ),
    "changes at from timestamp with time zone to timestamp(3) with time zone": (
        "ALTER TABLE t ALTER at TYPE timestamptz(3)",
    ),
    "changes price from numeric(8,2) to numeric(6,1): fewer digits": (
        "ALTER TABLE t ALTER price TYPE numeric(6, 1)",
    ),
    "changes price from decimal(8, 2) to string": ("ALTER TABLE t ALTER price TYPE numeric",),
    "changes o from oid to integer": ("ALTER TABLE t ALTER o TYPE int",),
    "renames cross to angry of an enum": ("ALTER TYPE t_mood RENAME VALUE 'cross' TO 'angry'",),
    "rewrites the table: a volatile default": ("ALTER TABLE t ADD r float8 DEFAULT random()",),
    "rewrites the table: an identity": (
        "ALTER TABLE t ADD number int GENERATED ALWAYS AS IDENTITY",
    ),
    "adds m with a value for existing rows": (
        "ALTER TABLE t ADD m int DEFAULT 5, ALTER n TYPE bigint",
    ),
    "takes id out of the replica identity": (
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "UPDATE t SET n = 70 WHERE id = 7",
        "ALTER TABLE t ADD PRIMARY KEY (id)",
    ),
    "dropped and created again": (
        "DROP TABLE t",
        "CREATE TABLE t (id bigint PRIMARY KEY, n text)",
        "INSERT INTO t VALUES (1, 'another'), (2, 'table')",
    ),
}


@pytest.fixture
def pipeline(stack: Stack, source: SourceDatabase) -> Iterator[Pipeline]:
    made = Pipeline(stack, source)
    yield made
    made.close()


def of(table: str, statement: str) -> str:
    """The statement, written for ``t``, about another table."""
    return re.sub(r"\bt(?=\b|_)", table, statement)


def make(pipeline: Pipeline, table: str, **more: object) -> None:
    pipeline.execute(*(of(table, statement) for statement in MAKE))
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
