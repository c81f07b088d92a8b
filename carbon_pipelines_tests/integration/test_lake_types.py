"""Every type with its extremes is equal at both ends, by the first copy and by the stream."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import ColumnRoleError, UnrepresentableValueError
from carbon_pipelines.lake.parking import find_parked
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.lake.type_table import DIFFERENCES
from carbon_pipelines.quality.reconcile import verify_table
from carbon_pipelines_tests.conftest import fresh_source
from carbon_pipelines_tests.integration.conftest import debian_source
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.type_matrix import (
    OF_DEBIAN,
    OF_THE_WHEEL,
    Group,
    change_groups,
    copy_groups,
)

pytestmark = pytest.mark.integration

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
    copy_groups(pipeline, groups)
    after_copy = {name: pipeline.differences(name) for name in groups}
    change_groups(pipeline, groups)
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
    with debian_source() as database:
        pipeline = Pipeline(stack, database)
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


def test_a_value_without_a_place_stops_its_table_before_it(pipeline: Pipeline) -> None:
    for number, example in enumerate(REFUSED):
        for moment, value in (("copied", example), ("streamed", "NULL")):
            name = f"{moment}_{number}"
            pipeline.execute(
                f"CREATE TABLE {name} (id int PRIMARY KEY, v {type_of(example)})",
                f"INSERT INTO {name} VALUES (1, {value})",
            )
            pipeline.declare(name)
    pipeline.drain()
    for number in range(len(REFUSED)):
        with pytest.raises(UnrepresentableValueError, match="column v: "):
            pipeline.sync(f"copied_{number}")
        pipeline.sync(f"streamed_{number}")
    for number, example in enumerate(REFUSED):
        pipeline.execute(f"INSERT INTO streamed_{number} VALUES (2, {example}), (3, NULL)")
    pipeline.drain()

    for number in range(len(REFUSED)):
        before = pipeline.iceberg(f"streamed_{number}").current_snapshot()
        with pytest.raises(UnrepresentableValueError, match="column v: "):
            pipeline.sync(f"streamed_{number}")
        stopped = pipeline.iceberg(f"streamed_{number}")
        assert stopped.current_snapshot() == before
        assert find_parked(stopped.metadata, f"streamed_{number}") is not None


def test_columns_that_are_declared_strings_hold_every_value_that_is_refused_otherwise(
    pipeline: Pipeline,
) -> None:
    columns = ", ".join(f"v_{n} {type_of(example)}" for n, example in enumerate(REFUSED))
    pipeline.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, {columns})",
        "INSERT INTO t VALUES (1)",
    )
    pipeline.declare("t")
    pipeline.follow("t")
    pipeline.execute(f"INSERT INTO t VALUES (2, {', '.join(REFUSED)})")
    pipeline.drain()
    with pytest.raises(UnrepresentableValueError):
        pipeline.sync("t")

    texts = {f"v_{n}": {"type": "string"} for n in range(len(REFUSED))}
    recopy_table(pipeline.declare("t", columns=texts), pipeline.database, pipeline.endpoints)
    copied = pipeline.differences("t")
    pipeline.execute(
        f"INSERT INTO t VALUES (3, {', '.join(REFUSED)})",
        "INSERT INTO t VALUES (4)",
        "UPDATE t SET id = 5 WHERE id = 2",
    )
    pipeline.follow("t")

    proof = verify_table(pipeline.tables["t"], pipeline.database, pipeline.endpoints)
    assert (copied, pipeline.differences("t"), proof.verified) == (0, 0, True)


def type_of(example: str) -> str:
    """The type that an example is cast to."""
    return example.split("::")[1]


def test_a_key_of_floats_is_refused_before_anything_is_created(pipeline: Pipeline) -> None:
    pipeline.execute("CREATE TABLE t (k float8 PRIMARY KEY)", "INSERT INTO t VALUES (1), ('NaN')")
    pipeline.declare("t", ["k"])
    pipeline.drain()

    with pytest.raises(ColumnRoleError, match=r"\.k is declared in the key"):
        pipeline.sync("t")
    assert not pipeline.catalog.table_exists(pipeline.tables["t"].identifier)
