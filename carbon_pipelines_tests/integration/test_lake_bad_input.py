"""Bad input and broken surroundings: an error that says what, where, in which state, what next."""

import os
import time
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from pyarrow.fs import S3FileSystem

from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    LakeAuthenticationError,
    LakeUnavailableError,
    MalformedEnvelopeError,
    OffsetGapError,
    StateMissingError,
    UnrepresentableValueError,
)
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.lake.sync import sync_table
from carbon_pipelines.stream.topics import topic_of
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.weed import weed_shell

pytestmark = pytest.mark.integration

RETRIES = 30


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    pipeline.execute("CREATE TABLE t (id bigint PRIMARY KEY, n numeric(12, 2), doc text)")
    pipeline.execute("INSERT INTO t SELECT g, g, 'row ' || g FROM generate_series(1, 500) g")
    pipeline.declare("t")
    return pipeline


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"not json", "Expecting value"),
        (b'{"op": "c"}', "is missing"),
        (b'{"after": {"id": "x"}, "op": "u", "source": {}}', "id|missing"),
        (b"[1, 2]", "is not a change event"),
    ],
)
def test_a_message_that_is_no_change_event_is_named_and_what_comes_before_it_is_merged(
    pipeline: Pipeline, value: bytes, reason: str
) -> None:
    pipeline.follow("t")
    pipeline.execute("UPDATE t SET n = 7 WHERE id = 7")
    pipeline.drain()
    _produce(pipeline, value)

    with pytest.raises(MalformedEnvelopeError, match=reason) as error:
        pipeline.sync("t")

    assert f"{topic_of(pipeline.tables['t'])}[0]@{error.value.offset}" in str(error.value)
    assert "recopy" in str(error.value)
    assert pipeline.progress("t").next_offset == error.value.offset
    assert pipeline.differences("t") == 0
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.execute("UPDATE t SET n = 8 WHERE id = 8")
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def _produce(pipeline: Pipeline, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": pipeline.endpoints.stream_bootstrap})
    producer.produce(topic_of(pipeline.tables["t"]), value, b"foreign")
    assert producer.flush(10) == 0


def test_retention_that_has_passed_our_offset_names_the_lost_range(pipeline: Pipeline) -> None:
    pipeline.follow("t")
    pipeline.execute("UPDATE t SET n = n + 1", "UPDATE t SET n = n + 1")
    pipeline.drain()
    topic, needed = topic_of(pipeline.tables["t"]), pipeline.progress("t").next_offset
    admin = AdminClient({"bootstrap.servers": pipeline.endpoints.stream_bootstrap})
    expired = TopicPartition(topic, 0, needed + 400)
    admin.delete_records([expired])[expired].result()

    with pytest.raises(OffsetGapError) as error:
        pipeline.sync("t")

    assert (error.value.first, error.value.last) == (needed, needed + 399)
    assert "recopy" in str(error.value)
    recopy_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_a_value_without_a_place_in_its_declared_type_is_named_and_the_table_stands_before_it(
    pipeline: Pipeline,
) -> None:
    pipeline.follow("t")
    pipeline.execute(
        "UPDATE t SET n = 9 WHERE id = 9",
        "UPDATE t SET n = 'NaN' WHERE id = 3",
        "UPDATE t SET n = 40 WHERE id = 4",
    )
    pipeline.drain()

    with pytest.raises(UnrepresentableValueError, match="column n: 'NaN'"):
        pipeline.sync("t")

    found = pipeline.iceberg("t").scan("id in (3, 4, 9)").to_arrow().sort_by("id")
    assert [int(n) for n in found.column("n").to_pylist()] == [3, 4, 9]


def _lake(endpoints: Endpoints, **changes: str) -> Endpoints:
    return replace(endpoints, lake=replace(endpoints.lake, **changes))


@pytest.mark.parametrize("field", ["s3_secret_key", "s3_access_key"])
def test_a_wrong_key_of_the_object_store_is_said_without_the_key(
    pipeline: Pipeline, field: str
) -> None:
    pipeline.drain()
    wrong = _lake(pipeline.endpoints, **{field: "wrong-and-secret"})

    with pytest.raises(LakeAuthenticationError) as error:
        sync_table(pipeline.tables["t"], pipeline.database, wrong)

    assert "CARBON_LAKE_S3" in str(error.value)
    assert "wrong-and-secret" not in str(error.value)
    pipeline.sync("t")
    assert pipeline.differences("t") == 0


def test_a_wrong_password_of_the_catalog_is_said_without_the_password(pipeline: Pipeline) -> None:
    pipeline.drain()
    scheme, rest = pipeline.endpoints.lake.catalog_uri.split("://")
    user, address = rest.split(":", 1)[0], rest.rsplit("@", 1)[1]
    wrong = _lake(pipeline.endpoints, catalog_uri=f"{scheme}://{user}:wrong-and-secret@{address}")

    with pytest.raises(LakeAuthenticationError) as error:
        sync_table(pipeline.tables["t"], pipeline.database, wrong)

    assert "wrong-and-secret" not in str(error.value)


def test_a_bucket_that_is_gone_is_an_error_and_the_table_can_be_copied_again(
    pipeline: Pipeline,
) -> None:
    pipeline.drain()
    elsewhere = _lake(pipeline.endpoints, warehouse="s3://short-lived/warehouse")
    table, database = pipeline.tables["t"], pipeline.database
    sync_table(table, database, elsewhere)
    _store(elsewhere).delete_dir("short-lived")
    pipeline.execute("UPDATE t SET n = 5 WHERE id = 5")
    pipeline.drain()

    with pytest.raises(LakeUnavailableError, match="bucket exists"):
        sync_table(table, database, elsewhere)

    pipeline.catalog.drop_table(table.identifier)
    pipeline.sync("t")
    assert pipeline.differences("t") == 0


@pytest.mark.nightly  # when the store counts a bucket's bytes is up to it, and may take minutes
def test_a_full_bucket_is_an_error_and_nothing_is_lost_once_there_is_room(
    pipeline: Pipeline,
) -> None:
    pipeline.drain()
    elsewhere = _lake(pipeline.endpoints, warehouse="s3://nearly-full/warehouse")
    table, database = pipeline.tables["t"], pipeline.database
    sync_table(table, database, elsewhere)
    with _store(elsewhere).open_output_stream("nearly-full/ballast") as ballast:
        ballast.write(os.urandom(2 << 20))
    weed_shell(pipeline.stack, "s3.bucket.quota -name=nearly-full -op=set -sizeMB=1")
    _enforce_quota(pipeline, "read only")

    with pytest.raises(LakeUnavailableError, match="unreferenced"):
        _change_and_sync(pipeline, elsewhere)

    weed_shell(pipeline.stack, "s3.bucket.quota -name=nearly-full -op=set -sizeMB=1000")
    _enforce_quota(pipeline, "writable")
    for _ in range(RETRIES):
        with suppress(LakeUnavailableError):
            sync_table(table, database, elsewhere)
            break
        time.sleep(1)
    assert pipeline.differences("t") == 0


def _change_and_sync(pipeline: Pipeline, endpoints: Endpoints) -> None:
    """Until it fails: the store's gateway hears of a full bucket a moment later."""
    for _ in range(RETRIES):
        pipeline.execute("UPDATE t SET n = n + 1 WHERE id = 5")
        pipeline.drain()
        sync_table(pipeline.tables["t"], pipeline.database, endpoints)
        time.sleep(1)


def _store(endpoints: Endpoints) -> S3FileSystem:
    lake = endpoints.lake
    return S3FileSystem(
        endpoint_override=lake.s3_endpoint,
        access_key=lake.s3_access_key,
        secret_key=lake.s3_secret_key,
        region=lake.s3_region,
        allow_bucket_deletion=True,
    )


def _enforce_quota(pipeline: Pipeline, state: str) -> None:
    """Until the store has counted the bucket's bytes and changed it to ``state``."""
    give_up_at = time.monotonic() + 300
    while state not in weed_shell(pipeline.stack, "s3.bucket.quota.enforce -apply"):
        assert time.monotonic() < give_up_at, f"the bucket never became {state}"
        time.sleep(1)


def test_a_lake_table_that_another_tool_made_is_never_taken_for_ours(pipeline: Pipeline) -> None:
    pipeline.drain()
    pipeline.catalog.create_namespace(pipeline.name)
    foreign = pipeline.catalog.create_table(
        (pipeline.name, "t"), schema=pa.schema([pa.field("x", pa.int64())])
    )
    foreign.append(pa.table({"x": [1]}))

    with pytest.raises(StateMissingError, match="recopy"):
        pipeline.sync("t")

    assert pipeline.iceberg("t").scan().to_arrow().to_pylist() == [{"x": 1}]
