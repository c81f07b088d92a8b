"""Orphans in a real store: what nobody needs goes aside, what anybody may need does not."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pyiceberg.table.statistics import StatisticsFile

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import (
    CopyUnderWayError,
    MetadataFileMissingError,
    QuarantineMissingError,
    RetentionZeroError,
    SecondCatalogError,
    StalePointerError,
    StoreInterruptedError,
    TableFilesMissingError,
    TableOverlapError,
    YoungOrphansError,
)
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.maintenance.expiry_commit import ExpiryHooks
from carbon_pipelines.maintenance.expiry_run import expire_table
from carbon_pipelines.maintenance.orphans import OrphanPlan, OrphanRules, plan_orphans
from carbon_pipelines.maintenance.quarantine import (
    Quarantined,
    apply_orphans,
    apply_removal,
    apply_restore,
    plan_removal,
    plan_restore,
)
from carbon_pipelines.maintenance.quarantine_record import load_quarantines
from carbon_pipelines.maintenance.retention import Retention
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.pipeline import Killed, Pipeline, die
from carbon_pipelines_tests.integration.upkeep import (
    failing_store,
    needed_by,
    objects_of,
    put,
    take,
)

pytestmark = pytest.mark.integration

USUAL = OrphanRules()
AT_ONCE = OrphanRules(timedelta(microseconds=1), may_take_running=True)
IN_DAYS = datetime.now(UTC) + timedelta(days=4)
"""Whatever a test has written is older than the usual floor then."""


@pytest.fixture
def pipeline(stack: Stack, source: SourceDatabase) -> Iterator[Pipeline]:
    """Table t with a first copy and a merge."""
    made = Pipeline(stack, source)
    made.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int)",
        "INSERT INTO t SELECT g, g FROM generate_series(1, 100) g",
    )
    made.declare("t")
    made.follow("t")
    made.execute("UPDATE t SET n = 0 WHERE id % 7 = 0", "DELETE FROM t WHERE id = 3")
    made.follow("t")
    yield made
    made.close()


def plan(pipeline: Pipeline, rules: OrphanRules = USUAL, now: datetime = IN_DAYS) -> OrphanPlan:
    return plan_orphans(
        pipeline.catalog, pipeline.tables["t"].identifier, rules, now, neighbours=()
    )


def apply(pipeline: Pipeline, planned: OrphanPlan, now: datetime = IN_DAYS) -> Quarantined:
    return apply_orphans(pipeline.catalog, pipeline.tables["t"].identifier, planned, now)


def paths(planned: OrphanPlan) -> set[str]:
    return {one.path for one in planned.orphans}


def litter(pipeline: Pipeline, count: int = 3) -> set[str]:
    """Objects that nothing refers to, of the kinds that killed writers leave."""
    table = pipeline.iceberg("t")
    names = [f"data/{n:04d}.parquet" for n in range(count - 1)] + ["metadata/left-m0.avro"]
    found = {f"{table.location()}/{name}" for name in names}
    for path in found:
        put(table, path, path.encode())
    return found


def check_whole(pipeline: Pipeline) -> None:
    table = pipeline.iceberg("t")
    assert needed_by(table) <= objects_of(table)
    assert pipeline.differences("t") == 0


def test_orphans_go_aside_come_back_and_are_removed_after_their_retention(
    pipeline: Pipeline,
) -> None:
    left = litter(pipeline)
    table = pipeline.iceberg("t")
    whole = objects_of(table)

    planned = plan(pipeline)
    moved = apply(pipeline, planned)

    assert paths(planned) == left
    assert (moved.files, moved.kept) == (3, ())
    assert {one for one in objects_of(table) if "_carbon_quarantine" not in one} == whole - left
    check_whole(pipeline)
    assert not plan(pipeline)

    (quarantine,) = load_quarantines(table)
    assert {one.path for one in quarantine.files} == left
    assert quarantine.reason == "nothing refers to them, and they are older than 3 days, 0:00:00"
    restored = apply_restore(table, plan_restore(table, quarantine.run))
    assert (restored.files, restored.runs) == (3, (quarantine.run,))
    assert objects_of(table) == whole
    for path in left:
        with table.io.new_input(path).open() as stream:
            assert stream.read() == path.encode()
    with pytest.raises(QuarantineMissingError, match="there are: none"):
        plan_restore(table)

    apply(pipeline, plan(pipeline))
    quarantines = load_quarantines(table)
    week = timedelta(days=7)
    assert plan_removal(quarantines, week, IN_DAYS + timedelta(days=6)) == ()
    due = plan_removal(quarantines, week, IN_DAYS + week)
    apply_removal(table, due)
    assert objects_of(table) == whole - left
    assert load_quarantines(table) == ()
    check_whole(pipeline)


def test_hazard_1_files_of_a_merge_under_way_are_no_orphans(pipeline: Pipeline) -> None:
    pipeline.execute("UPDATE t SET n = 9")
    pipeline.drain()
    found: list[OrphanPlan] = []

    def look() -> None:
        found.append(plan(pipeline, now=datetime.now(UTC)))

    pipeline.sync("t", hooks=MergeHooks(after_write=look))

    assert [bool(one) for one in found] == [False]
    assert found[0].young > 0
    check_whole(pipeline)


def test_hazard_1_an_age_below_the_floor_needs_the_word_for_it(pipeline: Pipeline) -> None:
    with pytest.raises(YoungOrphansError, match="--may-take-files-of-running-writers"):
        OrphanRules(timedelta(days=2))
    with pytest.raises(RetentionZeroError):
        OrphanRules(timedelta(0), may_take_running=True)
    table = pipeline.iceberg("t")
    head = table.current_snapshot()
    assert head is not None
    table.manage_snapshots().create_branch(head.snapshot_id, "carbon_first_copy").commit()

    with pytest.raises(CopyUnderWayError, match="a copy is under way"):
        plan(pipeline, AT_ONCE)


def test_hazard_1_what_is_committed_between_plan_and_move_stays(pipeline: Pipeline) -> None:
    """Even with the age floor off: the worst moment is between the writes and the commit."""
    pipeline.execute("UPDATE t SET n = 9")
    pipeline.drain()
    found: list[OrphanPlan] = []

    def look() -> None:
        found.append(plan(pipeline, AT_ONCE))

    pipeline.sync("t", hooks=MergeHooks(after_write=look))
    assert len(found[0].orphans) > 0

    moved = apply(pipeline, found[0])

    assert moved.files == 0
    assert set(moved.kept) == paths(found[0])
    check_whole(pipeline)


def test_hazard_1_what_is_committed_after_the_move_is_named_and_comes_back(
    pipeline: Pipeline,
) -> None:
    """The harm that the flag warns of, and the way out of it."""
    pipeline.execute("UPDATE t SET n = 9")
    pipeline.drain()

    def move() -> None:
        apply(pipeline, plan(pipeline, AT_ONCE))

    pipeline.sync("t", hooks=MergeHooks(after_write=move))
    table = pipeline.iceberg("t")
    head = table.current_snapshot()
    assert head is not None
    with pytest.raises((TableFilesMissingError, MetadataFileMissingError)) as error:
        plan(pipeline)
    assert str(head.snapshot_id) in str(error.value)
    assert "carbon orphans restore" in str(error.value)

    apply_restore(table, plan_restore(table))

    check_whole(pipeline)
    assert plan(pipeline, now=datetime.now(UTC)).orphans == ()


def set_pointer(pipeline: Pipeline, location: str) -> None:
    """Have the catalog name another version of the metadata, as a restored one does."""
    from sqlalchemy import text

    with pipeline.catalog.engine.begin() as connection:  # pyright: ignore[reportAttributeAccessIssue]
        connection.execute(
            text("UPDATE iceberg_tables SET metadata_location = :to WHERE table_namespace = :name"),
            {"to": location, "name": pipeline.name},
        )


def test_hazard_2_a_catalog_that_is_behind_is_refused(pipeline: Pipeline) -> None:
    table = pipeline.iceberg("t")
    newest, before = table.metadata_location, table.metadata.metadata_log[-1].metadata_file
    set_pointer(pipeline, before)
    soon = datetime.now(UTC) + timedelta(seconds=5)

    with pytest.raises(StalePointerError) as error:
        plan(pipeline, AT_ONCE, soon)
    assert (error.value.pointer, error.value.found) == (before, newest)
    # after so long it can no longer be told from what a killed writer left, but its files stay
    assert paths(plan(pipeline)) == set()

    set_pointer(pipeline, newest)
    check_whole(pipeline)
    assert plan(pipeline).orphans == ()


def test_hazard_2_a_second_line_of_commits_is_refused_at_any_age(pipeline: Pipeline) -> None:
    table = pipeline.iceberg("t")
    fork = table.metadata_location
    for turn in range(2):
        pipeline.execute(f"UPDATE t SET n = {turn}")
        pipeline.follow("t")
    theirs = pipeline.iceberg("t").metadata_location
    set_pointer(pipeline, fork)
    pipeline.sync("t")

    with pytest.raises(SecondCatalogError) as error:
        plan(pipeline)

    assert error.value.found == theirs
    assert pipeline.differences("t") == 0


def test_hazard_3_statistics_are_no_orphans(pipeline: Pipeline) -> None:
    table = pipeline.iceberg("t")
    head = table.current_snapshot()
    assert head is not None
    path = f"{table.location()}/metadata/{head.snapshot_id}.stats"
    put(table, path, b"puffin")
    facts = {
        "snapshot-id": head.snapshot_id,
        "statistics-path": path,
        "file-size-in-bytes": 6,
        "file-footer-size-in-bytes": 1,
        "blob-metadata": [],
    }
    with table.update_statistics() as update:
        update.set_statistics(StatisticsFile.model_validate(facts))

    assert plan(pipeline).orphans == ()


@pytest.mark.parametrize("scheme", ["s3a", "s3n"])
def test_hazard_4_a_table_that_is_named_by_another_scheme_has_no_orphans(
    pipeline: Pipeline, scheme: str
) -> None:
    """Its metadata names files s3a://, its manifests s3://, and the store lists them as s3://."""
    left = litter(pipeline)
    table = pipeline.iceberg("t")
    with table.io.new_input(table.metadata_location).open() as stream:
        document = stream.read().decode().replace("s3://", f"{scheme}://")
    location = table.location().replace("s3://", f"{scheme}://")
    document = document.replace(f'"{location}"', f'"{location}/"')
    renamed = f"{location}/metadata/00099-{uuid.uuid4()}.metadata.json"
    put(table, renamed, document.encode())
    set_pointer(pipeline, renamed)
    assert pipeline.iceberg("t").location() == f"{location}/"

    planned = plan(pipeline)

    found = {"s3://" + path.partition("://")[2] for path in paths(planned)}
    assert found - {table.metadata_location} == left
    apply(pipeline, planned)
    assert {one for one in objects_of(table) if one in left} == set()
    assert len(pipeline.iceberg("t").scan().to_arrow()) == 99


@pytest.mark.parametrize("inside", [True, False])
def test_hazard_5_a_table_in_anothers_prefix_is_refused_either_way_round(
    pipeline: Pipeline, *, inside: bool
) -> None:
    table, identifier = pipeline.iceberg("t"), (pipeline.name, "neighbour")
    location = f"{table.location()}/data/inner/" if inside else table.location().rpartition("/")[0]
    pipeline.catalog.create_table(identifier, table.schema(), location=location)

    with pytest.raises(TableOverlapError) as error:
        plan_orphans(pipeline.catalog, pipeline.tables["t"].identifier, USUAL, IN_DAYS)

    assert error.value.other == f"{pipeline.name}/neighbour"
    pipeline.catalog.drop_table(identifier)
    planned = plan_orphans(pipeline.catalog, pipeline.tables["t"].identifier, USUAL, IN_DAYS)
    assert all("/metadata/" in one for one in paths(planned))  # the neighbour's, if it was inside
    check_whole(pipeline)


def test_hazard_6_an_expiry_at_any_moment_of_a_search_harms_neither(pipeline: Pipeline) -> None:
    for turn in range(4):
        pipeline.execute(f"UPDATE t SET n = {turn}")
        pipeline.follow("t")
    left = litter(pipeline)
    identifier = pipeline.tables["t"].identifier
    short = Retention(timedelta(minutes=1), at_least=1)
    found: list[OrphanPlan] = []

    def look(*_: object) -> None:
        found.append(plan(pipeline))

    def clean(*_: object) -> None:
        found.append(plan(pipeline))
        apply(pipeline, found[-1])

    hooks = ExpiryHooks(after_commit=look, before_kind=look, before_end=clean)
    expire_table(pipeline.catalog, identifier, short, IN_DAYS, hooks=hooks)

    assert len(found) > 3
    assert all(paths(one) == left for one in found)  # nothing that the expiry itself deletes
    table = pipeline.iceberg("t")
    aside = {one for one in objects_of(table) if "_carbon_quarantine" in one}
    assert objects_of(table) - aside == needed_by(table)
    check_whole(pipeline)


def test_hazard_6_an_expiry_that_comes_between_load_and_walk_is_no_missing_file(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for turn in range(4):
        pipeline.execute(f"UPDATE t SET n = {turn}")
        pipeline.follow("t")
    left = litter(pipeline)
    identifier = pipeline.tables["t"].identifier
    stale = pipeline.iceberg("t")
    expire_table(pipeline.catalog, identifier, Retention(timedelta(minutes=1), at_least=1), IN_DAYS)
    real, loads = pipeline.catalog.load_table, iter([stale])
    monkeypatch.setattr(
        pipeline.catalog, "load_table", lambda name: next(loads, None) or real(name)
    )

    assert paths(plan(pipeline)) == left


def test_a_missing_file_is_named_with_the_snapshot_that_lost_it_and_nothing_moves(
    pipeline: Pipeline,
) -> None:
    litter(pipeline)
    table = pipeline.iceberg("t")
    head = table.current_snapshot()
    assert head is not None
    (path,) = [task.file.file_path for task in table.scan().plan_files()][:1]
    take(table, path)

    with pytest.raises(TableFilesMissingError) as error:
        plan(pipeline)

    assert error.value.missing == ((path, head.snapshot_id),)


def test_what_a_killed_merge_left_is_found(pipeline: Pipeline) -> None:
    pipeline.execute("UPDATE t SET n = 9")
    pipeline.drain()
    before = objects_of(pipeline.iceberg("t"))
    with pytest.raises(Killed):
        pipeline.sync("t", hooks=MergeHooks(after_write=die))
    left = objects_of(pipeline.iceberg("t")) - before
    pipeline.sync("t")

    planned = plan(pipeline)

    assert len(left) > 0
    assert paths(planned) == left
    apply(pipeline, planned)
    check_whole(pipeline)


def test_a_store_that_fails_midway_is_said_and_the_next_run_goes_on(pipeline: Pipeline) -> None:
    left = litter(pipeline, 30)
    table, planned = pipeline.iceberg("t"), plan(pipeline)
    whole, copies = objects_of(table), 0

    def fails(method: str, path: str) -> str | None:
        nonlocal copies
        copies += method == "PUT" and "_carbon_quarantine" in path
        return "slow down" if copies > 12 else None

    lake = pipeline.endpoints.lake
    with (
        failing_store(lake.s3_endpoint, fails) as address,
        open_catalog(replace(lake, s3_endpoint=address)) as catalog,
        pytest.raises(StoreInterruptedError, match="it goes on from there"),
    ):
        apply_orphans(catalog, pipeline.tables["t"].identifier, planned, IN_DAYS)
    assert whole <= objects_of(table)
    check_whole(pipeline)

    assert apply(pipeline, plan(pipeline)).files == 30

    assert left.isdisjoint(objects_of(table))
    restored = apply_restore(table, plan_restore(table))
    assert restored.files == 30
    assert objects_of(table) == whole


def test_the_manifest_of_a_quarantine_says_what_when_and_why(pipeline: Pipeline) -> None:
    left = litter(pipeline)
    apply(pipeline, plan(pipeline))
    table = pipeline.iceberg("t")
    (path,) = [one for one in objects_of(table) if one.endswith("/manifest.json")]
    with table.io.new_input(path).open() as stream:
        fields = json.loads(stream.read())

    assert {entry[0] for entry in fields["files"]} == left
    assert all(entry[2] == len(entry[0]) for entry in fields["files"])
    assert datetime.fromisoformat(fields["moved_at"]) == IN_DAYS.replace(microsecond=0)
    assert "nothing refers to them" in fields["reason"]
