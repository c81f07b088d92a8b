"""The same pipeline over an Iceberg REST catalog with authentication."""

import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import LakeAuthenticationError
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.lake.merge import MergeHooks
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.weed import weed_arguments, weed_shell

pytestmark = pytest.mark.integration


@pytest.fixture
def pipeline(stack: Stack, source: SourceDatabase) -> Iterator[Pipeline]:
    bucket = f"rest-{secrets.token_hex(4)}"
    weed_shell(stack, f"s3tables.bucket -create -name {bucket} -account admin")
    lake = stack.endpoints().lake
    rest = replace(
        lake,
        catalog_type="rest",
        catalog_uri=f"http://127.0.0.1:{weed_arguments(stack)['s3.port.iceberg']}",
        warehouse=f"s3://{bucket}",
        catalog_credential=f"{lake.s3_access_key}:{lake.s3_secret_key}",
    )
    made = Pipeline(stack, source, lake=rest)
    made.execute("CREATE TABLE t (id bigint PRIMARY KEY, n int, doc text)")
    made.execute("INSERT INTO t SELECT g, g, 'row ' || g FROM generate_series(1, 500) g")
    made.declare("t")
    yield made
    made.close()


@pytest.mark.filterwarnings("ignore:Merge on read is not yet supported:UserWarning")
def test_copy_merges_schema_change_and_a_conflict_are_exact_over_rest(pipeline: Pipeline) -> None:
    pipeline.follow("t")
    pipeline.execute(
        "UPDATE t SET n = n + 1 WHERE id % 3 = 0",
        "DELETE FROM t WHERE id % 5 = 0",
        "ALTER TABLE t ADD COLUMN tag text",
        "UPDATE t SET tag = 'x' WHERE id % 7 = 0",
    )
    pipeline.follow("t")
    pipeline.execute("UPDATE t SET id = id + 1000 WHERE id % 11 = 0", "DELETE FROM t WHERE id = 1")
    rewrites: list[int] = []

    def compact() -> None:
        if not rewrites:
            rewrites.append(1)
            pipeline.compact("t")

    pipeline.follow("t", hooks=MergeHooks(after_write=compact))

    assert rewrites
    assert pipeline.differences("t") == 0


def test_a_wrong_credential_of_a_rest_catalog_is_said_without_it(pipeline: Pipeline) -> None:
    wrong = replace(pipeline.endpoints.lake, catalog_credential="admin:wrong-and-secret")

    with pytest.raises(LakeAuthenticationError) as error, open_catalog(wrong) as catalog:
        catalog.list_namespaces()

    assert "wrong-and-secret" not in str(error.value)
