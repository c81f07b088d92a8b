"""Random merges and compactions of one table, compared with a dictionary after each step."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from carbon_pipelines.lake import deltas
from carbon_pipelines.maintenance.compact import CompactionHooks
from carbon_pipelines.maintenance.compaction import CompactionPolicy
from carbon_pipelines.maintenance.table_facts import load_facts
from carbon_pipelines_tests.lake.local_lake import LocalLake
from carbon_pipelines_tests.maintenance.compacting import compact, delete, insert, update

SEEDS = 60 if os.environ.get("CARBON_NIGHTLY") == "1" else 4
COLUMNS = {"id": "int8", "part": "int4", "note": "text"}
IDS = 150
STEPS = 9


class Author:
    """Changes the rows of a table and remembers what they are."""

    def __init__(self, lake: LocalLake, chance: random.Random) -> None:
        self.lake, self.chance = lake, chance
        self.rows: dict[int, dict[str, Any]] = {}

    def merge(self) -> None:
        """Merge a batch of changes of any kind."""
        events: list[dict[str, Any]] = []
        for _ in range(self.chance.randint(1, 40)):
            number = self.chance.randrange(IDS)
            row = {
                "id": number,
                "part": self.chance.choice([0, 1, None]),
                "note": str(self.chance.random()) * self.chance.randint(0, 20),
            }
            if number not in self.rows:
                events.append(insert(**row))
                self.rows[number] = row
            elif self.chance.random() < 0.3:
                events.append(delete(id=number))
                del self.rows[number]
            else:
                events.append(update(**row))
                self.rows[number] = row
        if self.chance.random() < 0.03:
            events.append({"op": "t"})
            self.rows = {}
        self.lake.merge(events)

    def sometimes_merge(self) -> None:
        """Merge, or not."""
        if self.chance.random() < 0.6:
            self.merge()

    def expected(self) -> list[tuple[Any, ...]]:
        """What the table has to hold."""
        return sorted((tuple(row.values()) for row in self.rows.values()), key=repr)


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_table_is_what_its_author_made_it_however_merges_and_compactions_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    layout: dict[str, Any] = {}
    if seed % 2:
        layout["sort_order"] = [{"column": "note", "direction": "desc"}, {"column": "id"}]
    if seed % 4 > 1:
        layout["partitioning"] = [{"column": "part", "transform": "identity"}]
    monkeypatch.setattr(deltas, "FILES_WITH_OWN_DELETES", chance.choice([1, 64]))
    monkeypatch.setattr(deltas, "STACKED_DELETES", 2)
    lake = LocalLake(tmp_path, COLUMNS, ["id"], **layout)
    lake.load([])
    author = Author(lake, chance)
    committed = 0
    for _ in range(STEPS):
        for _ in range(chance.randint(1, 3)):
            author.merge()
        policy = CompactionPolicy(
            min_files=2,
            delete_ratio=chance.choice([0.01, 0.3]),
            target_bytes=chance.choice([2_000, 8_000, 1_000_000]),
            thorough=chance.random() < 0.3,
        )
        hooks = CompactionHooks(
            after_write=author.sometimes_merge, before_commit=author.sometimes_merge
        )
        done = compact(lake, policy, hooks=hooks, run_bytes=chance.choice([500, 10**9]))
        committed += len(done.snapshot_ids)
        assert lake.rows() == author.expected()
    assert committed > 0
    last = CompactionPolicy(min_files=2, delete_ratio=0.001)
    compact(lake, last)
    compact(lake, last)
    assert lake.rows() == author.expected()
    facts = load_facts(lake.fresh())
    assert (facts.delete_files, facts.dangling) == (0, ())
    assert len(facts.files) == len(facts.by_group())
