"""The same workload through a real Debezium connector and through our own capture."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pytest

from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors.debezium import ConnectorBehindError, ConnectorRecreatedError
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines.source.connection import connect
from carbon_pipelines.source.visibility import emit_marker
from carbon_pipelines.stream.debezium_drain import wait_acknowledged
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import topic_of
from carbon_pipelines_tests.conftest import SourceDatabase, fresh_source
from carbon_pipelines_tests.integration.connecting import DebeziumPipeline
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.streaming import wait_until
from carbon_pipelines_tests.oracle import lake_rows, oracle

pytestmark = [pytest.mark.integration, pytest.mark.debezium]

COLUMNS = {
    "i2": "int2",
    "i4": "int4",
    "i8": "int8",
    "o": "oid",
    "b": "bool",
    "f4": "float4",
    "f8": "float8",
    "n": "numeric",
    "n2": "numeric(12,2)",
    "d": "date",
    "ti": "time",
    "ts": "timestamp",
    "ts0": "timestamp(0)",
    "tz": "timestamptz",
    "u": "uuid",
    "by": "bytea",
    "tx": "text",
    "vc": "varchar(20)",
    "bc": "char(5)",
    "js": "json",
    "jb": "jsonb",
    "m": "mood",
    "ai": "int[]",
    "atx": "text[]",
    "atz": "timestamptz[]",
    "di": "int4 DEFAULT 7",
    "dt": "text DEFAULT 'seven'",
    "dn": "numeric DEFAULT 7",
}
PLAIN: dict[str, str | None] = {
    "i2": "-32768",
    "i4": "7",
    "i8": "9007199254740993",
    "o": "4000000000",
    "b": "true",
    "f4": "1.1",
    "f8": "123456789.12345679",
    "n": "-0.0000000012",
    "n2": "-1.50",
    "d": "2024-02-29",
    "ti": "12:34:56.123456",
    "ts": "2024-02-29 12:34:56.123456",
    "ts0": "2024-02-29 12:34:57",
    "tz": "2024-02-29 12:34:56.123456+02",
    "u": "11111111-2222-3333-4444-555555555555",
    "by": r"\x00fffe7e",
    "tx": 'h\u00e9"\\\n\u2028',
    "vc": "v",
    "bc": "ab",
    "js": '{"a": 1.0}',
    "jb": '{"a": 1.50}',
    "m": "ok",
    "ai": "{1,NULL,3}",
    "atx": '{a,NULL,"b,c"}',
    "atz": "{2024-02-29 12:34:56+00}",
    "di": None,
    "dt": None,
    "dn": None,
}
EXTREME = (
    {"n": "12345678901234567890.123450", "f4": "NaN", "f8": "-Infinity", "i2": "0"},
    {"n": "NaN", "d": "infinity", "ts": "infinity", "tz": "-infinity", "ts0": "-infinity"},
    {"n": "-Infinity", "d": "0044-03-15 BC", "ts": "0044-03-15 12:00:00 BC", "by": "", "tx": ""},
    {"d": "12024-02-29", "ts": "12024-02-29 12:00:00.000001", "n": "-0.00", "f8": "1e-300"},
)
ADAPTIVE = DebeziumSpec(
    decimal_handling_mode="precise", time_precision_mode="adaptive", binary_handling_mode="bytes"
)
WITH_SCHEMAS = {"value.converter.schemas.enable": "true", "tombstones.on.delete": "true"}


@pytest.fixture
def source_pipeline(
    request: pytest.FixtureRequest, stack: Stack, source: SourceDatabase
) -> Iterator[DebeziumPipeline]:
    made = DebeziumPipeline(stack, source, **getattr(request, "param", {}))
    yield made
    made.close()


def execute(pipelines: Sequence[Pipeline], *statements: str) -> None:
    for pipeline in pipelines:
        pipeline.execute(*statements)


def lake_differences(one: Pipeline, other: Pipeline, name: str) -> int:
    """Rows of one lake table that the other has not, by DuckDB alone."""
    with oracle(one.endpoints) as engine:
        left, right = (
            f"SELECT * FROM {lake_rows(engine, each.endpoints, each.tables[name].identifier)}"
            for each in (one, other)
        )
        counted = engine.execute(
            f"SELECT (SELECT count(*) FROM (({left}) EXCEPT ALL ({right})))"
            f" + (SELECT count(*) FROM (({right}) EXCEPT ALL ({left})))"
        ).fetchone()
    assert counted is not None
    return int(counted[0])


def insert(pipelines: Sequence[Pipeline], number: int, row: Mapping[str, str | None]) -> None:
    names, places = ", ".join(["id", *row]), ", ".join(["%s"] * (len(row) + 1))
    query = f"INSERT INTO t ({names}) VALUES ({places})"
    for pipeline in pipelines:
        with pipeline.connect() as application:
            application.execute(query.encode(), [number, *row.values()])


def copy_and_move_keys(pipeline: Pipeline) -> None:
    """One transaction: rows that share a WAL record, then new keys for some of them."""
    with pipeline.connect() as application, application.cursor() as cursor:
        with cursor.copy("COPY whole FROM STDIN") as rows:
            for number in range(300):
                rows.write_row((f"a{number}", number, "y" * 3_000 if number < 3 else "c", "s"))
        cursor.execute("UPDATE whole SET b = -b WHERE b BETWEEN 1 AND 50")


@pytest.mark.parametrize(
    ("source_pipeline", "extremes"),
    [({}, EXTREME), ({"values": ADAPTIVE, "settings": WITH_SCHEMAS}, ())],
    indirect=["source_pipeline"],
    ids=["as printed", "precise, adaptive, bytes, with schemas and tombstones"],
)
def test_a_workload_gives_the_tables_that_our_own_capture_gives(
    stack: Stack, source_pipeline: DebeziumPipeline, extremes: tuple[dict[str, str], ...]
) -> None:
    with fresh_source(stack) as other, closing(Pipeline(stack, other)) as twin:
        pipeline = source_pipeline
        both = (pipeline, twin)
        make_tables(both)
        pipeline.connect_debezium()
        sync_all(both)
        change(both, extremes)
        sync_all(both)

        for name in ("t", "whole"):
            found = [*(each.differences(name) for each in both)]
            assert [*found, lake_differences(*both, name)] == [0, 0, 0], name
            assert pipeline.iceberg(name).schema() == twin.iceberg(name).schema()
        execute(both, "TRUNCATE t, whole", "INSERT INTO whole VALUES ('only', 1)")
        sync_all(both)
        assert [lake_differences(*both, name) for name in ("t", "whole")] == [0, 0]
        assert verify_table(
            pipeline.tables["whole"], pipeline.database, pipeline.endpoints
        ).verified


def make_tables(pipelines: Sequence[Pipeline]) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    execute(
        pipelines,
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        f"CREATE TABLE t (id bigint PRIMARY KEY, {columns})",
        "ALTER TABLE t ALTER tx SET STORAGE external, ALTER by SET STORAGE external",
        "CREATE TABLE whole (a text, b int, doc text, secret text, PRIMARY KEY (b, a))",
        "ALTER TABLE whole REPLICA IDENTITY FULL, ALTER doc SET STORAGE external",
    )
    insert(pipelines, 1, PLAIN)
    for each in pipelines:
        each.declare("t")
        each.declare("whole", ("b", "a"), columns={"secret": {"protect": "drop"}})


def sync_all(pipelines: Sequence[Pipeline]) -> None:
    for each in pipelines:
        each.drain()
        for name in each.tables:
            each.sync(name)


def change(pipelines: Sequence[Pipeline], extremes: tuple[dict[str, str], ...]) -> None:
    """Every kind of change, to both databases alike."""
    insert(pipelines, 2, PLAIN)
    insert(pipelines, 3, {})
    for number, row in enumerate(extremes, start=4):
        insert(pipelines, number, row)
    for each in pipelines:
        copy_and_move_keys(each)
    large = "UPDATE t SET tx = repeat('x', 9000), by = decode(repeat('ab', 9000), 'hex')"
    execute(
        pipelines,
        f"{large} WHERE id <= 2",
        "UPDATE t SET i4 = 8 WHERE id = 1",
        "UPDATE t SET id = 1001, i4 = 9 WHERE id = 1",
        "UPDATE t SET tx = NULL, id = 1002 WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
        "ALTER TABLE t ADD COLUMN later numeric",
        "UPDATE t SET later = 1.5 WHERE id = 1001",
        "UPDATE whole SET a = 'z' || a WHERE b > 200",
        "DELETE FROM whole WHERE b > 250",
    )


@contextmanager
def writing(pipeline: DebeziumPipeline) -> Iterator[None]:
    """An application that inserts, updates, moves and deletes rows meanwhile."""
    stop = threading.Event()

    def write() -> None:
        with pipeline.connect() as application:
            number = 10_000
            while not stop.is_set():
                number += 1
                for statement in (
                    f"INSERT INTO t VALUES ({number}, 0, repeat('n', 3000))",
                    f"UPDATE t SET n = n + 1 WHERE id IN ({number % 50}, {number - 1})",
                    f"UPDATE t SET id = -id WHERE id = {number - 5}",
                    f"DELETE FROM t WHERE id = {-(number - 20)}",
                ):
                    application.execute(statement.encode())
                application.commit()
                stop.wait(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def prepare_t(pipeline: DebeziumPipeline) -> None:
    pipeline.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int, doc text)",
        "ALTER TABLE t ALTER doc SET STORAGE external",
        "INSERT INTO t SELECT g, g, repeat('x', 3000) FROM generate_series(1, 50) g",
    )
    pipeline.declare("t")


def repeated(messages: list[dict[str, Any]]) -> int:
    """How many messages say what another one said before."""
    said = Counter(
        (m["source"]["sequence"], m["op"], (m["after"] or m["before"] or {}).get("id"))
        for m in messages
    )
    return sum(times - 1 for times in said.values())


def test_a_killed_connector_sends_events_again_and_none_is_applied_twice(
    source_pipeline: DebeziumPipeline,
) -> None:
    pipeline = source_pipeline
    prepare_t(pipeline)
    pipeline.connect_debezium()
    topic = topic_of(pipeline.tables["t"])

    def written() -> int:
        return load_topic_state(pipeline.endpoints.stream_bootstrap, topic).high

    with writing(pipeline):
        pipeline.follow("t")  # the first copy, while the application writes
        for _ in range(2):
            before = written()
            wait_until(lambda before=before: written() > before + 100, every_seconds=0.25)
            pipeline.stack.kill("connect")
            pipeline.sync("t")
            pipeline.start_worker()
            pipeline.wait_until_running()
    pipeline.follow("t")

    assert pipeline.differences("t") == 0
    with pipeline.connect() as application, application.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN") as rows:
            for number in range(500):
                rows.write_row((100_000 + number, number, "copied"))
        cursor.execute("UPDATE t SET n = -n WHERE id > 100000")
    before = written()
    wait_until(lambda: written() >= before + 999, every_seconds=0.25)
    pipeline.stack.kill("connect")
    merged = pipeline.sync("t")
    held = written()
    pipeline.start_worker()
    again = pipeline.follow("t")

    assert pipeline.differences("t") == 0
    assert repeated(pipeline.messages("t")) > 0
    assert (merged.upserted_rows, again.upserted_rows + again.deleted_rows) == (500, 0)
    assert again.last_offset + 1 >= held


def test_an_incremental_snapshot_reads_rows_in_their_place(
    stack: Stack, source: SourceDatabase
) -> None:
    settings = {"signal.data.collection": "public.signal", "incremental.snapshot.chunk.size": "20"}
    pipeline = DebeziumPipeline(stack, source, settings=settings)
    try:
        prepare_t(pipeline)
        pipeline.execute("CREATE TABLE signal (id text PRIMARY KEY, type text, data text)")
        pipeline.declare("signal")
        pipeline.connect_debezium()
        pipeline.follow("t")
        with writing(pipeline):
            pipeline.execute(
                "INSERT INTO signal VALUES ('s', 'execute-snapshot',"
                ' \'{"data-collections": ["public.t"], "type": "incremental"}\')'
            )
            wait_until(lambda: sum(m["op"] == "r" for m in pipeline.messages("t")) >= 40)
        pipeline.follow("t")
        pipeline.sync("signal")

        assert pipeline.differences("t") == 0
        assert pipeline.differences("signal") == 0
    finally:
        pipeline.close()


def test_a_connector_without_its_offsets_is_noticed_and_a_copy_heals_it(
    source_pipeline: DebeziumPipeline,
) -> None:
    pipeline = source_pipeline
    prepare_t(pipeline)
    pipeline.connect_debezium()
    pipeline.follow("t")
    pipeline.execute("UPDATE t SET n = 0 WHERE id = 1")
    pipeline.follow("t")
    pipeline.disconnect()
    with connect(pipeline.dsn) as connection:
        wait_until(lambda: not pipeline.is_captured())
        # the first transaction that the new connector sees: no commit comes before it
        pipeline.execute("UPDATE t SET n = 5 WHERE id = 2")
        marker = emit_marker(connection, b"after the connector")
    with pytest.raises(ConnectorBehindError, match="no connector reads it now"):
        wait_acknowledged(pipeline.database, pipeline.endpoints, marker, seconds=0)
    pipeline.connector = f"{pipeline.name}_again"
    pipeline.connect_debezium()

    with pytest.raises(ConnectorRecreatedError):
        pipeline.follow("t")
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.execute("UPDATE t SET n = 6 WHERE id = 2")
    pipeline.follow("t")

    assert pipeline.differences("t") == 0


def test_columns_that_swap_names_before_the_connector_reads_them_keep_their_types(
    source_pipeline: DebeziumPipeline,
) -> None:
    pipeline = source_pipeline
    prepare_t(pipeline)
    pipeline.connect_debezium()
    pipeline.follow("t")
    pipeline.stack.kill("connect")
    pipeline.execute(
        "INSERT INTO t VALUES (51, 7, 'x')",
        "ALTER TABLE t RENAME n TO other",
        "ALTER TABLE t RENAME doc TO n",
        "ALTER TABLE t RENAME other TO doc",
        "INSERT INTO t (id, n, doc) VALUES (52, 'y', 8)",
    )
    pipeline.start_worker()
    pipeline.wait_until_running()
    pipeline.follow("t")

    assert pipeline.differences("t") == 0


def test_rows_of_a_table_that_is_away_for_a_while_are_copied_anew(
    source_pipeline: DebeziumPipeline,
) -> None:
    pipeline = source_pipeline
    prepare_t(pipeline)
    pipeline.connect_debezium()
    pipeline.follow("t")
    with pipeline.connect() as application:  # the connector knows the table, not its other name
        for statement in (
            "UPDATE t SET n = 0 WHERE id = 1",
            "ALTER TABLE t DROP doc",
            "ALTER TABLE t RENAME TO t_away",
            "UPDATE t_away SET n = 5 WHERE id = 2",
            "ALTER TABLE t_away RENAME TO t",
            "UPDATE t SET n = 6 WHERE id = 3",
        ):
            application.execute(statement.encode())
    synced = pipeline.follow("t")

    assert pipeline.messages("t")[-2]["after"]["n"] == 5  # written as if nothing had changed
    assert "calls the table public.t_away" in synced.recopied[0]
    assert pipeline.differences("t") == 0
