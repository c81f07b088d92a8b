"""The closing summary says at a glance whether all is well, and if not, where."""

from datetime import timedelta

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.demo.summary import DemoDone, Stage, describe
from carbon_pipelines.demo.workload import Worked
from carbon_pipelines.quality.drilldown import Difference
from carbon_pipelines.quality.verification import Verification
from carbon_pipelines.source.position import Position


def verification(name: str, rows: int, *differences: Difference) -> Verification:
    table = TableSpec(
        database="market",
        name=name,
        source_table=name,
        key=("id",),
        owner="team:tests",
        freshness=timedelta(hours=1),
        description="A test.",
    )
    return Verification(
        table=table,
        verified=not differences,
        source_rows=rows,
        lake_rows=rows - len(differences),
        differing_keys=differences,
        differing_count=len(differences),
        schema_differences=(),
        unsettled_keys=0,
        rounds=1,
        position=Position(0x10, 2),
        snapshot_id=7,
        seconds=1.0,
        cpu_seconds=0.5,
    )


def done(*verifications: Verification, stopped: bool = False) -> DemoDone:
    stages = (Stage("first copy", 12.04, 3.0), Stage("verify", 1.0, 0.55))
    worked = Worked(committed=1234, rolled_back=5, added_column="transfer.memo_1", seconds=20.0)
    return DemoDone(stages, worked, verifications, stopped)


def test_the_summary_of_a_good_run() -> None:
    assert (
        describe(done(verification("meter", 20), verification("credit", 40_000), stopped=True))
        == """
  The energy and carbon market, from PostgreSQL to Iceberg

  table     rows in source  rows in lake  verified
  ────────────────────────────────────────────────────
  credit            40,000        40,000  ✓ yes
  meter                 20            20  ✓ yes
  ────────────────────────────────────────────────────
  2 tables          40,020        40,020  2 of 2

  stage        seconds  CPU-seconds
  ─────────────────────────────────
  first copy      12.0          3.0
  verify           1.0          0.6
  ─────────────────────────────────
  in all          13.0          3.5

  The market moved meanwhile: 1,234 transactions committed, 5 rolled back,
  and column transfer.memo_1 was added while data flowed.

  The stack is stopped; its data stays. carbon up starts it again.
"""
    )


def test_a_table_that_differs_is_named_with_its_keys() -> None:
    damaged = done(verification("meter", 20, Difference(("3",), "missing in lake")))

    assert not damaged.verified
    assert "meter                 20            19  ✗ NO" in describe(damaged)
    assert "market/meter: NOT verified at 0/10-2" in describe(damaged)
    assert "(3): missing in lake" in describe(damaged)


def test_nothing_verified_is_not_verified() -> None:
    assert not done().verified
