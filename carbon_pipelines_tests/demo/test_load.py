"""The sample and its declarations belong together."""

import re
from pathlib import Path

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines.demo import load
from carbon_pipelines.demo.load import Sizes, fill_statements

SCHEMA = (Path(load.__file__).parent / "schema.sql").read_text()


def test_every_table_of_the_sample_is_filled_and_declared() -> None:
    created = set(re.findall(r"CREATE TABLE (\w+)", SCHEMA))
    declared = {table.source_table for table in load_catalog().database("market").tables}

    assert set(fill_statements(Sizes.at_scale(1))) == created == declared


def test_keys_are_declared_as_the_sample_has_them() -> None:
    inline = dict(re.findall(r"CREATE TABLE (\w+) \(\n\s+(\w+)[^,]* PRIMARY KEY", SCHEMA))
    apart = re.findall(
        r"CREATE TABLE (\w+) \((?:(?!\n\);).)*?PRIMARY KEY \(([^)]*)\)", SCHEMA, re.S
    )
    keys = {name: (column,) for name, column in inline.items()}
    keys |= {name: tuple(columns.split(", ")) for name, columns in apart}

    assert keys == {t.name: t.key for t in load_catalog().database("market").tables if t.key}


def test_the_smallest_sample_still_has_rows_in_every_table() -> None:
    assert min(getattr(Sizes.at_scale(0), name) for name in Sizes.__slots__) == 8


def test_at_scale_one_there_are_about_a_million_rows() -> None:
    sizes = Sizes.at_scale(1)
    states = 3 * sizes.credits  # one to five changes each
    readings = load.READINGS_PER_METER * sizes.meters

    assert (
        1_000_000 < sum(getattr(sizes, n) for n in Sizes.__slots__) + states + readings < 1_100_000
    )
