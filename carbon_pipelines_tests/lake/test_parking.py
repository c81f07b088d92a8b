import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyiceberg.table import Table

from carbon_pipelines.errors import (
    CommitConflictError,
    StateFormatError,
    TableMissingError,
    TableNotCopiedError,
    TableNotParkedError,
    TableParkedError,
    UnsupportedTypeError,
)
from carbon_pipelines.lake import answer
from carbon_pipelines.lake.answer import resume
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.layout import stage_layout
from carbon_pipelines.lake.parking import (
    HISTORY,
    PARKED,
    find_parked,
    park_table,
    unpark_table,
)
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.staging import BRANCH, publish
from carbon_pipelines.stream.capture import Prepared
from carbon_pipelines_tests.lake.local_lake import START, LocalLake

AT = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
CAUSE = UnsupportedTypeError("point", "place", "market/t")


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    made = LocalLake(tmp_path, {"id": "int8", "name": "text"}, ["id"])
    made.load([{"id": 1, "name": "copied"}])
    return made


def copied_anew(lake: LocalLake) -> None:
    """Publish a branch that was not made from ``main``."""
    table, layout = stage_layout(lake.fresh(), lake.relation, lake.spec)
    staged = commit_files(table, FileChanges(), START.to_properties(), branch=BRANCH)
    assert staged is not None
    publish(lake.catalog, staged.table, layout)


def go_on(lake: LocalLake) -> Table:
    """As a sync begins; nothing is asked of the source where it is not what parked the table."""
    return resume(lake.catalog, lake.fresh(), lake.spec, database=None, endpoints=None)


def test_a_parked_table_says_why_since_when_where_it_stands_and_what_to_do(lake: LocalLake) -> None:
    park_table(lake.catalog, lake.spec, CAUSE, now=AT)

    with pytest.raises(TableParkedError) as refused:
        go_on(lake)

    assert str(refused.value) == (
        f"market/t is parked since 2026-05-01 12:30:00 UTC by carbon: {CAUSE} The table stands at "
        "0/0-0, before cdc.market.public.t[0]@0; nothing was read and other tables go on. Once the "
        'cause is gone, run "carbon release market/t"; to follow the source as it is now, '
        '"carbon recopy market/t".'
    )
    assert not refused.value.retryable
    assert lake.rows() == [(1, "copied")]


def test_a_table_that_the_source_still_refuses_says_what_it_lacks_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = LocalLake(tmp_path, {"id": "int8"}, ["id"])
    lake.progress = replace(START, dead_letters=(3, 5))
    lake.load([{"id": 1}])
    away = TableMissingError("public.t", location="market")
    park_table(lake.catalog, lake.spec, away, now=AT)
    monkeypatch.setattr(answer, "prepare", lambda *_: Prepared(None, {"t": away}))

    with pytest.raises(TableParkedError) as refused:
        go_on(lake)

    assert refused.value.dead_letters == 2
    assert refused.value.__cause__ is away


def test_the_first_reason_stays(lake: LocalLake) -> None:
    first = park_table(lake.catalog, lake.spec, CAUSE, now=AT)

    assert park_table(lake.catalog, lake.spec, "maintenance", by="ann") == first
    assert find_parked(lake.fresh().metadata, "market/t") == first


def test_a_released_table_flows_and_remembers_who_released_it_and_why(lake: LocalLake) -> None:
    parked = park_table(lake.catalog, lake.spec, "index is being rebuilt", by="ann", now=AT)
    unpark_table(lake.catalog, lake.spec, parked, reason="rebuilt", by="bob", now=AT)

    table = go_on(lake)
    [entry] = json.loads(table.properties[HISTORY])
    assert (entry["parked"]["error"], entry["parked"]["by"]) == ("ByHand", "ann")
    assert entry["parked"]["reason"] == "index is being rebuilt."
    assert entry["released"] == {
        "at": "2026-05-01T12:30:00+00:00",
        "by": "bob",
        "reason": "rebuilt",
    }
    with pytest.raises(TableNotParkedError):
        unpark_table(lake.catalog, lake.spec, parked, reason="again", by="bob")


def test_publishing_a_copy_takes_the_mark_off_in_the_same_commit(lake: LocalLake) -> None:
    park_table(lake.catalog, lake.spec, CAUSE, now=AT)

    copied_anew(lake)

    table = lake.fresh()
    assert PARKED not in table.properties
    assert json.loads(table.properties[HISTORY])[0]["released"]["reason"] == "copied anew"


def test_a_reason_of_the_copy_before_does_not_park_the_one_that_replaced_it(
    lake: LocalLake,
) -> None:
    old = lake.fresh().current_snapshot()
    assert old is not None
    copied_anew(lake)

    with pytest.raises(CommitConflictError):
        park_table(lake.catalog, lake.spec, CAUSE, copy=old.snapshot_id)

    assert find_parked(lake.fresh().metadata, "market/t") is None


def test_a_mark_that_a_copy_did_not_know_of_does_not_count_for_it(lake: LocalLake) -> None:
    table, layout = stage_layout(lake.fresh(), lake.relation, lake.spec)
    staged = commit_files(table, FileChanges(), START.to_properties(), branch=BRANCH)
    assert staged is not None
    park_table(lake.catalog, lake.spec, CAUSE)

    publish(lake.catalog, staged.table, layout)

    assert PARKED in lake.fresh().properties
    go_on(lake)


def test_a_mark_of_another_format_is_not_guessed_at(lake: LocalLake) -> None:
    with lake.fresh().transaction() as transaction:
        transaction.set_properties({PARKED: '{"format_version": "9"}'})

    with pytest.raises(StateFormatError, match="format version 9"):
        go_on(lake)


def test_a_table_without_a_copy_cannot_be_parked(tmp_path: Path) -> None:
    empty = LocalLake(tmp_path, {"id": "int8"}, ["id"])

    with pytest.raises(TableNotCopiedError, match="carbon sync market/t"):
        park_table(empty.catalog, empty.spec, "not yet")
