"""Which alerts fire: a function of what was seen and of what is remembered of runs and scores.

What belongs here: what each state of an asset or a check means for people. What does not: reading
Dagster, and who is told (``routing.py``, ``telling.py``).

A check that was planned and never came to its end says nothing: the one before it counts on. So a
run that is under way neither raises nor resolves an alert.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from carbon_pipelines.alerts.alert import Alert
from carbon_pipelines.alerts.observed import Checked, Look, Watched
from carbon_pipelines.alerts.pages import Pages
from carbon_pipelines.alerts.runs import Failing, run_alerts
from carbon_pipelines.alerts.scores import ScoreMark, score_alert
from carbon_pipelines.alerts.wording import clip, moment, told
from carbon_pipelines.catalog.owners import AlertSeverity

CHECK_GRACE_SECONDS = 600.0
"""How long after a materialization its checks may come."""
LOOKED_AT = "in_time"
"""The check that is about the moment, and not about what a run has made."""
CHECK_EARLY_SECONDS = 60.0
"""How long before it: a step that does both may tell them in either order."""


def firing_alerts(
    look: Look,
    failing: Mapping[str, Failing],
    marks: Mapping[str, ScoreMark],
    never: Mapping[str, float],
    pages: Pages,
) -> Mapping[str, Alert]:
    """What is wrong now, by fingerprint.

    Args:
        look: What was seen.
        failing: Units whose last run failed.
        marks: What is remembered of scores, by asset.
        never: Assets that were never materialized, and since when they are watched.
        pages: Where the alerts link to.
    """
    told_by_checks = {
        (asset, checked.run_id)
        for (asset, _), checked in look.checked.items()
        if not checked.passed and checked.error is not None
    }
    alerts = [
        alert
        for alert in run_alerts(failing, pages)
        if (alert.labels.get("asset"), alert.run_id) not in told_by_checks
    ]
    for asset, watched in look.watched.items():
        alerts.extend(_stale(watched, look, never.get(asset), pages))
        for check in watched.checks:
            alerts.extend(_check(watched, check, look, pages))
        fell = score_alert(watched, marks[asset], pages) if asset in marks else None
        alerts.extend([fell] if fell else [])
    return {alert.fingerprint: alert for alert in alerts}


def unmaterialized(look: Look, before: Mapping[str, float]) -> Mapping[str, float]:
    """Assets that promise freshness and were never materialized, and since when we know."""
    return {
        asset: before.get(asset, look.at)
        for asset, watched in look.watched.items()
        if watched.freshness is not None and asset not in look.materialized
    }


def _stale(
    watched: Watched, look: Look, known_since: float | None, pages: Pages
) -> Iterator[Alert]:
    if watched.freshness is None:
        return
    made = look.materialized.get(watched.asset)
    since = made.at if made is not None else known_since
    if since is None or look.at - since <= watched.freshness.total_seconds():
        return
    promised = duration(watched.freshness)
    last = (
        f"was last materialized at {moment(made.at)}"
        if made is not None
        else "has never been materialized"
    )
    yield Alert(
        name="TableStale",
        severity="critical",
        labels=watched.labels,
        summary=(
            f"{watched.asset} {last}, and its readers may count on {promised}. Look at its last "
            "run, and whether sensors and schedules are running."
        ),
        since=since + watched.freshness.total_seconds(),
        link=pages.asset(watched.asset),
        runbook=pages.runbook("TableStale", watched.labels.get("stage")),
    )


def _check(watched: Watched, check: str, look: Look, pages: Pages) -> Iterator[Alert]:
    checked = look.checked.get((watched.asset, check))
    made = look.materialized.get(watched.asset)
    if checked is not None and not checked.passed and not _told_by_gate(watched, check, look):
        yield _failed(watched, check, checked, pages)
    if check == LOOKED_AT or made is None or look.at - made.at < CHECK_GRACE_SECONDS:
        return
    if checked is None or checked.at < made.at - CHECK_EARLY_SECONDS:
        last = "never" if checked is None else f"last at {moment(checked.at)}"
        yield Alert(
            name="CheckMissing",
            severity="warning",
            labels={**watched.labels, "check": check},
            summary=(
                f"{watched.asset} was materialized at {moment(made.at)}, and its check {check} was "
                f"evaluated {last}: nothing says whether what is there now passes. Materialize it "
                "with its checks."
            ),
            since=made.at,
            link=pages.asset(watched.asset),
            runbook=pages.runbook("CheckMissing", None),
        )


def _told_by_gate(watched: Watched, check: str, look: Look) -> bool:
    """Whether the table could not be looked at at all, which both checks of its gate say."""
    if watched.labels["stage"] != "quality" or check != "reconciled":
        return False
    one = look.checked.get((watched.asset, check))
    gate = look.checked.get((watched.asset, "passes"))
    if one is None or gate is None or one.error is None or gate.passed:
        return False
    return (one.run_id, one.error) == (gate.run_id, gate.error)


def _failed(watched: Watched, check: str, checked: Checked, pages: Pages) -> Alert:
    """The alert of a failed check; those of some checks have names of their own."""
    names: Mapping[tuple[str, str], str] = {
        ("lake", "flowing"): "TableStands",
        ("lake", "dead_letters"): "DeadLettersPending",
        ("quality", "passes"): "ScoreTooLow",
        ("quality", "reconciled"): "NotReconciled",
        ("serving", "in_time"): "ReadersLate",
        ("mart", "in_time"): "ReadersLate",
    }
    stage = watched.labels["stage"]
    severity: AlertSeverity = "critical" if checked.severe else "warning"
    name = names.get((stage, check), "CheckFailed" if checked.severe else "CheckWarned")
    text = told(checked.text, error=checked.error, hides=watched.hides)
    table = "/".join(watched.asset.split("/")[1:])
    count = checked.count or 0
    subjects: Mapping[str, str] = {
        "TableStands": f"{watched.asset} does not follow its source",
        "DeadLettersPending": (
            f"{watched.asset} lacks {count or 'some'} events, set aside as dead letters"
        ),
        "NotReconciled": (
            f"{table} is not proven to equal its source" + f", {count:,} keys differ" * (count > 0)
        ),
        "ReadersLate": "People see less than is promised",
    }
    subject = subjects.get(name, f"Check {check} of {watched.asset} did not pass")
    return Alert(
        name=name,
        severity=severity,
        labels={**watched.labels, "check": check},
        summary=clip(f"{subject}: {text}" if text else f"{subject}."),
        since=checked.at,
        link=pages.run(checked.run_id) if checked.run_id else pages.asset(watched.asset),
        runbook=pages.runbook(name, stage),
        run_id=checked.run_id,
    )


def duration(time: timedelta) -> str:
    """Like ``15m``, ``2h`` or ``1d``, as declarations write it."""
    minutes = int(time.total_seconds() // 60)
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"
