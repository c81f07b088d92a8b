from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import BaseModel
from pyiceberg.exceptions import (
    BadRequestError,
    CommitFailedException,
    CommitStateUnknownException,
    ServerError,
)
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, Transaction
from sqlalchemy.exc import OperationalError

from carbon_pipelines.errors import CommitUnknownError, LakeUnavailableError, SequenceNumberError
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.connection import lake_errors
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.partitions import PartitionedWriter, file_target
from carbon_pipelines.lake.row_delta import FileChanges, RowDelta
from carbon_pipelines_tests.lake.local_lake import START, LocalLake, last_sequence_numbers

PROPERTIES = START.to_properties()


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    made = LocalLake(tmp_path, {"id": "int8", "name": "text"}, ["id"])
    made.load([{"id": 1, "name": "one"}])
    return made


def new_file(table: Table, number: int) -> DataFile:
    writer = PartitionedWriter(file_target(table))
    row = {"id": number, "name": "new"}
    writer.write(pa.Table.from_pylist([row], schema=arrow_schema(table.schema())))
    (file,) = writer.close()
    return file


def appending(table: Table, number: int) -> FileChanges:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return FileChanges((new_file(table, number),), manifests=snapshot.manifests(table.io))


def unreadable_answer() -> Exception:
    class Answer(BaseModel):
        metadata: dict[str, str]

    with pytest.raises(ValueError, match="Invalid JSON") as caught:
        Answer.model_validate_json("<html>")
    return caught.value


def failing(
    monkeypatch: pytest.MonkeyPatch, table: Table, error: Exception, *, landed: bool
) -> list[int]:
    """Make the catalog fail every commit with ``error``, after or before it is done."""
    commit: Callable[..., Any] = table.catalog.commit_table
    attempts: list[int] = []

    def fail(*arguments: Any, **named: Any) -> None:
        attempts.append(len(attempts))
        if landed:
            commit(*arguments, **named)
        raise error

    monkeypatch.setattr(table.catalog, "commit_table", fail)
    return attempts


LOST_ANSWERS = [
    CommitStateUnknownException("502"),
    ServerError("500"),
    OperationalError("UPDATE", {}, Exception("server closed the connection")),
    ConnectionResetError("reset"),
    unreadable_answer(),
]


def test_a_conflict_leaves_the_table_to_the_one_who_came_first(lake: LocalLake) -> None:
    ours, theirs = lake.fresh(), lake.fresh()
    assert commit_files(theirs, appending(theirs, 2), PROPERTIES) is not None
    before = lake.fresh().metadata

    assert commit_files(ours, appending(ours, 3), PROPERTIES) is None

    assert lake.fresh().metadata == before
    assert lake.rows() == [(1, "one"), (2, "new")]


def test_a_commit_to_another_branch_meanwhile_is_a_conflict_too(lake: LocalLake) -> None:
    ours, theirs = lake.fresh(), lake.fresh()
    theirs.manage_snapshots().create_branch(theirs.current_snapshot().snapshot_id, "b").commit()
    theirs = lake.fresh()
    assert commit_files(theirs, appending(theirs, 2), PROPERTIES, branch="b") is not None

    assert commit_files(ours, appending(ours, 3), PROPERTIES) is None

    assert lake.rows() == [(1, "one")]


def test_a_branch_that_begins_gives_way_to_merges_on_main_and_never_turns_time_back(
    lake: LocalLake,
) -> None:
    planned = lake.fresh()
    for turn in range(3):
        lake.merge([{"op": "u", "after": {"id": 1, "name": f"turn {turn}"}}])

    begun = commit_files(planned, FileChanges((new_file(planned, 7),)), PROPERTIES, branch="b")

    lake.merge([{"op": "u", "after": {"id": 1, "name": "last"}}])
    assert begun is None
    assert lake.fresh().scan().to_arrow().to_pylist() == [{"id": 1, "name": "last"}]
    assert lake.rows() == [(1, "last")]
    numbers = last_sequence_numbers(lake.fresh())
    assert numbers == sorted(numbers)


def test_a_branch_that_begins_gives_way_to_commits_on_any_other_branch(lake: LocalLake) -> None:
    table = lake.fresh()
    table.manage_snapshots().create_branch(table.current_snapshot().snapshot_id, "theirs").commit()
    planned, theirs = lake.fresh(), lake.fresh()
    assert commit_files(theirs, appending(theirs, 2), PROPERTIES, branch="theirs") is not None

    begun = commit_files(planned, FileChanges((new_file(planned, 7),)), PROPERTIES, branch="b")

    assert begun is None


def test_a_table_whose_sequence_numbers_went_back_is_not_written_to(lake: LocalLake) -> None:
    table = lake.fresh()
    for turn in range(3):
        lake.merge([{"op": "u", "after": {"id": 1, "name": f"turn {turn}"}}])
    delta = RowDelta(Transaction(table), FileChanges(), PROPERTIES, "other")
    updates, _ = delta._commit()
    lake.catalog.commit_table(table, (), updates)

    with pytest.raises(SequenceNumberError, match="carbon recopy"):
        lake.merge([{"op": "u", "after": {"id": 1, "name": "last"}}])

    assert lake.rows() == [(1, "turn 2")]


def test_pyiceberg_does_not_retry_on_its_own(
    lake: LocalLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = lake.fresh()
    changes = appending(table, 2)
    attempts = failing(monkeypatch, table, CommitFailedException("conflict"), landed=False)

    assert commit_files(table, changes, PROPERTIES) is None

    assert attempts == [0]


@pytest.mark.parametrize("error", LOST_ANSWERS, ids=lambda error: type(error).__name__)
def test_a_commit_whose_answer_was_lost_is_found_by_its_snapshot_id(
    lake: LocalLake, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    table = lake.fresh()
    changes = appending(table, 2)
    failing(monkeypatch, table, error, landed=True)

    committed = commit_files(table, changes, PROPERTIES)

    assert committed is not None
    assert committed.snapshot_id == lake.fresh().current_snapshot().snapshot_id
    assert committed.table.metadata == lake.fresh().metadata
    assert lake.rows() == [(1, "one"), (2, "new")]


@pytest.mark.parametrize("error", LOST_ANSWERS, ids=lambda error: type(error).__name__)
def test_a_commit_without_an_answer_that_is_not_there_is_unknown(
    lake: LocalLake, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    table = lake.fresh()
    changes = appending(table, 2)
    failing(monkeypatch, table, error, landed=False)

    with pytest.raises(CommitUnknownError, match=r"market\.t") as caught:
        commit_files(table, changes, PROPERTIES)

    assert caught.value.retryable
    assert lake.rows() == [(1, "one")]


def test_a_conflict_that_is_reported_of_a_commit_that_landed_is_no_conflict(
    lake: LocalLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = lake.fresh()
    changes = appending(table, 2)
    failing(monkeypatch, table, CommitFailedException("sent twice"), landed=True)

    assert commit_files(table, changes, PROPERTIES) is not None

    assert lake.rows() == [(1, "one"), (2, "new")]


@pytest.mark.parametrize("error", [ValueError("wrong answer"), BadRequestError("400")])
def test_a_refusal_after_the_commit_landed_gives_nothing_up(
    lake: LocalLake, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    table = lake.fresh()
    changes = appending(table, 2)
    failing(monkeypatch, table, error, landed=True)

    assert commit_files(table, changes, PROPERTIES) is not None


@pytest.mark.parametrize("error", [ValueError("nonsense"), BadRequestError("400")])
def test_a_refusal_that_no_other_commit_explains_is_raised(
    lake: LocalLake, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    table = lake.fresh()
    changes = appending(table, 2)
    failing(monkeypatch, table, error, landed=False)

    with pytest.raises(type(error)):
        commit_files(table, changes, PROPERTIES)


def test_a_bucket_that_fails_before_the_commit_leaves_no_doubt(
    lake: LocalLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = lake.fresh()
    changes = appending(table, 2)

    def full(location: str) -> None:
        raise OSError(28, "No space left on device", location)

    monkeypatch.setattr(table.io, "new_output", full)

    with (
        pytest.raises(LakeUnavailableError, match="No space left"),
        lake_errors("Iceberg table market/t"),
    ):
        commit_files(table, changes, PROPERTIES)
