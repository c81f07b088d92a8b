"""Erasing a person: after the date no object of the bucket has a planted value; the rest is whole.

Everything is looked at from outside: each object is fetched, decompressed and searched.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from pyiceberg.table import Table

from carbon_pipelines.catalog.table import DeadLettersSpec, PartitionField
from carbon_pipelines.cli import cli
from carbon_pipelines.defs.build import build_definitions
from carbon_pipelines.embedded.endpoints import source_variable
from carbon_pipelines.embedded.lake_cache import LakeCache
from carbon_pipelines.errors import (
    DeletionNotMergedError,
    ErasureDateError,
    ErasureKeyError,
    ErasureLackedError,
    ErasureNothingError,
    ErasureReasonError,
    KeyInSourceError,
    SourceUnreachableError,
)
from carbon_pipelines.lake.connection import load_table
from carbon_pipelines.lake.dead_letters import NAME as DEAD_LETTERS
from carbon_pipelines.lake.release import apply_release, park_by_hand, plan_release
from carbon_pipelines.maintenance.deletion_check import Where
from carbon_pipelines.maintenance.erasure import ErasureHooks, apply_pending
from carbon_pipelines.maintenance.erasure_asking import Asked, apply_erasure, plan_erasure
from carbon_pipelines.maintenance.erasure_request import done_erasures
from carbon_pipelines.maintenance.expiry_commit import ExpiryHooks
from carbon_pipelines.maintenance.leases import LeaseRequest, take_lease
from carbon_pipelines.maintenance.orphans import OrphanRules, plan_orphans
from carbon_pipelines.maintenance.quarantine import apply_orphans
from carbon_pipelines.stream.topics import topic_of
from carbon_pipelines_tests.catalog.declarations import declare, minimal
from carbon_pipelines_tests.integration.everything_stored import found_in
from carbon_pipelines_tests.integration.pipeline import Killed, Pipeline, die
from carbon_pipelines_tests.integration.upkeep import (
    needed_by,
    objects_of,
    put,
    snapshot_rows,
    store_of,
)
from carbon_pipelines_tests.oracle import lake_rows, oracle
from carbon_pipelines_tests.stored_bytes import Planted, search_cache

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)
BY = (NOW + timedelta(days=30)).date()
ON_THE_DATE = datetime(BY.year, BY.month, BY.day, 4, tzinfo=UTC)
DAYS = timedelta(days=1)
PLANTED = Planted(7_316_192_837_465, "zzPL" + secrets.token_hex(4))
OTHER = 7_000_000_000_000


def where(pipeline: Pipeline, name: str = "people", **more: object) -> Where:
    return Where(
        pipeline.catalog, pipeline.tables[name], pipeline.database, pipeline.endpoints, **more
    )


def asked(value: str | None = str(PLANTED.number), **more: object) -> Asked:
    usual = Asked(value, {}, BY, "request 17", "ann")
    return replace(usual, **more)


def letters(pipeline: Pipeline) -> Table:
    table = load_table(pipeline.catalog, (pipeline.name, DEAD_LETTERS))
    assert table is not None
    return table


def start(pipeline: Pipeline) -> None:
    """A mirror with dead letters and a history, both with the person among others."""
    for name in ("people", "moves"):
        pipeline.execute(
            f"CREATE TABLE {name} (id bigint PRIMARY KEY, amount numeric(9, 2), name text)",
            f"INSERT INTO {name} SELECT g, g, 'row ' || g FROM generate_series(1, 300) g",
            f"INSERT INTO {name} VALUES ({PLANTED.number}, 1, '{PLANTED.text}-first'),"
            f" ({OTHER}, 1, 'somebody')",
        )
    pipeline.declare("people", dead_letters=DeadLettersSpec(at_most=9))
    pipeline.declare("moves", mode="history")
    pipeline.follow_all()


def live(pipeline: Pipeline) -> None:
    """The person's rows change, also in ways that cannot be merged, and are deleted at last."""
    both = f"id IN ({PLANTED.number}, {OTHER})"
    pipeline.execute(
        f"UPDATE people SET amount = 'NaN', name = name || '-letter' WHERE {both}",
        f"UPDATE moves SET name = name || '-moved' WHERE {both}",
        "UPDATE people SET amount = -id WHERE id % 9 = 0",
    )
    pipeline.follow_all()
    pipeline.execute(
        f"UPDATE people SET amount = 2, name = name || '-again' WHERE {both}",
        "DELETE FROM moves WHERE id % 10 = 0 AND id < 1000",
    )
    pipeline.follow_all()


def leave(pipeline: Pipeline) -> None:
    """The source forgets the person, and the lake merges that."""
    for name in ("people", "moves"):
        pipeline.execute(f"DELETE FROM {name} WHERE id = {PLANTED.number}")
    pipeline.follow_all()


def hold(pipeline: Pipeline) -> None:
    """What keeps rows elsewhere: a lease, a tag, certified, reasons that quote a name."""
    table = pipeline.iceberg("people")
    head = table.current_snapshot()
    assert head is not None
    table.manage_snapshots().create_tag(head.snapshot_id, "year_end").commit()
    request = LeaseRequest("doris", 90 * DAYS, "main")
    take_lease(pipeline.catalog, pipeline.tables["people"].identifier, request, NOW)
    spec, reason = pipeline.tables["people"], f"{PLANTED.text} has complained"
    park_by_hand(spec, pipeline.endpoints, reason=reason, by="ann")
    [plan] = plan_release([spec], pipeline.endpoints)
    apply_release(plan, pipeline.endpoints, reason=reason, by="ann")
    moves = pipeline.iceberg("moves")
    head = moves.current_snapshot()
    assert head is not None
    moves.manage_snapshots().create_branch(head.snapshot_id, "certified").commit()


def litter(pipeline: Pipeline) -> str:
    """Orphans with and without the person, some in quarantine; the path of one without."""
    table = pipeline.iceberg("people")
    store = store_of(table)

    def copied(path: str, name: str) -> str:
        target = f"{table.location()}/{name}"
        with store.open_input_stream(path) as stream:
            put(table, target, stream.read())
        return target

    having = found_in(table, PLANTED)
    parquet = next(path for path, kind in having.items() if kind == "parquet")
    manifest = next(path for path, kind in having.items() if kind == "avro")
    copied(parquet, "data/killed.parquet")
    copied(manifest, "metadata/killed-m0.avro")
    clean = pipeline.iceberg("moves")
    [other, *_] = [p for p in objects_of(clean) if p.endswith("-deletes.parquet")]
    copied(other.removeprefix("s3://"), "data/clean.parquet")
    later = NOW + 4 * DAYS
    identifier = pipeline.tables["people"].identifier
    planned = plan_orphans(pipeline.catalog, identifier, OrphanRules(), later, neighbours=())
    moved = apply_orphans(pipeline.catalog, identifier, planned, later)
    assert moved.files >= 3
    copied(parquet, "data/killed again.parquet")
    return moved.run


def versions_of(pipeline: Pipeline, number: int) -> int:
    with oracle(pipeline.endpoints) as engine:
        scan = lake_rows(engine, pipeline.endpoints, pipeline.tables["moves"].identifier)
        [row] = engine.execute(f"SELECT count(*) FROM {scan} WHERE id = {number}").fetchall()
    return int(row[0])


def check_rows(pipeline: Pipeline) -> None:
    assert pipeline.differences("people") == 0
    assert pipeline.differences("moves") == 0
    for name in ("people", "moves"):
        table = pipeline.iceberg(name)
        assert needed_by(table) <= objects_of(table)


def merge(pipeline: Pipeline, amount: int) -> None:
    for name in ("people", "moves"):
        pipeline.execute(
            f"UPDATE {name} SET amount = {amount} WHERE id % 7 = 0",
            f"DELETE FROM {name} WHERE id = {amount}",
        )
    pipeline.follow_all()


def test_after_the_date_no_object_has_the_person_and_everything_else_is_whole(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    pipeline.cache = LakeCache(tmp_path)
    start(pipeline)
    live(pipeline)
    hold(pipeline)
    leave(pipeline)
    people = pipeline.iceberg("people")
    head = people.current_snapshot()
    assert head is not None
    people.manage_snapshots().create_branch(head.snapshot_id, "certified").commit()
    run = litter(pipeline)
    before = found_in(pipeline.iceberg("people"), PLANTED)
    assert {"parquet", "avro", "json"} <= set(before.values())
    assert any("_carbon_quarantine" in path for path in before)
    assert "parquet" in found_in(letters(pipeline), PLANTED).values()
    assert set(found_in(pipeline.iceberg("moves"), PLANTED).values()) >= {"parquet", "avro"}
    leased = next(
        ref.snapshot_id
        for name, ref in pipeline.iceberg("people").metadata.refs.items()
        if name.startswith("carbon_lease_")
    )
    assert versions_of(pipeline, PLANTED.number) > 1
    others = versions_of(pipeline, OTHER)

    assert {path.rpartition(".")[2] for path in search_cache(tmp_path, PLANTED)} == {"avro", "json"}

    plan = plan_erasure(where(pipeline), asked(), NOW).describe()
    turns = iter([29])

    def disturb() -> None:
        for turn in turns:
            merge(pipeline, turn)

    first = [
        apply_erasure(where(pipeline), asked(), NOW),
        apply_erasure(
            where(pipeline, "moves"),
            asked(),
            NOW,
            hooks=ErasureHooks(after_cleansing_commit=disturb),
        ),
    ]

    for words in ("certified", "leased by doris", "tag year_end", run, "Kafka topic cdc."):
        assert words in plan
    assert [one.finished for one in first] == [False, False]
    assert versions_of(pipeline, PLANTED.number) == 0
    assert versions_of(pipeline, OTHER) == others + 1
    check_rows(pipeline)
    for name in ("people", "moves"):
        table = pipeline.iceberg(name)
        present = {path.removeprefix("s3://") for path in _present(table)}
        assert not present & found_in(table, PLANTED).keys()
    assert not search_cache(tmp_path, PLANTED)
    rows = snapshot_rows(pipeline.endpoints, pipeline.iceberg("people"), leased)
    assert any(PLANTED.text in str(row) for row in rows)
    merge(pipeline, 30)
    check_rows(pipeline)
    early = apply_pending(where(pipeline), ON_THE_DATE - DAYS)
    assert [one.finished for one in early] == [False]

    with pytest.raises(Killed):
        apply_pending(
            where(pipeline),
            ON_THE_DATE,
            hooks=ErasureHooks(expiry=ExpiryHooks(after_commit=die)),
        )
    assert found_in(pipeline.iceberg("people"), PLANTED)
    merge(pipeline, 31)
    [done] = apply_pending(where(pipeline), ON_THE_DATE)
    assert done.finished
    assert not search_cache(tmp_path, PLANTED)
    with pytest.raises(Killed):
        apply_pending(where(pipeline, "moves"), ON_THE_DATE, hooks=ErasureHooks(after_record=die))
    assert apply_pending(where(pipeline, "moves"), ON_THE_DATE) == []
    kept = pipeline.iceberg("moves").properties
    assert kept["write.metadata.previous-versions-max"] == "100"
    assert [name for name in kept if "erasure" in name] == ["carbon.erasures"]

    assert found_in(pipeline.iceberg("people"), PLANTED) == {}
    assert found_in(pipeline.iceberg("moves"), PLANTED) == {}
    assert found_in(letters(pipeline), PLANTED) == {}
    assert str(OTHER) in str(letters(pipeline).scan().to_arrow().column("key").to_pylist())
    refs = pipeline.iceberg("people").metadata.refs
    assert set(refs) == {"main", "certified"}
    assert set(pipeline.iceberg("moves").metadata.refs) == {"main"}
    assert any(path.endswith("clean.parquet") for path in objects_of(pipeline.iceberg("people")))
    [record] = done_erasures(pipeline.iceberg("people").metadata)
    assert record["snapshots"] > 0
    assert set(record) >= {"id", "asked_at", "by", "erased_at", "rows", "files_rewritten"}
    check_rows(pipeline)
    assert apply_pending(where(pipeline), ON_THE_DATE) == []
    merge(pipeline, 32)
    check_rows(pipeline)


def _present(table: Table) -> set[str]:
    """The files that ``main`` is read by."""
    head = table.current_snapshot()
    assert head is not None
    manifests = head.manifests(table.io)
    entries = (e for m in manifests for e in m.fetch_manifest_entry(table.io))
    paths = {manifest.manifest_path for manifest in manifests}
    return {head.manifest_list, *paths, *(entry.data_file.file_path for entry in entries)}


@pytest.fixture
def three(pipeline: Pipeline) -> Pipeline:
    """A table with a key, one with a key of two columns, one without any, and an appended one."""
    planted = PLANTED.text
    pipeline.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, name text)",
        "CREATE TABLE lines (a int, b text, name text, PRIMARY KEY (a, b))",
        "CREATE TABLE loose (mail text, n int)",
        "CREATE TABLE log (mail text, n int)",
        "ALTER TABLE loose REPLICA IDENTITY FULL",
        f"INSERT INTO t VALUES ({PLANTED.number}, '{planted}'), (1, 'x'), (2, 'y')",
        f"INSERT INTO lines VALUES (7, 'x', '{planted}'), (7, 'y', 'other')",
        *(
            f"INSERT INTO {name} VALUES ('{planted}@x', 1), ('{planted}@x', 2), ('ann@x', 3)"
            for name in ("loose", "log")
        ),
    )
    pipeline.declare("t", dead_letters=DeadLettersSpec(at_most=9))
    by_name = PartitionField(column="name", transform="identity")
    pipeline.declare("lines", ("a", "b"), partitioning=(by_name,))
    pipeline.declare("loose", (), identity="full")
    pipeline.declare("log", (), mode="append")
    pipeline.follow_all()
    return pipeline


def forget(pipeline: Pipeline) -> None:
    pipeline.execute(
        f"DELETE FROM t WHERE id IN (1, {PLANTED.number})",
        "DELETE FROM lines WHERE b = 'x'",
        "DELETE FROM loose WHERE n < 3",
        "DELETE FROM log WHERE n < 3",
    )


def text_in(pipeline: Pipeline, name: str) -> set[str]:
    return set(found_in(pipeline.iceberg(name), Planted(2**62 + 12345, PLANTED.text)).values())


def test_what_would_come_back_or_cannot_be_promised_is_refused(three: Pipeline) -> None:
    with pytest.raises(KeyInSourceError, match="1 rows of the source have this key"):
        plan_erasure(where(three, "t"), asked(), NOW)
    forget(three)
    three.drain()
    clock: Callable[[], float] = iter([0.0, 100.0]).__next__
    with pytest.raises(DeletionNotMergedError, match="carbon sync"):
        plan_erasure(where(three, "t", clock=clock), asked(), NOW)
    three.follow_all()
    with pytest.raises(ErasureDateError, match="the first date that can be promised is"):
        plan_erasure(where(three, "t"), asked(by=NOW.date()), NOW)
    with pytest.raises(ErasureReasonError):
        plan_erasure(where(three, "t"), asked(reason=f"for {PLANTED.number}"), NOW)
    with pytest.raises(
        ErasureKeyError, match=r"its key is \(a, b\): write --key a=\.\.\. --key b="
    ):
        plan_erasure(where(three, "lines"), asked("7"), NOW)
    with pytest.raises(ErasureKeyError, match="it is declared without a key"):
        plan_erasure(where(three, "loose"), asked("7"), NOW)
    with pytest.raises(ErasureNothingError, match="is in any file"):
        apply_erasure(where(three, "t"), asked("12345678901"), NOW)
    with pytest.raises(ErasureKeyError, match="it has no column nobody"):
        plan_erasure(where(three, "loose"), asked(None, columns={"nobody": "x"}), NOW)
    there = where(three, "t")
    silent = dict.fromkeys(there.endpoints.source_dsns, "postgresql://u@127.0.0.1:1/x")
    away = replace(there, endpoints=replace(there.endpoints, source_dsns=silent))
    with pytest.raises(SourceUnreachableError):
        plan_erasure(away, asked(), NOW)
    produce(three, f"not json {PLANTED.number}".encode())
    three.sync("t")
    with pytest.raises(ErasureLackedError, match="carbon replay"):
        apply_erasure(there, asked(), NOW)
    assert not [n for n in three.iceberg("t").properties if n.startswith("carbon.erasure")]
    assert "parquet" in text_in(three, "t")


def produce(pipeline: Pipeline, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": pipeline.endpoints.stream_bootstrap})
    producer.produce(topic_of(pipeline.tables["t"]), value, b"foreign")
    assert producer.flush(10) == 0


def test_keys_of_any_kind_are_erased_by_command_and_a_dead_run_and_a_return_change_nothing(
    three: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(three)
    three.follow_all()
    two = minimal("lines").replace("key: [id]", "key: [a, b]")
    loose = minimal("loose").replace("key: [id]", "identity: full")
    log = minimal("log").replace("key: [id]", "mode: append")
    declare(tmp_path, three.name, t=minimal("t"), lines=two, loose=loose, log=log)
    monkeypatch.setenv("CARBON_HOME", str(three.stack.home))
    monkeypatch.setenv("CARBON_CATALOG_DIR", str(tmp_path))
    monkeypatch.setenv(source_variable(three.name), three.dsn)

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, ["erase", *arguments], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    asking = ("--by", str(BY), "--reason", "request 17")
    keys = ("--key", "a=7", "--key", "b=x")
    shown = run(f"{three.name}/lines", *keys, *asking)
    assert "Nothing was changed" in shown
    assert "1 manifests that tell of gone files" in shown
    assert f"the rest goes by {BY}" in run(f"{three.name}/lines", *keys, *asking, "--apply")
    mail = ("--key", f"mail={PLANTED.text}@x")
    assert "is written again  2 rows" in run(f"{three.name}/loose", *mail, *asking)
    assert f"the rest goes by {BY}" in run(f"{three.name}/loose", *mail, *asking, "--apply")
    assert three.differences("log") == 2
    assert "2 rows, 1 data files" in run(f"{three.name}/log", *mail, *asking, "--apply")
    assert three.differences("log") == 0
    assert "there already" in run(
        *(f"{three.name}/loose", *mail, "--by", str(BY + DAYS), "--reason", "x"), code=1
    )
    with pytest.raises(Killed):
        apply_erasure(
            where(three, "t"), asked(), NOW, hooks=ErasureHooks(after_cleansing_commit=die)
        )
    run(f"{three.name}/t", "1", *asking, "--apply")
    assert run("--due").count("everything is gone by") == 5
    job = build_definitions({"CARBON_CATALOG_DIR": str(tmp_path)}).resolve_job_def("erase_due")
    events = job.execute_in_process().all_events
    [output] = [e.step_output_data for e in events if e.event_type_value == "STEP_OUTPUT"]
    assert output.metadata["carbon/erasures"].value == 5
    assert run("--due", "--apply").count("the rest goes by") == 5
    assert all(text_in(three, name) for name in three.tables)
    assert any(PLANTED.text in path for path in objects_of(three.iceberg("lines")))

    three.execute(f"INSERT INTO t VALUES ({PLANTED.number}, 'is back')")
    three.follow_all()
    done = [one for name in three.tables for one in apply_pending(where(three, name), ON_THE_DATE)]

    assert [one.finished for one in done] == [True] * 5
    assert [one.label for one in done if one.returned] == [f"{three.name}/t"]
    assert [text_in(three, name) for name in three.tables] == [set()] * 4
    assert [three.differences(name) for name in three.tables] == [0] * 4
    assert "nothing is to be erased" in run("--due")
