"""What a commit promises, over a SQL catalog and over an Iceberg REST catalog alike.

What belongs here: commits that are made, lost, refused or interrupted. The edges of copies and of
schema changes are where they belong, under the same mark.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitStateUnknownException

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import CommitUnknownError, LakeAuthenticationError
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.catalogs import both_catalogs, lake_of, rest_lake
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration


@pytest.fixture
def pipeline(
    stack: Stack, source: SourceDatabase, request: pytest.FixtureRequest
) -> Iterator[Pipeline]:
    made = Pipeline(stack, source, lake=lake_of(request, stack))
    made.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int, doc text)",
        "INSERT INTO t SELECT g, g, 'row ' || g FROM generate_series(1, 500) g",
    )
    made.declare("t")
    made.follow("t")
    yield made
    made.close()


@both_catalogs
def test_merges_key_changes_a_truncate_and_a_new_column_are_exact(pipeline: Pipeline) -> None:
    pipeline.execute(
        "UPDATE t SET n = n + 1 WHERE id % 3 = 0",
        "DELETE FROM t WHERE id % 5 = 0",
        "ALTER TABLE t ADD COLUMN tag text",
        "UPDATE t SET id = id + 1000, tag = 'moved' WHERE id % 7 = 0",
        "UPDATE t SET id = -1 WHERE id = 1",
        "UPDATE t SET id = 1 WHERE id = 2",
        "UPDATE t SET id = 2 WHERE id = -1",
    )
    pipeline.follow("t")
    assert pipeline.differences("t") == 0

    pipeline.execute(
        "INSERT INTO t VALUES (9001, 1, 'gone')",
        "TRUNCATE t",
        "INSERT INTO t VALUES (9001, 2, 'there', 'new'), (2, 3, 'again', NULL)",
    )
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


@both_catalogs
@pytest.mark.parametrize("moment", ["after_write", "after_commit"])
def test_a_merge_that_is_killed_at_any_moment_is_applied_once(
    pipeline: Pipeline, moment: str
) -> None:
    pipeline.execute("UPDATE t SET n = 0 WHERE id % 2 = 0", "DELETE FROM t WHERE id % 3 = 0")
    pipeline.drain()
    before = len(pipeline.iceberg("t").metadata.snapshots)

    def kill() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.sync("t", hooks=MergeHooks(**{moment: kill}))
    again = pipeline.sync("t")

    assert again.committed == (moment != "after_commit")
    assert len(pipeline.iceberg("t").metadata.snapshots) == before + 1
    assert pipeline.differences("t") == 0


def lose_answer(monkeypatch: pytest.MonkeyPatch, *, landed: bool) -> Callable[[], None]:
    """The next commit's answer is lost, after it landed or before it was received."""
    lost: list[bool] = []
    for kind in (SqlCatalog, RestCatalog):
        real = kind.commit_table

        def commit(self: Any, *arguments: Any, real: Any = real) -> Any:
            if lost:
                return real(self, *arguments)
            lost.append(True)
            if landed:
                real(self, *arguments)
            reason = "connection reset by peer"
            raise CommitStateUnknownException(reason)

        monkeypatch.setattr(kind, "commit_table", commit)
    return lambda: None if lost else pytest.fail("no commit was sent")


@both_catalogs
def test_a_commit_that_landed_without_an_answer_is_found_and_counts(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.execute("UPDATE t SET n = 0 WHERE id % 2 = 0", "DELETE FROM t WHERE id = 9")
    pipeline.drain()
    check_lost = lose_answer(monkeypatch, landed=True)

    assert pipeline.sync("t").committed

    check_lost()
    assert pipeline.sync("t").committed is False
    assert pipeline.differences("t") == 0


@both_catalogs
def test_a_commit_that_never_arrived_is_said_and_the_next_run_makes_it(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.execute("UPDATE t SET n = 0 WHERE id % 2 = 0", "DELETE FROM t WHERE id = 9")
    pipeline.drain()
    lose_answer(monkeypatch, landed=False)

    with pytest.raises(CommitUnknownError, match="Run again") as error:
        pipeline.sync("t")

    assert error.value.retryable
    assert pipeline.sync("t").committed
    assert pipeline.differences("t") == 0


def test_a_wrong_credential_of_a_rest_catalog_is_said_without_it(stack: Stack) -> None:
    wrong = replace(rest_lake(stack), catalog_credential="admin:wrong-and-secret")

    with pytest.raises(LakeAuthenticationError) as error, open_catalog(wrong) as catalog:
        catalog.list_namespaces()

    assert "wrong-and-secret" not in str(error.value)


@both_catalogs
def test_a_copy_anew_is_partitioned_and_sorted_as_declared_now(pipeline: Pipeline) -> None:
    by_id = [{"column": "id", "transform": "bucket[3]"}]
    pipeline.declare("t", partitioning=by_id, sort_order=[{"column": "doc"}])

    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.execute("UPDATE t SET n = -1 WHERE id % 7 = 0", "DELETE FROM t WHERE id % 5 = 0")
    pipeline.follow("t")

    assert [field.name for field in pipeline.iceberg("t").spec().fields] == ["id_bucket"]
    assert len(pipeline.iceberg("t").sort_order().fields) == 1
    assert pipeline.differences("t") == 0
