"""Alerts and messages for tests."""

from carbon_pipelines.alerts.alert import Alert
from carbon_pipelines.alerts.telling import Message


def alert(
    asset: str = "lake/market/credit",
    *,
    name: str = "TableStale",
    team: str = "team:a",
    since: float = 1_000.0,
    summary: str = "It is late.",
    severity: str = "critical",
) -> Alert:
    return Alert(
        name=name,
        severity="critical" if severity == "critical" else "warning",
        labels={"team": team, "asset": asset},
        summary=summary,
        since=since,
        link="https://dagster.example.org/runs/1",
        runbook="https://docs.example.org/lake.md#what-a-red-check-means",
        run_id="1",
    )


def message(receiver: str = "r", *, ended_at: float | None = None, **told: str) -> Message:
    return Message(receiver, alert(**told), ended_at)
