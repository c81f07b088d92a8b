"""Deletes runs that ended more than DAYS days ago, with their events.

A run that holds an asset's newest materialization or observation stays: what its page and its
automation go by must not vanish because nothing happened since.
"""

import argparse
import sys
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterInstance, DagsterRunStatus

ENDED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
AT_ONCE = 200


def forget(instance: DagsterInstance, before: datetime) -> int:
    """How many runs were deleted."""
    kept = newest_runs(instance)
    doomed: list[str] = []
    cursor = None
    while True:
        records = instance.get_run_records(
            dg.RunsFilter(statuses=ENDED, created_before=before), limit=AT_ONCE, cursor=cursor
        )
        if not records:
            break
        cursor = records[-1].dagster_run.run_id
        for record in records:
            ended = datetime.fromtimestamp(record.end_time or 0, tz=UTC)
            if record.dagster_run.run_id not in kept and ended < before:
                doomed.append(record.dagster_run.run_id)
    # only now: a page is found by the last run of the one before
    for run in doomed:
        instance.delete_run(run)
    return len(doomed)


def newest_runs(instance: DagsterInstance) -> set[str]:
    """Runs that an asset or a check shows as its newest."""
    kept: set[str] = set()
    for record in instance.get_asset_records():
        entry = record.asset_entry
        for event in (entry.last_materialization, entry.last_observation):
            if event is not None:
                kept.add(event.run_id)
        if entry.last_run_id:
            kept.add(entry.last_run_id)
    return kept


def main() -> None:
    """Read the arguments, and say how many went."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--days", type=int, required=True)
    days = arguments.parse_args().days
    if days < 7:
        sys.exit("--days is at least 7: what happened this week is still asked about")
    before = datetime.now(tz=UTC) - timedelta(days=days)
    with DagsterInstance.get() as instance:
        sys.stdout.write(f"deleted {forget(instance, before)} runs older than {days} days\n")


if __name__ == "__main__":
    main()
