"""A table is compacted by the engine that is chosen for it, or left as it is with a clear error."""

from pathlib import Path

import pytest

from carbon_pipelines.catalog.table import Engine
from carbon_pipelines.embedded.endpoints import Endpoints, LakeEndpoint
from carbon_pipelines.errors import EngineMissingError
from carbon_pipelines.maintenance.engines import choose_engine, compact_table
from carbon_pipelines_tests.lake.local_lake import LocalLake, duckdb_rows, table_spec
from carbon_pipelines_tests.maintenance.compacting import files, load_each, plan

WITHOUT_TRINO = Endpoints("127.0.0.1:1", LakeEndpoint("sql", "sqlite://", "", "", "", "", ""))


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    made = LocalLake(tmp_path, {"id": "int8", "n": "int4"}, ["id"])
    load_each(made, [[{"id": number, "n": 0}] for number in range(6)])
    return made


@pytest.mark.parametrize(
    ("declared", "asked", "chosen"),
    [
        ("native", None, "native"),
        ("trino", None, "trino"),
        ("trino", "native", "native"),
        ("native", "trino", "trino"),
    ],
)
def test_what_a_run_asks_for_comes_before_the_declaration(
    declared: Engine, asked: Engine | None, chosen: Engine
) -> None:
    assert choose_engine(table_spec(["id"], engine=declared), asked).engine == chosen


def test_a_table_of_trinos_without_a_trino_says_what_to_set_and_stays_as_it_is(
    lake: LocalLake,
) -> None:
    spec = table_spec(["id"], engine="trino")
    before, todo = lake.fresh().metadata_location, plan(lake.fresh())

    with pytest.raises(EngineMissingError, match=r"its declaration .* CARBON_TRINO_URI is not set"):
        compact_table(spec, choose_engine(spec, None), todo, lake.catalog, WITHOUT_TRINO)
    assert lake.fresh().metadata_location == before

    rows = sorted(duckdb_rows(lake.fresh()))
    compact_table(spec, choose_engine(spec, "native"), todo, lake.catalog, WITHOUT_TRINO)
    assert files(lake.fresh()) == 1
    assert sorted(duckdb_rows(lake.fresh())) == rows == [(number, 0) for number in range(6)]
