"""What the state of assets and checks means, without a Dagster."""

from datetime import timedelta

from carbon_pipelines.alerts.firing import duration, firing_alerts
from carbon_pipelines.alerts.observed import Checked, Look, Materialized, Watched
from carbon_pipelines.alerts.pages import Pages
from carbon_pipelines.alerts.runs import Failing

QUALITY, LAKE = "quality/market/credit", "lake/market/credit"


def fires(
    checked: dict[tuple[str, str], Checked],
    *watched: Watched,
    failing: dict[str, Failing] | None = None,
) -> dict[str, str]:
    """The summary of each alert, by its name."""
    made = {one.asset: Materialized(100.0) for one in watched}
    look = Look(150.0, {one.asset: one for one in watched}, made, checked)
    found = firing_alerts(look, failing or {}, {}, {}, Pages()).values()
    return {alert.name: alert.summary for alert in found}


def failed(text: str = "", **told: object) -> Checked:
    return Checked(at=100.0, passed=False, text=text, **told)  # type: ignore[arg-type]


QUALITY_TABLE = Watched(QUALITY, "team:a", checks=("passes", "reconciled"), hides=True)


def test_a_table_that_differs_says_how_many_keys_and_not_which() -> None:
    text = "market/credit: NOT verified at 0/1; differing keys: (s3cr3t)"
    proven = {(QUALITY, "passes"): Checked(100.0, passed=True)}

    assert fires({**proven, (QUALITY, "reconciled"): failed(text, count=3)}, QUALITY_TABLE) == {
        "NotReconciled": "market/credit is not proven to equal its source, 3 keys differ: Its "
        "sentence may hold protected values and is only on the page that is linked."
    }


def test_what_keeps_both_checks_of_a_gate_from_being_made_is_told_once() -> None:
    both = {
        (QUALITY, name): failed("Its expectations do not fit.", error="QualityError", run_id="1")
        for name in ("passes", "reconciled")
    }

    assert set(fires(both, QUALITY_TABLE)) == {"ScoreTooLow"}
    both[QUALITY, "passes"] = failed("40 of 100")
    assert set(fires(both, QUALITY_TABLE)) == {"ScoreTooLow", "NotReconciled"}


def test_a_run_is_told_as_the_check_that_says_the_same_of_it() -> None:
    labels = Watched(LAKE, "team:a").labels
    failing = {"asset:x": Failing(labels, "It stands.", 90.0, 95.0, "1")}
    lake = Watched(LAKE, "team:a", checks=("flowing",))

    def told(run_id: str) -> set[str]:
        checked = {(LAKE, "flowing"): failed("It stands.", error="LakeError", run_id=run_id)}
        return set(fires(checked, lake, failing=failing))

    assert told("1") == {"TableStands"}
    assert told("2") == {"TableStands", "RunFailed"}


def test_any_other_check_is_told_by_its_severity() -> None:
    other = Watched("mart/exposure", None, checks=("a", "b"))
    checked = {
        ("mart/exposure", "a"): failed("Two rows."),
        ("mart/exposure", "b"): failed(severe=False),
    }

    assert fires(checked, other) == {
        "CheckFailed": "Check a of mart/exposure did not pass: Two rows.",
        "CheckWarned": "Check b of mart/exposure did not pass.",
    }


def test_freshness_is_told_as_it_is_declared() -> None:
    times = (timedelta(minutes=15), timedelta(hours=2), timedelta(days=1), timedelta(minutes=90))

    assert [duration(time) for time in times] == ["15m", "2h", "1d", "90m"]


def test_readers_that_see_less_than_promised_are_told_with_the_stage_that_holds_it_up() -> None:
    asset = "serving/trino/market/credit"
    view = Watched(asset, "team:a", checks=("in_time",), hides=True)
    text = 'market/credit: 3.0 h behind its source; it is held up by stage "certified"'

    assert fires({(asset, "in_time"): failed(text)}, view) == {
        "ReadersLate": f"People see less than is promised: {text}"
    }
    assert view.labels == {
        "team": "team:a",
        "stage": "serving",
        "database": "market",
        "table": "credit",
        "asset": asset,
    }
    assert Watched("serving/doris/curve").labels["table"] == "curve"


def test_a_look_at_this_moment_is_not_missing_where_a_run_made_something_since() -> None:
    mart = Watched("mart/curve", "team:a", checks=("in_time", "unique"))
    made = {mart.asset: Materialized(100.0)}
    found = firing_alerts(Look(5_000.0, {mart.asset: mart}, made, {}), {}, {}, {}, Pages())

    assert {alert.labels["check"] for alert in found.values()} == {"unique"}
