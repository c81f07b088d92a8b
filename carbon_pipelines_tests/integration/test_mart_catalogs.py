"""A mart's commits over a SQL catalog and over an Iceberg REST catalog alike; no dbt is needed."""

import secrets
from dataclasses import replace

import pyarrow as pa
import pytest

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.mart.lake_table import replace_rows
from carbon_pipelines_tests.integration.catalogs import rest_lake
from carbon_pipelines_tests.oracle import lake_rows, oracle

pytestmark = pytest.mark.integration

FIRST = pa.table({"day": ["a", None], "quotes": pa.array([1, 2], pa.int64())})
SECOND = pa.table({"day": ["b"], "mean": pa.array([0.5]), "quotes": pa.array([3], pa.int64())})


@pytest.mark.parametrize("kind", ["sql", "rest"])
def test_a_mart_is_made_replaced_and_left_alone_if_it_is_the_same(stack: Stack, kind: str) -> None:
    lake = rest_lake(stack) if kind == "rest" else stack.endpoints().lake
    mart = ("mart", f"prices_{secrets.token_hex(4)}")
    endpoints = replace(stack.endpoints(), lake=lake)

    with open_catalog(lake) as catalog, oracle(endpoints) as engine:
        for rows, changes in ((FIRST, True), (FIRST, False), (SECOND, True), (FIRST, True)):
            assert replace_rows(catalog, mart, rows.to_reader, {}) == changes

            shown = engine.execute(f"SELECT * FROM {lake_rows(engine, endpoints, mart)}")
            read = shown.to_arrow_table().to_pylist()
            assert sorted(read, key=str) == sorted(rows.to_pylist(), key=str)
        assert len(catalog.load_table(mart).metadata.snapshots) == 3
