"""The runs that ended, and what failed in them.

What belongs here: reading runs and their events. What does not: what a failure means for later
looks (``alerts/runs.py``), and everything that is read at once (``alert_reading.py``).

A run's end is told by the clock of the process that ended it and may be seen late. So a look begins
a little before the last one ended, and knows the runs that it has met.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster._core.events import DagsterEventType
from dagster._core.storage.dagster_run import RunRecord

from carbon_pipelines.alerts.memory import Memory
from carbon_pipelines.alerts.observed import Ended, FailedStep
from carbon_pipelines.defs.automation.alert_subjects import Subjects
from carbon_pipelines.errors import MartTestsFailedError

OVERLAP = timedelta(minutes=2)
FIRST_LOOK = timedelta(days=1)
"""How far back the first look goes."""
MOST_RUNS = 5_000
"""Runs that one look reads: after a long pause the next look goes on, so that none takes long."""
_PAGE = 500
_PARTITION, _DATABASE, _REASON = "dagster/partition", "carbon/database", "dagster/failure_reason"
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_EVENTS = {
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
}
_CHECKS_FAILED = {DagsterAssetCheckFailedError.__name__, MartTestsFailedError.__name__}
"""Errors of steps that are about checks which say themselves that they failed."""


@dataclass(frozen=True, slots=True)
class RunsRead:
    """Runs that ended, oldest first; how far the look came, and the runs that it met lately."""

    ended: tuple[Ended, ...]
    until: float
    seen: Mapping[str, float]


def read_runs(
    instance: dg.DagsterInstance, subjects: Subjects, memory: Memory, now: datetime
) -> RunsRead:
    """The runs that ended since the last look."""
    since = memory.until if memory.until is not None else (now - FIRST_LOOK).timestamp()
    start = since - OVERLAP.total_seconds()
    seen = dict(memory.seen)
    fails = set(memory.failing)
    ended: list[Ended] = []
    until = now.timestamp()
    after = datetime.fromtimestamp(start, UTC)
    while True:
        page = instance.get_run_records(
            dg.RunsFilter(statuses=_ENDED, updated_after=after),
            limit=_PAGE,
            order_by="update_timestamp",
            ascending=True,
        )
        new = [record for record in page if record.dagster_run.run_id not in seen]
        for record in new:
            at = _end_of(record)
            seen[record.dagster_run.run_id] = at
            if at < start:  # an old run that got another tag
                continue
            run = _read_run(instance, subjects, record, at, fails)
            fails |= {step.unit for step in run.failed}
            ended.append(run)
        if len(page) < _PAGE or not new:
            break
        if len(ended) >= MOST_RUNS:
            until = page[-1].update_timestamp.replace(tzinfo=UTC).timestamp()
            break
        after = page[-1].update_timestamp.replace(tzinfo=UTC) - timedelta(microseconds=1)
    kept = until - 2 * OVERLAP.total_seconds()
    return RunsRead(tuple(ended), until, {run: at for run, at in seen.items() if at >= kept})


def _end_of(record: RunRecord) -> float:
    return record.end_time or record.update_timestamp.replace(tzinfo=UTC).timestamp()


def _read_run(
    instance: dg.DagsterInstance,
    subjects: Subjects,
    record: RunRecord,
    at: float,
    fails: Iterable[str],
) -> Ended:
    """What failed and what did not; of a run that succeeded only where something is failing."""
    run = record.dagster_run
    if run.status == dg.DagsterRunStatus.SUCCESS and not any(_may_mend(run, one) for one in fails):
        return Ended(run.run_id, at)
    partition, database = run.tags.get(_PARTITION), run.tags.get(_DATABASE)
    whole = subjects.of_job(run.job_name, database)
    succeeded: set[str] = set()
    planned: set[str] = set()
    made: set[str] = set()
    failures: list[tuple[str, dg.DagsterEvent]] = []
    for event in instance.get_records_for_run(run.run_id, of_type=_EVENTS).records:
        told = event.event_log_entry.dagster_event
        if told is None:
            continue
        if told.event_type == DagsterEventType.ASSET_MATERIALIZATION_PLANNED:
            key = told.asset_materialization_planned_data.asset_key
            planned.add(key.to_user_string())
        elif told.step_key is None:
            continue
        elif told.event_type == DagsterEventType.ASSET_MATERIALIZATION:
            made.add(told.step_materialization_data.materialization.asset_key.to_user_string())
        elif told.event_type == DagsterEventType.STEP_FAILURE:
            failures.append((told.step_key, told))
        else:
            step = subjects.of_step(
                run.job_name, told.step_key, partition=partition, database=database
            )
            succeeded.add(step.unit)
    if run.status == dg.DagsterRunStatus.SUCCESS:
        return Ended(run.run_id, at, succeeded=frozenset({*succeeded, whole.unit}))
    if not failures:
        failed = [replace(whole, text=_unexplained(run))]
    else:
        failed = [
            _worded(one, told)
            for name, told in failures
            if not _stopped_by_check(told)
            for one in subjects.missed(name, planned - made)
            or [subjects.of_step(run.job_name, name, partition=partition, database=database)]
        ]
    return Ended(run.run_id, at, tuple(failed), frozenset(succeeded))


def _unexplained(run: dg.DagsterRun) -> str:
    reason = run.tags.get(_REASON, "unknown").replace("_", " ").lower()
    return (
        f"A run of job {run.job_name} ended without a failed step: {reason}. Its page has the "
        "log; if its process was killed, look for memory and restarts."
    )


def _may_mend(run: dg.DagsterRun, unit: str) -> bool:
    """Whether a run may have had the unit in it, as far as can be told without reading it."""
    kind, _, name = unit.partition(":")
    if kind != "asset":
        return name.split(":")[0] == run.job_name
    asset = dg.AssetKey.from_user_string(name.partition("@")[0])
    return not run.asset_selection or asset in run.asset_selection


def _stopped_by_check(event: dg.DagsterEvent) -> bool:
    """Whether a step failed only because of checks of its own; their alerts tell why."""
    data = event.step_failure_data
    if data.error is not None and data.error.cls_name in _CHECKS_FAILED:
        return True
    return _error_of(event) in _CHECKS_FAILED


def _error_of(event: dg.DagsterEvent) -> str | None:
    """The class of the error that a step failed with, where it was translated."""
    data = event.step_failure_data.user_failure_data
    error = data.metadata.get("carbon/error") if data is not None else None
    return None if error is None else str(error.value)


def _worded(step: FailedStep, event: dg.DagsterEvent) -> FailedStep:
    """The failed step with the sentence of its error, and which error it was."""
    data = event.step_failure_data
    if data.user_failure_data is not None:
        text = data.user_failure_data.description or ""
        return replace(step, text=text, error=_error_of(event) or "Failure")
    name = data.error.cls_name if data.error is not None else None
    return replace(step, error=name or "Error")
