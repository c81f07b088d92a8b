"""Random merges of a table that one of its rows has to leave, searched to the last byte."""

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from carbon_pipelines.lake import deltas
from carbon_pipelines.maintenance.cleansing import cleanse_table
from carbon_pipelines.maintenance.compact import CompactionSettings
from carbon_pipelines.maintenance.erasure_expiry import expire_person
from carbon_pipelines.maintenance.erasure_litter import apply_litter, check_no_litter, plan_litter
from carbon_pipelines.maintenance.person_files import PersonFiles
from carbon_pipelines.maintenance.person_key import PersonKey, person_key
from carbon_pipelines.maintenance.person_snapshots import PersonSnapshots
from carbon_pipelines_tests.lake.local_lake import LocalLake
from carbon_pipelines_tests.maintenance.compacting import (
    PassingClock,
    compact,
    delete,
    insert,
    update,
)
from carbon_pipelines_tests.maintenance.test_compact_random import Author
from carbon_pipelines_tests.stored_bytes import Planted, search

SEEDS = 60 if os.environ.get("CARBON_NIGHTLY") == "1" else 6
COLUMNS = {"id": "int8", "part": "int4", "note": "text"}
PLANTED = Planted(8_123_456_789_012, "zzplanted")
TABLE = ("market", "t")
LATER = datetime.now(UTC) + timedelta(days=30)


def found_in(lake: LocalLake) -> set[str]:
    """Kinds of the files under the table's location that have the row."""
    root = Path(lake.fresh().location().removeprefix("file://"))
    files = [path for path in root.rglob("*") if path.is_file()]
    looked_at = [search(str(path), path.read_bytes(), PLANTED) for path in files]
    return {kind for kind, has in looked_at if has}


def planted_row(chance: random.Random) -> dict[str, Any]:
    part = chance.choice([0, 1, None])
    return {"id": PLANTED.number, "part": part, "note": f"{PLANTED.text} {chance.random()}"}


def live(lake: LocalLake, author: Author, chance: random.Random) -> None:
    """The row comes, changes a few times between others, and files are compacted now and then."""
    author.merge()
    lake.merge([insert(**planted_row(chance))])
    for _ in range(chance.randint(1, 4)):
        author.merge()
        if chance.random() < 0.7:
            lake.merge([update(**planted_row(chance))])
        if chance.random() < 0.3:
            compact(lake)


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_file_has_the_row_and_every_other_row_is_what_its_author_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    layout: dict[str, Any] = {}
    if seed % 3 == 1:
        layout["partitioning"] = [{"column": "part", "transform": "identity"}]
    if seed % 3 == 2:
        layout["partitioning"] = [{"column": "note", "transform": "truncate[9]"}]
    monkeypatch.setattr(deltas, "FILES_WITH_OWN_DELETES", chance.choice([1, 64]))
    monkeypatch.setattr(deltas, "STACKED_DELETES", 2)
    lake = LocalLake(tmp_path, COLUMNS, ["id"], **layout)
    lake.load([])
    author = Author(lake, chance)
    live(lake, author, chance)
    if chance.random() < 0.7:  # else readers still see it, as the ended version of a history
        lake.merge([delete(id=PLANTED.number)])
    assert {"parquet", "avro"} <= found_in(lake)
    table = lake.fresh()
    head = table.current_snapshot()
    assert head is not None
    table.manage_snapshots().create_tag(head.snapshot_id, "year_end").commit()
    key = person_key(table.schema(), {"id": str(PLANTED.number)}, bytes(16), label="market/t")
    if seed % 2:
        key = PersonKey(key.field_ids, key.salt, key.digest)
    person = PersonSnapshots(PersonFiles(lake.fresh(), key))
    clock = PassingClock()
    settings = CompactionSettings(sleep=clock.sleep, now=clock.now)

    done = cleanse_table(
        lake.catalog,
        TABLE,
        person,
        "request",
        None,
        settings=settings,
        after_commit=author.sometimes_merge,
    )
    assert lake.rows() == author.expected()
    author.merge()
    expire_person(lake.catalog, TABLE, person, done.state, LATER, due=True)
    litter = plan_litter(lake.catalog, TABLE, person.files, LATER, neighbours=())
    apply_litter(lake.catalog, TABLE, litter, LATER)

    assert found_in(lake) == set()
    check_no_litter(lake.catalog, TABLE, person.files, LATER, neighbours=())
    assert set(lake.fresh().metadata.refs) == {"main"}
    assert lake.rows() == author.expected()
    again = cleanse_table(lake.catalog, TABLE, person, "request", done.state, settings=settings)
    assert (again.rows, again.files, again.state) == (0, 0, done.state)
    author.merge()
    assert lake.rows() == author.expected()
