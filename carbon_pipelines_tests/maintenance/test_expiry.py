"""Which snapshots a plan takes, for tables of any shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.refs import SnapshotRef
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import (
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    update_table_metadata,
)
from pyiceberg.types import LongType, NestedField

from carbon_pipelines.errors import RemovalForbiddenError, RetentionZeroError
from carbon_pipelines.lake.state import find_carrier
from carbon_pipelines.maintenance.expiry import EVERLASTING, ExpiryPlan, plan_expiry
from carbon_pipelines.maintenance.leases import LEASE, MARKER
from carbon_pipelines.maintenance.retention import AGE, AT_LEAST, Retention

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
STATE = {"carbon.position": "0"}


@dataclass(frozen=True)
class Made:
    """A snapshot of a test: number of its parent, age in minutes, and whether it is ours."""

    parent: int | None
    age: int
    ours: bool = True


def metadata_of(
    snapshots: Sequence[Made],
    refs: Mapping[str, Mapping[str, Any]],
    properties: Mapping[str, str] | None = None,
) -> TableMetadata:
    empty = new_table_metadata(
        Schema(NestedField(1, "id", LongType(), required=False)),
        UNPARTITIONED_PARTITION_SPEC,
        UNSORTED_SORT_ORDER,
        "s3://bucket/t",
        {"format-version": "2", **(properties or {})},
    )
    made = [
        Snapshot.model_validate(
            {
                "snapshot-id": number,
                "parent-snapshot-id": one.parent,
                "sequence-number": number,
                "timestamp-ms": int((NOW - one.age * MINUTE).timestamp() * 1000),
                "manifest-list": f"s3://bucket/t/metadata/snap-{number}.avro",
                "summary": Summary(
                    Operation.APPEND, **({"carbon.position": "0"} if one.ours else {})
                ),
            }
        )
        for number, one in enumerate(snapshots)
    ]
    main = refs.get("main", {}).get("snapshot-id")
    named = {name: SnapshotRef.model_validate(ref) for name, ref in refs.items()}
    return empty.model_copy(update={"snapshots": made, "refs": named, "current_snapshot_id": main})


def branch(snapshot: int, **more: int) -> dict[str, Any]:
    return {
        "snapshot-id": snapshot,
        "type": "branch",
        **{k.replace("_", "-"): v for k, v in more.items()},
    }


def tag(snapshot: int, **more: int) -> dict[str, Any]:
    return {**branch(snapshot, **more), "type": "tag"}


def plan(metadata: TableMetadata, **retention: Any) -> ExpiryPlan:
    return plan_expiry(metadata, "market/t", Retention(**retention), NOW)


def line(*ages: int) -> list[Made]:
    """One snapshot after the other."""
    return [Made(number - 1 if number else None, age) for number, age in enumerate(ages)]


def gone(metadata: TableMetadata, **retention: Any) -> tuple[int, ...]:
    return plan(metadata, **retention).snapshot_ids


def test_old_snapshots_go_but_for_the_newest_of_the_branch() -> None:
    metadata = metadata_of(line(50, 40, 30, 20, 10), {"main": branch(4)})

    assert gone(metadata, max_age=5 * MINUTE, at_least=2) == (0, 1, 2)
    assert gone(metadata, max_age=35 * MINUTE, at_least=1) == (0, 1)
    assert gone(metadata, max_age=35 * MINUTE, at_least=4) == (0,)


def test_young_snapshots_beyond_the_most_that_is_kept_go_too() -> None:
    metadata = metadata_of(line(5, 4, 3, 2, 1), {"main": branch(4)})

    assert gone(metadata, max_age=60 * MINUTE, at_least=1, at_most=3) == (0, 1)
    spared = 4.5 * MINUTE
    assert gone(metadata, max_age=60 * MINUTE, at_least=1, at_most=1, spared=spared) == (0,)


def test_a_branchs_own_settings_come_before_those_of_the_table() -> None:
    own = branch(4, min_snapshots_to_keep=3, max_snapshot_age_ms=60_000)
    metadata = metadata_of(line(50, 40, 30, 20, 10), {"main": own})

    assert gone(metadata, max_age=100 * MINUTE, at_least=1) == (0, 1)


def test_tags_and_heads_of_branches_stay_however_old() -> None:
    refs = {"main": branch(4), "year_end": tag(0), "audit": branch(2), "certified": branch(1)}
    metadata = metadata_of(line(500, 400, 300, 200, 100), refs)

    assert gone(metadata, max_age=MINUTE, at_least=1) == (3,)


def test_certified_and_main_never_expire_and_other_refs_do_at_their_age() -> None:
    refs = {
        "main": branch(4, max_ref_age_ms=60_000),
        "certified": tag(0, max_ref_age_ms=60_000),
        "carbon_first_copy": branch(1, max_ref_age_ms=60_000),
        "audit": tag(2, max_ref_age_ms=60_000),
    }
    planned = plan(metadata_of(line(500, 400, 300, 200, 100), refs), max_age=MINUTE, at_least=1)

    assert [one.name for one in planned.refs] == ["audit"]
    assert planned.snapshot_ids == (2, 3)


def test_a_lease_keeps_its_snapshot_until_it_ends_and_goes_then() -> None:
    name, marker = f"{LEASE}doris_0123abcd", f"{MARKER}0"
    lasting = 60_000 * (500 + 10)
    refs = {"main": branch(2), name: tag(0, max_ref_age_ms=lasting), marker: tag(0)}
    metadata = metadata_of(line(500, 400, 300), refs)

    during = plan(metadata, max_age=MINUTE, at_least=1)
    after = plan_expiry(
        metadata, "market/t", Retention(MINUTE, at_least=1), NOW + timedelta(minutes=11)
    )

    assert during.snapshot_ids == (1,)
    assert "leased by doris until" in during.kept[-1].reason
    assert [one.name for one in after.refs] == [marker, name] or [
        one.name for one in after.refs
    ] == [name, marker]
    assert after.snapshot_ids == (1,)  # with its marker still there, the snapshot goes next time


def test_a_snapshot_on_no_branch_goes_with_those_of_main_that_are_older_than_the_kept() -> None:
    made = [*line(9, 8, 7, 6, 5), Made(0, 8), Made(3, 6), Made(4, 1)]
    name, marker = f"{LEASE}doris_0123abcd", f"{MARKER}5"
    leased = {name: tag(5, max_ref_age_ms=60_000_000), marker: tag(5)}
    few: dict[str, Any] = {"max_age": 60 * MINUTE, "at_least": 1, "at_most": 2}

    planned = plan(metadata_of(made, {"main": branch(4)}), **few)

    assert planned.snapshot_ids == (0, 1, 5, 2)
    assert {one.snapshot_id: one.reason for one in planned.snapshots}[5] == (
        "on no branch, older than what main keeps"
    )
    assert gone(metadata_of(made, {"main": branch(4), **leased}), **few) == (0, 1, 2)
    assert gone(metadata_of(made, {"main": branch(4), "certified": tag(5)}), **few) == (0, 1, 2)
    assert gone(metadata_of(made, {"main": branch(4)}), **few, spared=8.5 * MINUTE) == (0,)
    assert gone(metadata_of(made, {"main": branch(4)}), max_age=60 * MINUTE, at_least=1) == ()


def test_what_leads_to_the_newest_state_stays_with_it() -> None:
    made = [Made(None, 500), Made(0, 400), Made(1, 300, ours=False), Made(2, 200, ours=False)]
    metadata = metadata_of(made, {"main": branch(3)})

    planned = plan(metadata, max_age=MINUTE, at_least=1)

    assert planned.snapshot_ids == (0,)
    assert {one.snapshot_id: one.reason for one in planned.kept}[2] == "leads to the state of main"


def test_the_snapshot_that_a_table_is_parked_on_stays_with_all_that_came_after() -> None:
    mark = (
        '{"format_version": "1", "error": "ByHand", "reason": "r", "position": "0", "topic": "t", '
        '"next_offset": 1, "snapshot_id": 1, "since": "2026-05-01T00:00:00+00:00", "by": "me"}'
    )
    metadata = metadata_of(line(500, 400, 300, 200), {"main": branch(3)}, {"carbon.parked": mark})

    assert gone(metadata, max_age=MINUTE, at_least=1) == (0,)


@pytest.mark.parametrize(
    ("setting", "retention"),
    [
        ("max_age", {"max_age": timedelta(0)}),
        ("max_age", {"max_age": timedelta(days=-1)}),
        ("at_least", {"at_least": 0}),
        ("at_most", {"at_most": 0}),
        ("max_ref_age", {"max_ref_age": timedelta(0)}),
    ],
)
def test_a_retention_of_zero_is_refused(setting: str, retention: Mapping[str, Any]) -> None:
    with pytest.raises(RetentionZeroError, match=f"{setting} is .* Nothing was removed"):
        Retention(**retention)


@pytest.mark.parametrize("value", ["0", "-5", "soon"])
def test_a_tables_own_retention_of_zero_is_refused(value: str) -> None:
    with pytest.raises(RetentionZeroError, match=AGE):
        Retention().declared_in({AGE: value})


def test_a_tables_own_retention_comes_before_the_usual_one() -> None:
    assert Retention().declared_in({AGE: "60000", AT_LEAST: "3"}) == Retention(MINUTE, 3)
    assert Retention().declared_in({AGE: "9223372036854775807"}).max_age == timedelta.max


def test_a_table_whose_files_others_may_use_is_left_alone() -> None:
    with pytest.raises(RemovalForbiddenError, match=r"gc\.enabled"):
        plan(metadata_of(line(5), {"main": branch(0)}, {"gc.enabled": "false"}))


def test_the_plan_names_a_reason_for_every_snapshot() -> None:
    metadata = metadata_of(line(50, 40, 1), {"main": branch(2), "audit": tag(0)})

    assert plan(metadata, max_age=MINUTE, at_least=1).describe() == (
        "market/t: 1 snapshots go, 2 stay\n"
        "  snapshots that go:\n"
        "    1                      2026-06-01 11:20:00  "
        "older than its branch keeps, and beyond the newest it keeps\n"
        "  snapshots that stay:\n"
        "    2                      2026-06-01 11:59:00  branch main is at it\n"
        "    0                      2026-06-01 11:10:00  tag audit is at it"
    )


@st.composite
def tables(draw: st.DrawFn) -> TableMetadata:
    count = draw(st.integers(1, 14))
    ages = sorted(draw(st.lists(st.integers(0, 60), min_size=count, max_size=count)), reverse=True)
    made = [
        Made(draw(st.sampled_from([None, *range(n)] if n else [None])), age, draw(st.booleans()))
        for n, age in enumerate(ages)
    ]
    number = st.integers(0, count - 1)
    age_ms = st.none() | st.integers(1, 60 * 60_000)
    refs: dict[str, dict[str, Any]] = {"main": branch(draw(number))}
    for name in draw(st.sets(st.sampled_from(["certified", "carbon_first_copy", "audit", "dev"]))):
        refs[name] = branch(draw(number))
        for setting, values in (
            ("max-ref-age-ms", age_ms),
            ("max-snapshot-age-ms", age_ms),
            ("min-snapshots-to-keep", st.none() | st.integers(1, 5)),
        ):
            if (value := draw(values)) is not None:
                refs[name][setting] = value
    for name in draw(st.sets(st.sampled_from(["certified", "year_end", "release"]))):
        refs[name] = tag(draw(number))
        if (value := draw(age_ms)) is not None:
            refs[name]["max-ref-age-ms"] = value
    for lease in range(draw(st.integers(0, 3))):
        leased = draw(number)
        refs[f"{LEASE}doris_{lease:08x}"] = tag(
            leased, max_ref_age_ms=draw(st.integers(1, 7_200_000))
        )
        refs[f"{MARKER}{leased}"] = tag(leased)
    return metadata_of(made, refs)


retentions = st.builds(
    Retention,
    max_age=st.integers(1, 60).map(lambda n: n * MINUTE),
    at_least=st.integers(1, 5),
    at_most=st.none() | st.integers(1, 8),
    spared=st.integers(0, 60).map(lambda n: n * MINUTE),
)


def line_of(metadata: TableMetadata, snapshot_id: int) -> list[Snapshot]:
    """A snapshot and its ancestors, found without any code of the planner."""
    by_id = {one.snapshot_id: one for one in metadata.snapshots}
    found: list[Snapshot] = []
    at: int | None = snapshot_id
    while at in by_id:
        found.append(by_id[at])
        at = found[-1].parent_snapshot_id
    return found


def age_of(snapshot: Snapshot) -> timedelta:
    return NOW - datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)


def stays(metadata: TableMetadata, retention: Retention) -> tuple[set[str], set[int]]:
    """The rules once more, written down the long way: the refs and snapshots that stay."""
    refs = {
        name
        for name, ref in metadata.refs.items()
        if name in EVERLASTING
        or (
            not name.startswith(MARKER)
            and (
                ref.max_ref_age_ms is None
                or age_of(line_of(metadata, ref.snapshot_id)[0])
                < timedelta(milliseconds=ref.max_ref_age_ms)
            )
        )
    }
    leased = {metadata.refs[name].snapshot_id for name in refs if name.startswith(LEASE)}
    refs |= {f"{MARKER}{number}" for number in leased}
    snapshots = {ref.snapshot_id for name, ref in metadata.refs.items() if name in refs}
    snapshots |= {r.snapshot_id for name, r in metadata.refs.items() if name.startswith(MARKER)}
    on_branches: set[int] = set()
    for name in refs:
        ref = metadata.refs[name]
        ancestors = line_of(metadata, ref.snapshot_id)
        ours = [
            n
            for n, one in enumerate(ancestors)
            if "carbon.position" in one.summary.additional_properties
        ]
        if ours:
            snapshots |= {one.snapshot_id for one in ancestors[: ours[0] + 1]}
        if ref.snapshot_ref_type != "branch":
            continue
        on_branches |= {one.snapshot_id for one in ancestors}
        age, most = retention.max_age, retention.at_most
        if ref.max_snapshot_age_ms is not None:
            age, most = timedelta(milliseconds=ref.max_snapshot_age_ms), None
        floor = ref.min_snapshots_to_keep or retention.at_least
        for n, one in enumerate(ancestors):
            young = most is None or n < most or age_of(one) < retention.spared
            if n < floor or (age_of(one) < age and young):
                snapshots.add(one.snapshot_id)
    main = metadata.refs["main"]
    most = None if main.max_snapshot_age_ms is not None else retention.at_most
    if most is not None:
        most = max(most, main.min_snapshots_to_keep or retention.at_least)
    for one in metadata.snapshots:
        ancestors = line_of(metadata, main.snapshot_id)
        newer = sum(age_of(other) < age_of(one) for other in ancestors)
        crowded = most is not None and newer >= most and age_of(one) >= retention.spared
        young = age_of(one) < retention.max_age
        if one.snapshot_id not in on_branches and young and not crowded:
            snapshots.add(one.snapshot_id)
    return refs, snapshots


@given(tables(), retentions)
def test_exactly_what_the_rules_say_stays(metadata: TableMetadata, retention: Retention) -> None:
    planned = plan_expiry(metadata, "market/t", retention, NOW)
    refs, snapshots = stays(metadata, retention)

    assert {one.name for one in planned.refs} == set(metadata.refs) - refs
    assert {one.snapshot_id for one in planned.kept} == snapshots
    assert set(planned.snapshot_ids) == {s.snapshot_id for s in metadata.snapshots} - snapshots


def after(metadata: TableMetadata, planned: ExpiryPlan) -> TableMetadata:
    """The metadata as PyIceberg makes it of the plan."""
    updates = [RemoveSnapshotRefUpdate.model_validate({"ref-name": r.name}) for r in planned.refs]
    ids = list(planned.snapshot_ids)
    if ids:
        updates.append(RemoveSnapshotsUpdate.model_validate({"snapshot-ids": ids}))
    return update_table_metadata(metadata, tuple(updates)) if updates else metadata


@given(tables(), retentions)
def test_progress_heads_and_refs_are_found_as_before(
    metadata: TableMetadata, retention: Retention
) -> None:
    planned = plan_expiry(metadata, "market/t", retention, NOW)
    left = after(metadata, planned)

    assert set(left.refs) == set(metadata.refs) - {one.name for one in planned.refs}
    for name, ref in left.refs.items():
        head = metadata.snapshot_by_id(ref.snapshot_id)
        now = left.snapshot_by_name(name)
        assert head is not None
        assert now is not None
        before, found = find_carrier(metadata, head), find_carrier(left, now)
        assert (before and before.snapshot_id) == (found and found.snapshot_id)


@given(tables(), retentions)
def test_plans_come_to_an_end(metadata: TableMetadata, retention: Retention) -> None:
    rounds = 0
    while planned := plan_expiry(metadata, "market/t", retention, NOW):
        metadata, rounds = after(metadata, planned), rounds + 1

    assert rounds <= 4
