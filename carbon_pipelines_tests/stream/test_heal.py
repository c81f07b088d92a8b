from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import SlotHealLimitError
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.heal import behind_gap, plan_heal
from carbon_pipelines.stream.progress import GAPS_KEPT, Gap, Progress

PROGRESS = Progress(Position(0x500, 3), 0x600, "7000", 1, 16384, {}, "ddl")
NOW = 1_800_000_000.0


def table(name: str, **more: Any) -> TableSpec:
    return TableSpec(
        database="market",
        name=name,
        source_table=name,
        owner="team:tests",
        freshness=timedelta(hours=1),
        description="A table.",
        **more,
    )


DATABASE = DatabaseSpec(
    name="market",
    owner="team:tests",
    tables=(table("credit", key=("id",)), table("log", mode="append")),
)


def healed(*minutes_ago: float) -> Progress:
    progress = PROGRESS
    for minutes in minutes_ago:
        progress = behind_gap(
            progress, progress.end_lsn + 16, reason="wal_removed", now=NOW - minutes * 60
        )
    return progress


def test_the_plan_names_what_was_lost_what_is_copied_and_what_stops() -> None:
    plan = plan_heal(DATABASE, PROGRESS, reason="idle_timeout", now=NOW)

    assert plan.describe() == (
        "Slot carbon_market of database market has lost changes (idle_timeout); Kafka holds up to "
        "0/600. Another slot goes on behind the gap, the topics keep what they have, and these "
        "tables are copied anew: market/credit. These stop before the gap: market/log."
    )


def test_a_gap_is_between_what_kafka_holds_and_where_the_next_slot_begins() -> None:
    behind = behind_gap(PROGRESS, 0x900, reason="it was dropped", now=NOW)

    assert behind == replace(
        PROGRESS,
        end_lsn=0x900,
        gaps=(Gap(1, Position(0x500, 3), 0x600, 0x900, "it was dropped", NOW),),
    )
    assert Progress.decode("t", behind.encode()) == behind


def test_a_fourth_heal_within_an_hour_is_refused_until_the_first_is_an_hour_ago() -> None:
    often = healed(70, 50, 40, 1)

    with pytest.raises(SlotHealLimitError, match="replaced 3 times within an hour") as error:
        plan_heal(DATABASE, often, reason="it was dropped", now=NOW)

    assert error.value.again_at == "2027-01-15 08:10:00 UTC"
    assert plan_heal(DATABASE, often, reason="it was dropped", now=NOW + 601).captured_lsn == 0x640


def test_generations_count_on_though_only_the_newest_gaps_are_kept() -> None:
    progress = healed(*range(30, 0, -1))

    assert progress.generation == 30
    assert len(progress.gaps) == GAPS_KEPT
