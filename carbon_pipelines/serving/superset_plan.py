"""What bringing a dashboard would change: decided here, done by ``superset_import.py``.

What belongs here: comparing files with what Superset has. What does not: asking it.

An object is one of four things. It is not there: it is made. It has the content of the file: it
stays. It has the content that we brought last, by its mark: nobody touched it, and it is replaced.
It has another one: somebody edited it by hand; that content is kept as a copy under a new uuid
before ours takes its place. Objects with other uuids than the files' are never looked at.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from carbon_pipelines.serving.superset_code import (
    CodeObject,
    DashboardCode,
    content_digest,
    marked,
    read_mark,
    with_charts,
)

Change = Literal["make", "leave", "replace", "keep a copy and replace"]
_COPIES = uuid.UUID("0e1f7f5a-8f0f-4c43-8b0f-6d5b6e6c2f0a")
"""Namespace of the copies' uuids: the same edit has the same copy, however often it is found."""


@dataclass(frozen=True, slots=True)
class LiveObject:
    """An object as Superset exports it, and who changed it last."""

    fields: Mapping[str, Any]
    changed_by: str = ""


@dataclass(frozen=True, slots=True)
class Copy:
    """A hand edit under a new uuid."""

    kind: str
    uuid: str
    title: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Planned:
    """What becomes of one object."""

    code: CodeObject
    change: Change
    kept: Copy | None = None

    def sentence(self) -> str:
        """As one line."""
        kept = f', which stays as "{self.kept.title}"' if self.kept else ""
        return f'{self.code.kind} "{self.code.title}": {self.change}{kept}'


@dataclass(frozen=True, slots=True)
class DashboardPlan:
    """All of one dashboard."""

    code: DashboardCode
    objects: tuple[Planned, ...]
    missing_datasets: tuple[str, ...]

    @property
    def changes(self) -> tuple[Planned, ...]:
        """What is not left alone."""
        return tuple(one for one in self.objects if one.change != "leave")

    @property
    def copies(self) -> tuple[Copy, ...]:
        """Edits by hand that are kept."""
        return tuple(one.kept for one in self.objects if one.kept is not None)

    def sentences(self) -> tuple[str, ...]:
        """As lines for a person."""
        made = [f"dataset of mart/{mart}: make" for mart in self.missing_datasets]
        return (*made, *(one.sentence() for one in self.objects))


def plan_dashboard(
    code: DashboardCode, live: Mapping[str, LiveObject], datasets: frozenset[str]
) -> DashboardPlan:
    """Compare.

    Args:
        code: The files, with what is proven already in the dashboard.
        live: What Superset has, by uuid.
        datasets: Uuids of datasets that it has.
    """
    charts = tuple(_plan(chart, live.get(chart.uuid), {}) for chart in code.charts)
    copies = {one.code.uuid: one.kept.uuid for one in charts if one.kept is not None}
    dashboard = _plan(code.dashboard, live.get(code.dashboard.uuid), copies)
    missing = tuple(one.mart for one in code.datasets if one.uuid not in datasets)
    return DashboardPlan(code, (*charts, dashboard), missing)


def _plan(code: CodeObject, live: LiveObject | None, copies: Mapping[str, str]) -> Planned:
    if live is None:
        return Planned(code, "make")
    lost = code.kind == "chart" and not live.fields.get("dataset_uuid")
    if lost:  # its dataset was deleted by hand, which is no edit of the chart
        own = {**live.fields, "dataset_uuid": code.fields["dataset_uuid"]}
        live = LiveObject(own, live.changed_by)
    there, mark = content_digest(code.kind, live.fields), read_mark(live.fields)
    if there == code.digest:
        return Planned(code, "leave" if mark == there and not lost else "replace")
    if there == mark:
        return Planned(code, "replace")
    return Planned(code, "keep a copy and replace", _copy(code, live, there, copies))


def _copy(code: CodeObject, live: LiveObject, digest: str, copies: Mapping[str, str]) -> Copy:
    """The edit, under a name that says whose it is; its charts are those that were edited too."""
    name = "slice_name" if code.kind == "chart" else "dashboard_title"
    by = f" by {live.changed_by}" if live.changed_by else ""
    title = f"{live.fields.get(name)} (edited{by}, {digest})"
    identity = str(uuid.uuid5(_COPIES, f"{code.uuid} {digest}"))
    fields = {
        **with_charts(live.fields, copies),
        "uuid": identity,
        name: title,
        "certified_by": None,
        "certification_details": None,
    }
    if code.kind == "dashboard":
        fields["slug"] = None
    return Copy(code.kind, identity, title, fields)


def bundle_files(plan: DashboardPlan) -> dict[str, Any]:
    """Files of the one import that carries out a plan: changed objects and copies, nothing else."""
    files: dict[str, Any] = {}
    for one in plan.changes:
        if one.kept is not None:
            files[f"{one.kept.kind}s/{one.kept.uuid}.yaml"] = dict(one.kept.fields)
        own = marked(one.code.fields, one.code.digest)
        files[f"{one.code.kind}s/{one.code.uuid}.yaml"] = own
    return json.loads(json.dumps(files, default=str))
