"""Asynchronous materialized views of Doris: refreshed, and waited for.

What belongs here: one refresh from its beginning to a view that is fresh. What does not: which
views there are, and what they select.
Sources, by the names of Doris' manual pages: REFRESH MATERIALIZED VIEW, TASKS, MV_INFOS.

REFRESH only asks; it answers before anything is done, and a task that ended before it proves
nothing. So the tasks are listed before, and the view counts as fresh when every task that came
after has ended, the newest one with SUCCESS, and the view itself says that it agrees with its
tables.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from carbon_pipelines.errors import ViewRefreshError, ViewUnfinishedError
from carbon_pipelines.serving import doris_statements as statements
from carbon_pipelines.serving.clock import Deadline
from carbon_pipelines.serving.doris_sql import Row, Sql
from carbon_pipelines.serving.doris_statements import RefreshMode

_FAILED = frozenset({"FAILED", "CANCELED", "CANCELLED"})
_SUCCESS = "SUCCESS"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A view that was refreshed: by which task, and how long that took from our asking."""

    view: str
    task_id: str
    seconds: float


def refresh_view(
    sql: Sql, database: str, view: str, deadline: Deadline, *, mode: RefreshMode = "COMPLETE"
) -> Refreshed:
    """Refresh a view and wait until it is fresh.

    Args:
        sql: Doris.
        database: Of the view.
        view: Its name.
        deadline: Until when to wait.
        mode: AUTO refreshes what is not in step, and takes the lake for unchanged.

    Raises:
        ViewRefreshError: There is no such view, its refresh failed, or its tables changed shape.
        ViewUnfinishedError: It is not fresh in time (retryable).
    """
    label = f"{database}.{view}"
    if not sql.run(statements.view_state(database, view)):
        raise ViewRefreshError(label, "there is none of this name")
    before = {str(row["TaskId"]) for row in sql.run(statements.view_tasks(database, view))}
    sql.run(statements.refresh_view(database, view, mode))
    turn = 0
    while True:
        task = _newest(sql.run(statements.view_tasks(database, view)), before)
        if task is None:
            state = "its task is not there yet"
        elif task["Status"] in _FAILED:
            raise ViewRefreshError(label, _shown(task))
        elif task["Status"] != _SUCCESS:
            state = f"its task {task['TaskId']} is {task['Status']}"
        else:
            found = why_not_fresh(label, sql.run(statements.view_state(database, view)))
            if found is None:
                return Refreshed(view, str(task["TaskId"]), deadline.waited)
            state = found
        if deadline.passed:
            raise ViewUnfinishedError(label, state, deadline.waited)
        deadline.pause(turn)
        turn += 1


def why_not_fresh(view: str, rows: Iterable[Row]) -> str | None:
    """What keeps a view from being fresh; None if nothing does.

    Raises:
        ViewRefreshError: It is gone, or no longer fits its tables.
    """
    row = next(iter(rows), None)
    if row is None:
        raise ViewRefreshError(view, "it is gone")
    if row["State"] == "SCHEMA_CHANGE":
        detail = row["SchemaChangeDetail"] or "no detail"
        raise ViewRefreshError(view, f"a table that it reads changed its shape ({detail})")
    if row["State"] != "NORMAL":
        return f"its state is {row['State']}"
    if row["RefreshState"] != _SUCCESS:
        return f"its last refresh is {row['RefreshState']}"
    if str(row["SyncWithBaseTables"]).lower() not in ("1", "true"):
        return "it does not agree with its tables"
    return None


def _newest(tasks: Iterable[Row], before: set[str]) -> Row | None:
    """The newest task that somebody asked for after; one that has not ended comes first."""
    ours = [task for task in tasks if str(task["TaskId"]) not in before and _was_asked_for(task)]
    ended = _FAILED | {_SUCCESS}
    return max(
        ours, key=lambda task: (task["Status"] not in ended, int(task["TaskId"])), default=None
    )


def _was_asked_for(task: Row) -> bool:
    """Whether a task was begun by a statement, as ours is, and not by a schedule."""
    try:
        context = json.loads(task["TaskContext"] or "{}")
    except (TypeError, ValueError):
        return True
    return not isinstance(context, dict) or context.get("triggerMode", "MANUAL") == "MANUAL"


def _shown(task: Row) -> str:
    said = " ".join(str(task["ErrorMsg"] or "").split())[:300]
    return f"task {task['TaskId']} {task['Status']}: {said or 'Doris says no reason'}"
