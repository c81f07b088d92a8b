"""Where one thing ends and the next begins: batches, copies beside the stream, topics made anew."""

import time
from functools import partial

import pytest
from confluent_kafka.admin import AdminClient

from carbon_pipelines.errors import ProgressLostError
from carbon_pipelines.lake import event_reading
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.lake.start_over import apply_start_over, plan_start_over
from carbon_pipelines.stream import changes, consumer
from carbon_pipelines.stream.topics import ddl_topic
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration

LONG = "repeat(md5('{}'), 300)"


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    pipeline.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int, doc text)",
        "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
        f"INSERT INTO t SELECT g, g % 10, {LONG.format('x')} FROM generate_series(1, 50) g",
    )
    pipeline.declare("t")
    return pipeline


def test_keys_change_across_batches_and_values_out_of_line_follow_them(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.follow("t")
    monkeypatch.setattr(event_reading, "BATCH_EVENTS", 1)
    one_by_one = partial(consumer.read_batches, max_events=1)
    monkeypatch.setattr(changes, "read_batches", one_by_one)
    pipeline.execute(
        "UPDATE t SET id = 1000 + id WHERE id <= 4", "UPDATE t SET id = 2000 + id WHERE id = 1001"
    )

    synced = pipeline.follow("t")

    assert synced.events == 10
    assert pipeline.differences("t") == 0


def test_a_copy_anew_skips_changes_from_before_a_column_was_of_another_type(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    pipeline.execute(
        "UPDATE t SET doc = 'a word' WHERE id = 7",
        "ALTER TABLE t ALTER doc TYPE int USING length(doc)",
        "UPDATE t SET doc = 8 WHERE id = 8",
    )
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.execute("UPDATE t SET doc = 9 WHERE id = 9")

    pipeline.follow("t")

    assert pipeline.differences("t") == 0


def test_starting_over_with_the_slot_still_there_writes_the_shapes_anew(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    admin = AdminClient({"bootstrap.servers": pipeline.endpoints.stream_bootstrap})
    topic = ddl_topic(pipeline.name)
    admin.delete_topics([topic])[topic].result()
    while topic in admin.list_topics(timeout=5).topics:
        time.sleep(0.1)
    with pytest.raises(ProgressLostError, match="start-over"):
        pipeline.drain()

    plan = plan_start_over(pipeline.database)
    list(apply_start_over(plan, pipeline.database, pipeline.endpoints, report=lambda _: None))

    pipeline.execute("UPDATE t SET n = 98 WHERE id = 11", "ALTER TABLE t ADD COLUMN more int")
    pipeline.follow("t")
    assert pipeline.differences("t") == 0
