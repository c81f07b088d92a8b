from pathlib import Path
from typing import Any

import pytest

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.errors import MissingPriorValueError
from carbon_pipelines.lake.commit import commit_files
from carbon_pipelines.lake.first_copy import FirstCopied, FirstCopy
from carbon_pipelines.lake.row_delta import FileChanges
from carbon_pipelines.lake.staging import BRANCH, StagedCopy, load_staged
from carbon_pipelines.source.leaves import Piece
from carbon_pipelines_tests.lake.local_lake import START, LocalLake

RANGES = [[Piece(16384, 0, 12)], [Piece(16384, 12, None)]]
COLUMNS = {"id": "int8", "name": "text"}
HALF = StagedCopy(START, RANGES, frozenset({0}), 4711, 1, {16384: 16999}, 0)


class Nowhere:
    def source_dsn(self, _database: str) -> str:
        return "postgresql://nowhere"


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    """A published table beside which half of another copy is staged."""
    made = LocalLake(tmp_path, COLUMNS, ["id"])
    made.load([{"id": 1, "name": "one"}])
    staged = commit_files(made.fresh(), FileChanges(), HALF.to_properties(), branch=BRANCH)
    assert staged is not None
    return made


def copy_of(lake: LocalLake, kind: type[FirstCopy] = FirstCopy) -> Any:
    database = DatabaseSpec(name="market", owner="team:tests", tables=(lake.spec,))
    return kind(lake.catalog, lake.spec, database, Nowhere(), report=lambda _: None)


def test_a_resumed_copy_that_lacks_a_row_the_stream_still_changes_begins_again(
    lake: LocalLake,
) -> None:
    class Torn(FirstCopy):
        """Fails as long as there is something to resume."""

        def _copy(self) -> FirstCopied:
            table = lake.fresh()
            if load_staged(table, "market/t") is not None:
                raise MissingPriorValueError("market/t", "name", "(id=7)")
            return FirstCopied(table, START, 3)

    assert copy_of(lake, Torn).run().rows == 3
