"""Events of a real instance become alerts: once each, and once when over."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)

from carbon_pipelines.defs.failures import as_failure
from carbon_pipelines.defs.lake.checks import flows, is_parked, lacks, stands
from carbon_pipelines.errors import (
    LakeError,
    MartError,
    TableParkedError,
    UnrepresentableValueError,
)
from carbon_pipelines_tests.defs.alert_world import LAKE, QUALITY, World


def test_nothing_wrong_is_nothing_told(world: World) -> None:
    world.run()

    assert [world.tick() for _ in range(3)] == [[]] * 3
    assert world.said == "0 firing, 0 told, 0 told to be over."


def test_a_failed_run_is_told_once_however_often_it_fails_and_once_when_it_succeeds(
    world: World,
) -> None:
    first = world.run(ValueError("row (7, secret)"))
    assert world.tick() == [("firing", "RunFailed")]
    [told] = world.last

    again = world.run(ValueError("row (8, secret)"))
    assert [world.tick() for _ in range(3)] == [[]] * 3

    world.run()
    assert world.tick() == [("resolved", "RunFailed")]
    [over] = world.last
    assert [world.tick() for _ in range(3)] == [[]] * 3
    assert told["labels"] == {
        "alertname": "RunFailed",
        "severity": "critical",
        "team": "team:market-data",
        "stage": "lake",
        "database": "market",
        "table": "credit",
        "asset": "lake/market/credit",
    }
    assert told["annotations"] == {
        "summary": "ValueError, an error that is not foreseen; its words are on the page of the "
        "run.",
        "link": f"https://dagster.example.org/runs/{first}",
        "run": first,
        "runbook_url": "docs/lake.md#what-a-red-check-means",
    }
    assert told["generatorURL"] == f"https://dagster.example.org/runs/{first}"
    assert (over["fingerprint"], over["startsAt"]) == (told["fingerprint"], told["startsAt"])
    assert over["annotations"]["run"] == again
    assert world.everybody.bodies == []


def test_an_error_of_ours_is_told_in_its_own_words(world: World) -> None:
    error = LakeError("market/credit cannot be written. Give the lake's role the right.")
    world.run(error)

    assert world.tick() == [("firing", "TableStands")]
    assert world.last[0]["annotations"]["summary"] == (
        f"lake/market/credit does not follow its source: {error}"
    )
    world.run(ValueError("x"))  # another run, which its check does not tell of
    assert world.tick() == [("firing", "RunFailed")]
    world.run()
    assert world.tick() == [("resolved", "RunFailed"), ("resolved", "TableStands")]


def test_a_value_of_a_table_with_protected_columns_is_never_told(world: World) -> None:
    world.run(UnrepresentableValueError("holder", "decimal(9,2)", "Jane Doe"))

    assert world.tick() == [("firing", "TableStands")]
    assert "Jane" not in str(world.last)
    assert "UnrepresentableValueError" in str(world.last)


def test_a_materialization_without_a_run_is_a_success(world: World) -> None:
    world.run(ValueError("x"))
    world.tick()
    checks = (flows(world.table), lacks(world.table, 0))
    world.instance.report_runless_asset_event(dg.AssetMaterialization(LAKE))
    for check in checks:
        world.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(LAKE, str(check.check_name), passed=bool(check.passed))
        )

    assert world.tick() == [("resolved", "RunFailed")]


def test_a_job_that_fails_is_made_good_by_its_next_success(world: World) -> None:
    world.fails = LakeError("It cannot be put back. Correct the declaration.")
    world.replay.execute_in_process(instance=world.instance, raise_on_error=False)
    assert world.tick() == [("firing", "RunFailed")]
    [told] = world.last
    assert told["labels"] == {
        "alertname": "RunFailed",
        "severity": "critical",
        "team": "team:market-data",
        "database": "market",
        "job": "replay",
        "step": "work",
    }

    world.fails = None
    world.replay.execute_in_process(instance=world.instance)
    assert world.tick() == [("resolved", "RunFailed")]
    assert world.tick() == []


def test_of_a_step_with_several_assets_those_are_told_that_were_not_made(world: World) -> None:
    names = ("early", "late", "never")
    keys = {name: dg.AssetKey(["mart", name]) for name in names}
    fails = [True]

    @dg.multi_asset(
        name="marts",
        specs=[
            dg.AssetSpec(key, owners=[world.table.owner], skippable=True) for key in keys.values()
        ],
        can_subset=True,
    )
    def marts(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        yield dg.MaterializeResult(asset_key=keys["early"])
        with as_failure():
            if fails[0]:
                raise MartError("mart/late was not built. Correct the model.")
        yield dg.MaterializeResult(asset_key=keys["late"])

    world.defs = dg.Definitions(assets=[marts], sensors=[world.sensor])
    chosen = [keys["early"], keys["late"]]

    def build() -> list[tuple[str, str, str]]:
        dg.materialize([marts], selection=chosen, instance=world.instance, raise_on_error=False)
        told = world.tick()
        return [
            (*one, alert["labels"]["asset"]) for one, alert in zip(told, world.last, strict=True)
        ]

    assert build() == [("firing", "RunFailed", "mart/late")]
    assert world.last[0]["annotations"]["runbook_url"] == "docs/mart.md#what-a-red-check-means"
    fails[0] = False
    assert build() == [("resolved", "RunFailed", "mart/late")]


def test_a_gate_that_stops_its_run_is_told_as_the_gate(world: World) -> None:
    passes = dg.AssetCheckSpec("passes", asset=QUALITY, blocking=True)

    @dg.asset(key=QUALITY, check_specs=[passes], owners=[world.table.owner])
    def gated() -> dg.MaterializeResult:
        no = dg.AssetCheckResult(
            asset_key=QUALITY, check_name="passes", passed=False, description="40 of 100"
        )
        return dg.MaterializeResult(check_results=[no])

    world.defs = dg.Definitions(assets=[gated], sensors=[world.sensor])
    done = dg.materialize([gated], instance=world.instance, raise_on_error=False)

    assert not done.success
    assert world.tick() == [("firing", "ScoreTooLow")]
    assert world.last[0]["annotations"]["link"].endswith(f"/runs/{done.run_id}")


def test_a_parked_table_and_dead_letters_are_told_and_over_when_they_are(world: World) -> None:
    parked = TableParkedError(
        "market/credit", since="2026-01-01", by="ann", reason="The disk moves.", stands="offset 4"
    )
    world.run()
    world.tick()
    world.evaluated(*is_parked(world.table, parked)[:1], lacks(world.table, 2))

    assert world.tick() == [("firing", "DeadLettersPending"), ("firing", "TableStands")]
    told = {alert["labels"]["alertname"]: alert for alert in world.last}
    assert "is parked since 2026-01-01 by ann" in told["TableStands"]["annotations"]["summary"]
    assert told["TableStands"]["annotations"]["runbook_url"] == "docs/dead_letters.md#parked-tables"
    assert "lacks 2 events" in told["DeadLettersPending"]["annotations"]["summary"]
    assert told["DeadLettersPending"]["labels"]["severity"] == "warning"

    world.run()
    assert world.tick() == [("resolved", "DeadLettersPending"), ("resolved", "TableStands")]
    assert world.tick() == []


def test_a_run_that_is_under_way_resolves_nothing(world: World) -> None:
    world.evaluated(stands(world.table, LakeError("It stands. Do this.")), lacks(world.table, 0))
    assert world.tick() == [("firing", "TableStands")]
    planned = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value,
        job_name="any",
        event_specific_data=AssetCheckEvaluationPlanned(asset_key=LAKE, check_name="flowing"),
    )
    run = dg.DagsterRun(job_name="any", status=dg.DagsterRunStatus.STARTED)
    world.instance.add_run(run)
    world.instance.report_dagster_event(planned, run_id=run.run_id)

    assert world.tick() == []


def test_a_table_older_than_promised_is_told_and_over_when_it_is_fresh(world: World) -> None:
    world.run()
    assert world.tick() == []

    assert world.tick(timedelta(minutes=16)) == [("firing", "TableStale")]
    assert world.last[0]["annotations"]["link"] == (
        "https://dagster.example.org/assets/lake/market/credit"
    )
    assert world.tick() == []


def test_a_table_that_never_came_is_stale_after_its_freshness(world: World) -> None:
    assert world.tick() == []
    assert world.tick(timedelta(minutes=16)) == [("firing", "TableStale")]
    assert "has never been materialized" in world.last[0]["annotations"]["summary"]


def test_a_check_that_was_not_evaluated_since_is_missing(world: World) -> None:
    world.instance.report_runless_asset_event(dg.AssetMaterialization(LAKE))
    assert world.tick() == []

    assert world.tick(timedelta(minutes=11)) == [
        ("firing", "CheckMissing"),
        ("firing", "CheckMissing"),
    ]
    assert {alert["labels"]["check"] for alert in world.last} == {"dead_letters", "flowing"}


def test_a_score_that_falls_says_what_changed_and_is_over_when_it_is_back(world: World) -> None:
    world.run()
    world.score(98.0, validity=100.0, completeness=96.0, losses={"not_null(tonnes)": 2.0})
    assert world.tick() == []
    world.score(94.0, validity=92.0, completeness=96.0, losses={"not_null(tonnes)": 2.0})
    assert world.tick() == []
    world.score(
        80.0,
        validity=60.0,
        completeness=96.0,
        losses={"not_null(tonnes)": 2.0, "between(tonnes)": 18.0},
    )
    assert world.tick() == [("firing", "ScoreFell")]
    assert world.last[0]["annotations"]["summary"] == (
        "The score of market/credit fell from 94 to 80: validity 92 to 60; between(tonnes) costs "
        '18 points more. Its scorecard names the rows: "carbon quality market/credit".'
    )
    world.score(81.0, validity=62.0, completeness=96.0)
    assert world.tick() == []
    world.score(93.0, validity=90.0, completeness=96.0)
    assert world.tick() == [("resolved", "ScoreFell")]
    assert world.tick() == []
