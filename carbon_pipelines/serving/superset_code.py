"""Dashboards as code: files in Superset's export format, and what makes two of them the same.

What belongs here: reading a dashboard's files, the content of an object without what only one
Superset has (ids, colours that its own pages write), its digest, and the mark that we leave on what
we bring. What does not: asking Superset, and deciding (``superset_plan.py``).

A directory has one dashboard: ``metadata.yaml``, ``dashboards/*.yaml``, ``charts/*.yaml`` and
``datasets/*.yaml``, as "Export" in Superset writes them. Objects are known by their ``uuid``.

The mark is in ``certification_details``, which every export tells and people see beside the badge:
the digest of the content that we brought. An object whose content has another digest than its mark
was edited by hand.
"""

import copy
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from carbon_pipelines.errors import DashboardFilesError

DIRECTORY_VARIABLE = "CARBON_SUPERSET_DIR"
VERSION = "1.0.0"
"""Of the export format; Superset takes no other."""
CERTIFIED_BY = "carbon"
Kind = Literal["chart", "dashboard"]
_MARK = re.compile(r"state ([0-9a-f]{12})\b")
_CHART_FIELDS = ("slice_name", "description", "viz_type", "params", "query_context", "dataset_uuid")
_DASHBOARD_FIELDS = ("dashboard_title", "description", "css", "slug", "published", "position")
_WRITTEN_BY_PAGES = frozenset(
    {
        "chart_configuration",
        "color_scheme_domain",
        "default_filters",
        "global_chart_configuration",
        "import_time",
        "label_colors",
        "map_label_colors",
        "positions",
        "shared_label_colors",
        "show_native_filters",
    }
)
"""What a dashboard's page saves by itself when an owner opens it, or a Superset's own ids."""


@dataclass(frozen=True, slots=True)
class CodeObject:
    """A chart or dashboard as a file says it is."""

    kind: Kind
    uuid: str
    title: str
    fields: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Of its content."""
        return content_digest(self.kind, self.fields)


@dataclass(frozen=True, slots=True)
class DatasetCode:
    """A dataset over one mart."""

    uuid: str
    mart: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DashboardCode:
    """A dashboard, its charts and their datasets; ``name`` is that of its directory."""

    name: str
    place: Path
    dashboard: CodeObject
    charts: tuple[CodeObject, ...]
    datasets: tuple[DatasetCode, ...]

    @property
    def marts(self) -> tuple[str, ...]:
        """What it shows."""
        return tuple(sorted(dataset.mart for dataset in self.datasets))

    @property
    def database_uuid(self) -> str:
        """Of the one database that all its datasets are in."""
        return str(self.datasets[0].fields["database_uuid"])


def dashboards_directory(environ: Mapping[str, str]) -> Path:
    """CARBON_SUPERSET_DIR, else the checkout's ``deploy/superset``, else what a wheel brings."""
    named = environ.get(DIRECTORY_VARIABLE)
    if named:
        return Path(named).absolute()
    here = Path(__file__).resolve().parent
    checkout = here.parent.parent / "deploy" / "superset"
    return checkout if checkout.is_dir() else here / "superset"


def load_dashboards(directory: Path) -> tuple[DashboardCode, ...]:
    """Every dashboard of a directory, by name.

    Raises:
        DashboardFilesError: The files are no export, of another version, or do not fit each other.
    """
    found = sorted(file.parent for file in directory.glob("*/metadata.yaml"))
    return tuple(_load(place) for place in found)


def _load(place: Path) -> DashboardCode:
    version = _read(place / "metadata.yaml").get("version")
    if version != VERSION:
        reason = f"is an export of version {version}, and Superset takes {VERSION}"
        raise DashboardFilesError(place / "metadata.yaml", reason)
    dashboards = list(_objects(place, "dashboard"))
    charts = tuple(_objects(place, "chart"))
    datasets = tuple(
        DatasetCode(str(one["uuid"]), str(one["table_name"]), one)
        for one in map(_read, sorted((place / "datasets").glob("*.yaml")))
    )
    if len(dashboards) != 1 or not datasets:
        reason = "has to hold one dashboard and its datasets"
        raise DashboardFilesError(place, reason)
    [dashboard] = dashboards
    shown, known = charts_of(dashboard.fields), {chart.uuid for chart in charts}
    if shown != known:
        reason = f"the dashboard places other charts than there are files of: {shown ^ known}"
        raise DashboardFilesError(place, reason)
    for chart in charts:
        if chart.fields["dataset_uuid"] not in {dataset.uuid for dataset in datasets}:
            raise DashboardFilesError(place, f'"{chart.title}" is of a dataset without a file')
        if not chart.fields.get("query_context"):
            reason = f'"{chart.title}" has no query_context: save it once in Superset, and export'
            raise DashboardFilesError(place, reason)
    return DashboardCode(place.name, place, dashboard, charts, datasets)


def _objects(place: Path, kind: Kind) -> Iterable[CodeObject]:
    title = "slice_name" if kind == "chart" else "dashboard_title"
    for file in sorted((place / f"{kind}s").glob("*.yaml")):
        fields = _read(file)
        missing = {"uuid", title} - fields.keys()
        if fields.get("version") != VERSION or missing:
            reason = f"is no {kind} of export version {VERSION}; it lacks {sorted(missing)}"
            raise DashboardFilesError(file, reason)
        yield CodeObject(kind, str(fields["uuid"]), str(fields[title]), fields)


def _read(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DashboardFilesError(file, " ".join(str(error).split())) from error
    if not isinstance(found, dict):
        raise DashboardFilesError(file, "holds no object")
    return cast("dict[str, Any]", found)


def charts_of(dashboard: Mapping[str, Any]) -> set[str]:
    """The charts that a dashboard places."""
    return {str(meta["uuid"]) for meta in _chart_metas(dashboard) if "uuid" in meta}


def with_charts(dashboard: Mapping[str, Any], replaced: Mapping[str, str]) -> dict[str, Any]:
    """A dashboard with other charts in the places of some."""
    changed = copy.deepcopy(dict(dashboard))
    for meta in _chart_metas(changed):
        meta["uuid"] = replaced.get(str(meta.get("uuid")), meta.get("uuid"))
    return changed


def _chart_metas(dashboard: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for cell in dict(dashboard.get("position") or {}).values():
        if isinstance(cell, dict) and cell.get("type") == "CHART":
            yield cast("dict[str, Any]", cell["meta"])


def content_digest(kind: Kind, fields: Mapping[str, Any]) -> str:
    """What tells one content from another: 12 letters."""
    content = _chart_content(fields) if kind == "chart" else _dashboard_content(fields)
    told = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def marked(fields: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """The same with our badge and mark."""
    details = f"Kept as code; an edit by hand is put aside as a copy. State {digest}."
    return {**fields, "certified_by": CERTIFIED_BY, "certification_details": details}


def read_mark(fields: Mapping[str, Any]) -> str | None:
    """The digest of what we brought; None if we never did."""
    found = _MARK.search(str(fields.get("certification_details") or "").lower())
    return found[1] if found else None


def _chart_content(fields: Mapping[str, Any]) -> dict[str, Any]:
    content = {name: fields.get(name) or None for name in _CHART_FIELDS}
    params = dict(content["params"] or {})
    # Superset writes its own ids into these; "dashboards" is where a page saved it from.
    content["params"] = _dense({k: v for k, v in params.items() if k not in _OWN_IDS})
    context = json.loads(content["query_context"] or "{}")
    content["query_context"] = _dense(context.get("queries") or [])
    return content


_OWN_IDS = frozenset({"datasource", "dashboards", "slice_id"})


def _dashboard_content(fields: Mapping[str, Any]) -> dict[str, Any]:
    content = {name: fields.get(name) or None for name in _DASHBOARD_FIELDS}
    position: dict[str, Any] = {}
    for name, cell in dict(content["position"] or {}).items():
        kept = dict(cell) if isinstance(cell, dict) else {"value": cell}
        meta = dict(kept.get("meta") or {})
        kept["meta"] = {k: v for k, v in meta.items() if k not in ("chartId", "sliceName")}
        kept.pop("parents", None)
        position[name] = _dense(kept)
    content["position"] = position
    metadata = dict(fields.get("metadata") or {})
    content["metadata"] = _dense({k: v for k, v in metadata.items() if k not in _WRITTEN_BY_PAGES})
    return content


def _dense(value: Any) -> Any:
    """Without what is empty, which one version writes and another leaves out."""
    if isinstance(value, dict):
        dense = {str(name): _dense(one) for name, one in value.items()}
        return {name: one for name, one in dense.items() if one not in (None, "", [], {})}
    return [_dense(one) for one in value] if isinstance(value, list) else value
