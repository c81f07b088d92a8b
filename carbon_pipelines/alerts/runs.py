"""What is failing, from the runs that ended.

What belongs here: which failure a later success has made good. What does not: reading runs.

A unit (an asset, a step, a job) is what its last run left it as. It fails since the first failure
after its last success, whatever number of runs failed since. A materialization that belongs to no
run (``carbon follow`` tells of those) is a success as well.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from carbon_pipelines.alerts.alert import Alert
from carbon_pipelines.alerts.observed import Ended, Look
from carbon_pipelines.alerts.pages import Pages
from carbon_pipelines.alerts.wording import told

GENTLE_STAGES = frozenset({"maintenance"})
"""Whose failures cost nobody a row or a late table, so nobody is got out of bed for one."""


@dataclass(frozen=True, slots=True)
class Failing:
    """A unit whose last run failed. ``since`` is the first failure, ``at`` the last."""

    labels: Mapping[str, str]
    summary: str
    since: float
    at: float
    run_id: str


def fold_runs(failing: Mapping[str, Failing], ended: Iterable[Ended]) -> Mapping[str, Failing]:
    """What fails after ``ended``, by unit; a run older than what is known changes nothing."""
    now = dict(failing)
    for run in sorted(ended, key=lambda run: (run.at, run.run_id)):
        for unit in run.succeeded:
            if unit in now and now[unit].at <= run.at:
                del now[unit]
        for step in run.failed:
            known = now.get(step.unit)
            if known is not None and known.at > run.at:
                continue
            text = told(step.text, error=step.error, hides=step.hides)
            since = run.at if known is None else known.since
            now[step.unit] = Failing(step.labels, text, since, run.at, run.run_id)
    return now


def still_failing(failing: Mapping[str, Failing], look: Look) -> Mapping[str, Failing]:
    """Without what was materialized since, and what is declared no more."""
    return {unit: one for unit, one in failing.items() if _still(one, look)}


def _still(one: Failing, look: Look) -> bool:
    asset, job = one.labels.get("asset"), one.labels.get("job")
    if asset is not None:
        made = look.materialized.get(asset)
        # a partition's failure is not made good by another partition
        later = made is not None and made.at > one.at and "partition" not in one.labels
        return asset in look.watched and not later
    return job is None or job in look.jobs


def run_alerts(failing: Mapping[str, Failing], pages: Pages) -> Iterable[Alert]:
    """One alert for each unit."""
    for one in failing.values():
        stage = one.labels.get("stage")
        yield Alert(
            name="RunFailed",
            severity="warning" if stage in GENTLE_STAGES else "critical",
            labels=one.labels,
            summary=one.summary,
            since=one.since,
            link=pages.run(one.run_id),
            runbook=pages.runbook("RunFailed", stage),
            run_id=one.run_id,
        )
