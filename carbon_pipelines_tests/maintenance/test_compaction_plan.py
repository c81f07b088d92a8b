from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.maintenance.compaction import (
    CompactionPolicy,
    count_outputs,
    plan_compaction,
)
from carbon_pipelines.maintenance.table_facts import TableFacts
from carbon_pipelines_tests.maintenance.facts import MB, TARGET, file, outcome, table, tables

POLICIES = st.builds(
    CompactionPolicy,
    min_files=st.integers(2, 8),
    delete_ratio=st.sampled_from([0.05, 0.2, 0.5]),
    max_delete_files=st.integers(1, 20),
    max_group_bytes=st.integers(3 * TARGET, 10 * TARGET),
    thorough=st.booleans(),
)


def small_files(count: int, **more) -> list:
    return [file(f"s{number}", **more) for number in range(count)]


def reasons(facts: TableFacts, **policy) -> dict[str, str]:
    plan = plan_compaction(facts, CompactionPolicy(**policy))
    return {one.file.path: one.reason for group in plan.groups for one in group.files}


def test_small_files_of_a_partition_are_written_together_once_there_are_enough() -> None:
    assert reasons(table(*small_files(4))) == {}
    assert reasons(table(*small_files(5))) == {
        f"s{n}": "small: 1.0 MB of 100.0 MB" for n in range(5)
    }


def test_files_of_two_partitions_are_never_written_together() -> None:
    files = [file(f"{p}{n}", group=(0, p), partition=p) for p in "xy" for n in range(5)]

    plan = plan_compaction(table(*files))

    assert [(group.partition, group.paths) for group in plan.groups] == [
        ("x", [f"x{n}" for n in range(5)]),
        ("y", [f"y{n}" for n in range(5)]),
    ]


def test_a_file_that_is_much_larger_than_the_small_ones_waits_for_them_to_grow() -> None:
    grown = file("grown", 60 * MB)

    assert "grown" not in reasons(table(grown, *small_files(10)))
    assert "grown" in reasons(table(grown, *small_files(20)))


def test_a_file_with_many_deleted_rows_is_written_without_them_whatever_its_size() -> None:
    heavy = file("heavy", TARGET, deleted_rows=310, delete_files=1)
    light = file("light", TARGET, deleted_rows=19, delete_files=1)

    assert reasons(table(heavy, light)) == {"heavy": "310 of its rows are deleted (31%)"}


def test_of_a_good_file_with_many_delete_files_only_these_are_written_again() -> None:
    stacked = file("stacked", TARGET, deleted_rows=3, delete_files=11)
    heavy = file("heavy", TARGET, deleted_rows=500, delete_files=11)
    few = file("few", TARGET, deleted_rows=3, delete_files=10)

    plan = plan_compaction(table(stacked, heavy, few))

    assert [(one.file.path, one.reason) for one in plan.merges] == [
        ("stacked", "its readers open 11 delete files")
    ]
    assert [group.paths for group in plan.groups] == [["heavy"]]
    assert "data files stay:\n    stacked " in plan.describe()


def test_deletes_that_memory_would_not_hold_are_not_written_together() -> None:
    files = [
        file(f"f{n}", TARGET, rows=10_000_000, deleted_rows=1_000_000, delete_files=20)
        for n in range(9)
    ]

    assert plan_compaction(table(*files[:8])).merges
    plan = plan_compaction(table(*files))
    assert not plan.merges
    assert {one.reason for group in plan.groups for one in group.files} == {
        "its readers open 20 delete files"
    }


def test_a_file_of_another_spec_is_moved_to_the_present_one() -> None:
    old = file("old", TARGET, group=(0, ""))

    assert reasons(table(old, spec_id=2)) == {"old": "its partition spec is 0, now 2"}


def test_columns_order_and_size_alone_are_reasons_for_a_thorough_plan_only() -> None:
    facts = table(
        file("older", TARGET, older_schema=True, sort_order_id=1),
        file("unsorted", TARGET),
        file("large", 2 * TARGET, sort_order_id=1),
        sort_order_id=1,
    )

    assert reasons(facts) == {}
    assert reasons(facts, thorough=True) == {
        "older": "it has not all of the table's columns",
        "unsorted": "it is not in sort order 1",
        "large": "large: 200.0 MB of 100.0 MB",
    }


def test_groups_come_coldest_first_and_a_bounded_number_of_them() -> None:
    files = [
        file(f"{p}{n}", group=(0, p), touched_number=touched)
        for p, touched in (("x", 99), ("y", 3), ("z", 50))
        for n in range(5)
    ]

    plan = plan_compaction(table(*files), CompactionPolicy(max_groups=2))

    assert [(group.paths[0], group.hot) for group in plan.groups] == [("y0", False), ("z0", False)]
    hottest = plan_compaction(table(*files)).groups[-1]
    assert (hottest.paths[0], hottest.hot) == ("x0", True)


def test_files_whose_rows_are_all_deleted_become_no_file() -> None:
    gone = file("gone", TARGET, deleted_rows=1000, delete_files=1)

    (group,) = plan_compaction(table(gone)).groups

    assert group.output_files == 0


def test_a_file_that_we_cannot_read_is_left_alone_by_name() -> None:
    files = [*small_files(5), file("orc", refused="orc is ORC, which we do not read")]

    plan = plan_compaction(table(*files))

    assert plan.left == (("orc", "orc is ORC, which we do not read"),)
    assert plan.groups[0].paths == [f"s{n}" for n in range(5)]


def test_a_table_with_equality_deletes_is_left_alone_as_a_whole() -> None:
    plan = plan_compaction(table(*small_files(50), refused="another engine wrote equality deletes"))

    assert not plan
    assert plan.left == (("market/t", "another engine wrote equality deletes"),)


def test_dangling_delete_files_are_a_plan_of_their_own() -> None:
    plan = plan_compaction(table(dangling=("d",)))

    assert bool(plan)
    assert plan.dangling == ("d",)


def test_the_description_names_each_file_with_its_reason() -> None:
    text = plan_compaction(table(*small_files(5, partition="day=2024-03-01"))).describe()

    assert text.splitlines()[:3] == [
        "market/t at table snapshot 1: 5 files (5.0 MB) into about 1, "
        "deletes of 0 together, 0 dangling delete files to drop",
        "  group 1 of day=2024-03-01: 5 files, 5.0 MB, into about 1",
        f"    {'s0':<46}     1.0 MB        1,000 rows  small: 1.0 MB of 100.0 MB",
    ]


def test_live_bytes_become_as_many_files_as_they_hold_targets() -> None:
    counts = [count_outputs(size * MB, TARGET) for size in (0, 1, 149, 150, 249, 250, 1000)]
    assert counts == [1, 1, 1, 2, 2, 3, 10]


@given(tables(), POLICIES)
def test_what_a_plan_leaves_is_at_rest(facts: TableFacts, policy: CompactionPolicy) -> None:
    """Files that change their spec go to partitions that may have small ones: once more, then."""
    after = outcome(facts, plan_compaction(facts, policy))
    if any(one.group[0] != facts.spec_id for one in facts.files):
        after = outcome(after, plan_compaction(after, policy))

    assert not plan_compaction(after, policy)


@given(tables(), POLICIES)
def test_a_file_is_in_one_group_at_most_and_no_group_mixes_partitions(
    facts: TableFacts, policy: CompactionPolicy
) -> None:
    plan = plan_compaction(facts, policy)

    paths = [path for group in plan.groups for path in group.paths]
    assert len(paths) == len(set(paths))
    for group in plan.groups:
        assert len({one.file.group for one in group.files}) == 1
        assert all(one.reason for one in group.files)


@given(tables(), POLICIES)
def test_every_group_leaves_fewer_files_or_deletes_or_what_was_asked_for(
    facts: TableFacts, policy: CompactionPolicy
) -> None:
    """A rewrite that turns 5,474 files into 5,232 of the same is none."""
    for group in plan_compaction(facts, policy).groups:
        fewer = group.output_files < len(group.files)
        deletes = any(one.file.delete_files for one in group.files)
        moved = any(one.file.spec_id != facts.spec_id for one in group.files)
        assert fewer or deletes or moved or policy.thorough


@given(tables(), POLICIES)
def test_a_groups_live_bytes_are_bounded(facts: TableFacts, policy: CompactionPolicy) -> None:
    for group in plan_compaction(facts, policy).groups:
        assert len(group.files) == 1 or group.live_bytes <= policy.max_group_bytes
