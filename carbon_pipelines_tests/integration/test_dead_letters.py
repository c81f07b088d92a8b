"""Dead letters with real services: set aside, seen, and put back once."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from pyiceberg.types import DecimalType

from carbon_pipelines.catalog.table import ColumnSpec, DeadLettersSpec
from carbon_pipelines.cli import cli
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.errors import TableParkedError, UnrepresentableValueError
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.lake.replay import apply_replay, plan_replay
from carbon_pipelines.stream.topics import topic_of
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.supervised import write_catalog
from carbon_pipelines_tests.oracle import lake_rows, oracle

pytestmark = pytest.mark.integration

BIG = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 300) g)"


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    pipeline.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n numeric(9, 2), doc text)",
        f"INSERT INTO t SELECT g, g, {BIG} FROM generate_series(1, 100) g",
    )
    pipeline.declare("t", dead_letters=DeadLettersSpec(at_most=5))
    return pipeline


def letters(pipeline: Pipeline) -> list[tuple[int, str, str]]:
    """(offset, error, status) of every dead letter, by DuckDB alone."""
    with oracle(pipeline.endpoints) as engine:
        table = lake_rows(engine, pipeline.endpoints, (pipeline.name, "carbon_dead_letters"))
        query = f'SELECT "offset", error, status FROM {table} ORDER BY 1'
        return engine.execute(query).fetchall()


def produce(pipeline: Pipeline, value: bytes, key: bytes) -> None:
    producer = Producer({"bootstrap.servers": pipeline.endpoints.stream_bootstrap})
    producer.produce(topic_of(pipeline.tables["t"]), value, key)
    assert producer.flush(10) == 0


def test_bad_events_are_set_aside_the_rest_is_exact_and_later_events_settle_them(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    pipeline.execute(
        "UPDATE t SET n = 'NaN', doc = doc || 'x' WHERE id = 3",
        "UPDATE t SET n = n + 1 WHERE id <> 3",
        "DELETE FROM t WHERE id = 50",
    )
    pipeline.drain()
    produce(pipeline, b"not json", b"foreign")
    pipeline.sync("t")
    assert pipeline.differences("t") == 2  # the row at both ends
    assert [(error, status) for _, error, status in letters(pipeline)] == [
        ("UnrepresentableValueError", "pending"),
        ("MalformedEnvelopeError", "pending"),
    ]
    summary = pipeline.iceberg("t").current_snapshot().summary.additional_properties
    assert summary["carbon.dead_letters"] == "2"

    # the large value of this row was set by the dead letter: the lake's is an older one
    pipeline.execute("UPDATE t SET n = 7 WHERE id = 3", "UPDATE t SET n = 8 WHERE id = 4")
    pipeline.follow("t")
    assert pipeline.differences("t") == 2
    assert letters(pipeline)[-1][1:] == ("PriorDeadLetterError", "pending")

    [plan] = plan_replay([pipeline.tables["t"]], pipeline.endpoints)
    assert [letter.error for letter in plan.succeeding] == [
        "UnrepresentableValueError",
        "PriorDeadLetterError",
    ]
    done = apply_replay(plan, pipeline.endpoints, reason="a later value is fine", by="ann")
    assert (done.replayed, done.pending) == (2, 1)
    assert pipeline.differences("t") == 0
    assert [status for _, _, status in letters(pipeline)] == ["replayed", "pending", "replayed"]
    at_rest = pipeline.iceberg("t").metadata_location
    [again] = plan_replay([pipeline.tables["t"]], pipeline.endpoints)
    assert apply_replay(again, pipeline.endpoints, reason="again", by="ann").replayed == 0
    assert pipeline.iceberg("t").metadata_location == at_rest


def test_one_too_many_parks_the_table_and_a_copy_anew_settles_all(pipeline: Pipeline) -> None:
    pipeline.declare("t", dead_letters=DeadLettersSpec(at_most=1))
    pipeline.follow("t")
    pipeline.execute(
        "UPDATE t SET n = 'NaN' WHERE id = 1",
        "UPDATE t SET n = 20 WHERE id = 2",
        "UPDATE t SET n = 'NaN' WHERE id = 3",
        "UPDATE t SET n = 40 WHERE id = 4",
    )
    pipeline.drain()
    with pytest.raises(UnrepresentableValueError):
        pipeline.sync("t")
    with pytest.raises(TableParkedError, match="'NaN' cannot be held exactly"):
        pipeline.sync("t")
    found = pipeline.iceberg("t").scan("id < 5").to_arrow().sort_by("id").column("n").to_pylist()
    assert [int(n) for n in found] == [1, 20, 3, 4]

    pipeline.execute("UPDATE t SET n = 0 WHERE n = 'NaN'")
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.follow("t")

    assert pipeline.differences("t") == 0
    assert pipeline.progress("t").dead_letters == ()
    [plan] = plan_replay([pipeline.tables["t"]], pipeline.endpoints)
    apply_replay(plan, pipeline.endpoints, reason="none", by="ann")
    assert [status for _, _, status in letters(pipeline)] == ["superseded"]


def numbers(pipeline: Pipeline) -> list[tuple[int, int]]:
    """The rows of the table ``log``, by DuckDB alone."""
    with oracle(pipeline.endpoints) as engine:
        table = lake_rows(engine, pipeline.endpoints, pipeline.tables["log"].identifier)
        return engine.execute(f'SELECT "at", n::int FROM {table} ORDER BY 1').fetchall()


def test_an_appended_table_gets_its_rows_from_the_bytes_after_kafka_has_forgotten_them(
    pipeline: Pipeline,
) -> None:
    pipeline.execute("CREATE TABLE log (at int, n numeric)", "INSERT INTO log VALUES (1, 1)")
    small = {"n": ColumnSpec(type="decimal(4,2)")}
    allowed = DeadLettersSpec(at_most=5)
    pipeline.declare("log", (), mode="append", dead_letters=allowed, columns=small)
    pipeline.follow("log")
    pipeline.execute("INSERT INTO log VALUES (2, 2), (3, 12345), (4, 4)")
    pipeline.follow("log")
    assert numbers(pipeline) == [(1, 1), (2, 2), (4, 4)]
    [plan] = plan_replay([pipeline.tables["log"]], pipeline.endpoints)
    assert len(plan.fails) == 1

    # the lake's type is widened in place, which any engine can do
    with pipeline.iceberg("log").update_schema() as update:
        update.update_column("n", DecimalType(18, 2))
    pipeline.declare("log", (), mode="append", dead_letters=allowed)
    admin = AdminClient({"bootstrap.servers": pipeline.endpoints.stream_bootstrap})
    read = TopicPartition(topic_of(pipeline.tables["log"]), 0, pipeline.progress("log").next_offset)
    admin.delete_records([read])[read].result()
    for _ in range(2):
        [plan] = plan_replay([pipeline.tables["log"]], pipeline.endpoints)
        apply_replay(plan, pipeline.endpoints, reason="wider type", by="ann")

    assert numbers(pipeline) == [(1, 1), (2, 2), (3, 12345), (4, 4)]
    assert [status for _, _, status in letters(pipeline)] == ["replayed"]


def test_people_see_and_replay_dead_letters_in_dagster_and_on_the_command_line(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = tmp_path / pipeline.name
    declared.mkdir()
    (declared / "_database.yaml").write_text("owner: team:tests\n")
    document = {
        "source_table": "t",
        "key": ["id"],
        "freshness": "15m",
        "description": "A table.",
        "dead_letters": {"at_most": "3"},
    }
    (declared / "t.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.setenv("CARBON_HOME", str(pipeline.stack.home))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path))
    table = f"{pipeline.name}/t"
    definitions = build_definitions({"CARBON_CATALOG_DIR": str(tmp_path)})

    def check() -> tuple[bool, int]:
        result = definitions.resolve_job_def(f"sync_{pipeline.name}").execute_in_process()
        [one] = [e for e in result.get_asset_check_evaluations() if e.check_name == "dead_letters"]
        return one.passed, one.metadata["carbon/pending"].value  # type: ignore[return-value]

    def replayed(**more: object) -> tuple[object, object]:
        config = {"tables": [table], "reason": "mended", **more}
        run = {"ops": {"replay_tables": {"config": config}}}
        events = definitions.resolve_job_def("replay").execute_in_process(run_config=run).all_events
        [output] = [e.step_output_data for e in events if e.event_type_value == "STEP_OUTPUT"]
        found = {name: entry.value for name, entry in output.metadata.items()}
        return found["carbon/can_be_replayed"], found["carbon/replayed"]

    assert check() == (True, 0)
    pipeline.execute(
        "UPDATE t SET n = 'NaN', doc = doc || 'x' WHERE id = 1",
        "UPDATE t SET n = 5 WHERE id = 1",
    )
    assert check() == (True, 0)  # the second carries the first's value within one batch
    pipeline.execute("UPDATE t SET n = 'NaN', doc = doc || 'y' WHERE id = 2")
    assert check() == (False, 1)
    shown = CliRunner().invoke(cli, ["replay", table, "--reason", "mended"])
    assert "1 pending, 0 can be replayed now" in shown.output
    pipeline.execute("UPDATE t SET n = 6 WHERE id = 2")
    assert check() == (False, 2)
    assert replayed() == (2, 0)
    assert check() == (False, 2)
    assert replayed(dry_run=False) == (2, 2)
    assert check() == (True, 0)
    assert pipeline.differences("t") == 0
    done = CliRunner().invoke(cli, ["replay", table, "--reason", "mended", "--yes"])
    assert (done.exit_code, "no dead letter is pending" in done.output) == (0, True)


def test_the_table_of_dead_letters_is_tended_by_a_job_of_its_own(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.follow("t")
    for number in range(5):
        pipeline.execute(f"UPDATE t SET n = 'NaN' WHERE id = {number + 1}")
        pipeline.follow("t")
    before = letters(pipeline)
    assert len(before) == 5
    identifier = (pipeline.name, "carbon_dead_letters")
    kept_briefly = {
        "history.expire.max-snapshot-age-ms": "1",
        "history.expire.min-snapshots-to-keep": "1",
    }
    with pipeline.catalog.load_table(identifier).transaction() as change:
        change.set_properties(kept_briefly)
    monkeypatch.setenv("CARBON_HOME", str(pipeline.stack.home))
    catalog = write_catalog(pipeline, tmp_path)
    job = build_definitions({"CARBON_CATALOG_DIR": str(catalog)}).resolve_job_def("upkeep_own")

    def state() -> tuple[int, int]:
        table = pipeline.catalog.load_table(identifier)
        return len(table.inspect.data_files()), len(table.metadata.snapshots)

    assert state()[0] == 5
    unrun = pipeline.catalog.load_table(identifier).metadata_location
    assert job.execute_in_process().success
    assert pipeline.catalog.load_table(identifier).metadata_location == unrun
    told = {"ops": {"tend_own_tables": {"config": {"dry_run": False}}}}
    assert job.execute_in_process(run_config=told).success

    assert state() == (1, 1)
    assert letters(pipeline) == before
