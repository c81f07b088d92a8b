"""Reading what alerts need from a Dagster instance. Reads, and writes nothing.

What belongs here: queries, and events as plain values. What does not: what they mean
(``carbon_pipelines/alerts``).

The state of assets and checks is read as it is, in a query each for all of them. Of runs and scores
only what is new is read. A run's end is told by the clock of the process that ended it and may be
seen late, so a look begins a little before the last one ended, and knows the runs it has met.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster._core.events import DagsterEventType
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecord,
)
from dagster._core.storage.dagster_run import RunRecord

from carbon_pipelines.alerts.memory import Memory
from carbon_pipelines.alerts.observed import Checked, Ended, FailedStep, Look, Materialized, Scored
from carbon_pipelines.alerts.runs import Failing
from carbon_pipelines.alerts.scores import ScoreMark
from carbon_pipelines.catalog.quality import DIMENSIONS
from carbon_pipelines.defs.automation.alert_subjects import Subjects

OVERLAP = timedelta(minutes=2)
FIRST_LOOK = timedelta(days=1)
"""How far back the first look goes for failed runs."""
MOST_RUNS = 5_000
"""Runs that one look reads: after a long pause the next look goes on, so that none takes long."""
_PAGE = 500
_PARTITION, _DATABASE, _REASON = "dagster/partition", "carbon/database", "dagster/failure_reason"
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]


@dataclass(frozen=True, slots=True)
class Reading:
    """A look, and the memory with how far it has read."""

    look: Look
    memory: Memory


def read_instance(
    instance: dg.DagsterInstance, subjects: Subjects, memory: Memory, now: datetime
) -> Reading:
    """Look at everything that is watched."""
    began = now.timestamp()
    since = memory.until if memory.until is not None else (now - FIRST_LOOK).timestamp()
    ended, seen, until = _read_runs(instance, subjects, memory, since, began)
    materialized, storage_ids = _read_assets(instance, subjects, memory.failing, ended)
    scores = {
        asset: _read_scores(instance, asset, memory.marks.get(asset, ScoreMark()))
        for asset, watched in subjects.watched.items()
        if watched.points is not None
        and asset in storage_ids
        and memory.marks.get(asset, ScoreMark()).seen != storage_ids[asset]
    }
    look = Look(
        at=began,
        watched=subjects.watched,
        materialized=materialized,
        checked=_read_checks(instance, subjects),
        ended=tuple(ended),
        scores=scores,
        jobs=subjects.jobs,
    )
    kept = {run: at for run, at in seen.items() if at >= until - 2 * OVERLAP.total_seconds()}
    return Reading(look, replace(memory, until=until, seen=kept))


def _read_assets(
    instance: dg.DagsterInstance,
    subjects: Subjects,
    failing: Mapping[str, Failing],
    ended: Iterable[Ended],
) -> tuple[Mapping[str, Materialized], Mapping[str, int]]:
    """When each asset that matters was made last, and the storage id of that."""
    failed = {one.labels.get("asset") for one in failing.values()}
    failed |= {step.labels.get("asset") for run in ended for step in run.failed}
    keys = [
        dg.AssetKey.from_user_string(asset)
        for asset, one in subjects.watched.items()
        if one.freshness is not None or one.checks or one.points is not None or asset in failed
    ]
    made: dict[str, Materialized] = {}
    ids: dict[str, int] = {}
    for record in instance.get_asset_records(keys) if keys else ():
        event = record.asset_entry.last_materialization_record
        if event is not None:
            asset = record.asset_entry.asset_key.to_user_string()
            made[asset] = Materialized(event.timestamp, event.run_id or None)
            ids[asset] = event.storage_id
    return made, ids


def _read_checks(
    instance: dg.DagsterInstance, subjects: Subjects
) -> Mapping[tuple[str, str], Checked]:
    """The newest finished evaluation of each check."""
    keys = [
        dg.AssetCheckKey(dg.AssetKey.from_user_string(asset), check)
        for asset, one in subjects.watched.items()
        for check in one.checks
    ]
    storage = instance.event_log_storage
    checked: dict[tuple[str, str], Checked] = {}
    for key, newest in storage.get_latest_asset_check_execution_by_key(keys).items():
        record: AssetCheckExecutionRecord | None = newest
        if newest.status not in COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES:
            finished = storage.get_asset_check_execution_history(
                key, limit=1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
            )
            record = finished[0] if finished else None
        if record is not None and record.evaluation is not None and record.event is not None:
            asset = key.asset_key.to_user_string()
            checked[asset, key.name] = _as_checked(record.evaluation, record.event)
    return checked


def _as_checked(evaluation: dg.AssetCheckEvaluation, event: dg.EventLogEntry) -> Checked:
    told = {name: value.value for name, value in evaluation.metadata.items()}
    count = told.get("carbon/pending", told.get("carbon/differing_keys"))
    error = told.get("carbon/error")
    return Checked(
        at=event.timestamp,
        passed=evaluation.passed,
        severe=evaluation.severity == dg.AssetCheckSeverity.ERROR,
        text=evaluation.description or "",
        error=str(error) if error is not None else None,
        count=count if isinstance(count, int) else None,
        run_id=event.run_id or None,
    )


def _read_scores(instance: dg.DagsterInstance, asset: str, mark: ScoreMark) -> tuple[Scored, ...]:
    """The scores from the last known one on, oldest first; of a table met first, the last two."""
    key = dg.AssetKey.from_user_string(asset)
    first = mark.known if mark.known is not None else mark.seen
    if first is None:
        newest = instance.fetch_materializations(key, limit=2).records
        return tuple(_as_scored(record) for record in reversed(newest))
    new = dg.AssetRecordsFilter(key, after_storage_id=first - 1)
    records = instance.fetch_materializations(new, limit=_PAGE, ascending=True).records
    return tuple(_as_scored(record) for record in records)


def _as_scored(record: dg.EventLogRecord) -> Scored:
    materialization = record.asset_materialization
    told: Mapping[str, Any] = {} if materialization is None else materialization.metadata

    def number(name: str) -> float | None:
        value = told[name].value if name in told else None
        return float(value) if isinstance(value, int | float) else None

    dimensions = {name: number(f"carbon/{name}") for name in DIMENSIONS}
    losses = told["carbon/losses"].value if "carbon/losses" in told else {}
    return Scored(
        storage_id=record.storage_id,
        at=record.timestamp,
        score=number("carbon/score"),
        dimensions={name: value for name, value in dimensions.items() if value is not None},
        losses={str(label): float(points) for label, points in losses.items()},
        because=str(told["carbon/because"].value) if "carbon/because" in told else "",
        run_id=record.run_id or None,
    )


def _read_runs(
    instance: dg.DagsterInstance, subjects: Subjects, memory: Memory, since: float, now: float
) -> tuple[list[Ended], Mapping[str, float], float]:
    """The runs that ended since the last look, all that this look met, and how far it came."""
    start = since - OVERLAP.total_seconds()
    seen = dict(memory.seen)
    fails = set(memory.failing)
    ended: list[Ended] = []
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
            return ended, seen, now
        if len(ended) >= MOST_RUNS:
            return ended, seen, page[-1].update_timestamp.replace(tzinfo=UTC).timestamp()
        after = page[-1].update_timestamp.replace(tzinfo=UTC) - timedelta(microseconds=1)


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
    partition, database = run.tags.get(_PARTITION), run.tags.get(_DATABASE)
    whole = subjects.of_job(run.job_name, database)
    failed_whole = run.status == dg.DagsterRunStatus.FAILURE
    if not failed_whole and not any(_may_mend(run, unit) for unit in fails):
        return Ended(run.run_id, at)
    types = {DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_SUCCESS}
    failed: list[FailedStep] = []
    succeeded: set[str] = set()
    by_gate = False
    for event in instance.get_records_for_run(run.run_id, of_type=types).records:
        told = event.event_log_entry.dagster_event
        if told is None or told.step_key is None:
            continue
        step = subjects.of_step(run.job_name, told.step_key, partition=partition, database=database)
        if told.event_type == DagsterEventType.STEP_SUCCESS:
            succeeded.add(step.unit)
        elif _stopped_by_check(told):
            by_gate = True
        else:
            failed.append(_worded(step, told))
    if not failed_whole:
        succeeded.add(whole.unit)
    elif not failed and not by_gate:
        reason = run.tags.get(_REASON, "unknown").replace("_", " ").lower()
        text = (
            f"A run of job {run.job_name} ended without a failed step: {reason}. Its page has the "
            "log; if its process was killed, look for memory and restarts."
        )
        failed.append(replace(whole, text=text))
    return Ended(run.run_id, at, tuple(failed), frozenset(succeeded))


def _may_mend(run: dg.DagsterRun, unit: str) -> bool:
    """Whether a run may have had the unit in it, as far as can be told without reading it."""
    kind, _, name = unit.partition(":")
    if kind != "asset":
        return name.split(":")[0] == run.job_name
    asset = dg.AssetKey.from_user_string(name.partition("@")[0])
    return run.asset_selection is None or asset in run.asset_selection


def _stopped_by_check(event: dg.DagsterEvent) -> bool:
    """Whether a step failed only because a check of its own blocks; the check's alert tells why."""
    error = event.step_failure_data.error
    return error is not None and error.cls_name == DagsterAssetCheckFailedError.__name__


def _worded(step: FailedStep, event: dg.DagsterEvent) -> FailedStep:
    """The failed step with the sentence of its error, and which error it was."""
    data = event.step_failure_data
    if data.user_failure_data is not None:
        error = data.user_failure_data.metadata.get("carbon/error")
        name = str(error.value) if error is not None else "Failure"
        return replace(step, text=data.user_failure_data.description or "", error=name)
    name = data.error.cls_name if data.error is not None else None
    return replace(step, error=name or "Error")
