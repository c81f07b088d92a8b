from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.errors import StateFormatError, StateMissingError
from carbon_pipelines.lake.state import CopyEdge, TableProgress, load_progress, read_progress
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.visibility import Visibility
from carbon_pipelines_tests.lake.local_lake import START, LocalLake

LSNS = st.integers(0, 2**63 - 1)
COUNTS = st.integers(0, 2**62)
POSITIONS = st.builds(Position, LSNS, st.integers(0, 2**31))
VISIBILITIES = st.builds(
    lambda low, width, running: Visibility(
        low, low + width, frozenset(low + r for r in running if r < width)
    ),
    st.integers(3, 2**40),
    st.integers(0, 50),
    st.sets(st.integers(0, 50)),
)
PROGRESS = st.builds(
    TableProgress,
    position=POSITIONS,
    next_offset=COUNTS,
    schema_version=COUNTS,
    cluster_id=st.text(max_size=22),
    topic_id=st.text(max_size=22),
    system_identifier=st.integers(0, 2**64 - 1).map(str),
    timeline=st.integers(1, 2**31),
    relation_oid=st.integers(1, 2**32 - 1),
    ddl_offset=COUNTS,
    edge=st.none() | st.builds(CopyEdge, VISIBILITIES, LSNS),
    generation=st.integers(0, 99),
)


@given(PROGRESS)
def test_progress_comes_back_from_a_summary_as_it_was(progress: TableProgress) -> None:
    assert read_progress(progress.to_properties(), "market/t") == progress


@given(PROGRESS, POSITIONS)
def test_the_edge_of_the_copy_is_kept_until_the_position_is_past_it(
    progress: TableProgress, position: Position
) -> None:
    moved = progress.moved_to(position, 7, 8, 9)

    past = progress.edge is not None and position.commit_lsn > progress.edge.through_lsn
    expected = None if past else progress.edge
    assert moved == replace(
        progress,
        position=position,
        next_offset=7,
        schema_version=8,
        ddl_offset=9,
        edge=expected,
    )


def test_an_event_at_the_copys_own_lsn_does_not_end_its_edge() -> None:
    edge = CopyEdge(Visibility(3, 3, frozenset()), 100)
    progress = replace(START, edge=edge)

    edges = [progress.moved_to(Position(lsn, 1), 1, 1, 1).edge for lsn in (99, 100, 101)]

    assert edges == [edge, edge, None]


def test_progress_of_another_format_is_refused() -> None:
    properties = {**START.to_properties(), "carbon.format_version": "2"}

    with pytest.raises(StateFormatError, match="version 2"):
        read_progress(properties, "market/t")


def lake(path: Path) -> LocalLake:
    return LocalLake(path, {"id": "int8", "name": "text"}, ["id"])


def foreign_row(made: LocalLake) -> None:
    """Another tool appends a row, and knows nothing of progress."""
    fresh = made.fresh()
    row = {"id": 9, "name": "foreign"}
    fresh.append(pa.Table.from_pylist([row], schema=fresh.schema().as_arrow()))


def test_a_new_table_has_no_progress(tmp_path: Path) -> None:
    assert load_progress(lake(tmp_path).fresh().metadata, "market/t") is None


def test_progress_is_found_past_the_snapshots_of_other_tools(tmp_path: Path) -> None:
    made = lake(tmp_path)
    made.load([{"id": 1, "name": "one"}])
    foreign_row(made)
    foreign_row(made)

    assert load_progress(made.fresh().metadata, "market/t") == START


def test_a_merge_after_another_tools_snapshot_carries_progress_on(tmp_path: Path) -> None:
    made = lake(tmp_path)
    made.load([{"id": 1, "name": "one"}])
    foreign_row(made)

    made.merge([{"op": "u", "after": {"id": 9, "name": "ours"}}])

    assert made.rows() == [(1, "one"), (9, "ours")]
    progress = load_progress(made.fresh().metadata, "market/t")
    assert progress is not None
    assert progress.position == Position(1001, 1)


def test_a_table_whose_snapshots_carry_no_progress_is_refused(tmp_path: Path) -> None:
    made = lake(tmp_path)
    made.catalog.drop_table(made.spec.identifier)
    made.catalog.create_table(made.spec.identifier, made.table.schema())
    foreign_row(made)

    with pytest.raises(StateMissingError, match="market/t"):
        load_progress(made.fresh().metadata, "market/t")
