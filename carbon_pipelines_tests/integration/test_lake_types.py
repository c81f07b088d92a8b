"""Every type with its extremes is equal at both ends, by the first copy and by the stream."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import ColumnRoleError, UnrepresentableValueError
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.lake.type_table import DIFFERENCES
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines_tests.conftest import SourceDatabase, fresh_source
from carbon_pipelines_tests.integration.conftest import running_postgres
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.type_matrix import (
    GROUPS,
    Group,
    change,
    create,
    insert,
    key_names,
)

pytestmark = pytest.mark.integration

OF_THE_WHEEL = {n: group for n, group in GROUPS.items() if group.needs in {(), ("vector",)}}
OF_DEBIAN = {n: group for n, group in GROUPS.items() if n not in OF_THE_WHEEL}
REFUSED = [d.example for d in DIFFERENCES if d.outcome == "refused"]


@dataclass(frozen=True, slots=True)
class Followed:
    """A pipeline that has followed every change, and what differed after the first copy."""

    pipeline: Pipeline
    after_copy: Mapping[str, int]

    def is_equal(self, name: str) -> bool:
        """Now: by what proves it in production, and by DuckDB alone."""
        pipeline = self.pipeline
        proof = verify_table(pipeline.tables[name], pipeline.database, pipeline.endpoints)
        return proof.verified and proof.source_rows > 0 and pipeline.differences(name) == 0


def follow(pipeline: Pipeline, groups: Mapping[str, Group]) -> Followed:
    """Send every value through the first copy, then through every kind of change."""
    for name, group in groups.items():
        pipeline.execute(
            *(f"CREATE EXTENSION {extension}" for extension in group.needs if extension != "xml"),
            *(*group.setup, create(name, group), *insert(name, group, first_id=0)),
        )
        pipeline.declare(name, key_names(group))
    pipeline.drain()
    for name in groups:
        pipeline.sync(name)
    after_copy = {name: pipeline.differences(name) for name in groups}
    for name, group in groups.items():
        pipeline.execute(*insert(name, group, first_id=1000), *change(name, group))
    pipeline.drain()
    for name in groups:
        pipeline.sync(name)
    return Followed(pipeline, after_copy)


@pytest.fixture(scope="module")
def of_the_wheel(stack: Stack) -> Iterator[Followed]:
    """PostgreSQL 18 with pgvector."""
    with fresh_source(stack) as database:
        pipeline = Pipeline(stack, database)
        yield follow(pipeline, OF_THE_WHEEL)
        pipeline.close()


@pytest.fixture(scope="module")
def of_debian(stack: Stack) -> Iterator[Followed]:
    """PostgreSQL 15 with xml and contrib's types, which the wheel's server has not."""
    with running_postgres("15") as server:
        server.create_database("contrib")
        pipeline = Pipeline(stack, SourceDatabase("contrib", server.dsn("contrib")))
        yield follow(pipeline, OF_DEBIAN)
        pipeline.close()


@pytest.mark.parametrize("name", OF_THE_WHEEL)
def test_every_value_of_every_type_survives_copy_and_stream(
    of_the_wheel: Followed, name: str
) -> None:
    assert of_the_wheel.after_copy[name] == 0
    assert of_the_wheel.is_equal(name)


@pytest.mark.parametrize("name", OF_DEBIAN)
def test_every_value_of_the_other_types_survives_copy_and_stream(
    of_debian: Followed, name: str
) -> None:
    assert of_debian.after_copy[name] == 0
    assert of_debian.is_equal(name)


@pytest.fixture
def pipeline(stack: Stack, source: SourceDatabase) -> Iterator[Pipeline]:
    made = Pipeline(stack, source)
    yield made
    made.close()


def test_a_value_without_a_place_stops_its_table_until_the_column_is_declared_a_string(
    pipeline: Pipeline,
) -> None:
    for number, example in enumerate(REFUSED):
        kind = example.split("::")[1]
        for moment in ("copied", "streamed"):
            name = f"{moment}_{number}"
            pipeline.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, v {kind})")
            pipeline.declare(name)
        pipeline.execute(f"INSERT INTO copied_{number} VALUES (1, {example})")
        pipeline.execute(f"INSERT INTO streamed_{number} VALUES (1, NULL)")
    pipeline.drain()
    for number in range(len(REFUSED)):
        with pytest.raises(UnrepresentableValueError, match="column v: "):
            pipeline.sync(f"copied_{number}")
        pipeline.sync(f"streamed_{number}")
    pipeline.execute(
        *(
            f"INSERT INTO streamed_{number} VALUES (2, {example}), (3, NULL)"
            for number, example in enumerate(REFUSED)
        )
    )
    pipeline.drain()
    for number in range(len(REFUSED)):
        before = pipeline.iceberg(f"streamed_{number}").metadata
        with pytest.raises(UnrepresentableValueError, match="column v: "):
            pipeline.sync(f"streamed_{number}")
        assert pipeline.iceberg(f"streamed_{number}").metadata == before

    for name in list(pipeline.tables):
        pipeline.declare(name, columns={"v": {"type": "string"}})
    for number, example in enumerate(REFUSED):
        recopy_table(pipeline.tables[f"streamed_{number}"], pipeline.database, pipeline.endpoints)
        for moment in ("copied", "streamed"):
            pipeline.execute(f"INSERT INTO {moment}_{number} VALUES (4, {example})")
    pipeline.drain()
    for name in pipeline.tables:
        pipeline.sync(name)

    assert {name: pipeline.differences(name) for name in pipeline.tables} == dict.fromkeys(
        pipeline.tables, 0
    )
    proof = verify_table(pipeline.tables["copied_0"], pipeline.database, pipeline.endpoints)
    assert proof.verified


def test_a_key_of_floats_is_refused_before_anything_is_created(pipeline: Pipeline) -> None:
    pipeline.execute("CREATE TABLE t (k float8 PRIMARY KEY)", "INSERT INTO t VALUES (1), ('NaN')")
    pipeline.declare("t", ["k"])
    pipeline.drain()

    with pytest.raises(ColumnRoleError, match=r"\.k is declared in the key"):
        pipeline.sync("t")
    assert not pipeline.catalog.table_exists(pipeline.tables["t"].identifier)
