"""What goes of snapshots, branches and tags at the date of an erasure, and what is remembered."""

import json
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update import SetPropertiesUpdate, SetSnapshotRefUpdate

from carbon_pipelines.errors import ErasureUnfinishedError, RemovalForbiddenError
from carbon_pipelines.lake.parking import PARKED, Parked
from carbon_pipelines.maintenance.erasure_expiry import certified_target, plan_due, plan_early
from carbon_pipelines.maintenance.erasure_plan import early_date, outside_lines
from carbon_pipelines.maintenance.erasure_request import (
    RECORDS,
    Cleansed,
    new_request,
    pending_requests,
    record_value,
)
from carbon_pipelines.maintenance.leases import LEASE, MARKER
from carbon_pipelines.maintenance.person_key import PersonKey
from carbon_pipelines.stream.retention import TopicRetention
from carbon_pipelines_tests.maintenance.test_expiry import NOW, branch, line, metadata_of, tag

LABEL = "shop/customers"
OLD = {0: "holds some", 1: "holds some", 2: "holds some"}


def table_of(metadata: TableMetadata) -> Table:
    """What the planner needs of a table."""
    return cast("Table", SimpleNamespace(metadata=metadata, name=lambda: ("shop", "customers")))


def cleansed(number: int) -> Cleansed:
    return Cleansed(number, NOW, frozenset())


def replacing(metadata: TableMetadata, *numbers: int) -> TableMetadata:
    """``metadata`` in which these snapshots are upkeep."""
    upkeep = Summary(Operation.REPLACE, **{"carbon.position": "0"})
    changed = [
        one.model_copy(update={"summary": upkeep}) if one.snapshot_id in numbers else one
        for one in metadata.snapshots
    ]
    return metadata.model_copy(update={"snapshots": changed})


def test_at_the_date_leases_tags_and_branches_at_such_snapshots_go_and_others_stay() -> None:
    refs: dict[str, Any] = {
        "main": branch(4),
        f"{LEASE}doris_0123abcd": tag(1, max_ref_age_ms=10**12),
        f"{MARKER}1": tag(1, max_ref_age_ms=10**12),
        "year_end": tag(0),
        "dev": branch(2),
        "clean": tag(3),
    }
    table = table_of(metadata_of(line(50, 40, 30, 20, 10), refs))

    early = plan_early(table, OLD, NOW)
    due = plan_due(table, OLD, cleansed(3), NOW)

    assert (early.snapshot_ids, early.refs) == ((), ())
    assert [one.snapshot_id for one in early.kept] == [2, 1, 0]
    assert due.snapshot_ids == (0, 1, 2)
    assert {one.name for one in due.refs} == set(refs) - {"main", "clean"}
    assert due.heads.keys() == refs.keys()
    leased = next(one for one in due.refs if one.name.startswith(LEASE))
    assert leased.reason.startswith("leased by doris until")


def test_before_the_date_what_has_expired_of_such_snapshots_goes_and_nothing_else() -> None:
    old = line(*(60 * 24 * 9 - n for n in range(30)))
    table = table_of(metadata_of(old, {"main": branch(29)}))

    assert plan_early(table, OLD, NOW).snapshot_ids == (0, 1, 2)
    assert plan_early(table, {}, NOW).snapshot_ids == ()


@pytest.mark.parametrize(
    ("upkeep", "target"), [((2, 3), 3), ((3,), None), ((2, 3, 4), 3), ((), None)]
)
def test_certified_moves_only_over_upkeep(upkeep: tuple[int, ...], target: int | None) -> None:
    refs = {"main": branch(4), "certified": branch(1)}
    metadata = replacing(metadata_of(line(50, 40, 30, 20, 10), refs), *upkeep)

    found = certified_target(metadata, cleansed(3))
    plan = plan_due(table_of(metadata), OLD, cleansed(3), NOW)

    assert (found.snapshot_id if found is not None else None) == target
    moves = [one for one in plan.updates if isinstance(one, SetSnapshotRefUpdate)]
    assert [(one.ref_name, one.snapshot_id) for one in moves] == (
        [("certified", target)] if target is not None else []
    )
    assert [one.name for one in plan.refs] == ([] if target is not None else ["certified"])


def test_a_certified_snapshot_without_such_rows_stays_where_it_is() -> None:
    metadata = metadata_of(line(50, 40, 30, 20), {"main": branch(3), "certified": branch(2)})

    plan = plan_due(table_of(metadata), {0: "", 1: ""}, cleansed(2), NOW)

    assert (plan.refs, plan.updates) == ((), ())


def test_a_parked_table_stays_parked() -> None:
    mark = Parked("ByHand", "Disk.", "0/0", "cdc.t", 7, 1, NOW, "ann")
    properties = {PARKED: json.dumps(mark.to_fields())}
    metadata = metadata_of(line(50, 40, 30, 20), {"main": branch(3)}, properties)

    [update] = plan_due(table_of(metadata), OLD, cleansed(3), NOW).updates

    assert isinstance(update, SetPropertiesUpdate)
    assert json.loads(update.updates[PARKED])["snapshot_id"] == 3


def test_main_itself_never_goes() -> None:
    table = table_of(metadata_of(line(50, 40, 30), {"main": branch(2)}))

    with pytest.raises(ErasureUnfinishedError, match="main has such rows"):
        plan_due(table, OLD, cleansed(1), NOW)


def test_a_table_whose_files_may_be_anothers_is_refused() -> None:
    metadata = metadata_of(line(9, 8), {"main": branch(1)}, {"gc.enabled": "false"})

    with pytest.raises(RemovalForbiddenError):
        plan_due(table_of(metadata), {0: ""}, cleansed(1), NOW)


def test_the_first_date_is_the_day_after_files_in_flight_are_old() -> None:
    floor = timedelta(days=3)

    assert early_date(datetime(2026, 6, 1, 0, 0, tzinfo=UTC), floor) == date(2026, 6, 4)
    assert early_date(datetime(2026, 6, 1, 0, 1, tzinfo=UTC), floor) == date(2026, 6, 5)


def test_a_request_is_read_as_it_was_written_and_holds_no_key() -> None:
    key = PersonKey((1,), bytes(16), bytes(32), texts=("4711",))
    asked = new_request(key, by=date(2026, 7, 1), reason="no 17", asked_by="ann", now=NOW)
    request = asked.with_cleansed(LABEL, Cleansed(9, NOW, frozenset({3, 5})), rows=2, files=1)
    metadata = metadata_of(line(1), {"main": branch(0)}, {request.name: request.to_value()})

    assert pending_requests(metadata, LABEL) == [request]
    assert "4711" not in request.to_value()
    assert request.key.values == request.key.texts == ()
    assert not request.is_due(datetime(2026, 6, 30, 23, 59, tzinfo=UTC))
    assert request.is_due(datetime(2026, 7, 1, tzinfo=UTC))


def test_the_record_has_dates_and_counts_and_neither_hash_nor_reason() -> None:
    key = PersonKey((1,), bytes(16), bytes(range(32)))
    request = new_request(key, by=date(2026, 7, 1), reason="no 17", asked_by="ann", now=NOW)
    metadata = metadata_of(line(1), {"main": branch(0)}, {RECORDS: '[{"id": "earlier"}]'})

    value = record_value(metadata, request, NOW, snapshots=3)

    assert json.loads(value) == [
        {"id": "earlier"},
        {
            "id": request.number,
            "asked_at": "2026-06-01T12:00:00+00:00",
            "by": "2026-07-01",
            "erased_at": "2026-06-01T12:00:00+00:00",
            "rows": 0,
            "files_rewritten": 0,
            "snapshots": 3,
        },
    ]


@pytest.mark.parametrize(
    ("keeps", "compacted", "says"),
    [
        (timedelta(days=14), False, "until 2026-06-15 12:00 UTC at the latest"),
        (timedelta(days=60), False, "which is after the date"),
        (None, False, "kept for ever"),
        (None, True, "until compaction has passed the tombstone"),
    ],
)
def test_what_kafka_keeps_is_named(keeps: timedelta | None, says: str, *, compacted: bool) -> None:
    retention = TopicRetention("cdc.shop.public.customers", keeps, compacted)

    first, *_ = outside_lines(retention, (), date(2026, 7, 1), NOW)

    assert first.what == "Kafka topic cdc.shop.public.customers"
    assert says in first.why
