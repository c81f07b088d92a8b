"""Expiry over a real store and both kinds of catalog: what goes is gone, what stays is readable."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pyiceberg.table import Table
from pyiceberg.table.statistics import StatisticsFile

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import (
    CommitUnknownError,
    LakeUnavailableError,
    LeaseMissingError,
    LeaseRefusedError,
    MetadataFileMissingError,
    StoreInterruptedError,
)
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.maintenance.expiry_commit import Expired, ExpiryHooks
from carbon_pipelines.maintenance.expiry_run import expire_table, load_expiry_plan, preview_files
from carbon_pipelines.maintenance.expiry_work import PENDING
from carbon_pipelines.maintenance.leases import (
    Lease,
    LeaseRequest,
    drop_lease,
    list_leases,
    take_lease,
)
from carbon_pipelines.maintenance.reachable import Kind
from carbon_pipelines.maintenance.retention import Retention
from carbon_pipelines_tests.conftest import SourceDatabase, silent
from carbon_pipelines_tests.integration.catalogs import both_catalogs, lake_of
from carbon_pipelines_tests.integration.pipeline import Killed, Pipeline, die
from carbon_pipelines_tests.integration.test_lake_catalogs import lose_answer
from carbon_pipelines_tests.integration.upkeep import (
    failing_store,
    needed_by,
    objects_of,
    snapshot_rows,
    take,
)

pytestmark = pytest.mark.integration

SHORT = Retention(timedelta(minutes=1), at_least=2)
LATER = datetime.now(UTC) + timedelta(hours=1)
"""An hour from now: whatever a test has written is old then."""


@pytest.fixture
def pipeline(
    stack: Stack, source: SourceDatabase, request: pytest.FixtureRequest
) -> Iterator[Pipeline]:
    """Table t with a first copy and four merges, each with rows written and rows deleted."""
    made = Pipeline(stack, source, lake=lake_of(request, stack))
    made.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int, doc text)",
        "INSERT INTO t SELECT g, g, 'row ' || g FROM generate_series(1, 100) g",
    )
    made.declare("t")
    made.follow("t")
    for turn in range(4):
        merge(made, turn)
    yield made
    made.close()


def merge(pipeline: Pipeline, turn: int) -> None:
    which = "true" if turn % 2 else f"id % 7 = {turn}"
    pipeline.execute(
        f"UPDATE t SET n = -{turn} WHERE {which}", f"DELETE FROM t WHERE id = {90 + turn}"
    )
    pipeline.follow("t")


def expire(
    pipeline: Pipeline, retention: Retention = SHORT, *, hooks: ExpiryHooks | None = None
) -> Expired:
    return expire_table(
        pipeline.catalog, pipeline.tables["t"].identifier, retention, LATER, hooks=hooks
    )


def lease(pipeline: Pipeline, snapshot: int | str = "main", hours: float = 2) -> Lease:
    request = LeaseRequest("doris", timedelta(hours=hours), snapshot)
    return take_lease(pipeline.catalog, pipeline.tables["t"].identifier, request, datetime.now(UTC))


def snapshots(pipeline: Pipeline) -> list[int]:
    """Ids, oldest first."""
    found = pipeline.iceberg("t").metadata.snapshots
    return [one.snapshot_id for one in sorted(found, key=lambda one: one.sequence_number or 0)]


def leftovers(table: Table) -> set[str]:
    return objects_of(table) - needed_by(table)


def check_whole(pipeline: Pipeline) -> None:
    """Nothing is missing and nothing is left over, and the rows are the source's."""
    table = pipeline.iceberg("t")
    assert objects_of(table) == needed_by(table)
    assert pipeline.differences("t") == 0


@both_catalogs
def test_expired_snapshots_go_with_their_files_and_every_other_is_read_as_before(
    pipeline: Pipeline,
) -> None:
    first, second, third, *_ = before = snapshots(pipeline)
    table = pipeline.iceberg("t")
    table.manage_snapshots().create_tag(second, "year_end").create_branch(third, "dev").commit()
    table = pipeline.iceberg("t")
    rows = {number: snapshot_rows(pipeline.endpoints, table, number) for number in before}
    plan = load_expiry_plan(pipeline.catalog, pipeline.tables["t"].identifier, SHORT, LATER)[1]
    foreseen = preview_files(table, plan)
    objects = objects_of(table)

    expired = expire(pipeline)

    left = snapshots(pipeline)
    # dev has a floor of its own, and its newest two are its head and the tagged one
    assert left == [second, third, *before[-2:]]
    assert (expired.snapshots, plan.snapshot_ids[0]) == (len(before) - 4, first)
    gone = objects - objects_of(pipeline.iceberg("t"))
    assert replace(expired.files, metadata=0) == foreseen
    assert foreseen.files == len(gone) > 0
    check_whole(pipeline)
    table = pipeline.iceberg("t")
    for number in left:
        assert snapshot_rows(pipeline.endpoints, table, number) == rows[number]
        scanned = table.scan(snapshot_id=number).to_arrow().to_pylist()
        assert sorted((tuple(row.values()) for row in scanned), key=repr) == rows[number]
    assert expire(pipeline).sentence() == f"{pipeline.name}/t: nothing has expired"
    merge(pipeline, 5)
    check_whole(pipeline)


MOMENTS = ["after_commit", Kind.DATA, Kind.MANIFEST, Kind.MANIFEST_LIST, "before_end"]


def killing(moment: str) -> ExpiryHooks:
    if moment not in list(Kind):
        return replace(ExpiryHooks(), **{moment: die})

    def before_kind(kind: Kind) -> None:
        if kind == moment:
            die()

    return ExpiryHooks(before_kind=before_kind)


@pytest.mark.parametrize(
    ("pipeline", "moment"),
    [*(("sql", moment) for moment in MOMENTS), ("rest", Kind.DATA)],
    indirect=["pipeline"],
)
def test_an_expiry_that_is_killed_is_finished_by_the_next(pipeline: Pipeline, moment: str) -> None:
    with pytest.raises(Killed):
        expire(pipeline, hooks=killing(moment))
    assert pipeline.differences("t") == 0
    assert bool(leftovers(pipeline.iceberg("t"))) == (moment != "before_end")
    merge(pipeline, 5)

    done = expire(pipeline)

    assert done.finished == 1
    assert not any(name.startswith(PENDING) for name in pipeline.iceberg("t").properties)
    check_whole(pipeline)


def test_an_expiry_that_is_killed_before_its_commit_has_changed_nothing(pipeline: Pipeline) -> None:
    before = pipeline.iceberg("t")
    with pytest.raises(Killed):
        expire(pipeline, hooks=ExpiryHooks(before_commit=die))

    assert pipeline.iceberg("t").metadata == before.metadata
    assert leftovers(before) == set()
    assert expire(pipeline).snapshots == len(before.metadata.snapshots) - 2


def test_a_catalog_that_dies_between_commit_and_clean_up_costs_another_run(
    pipeline: Pipeline,
) -> None:
    with pytest.raises(LakeUnavailableError, match="run again"):
        expire(pipeline, hooks=ExpiryHooks(after_commit=lambda: pipeline.stack.kill("postgres")))
    pipeline.stack.up(silent)

    assert expire(pipeline).finished == 1

    check_whole(pipeline)


@both_catalogs
def test_a_merge_that_comes_first_makes_the_expiry_plan_anew(pipeline: Pipeline) -> None:
    turns = iter([5])

    def disturb() -> None:
        for turn in turns:
            merge(pipeline, turn)

    expired = expire(pipeline, hooks=ExpiryHooks(before_commit=disturb))

    assert len(snapshots(pipeline)) == 2
    assert expired.snapshots == 5
    check_whole(pipeline)


@both_catalogs
def test_a_lease_that_is_granted_while_an_expiry_commits_holds(pipeline: Pipeline) -> None:
    oldest = snapshots(pipeline)[0]
    taken: list[Lease] = []

    def disturb() -> None:
        if not taken:
            taken.append(lease(pipeline, oldest))

    expire(pipeline, hooks=ExpiryHooks(before_commit=disturb))

    assert snapshots(pipeline)[0] == oldest
    assert list_leases(pipeline.iceberg("t").metadata) == tuple(taken)
    check_whole(pipeline)


@both_catalogs
def test_an_expiry_that_landed_without_an_answer_cleans_up(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_lost = lose_answer(monkeypatch, landed=True)

    assert expire(pipeline).snapshots == 4

    check_lost()
    check_whole(pipeline)


@both_catalogs
def test_an_expiry_whose_commit_never_arrived_is_said_and_nothing_goes(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = objects_of(pipeline.iceberg("t"))
    lose_answer(monkeypatch, landed=False)

    with pytest.raises(CommitUnknownError):
        expire(pipeline)

    assert before <= objects_of(pipeline.iceberg("t"))
    assert expire(pipeline).snapshots == 4
    assert pipeline.differences("t") == 0


def test_hazard_3_statistics_are_kept_and_go_with_their_snapshot(pipeline: Pipeline) -> None:
    table = pipeline.iceberg("t")
    oldest, *_, newest = snapshots(pipeline)
    with table.update_statistics() as update:
        for number in (oldest, newest):
            path = f"{table.location()}/metadata/{number}.stats"
            with table.io.new_output(path).create() as stream:
                stream.write(b"puffin")
            update.set_statistics(
                StatisticsFile.model_validate(
                    {
                        "snapshot-id": number,
                        "statistics-path": path,
                        "file-size-in-bytes": 6,
                        "file-footer-size-in-bytes": 1,
                        "blob-metadata": [],
                    }
                )
            )

    expired = expire(pipeline)

    assert expired.files.statistics == 1
    assert [one.snapshot_id for one in pipeline.iceberg("t").metadata.statistics] == [newest]
    check_whole(pipeline)


@both_catalogs
def test_hazard_8_a_reader_with_a_lease_reads_its_snapshot_until_the_lease_ends(
    pipeline: Pipeline,
) -> None:
    oldest = snapshots(pipeline)[1]
    rows = snapshot_rows(pipeline.endpoints, pipeline.iceberg("t"), oldest)
    granted = lease(pipeline, oldest)

    expire(pipeline)

    table = pipeline.iceberg("t")
    assert snapshot_rows(pipeline.endpoints, table, oldest) == rows
    assert list_leases(table.metadata) == (granted,)
    check_whole(pipeline)
    over = LATER + timedelta(hours=2)
    identifier = pipeline.tables["t"].identifier
    first = expire_table(pipeline.catalog, identifier, SHORT, over)
    second = expire_table(pipeline.catalog, identifier, SHORT, over)
    assert (len(first.refs), first.snapshots, second.snapshots) == (2, 0, 1)
    assert oldest not in snapshots(pipeline)
    check_whole(pipeline)


def test_a_lease_is_given_back_by_its_name(pipeline: Pipeline) -> None:
    identifier = pipeline.tables["t"].identifier
    granted = lease(pipeline)

    assert drop_lease(pipeline.catalog, identifier, granted.name) == granted

    assert list_leases(pipeline.iceberg("t").metadata) == ()
    with pytest.raises(LeaseMissingError, match="it has: none"):
        drop_lease(pipeline.catalog, identifier, granted.name)
    assert pipeline.differences("t") == 0


def test_a_lease_on_what_is_not_there_is_refused(pipeline: Pipeline) -> None:
    for snapshot, what in ((7, "table snapshot 7"), ("nope", 'branch or tag "nope"')):
        with pytest.raises(LeaseRefusedError, match=what):
            lease(pipeline, snapshot)
    with pytest.raises(LeaseRefusedError, match="would last"):
        lease(pipeline, hours=0)


def test_a_manifest_that_is_missing_is_named_with_its_snapshot_and_nothing_goes(
    pipeline: Pipeline,
) -> None:
    table = pipeline.iceberg("t")
    head = table.current_snapshot()
    assert head is not None
    path = head.manifests(table.io)[0].manifest_path
    take(table, path)
    before = objects_of(table)

    with pytest.raises(MetadataFileMissingError) as error:
        expire(pipeline)

    assert (error.value.path, error.value.snapshot_id) == (path, head.snapshot_id)
    assert before <= objects_of(pipeline.iceberg("t"))


@pytest.mark.parametrize("failure", ["slow down", "hang up"])
def test_a_store_that_fails_midway_is_said_and_the_next_expiry_goes_on(
    pipeline: Pipeline, failure: str
) -> None:
    deletes = 0

    def fails(method: str, path: str) -> str | None:
        nonlocal deletes
        deletes += method == "POST" and "delete" in path.partition("?")[2]
        return failure if deletes > 1 else None

    lake = pipeline.endpoints.lake
    with (
        failing_store(lake.s3_endpoint, fails) as address,
        open_catalog(replace(lake, s3_endpoint=address)) as catalog,
        pytest.raises(StoreInterruptedError, match="it goes on from there"),
    ):
        expire_table(catalog, pipeline.tables["t"].identifier, SHORT, LATER)
    assert deletes > 2, "it was tried again before it was given up"
    assert pipeline.differences("t") == 0
    assert leftovers(pipeline.iceberg("t"))

    done = expire(pipeline)

    assert done.finished == 1
    check_whole(pipeline)
