"""A change of columns that is half done: the lake has it, and the rows from before it not yet."""

import pytest

from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines.stream.topics import topic_of
from carbon_pipelines_tests.integration.pipeline import Killed, Pipeline, die
from carbon_pipelines_tests.integration.streaming import positions, read_topic

pytestmark = pytest.mark.integration


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    pipeline.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int, a text, b text, gone int)",
        "INSERT INTO t SELECT g, g % 10, 'a', 'b', 1 FROM generate_series(1, 50) g",
    )
    pipeline.declare("t", on_rewrite="park")
    pipeline.follow("t")
    return pipeline


SWAPPED = (
    "ALTER TABLE t RENAME a TO held",
    "ALTER TABLE t RENAME b TO a",
    "ALTER TABLE t RENAME held TO b",
)


@pytest.fixture
def changed(pipeline: Pipeline) -> Pipeline:
    """The table's columns have followed a DDL in the lake, and the events before it have not."""

    pipeline.execute(
        "UPDATE t SET a = 'still a' WHERE id = 7",
        "UPDATE t SET n = 1 WHERE id = 8",
        *SWAPPED,
        "ALTER TABLE t DROP gone",
        "UPDATE t SET a = 'was b' WHERE id = 9",
    )
    pipeline.drain()
    before = pipeline.progress("t")
    with pytest.raises(Killed):
        pipeline.sync("t", hooks=MergeHooks(before_write=die))
    assert "gone" not in pipeline.iceberg("t").schema().column_names
    assert pipeline.progress("t") == before
    return pipeline


def test_a_merge_that_dies_once_the_columns_have_changed_is_gone_on_with_under_them(
    changed: Pipeline,
) -> None:
    synced = changed.sync("t")

    assert not synced.recopied
    assert changed.differences("t") == 0


def test_events_up_to_a_point_before_a_change_of_columns_are_merged_under_the_columns_after_it(
    changed: Pipeline,
) -> None:
    events = positions(read_topic(changed.endpoints, topic_of(changed.tables["t"])))
    synced = changed.sync("t", until_lsn=events[-3].commit_lsn)

    assert (synced.events, synced.recopied) == (1, ())
    assert not changed.sync("t").recopied
    assert changed.differences("t") == 0


def test_a_lake_whose_columns_somebody_else_renamed_is_copied_anew(pipeline: Pipeline) -> None:
    """Values would go into the wrong column, or nowhere, and nothing would say so."""
    pipeline.declare("t")
    with pipeline.iceberg("t").update_schema() as update:
        update.rename_column("a", "text")
    pipeline.execute("UPDATE t SET a = 'new' WHERE id = 7")

    synced = pipeline.follow("t")

    assert "calls it text" in "".join(synced.recopied)
    assert pipeline.differences("t") == 0
