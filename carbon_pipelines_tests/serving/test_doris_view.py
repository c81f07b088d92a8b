"""Waiting for materialized views, by a clock that only waiting moves."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from carbon_pipelines.errors import ViewRefreshError, ViewUnfinishedError
from carbon_pipelines.serving.doris_view import Refreshed, refresh_view
from carbon_pipelines_tests.serving.stub import FakeTime

MANUAL, SYSTEM = '{"triggerMode":"MANUAL","isComplete":true}', '{"triggerMode":"SYSTEM"}'
FRESH = {
    "State": "NORMAL",
    "SchemaChangeDetail": "",
    "RefreshState": "SUCCESS",
    "SyncWithBaseTables": 1,
}


def task(number: int, status: str, context: str = MANUAL, error: str = "") -> dict[str, Any]:
    return {"TaskId": number, "Status": status, "ErrorMsg": error, "TaskContext": context}


@dataclass
class Views:
    """A Doris whose tasks and views are what ``tasks`` and ``views`` say at a time."""

    tasks: Callable[[float], list[dict[str, Any]]]
    views: Callable[[float], list[dict[str, Any]]] = lambda seconds: [FRESH]
    old: list[dict[str, Any]] = field(default_factory=list)
    time: FakeTime = field(default_factory=FakeTime)
    refreshed: list[str] = field(default_factory=list)

    def run(self, statement: str) -> list[Mapping[str, Any]]:
        if statement.startswith("REFRESH"):
            self.refreshed.append(statement)
            return []
        if re.search(r"FROM tasks", statement):
            return [*self.old, *(self.tasks(self.time.seconds) if self.refreshed else [])]
        return list(self.views(self.time.seconds))

    def refresh(self, seconds: float = 60) -> Refreshed:
        return refresh_view(self, "mart", "by_day", self.time.clock().deadline(seconds))


def test_a_view_is_fresh_when_the_task_that_came_after_has_ended_well() -> None:
    def tasks(seconds: float) -> list[dict[str, Any]]:
        if seconds < 1:
            return []
        return [task(12, "PENDING" if seconds < 3 else "RUNNING" if seconds < 9 else "SUCCESS")]

    views = Views(tasks, old=[task(11, "SUCCESS")])

    done = views.refresh()

    assert done.task_id == "12"
    assert done.seconds >= 9
    assert views.refreshed == ["REFRESH MATERIALIZED VIEW `mart`.`by_day` COMPLETE"]


def test_a_task_that_ended_before_proves_nothing() -> None:
    with pytest.raises(ViewUnfinishedError, match="its task is not there yet") as late:
        Views(lambda _: [], old=[task(11, "SUCCESS")]).refresh()
    assert late.value.retryable


def test_a_task_of_the_schedule_is_not_ours() -> None:
    with pytest.raises(ViewUnfinishedError, match="not there yet"):
        Views(lambda _: [task(12, "SUCCESS", SYSTEM)]).refresh()


def test_a_task_that_is_still_running_is_waited_for_beside_one_that_has_ended() -> None:
    with pytest.raises(ViewUnfinishedError, match="its task 12 is RUNNING"):
        Views(lambda _: [task(13, "SUCCESS"), task(12, "RUNNING")]).refresh()


@pytest.mark.parametrize("status", ["FAILED", "CANCELED"])
def test_a_failed_task_is_told_with_its_error(status: str) -> None:
    with pytest.raises(ViewRefreshError, match=f"task 12 {status}: no\\s+such table") as failed:
        Views(lambda _: [task(12, status, error="no\n such table")]).refresh()
    assert not failed.value.retryable


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"State": "INIT"}, "its state is INIT"),
        ({"RefreshState": "FAIL"}, "its last refresh is FAIL"),
        ({"SyncWithBaseTables": 0}, "it does not agree with its tables"),
        ({"SyncWithBaseTables": "false"}, "it does not agree with its tables"),
    ],
)
def test_success_alone_is_not_fresh(change: dict[str, Any], told: str) -> None:
    views = Views(lambda _: [task(12, "SUCCESS")], lambda _: [{**FRESH, **change}])

    with pytest.raises(ViewUnfinishedError, match=told):
        views.refresh()


def test_a_view_that_agrees_a_little_later_is_fresh() -> None:
    def views(seconds: float) -> list[dict[str, Any]]:
        return [{**FRESH, "SyncWithBaseTables": seconds > 5}]

    assert Views(lambda _: [task(12, "SUCCESS")], views).refresh().seconds > 5


def test_a_view_whose_tables_changed_shape_says_so_at_once() -> None:
    changed = {**FRESH, "State": "SCHEMA_CHANGE", "SchemaChangeDetail": "column price is gone"}

    with pytest.raises(ViewRefreshError, match=r"changed its shape \(column price is gone\)"):
        Views(lambda _: [task(12, "SUCCESS")], lambda _: [changed]).refresh()


def test_a_view_that_is_not_there_is_not_refreshed() -> None:
    views = Views(lambda _: [], lambda _: [])

    with pytest.raises(ViewRefreshError, match="there is none of this name"):
        views.refresh()
    assert views.refreshed == []
