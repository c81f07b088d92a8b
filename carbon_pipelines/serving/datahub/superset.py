"""What is shown in Superset, read from the files of its dashboards.

What belongs here: datasets, charts and dashboards of an export (``deploy/superset/``), and which
columns a chart shows. What does not: importing them, and urns (``bi.py``).

In DataHub a chart or dashboard has the number that Superset gave it, which no file tells. Whoever
knows the numbers hands them over by uuid; what has none is left out until it has one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from carbon_pipelines.errors import DataHubExportError

EXPORT = Path(__file__).resolve().parents[3] / "deploy" / "superset"
"""Of a checkout; a wheel has none."""
URL_VARIABLE = "CARBON_SUPERSET_URL"
DIRECTORY_VARIABLE = "CARBON_SUPERSET_DIR"
DATABASE = "Lake (Trino)"
"""What the database of datasets is called whose export leaves it out: that over the lake."""
_FIELDS = ("metrics", "metric", "groupby", "columns", "all_columns", "x_axis", "series", "entity")
"""Of a chart's parameters: what may name columns and metrics."""


@dataclass(frozen=True, slots=True)
class SupersetDataset:
    """A table as Superset knows it; ``metrics`` have the SQL that makes them.

    ``columns`` are empty where Superset is to read them from the table itself.
    """

    uuid: str
    database: str
    schema: str
    table: str
    description: str
    columns: Mapping[str, str]
    metrics: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SupersetChart:
    """A chart; ``shows`` are the columns and metrics of its dataset that it names."""

    uuid: str
    title: str
    description: str
    kind: str
    dataset: str
    shows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SupersetDashboard:
    """A dashboard and the uuids of its charts."""

    uuid: str
    title: str
    description: str
    charts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SupersetExport:
    """Everything that is declared, by uuid, and the numbers of what Superset has."""

    datasets: tuple[SupersetDataset, ...] = ()
    charts: tuple[SupersetChart, ...] = ()
    dashboards: tuple[SupersetDashboard, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict[str, int])


def load_declared(environ: Mapping[str, str]) -> SupersetExport | None:
    """What is declared, where there is a Superset to show it; else None.

    Raises:
        DataHubExportError: A file is not what an export has.
    """
    if not environ.get(URL_VARIABLE):
        return None
    named = environ.get(DIRECTORY_VARIABLE)
    return load_export(Path(named) if named else EXPORT)


def load_export(
    directory: Path = EXPORT, numbers: Mapping[str, int] | None = None
) -> SupersetExport | None:
    """Read an export; None if there is none.

    Args:
        directory: What a zip of Superset's holds, with ``metadata.yaml`` at its top or below.
        numbers: Of charts and dashboards by uuid.

    Raises:
        DataHubExportError: A file is not what an export has.
    """
    databases = dict(_databases(directory))
    datasets = tuple(_datasets(directory, databases))
    if not datasets:
        return None
    return SupersetExport(
        datasets=datasets,
        charts=tuple(_charts(directory)),
        dashboards=tuple(_dashboards(directory)),
        numbers=dict(numbers or {}),
    )


def _databases(directory: Path) -> Iterator[tuple[str, str]]:
    for file, document in _documents(directory, "databases"):
        yield _text(file, document, "uuid"), _text(file, document, "database_name")


def _datasets(directory: Path, databases: Mapping[str, str]) -> Iterator[SupersetDataset]:
    for file, document in _documents(directory, "datasets"):
        database = databases.get(_text(file, document, "database_uuid"), DATABASE)
        yield SupersetDataset(
            uuid=_text(file, document, "uuid"),
            database=database,
            schema=str(document.get("schema") or ""),
            table=_text(file, document, "table_name"),
            description=str(document.get("description") or ""),
            columns={
                str(one["column_name"]): str(one.get("type") or "")
                for one in document.get("columns") or []
            },
            metrics={
                str(one["metric_name"]): str(one.get("expression") or "")
                for one in document.get("metrics") or []
            },
        )


def _charts(directory: Path) -> Iterator[SupersetChart]:
    for file, document in _documents(directory, "charts"):
        parameters = document.get("params") or {}
        yield SupersetChart(
            uuid=_text(file, document, "uuid"),
            title=_text(file, document, "slice_name"),
            description=str(document.get("description") or ""),
            kind=str(document.get("viz_type") or ""),
            dataset=_text(file, document, "dataset_uuid"),
            shows=tuple(dict.fromkeys(_shown(parameters))),
        )


def _shown(parameters: Mapping[str, Any]) -> Iterator[str]:
    """Columns and metrics that a chart's parameters name, in their order."""
    for name in _FIELDS:
        value = parameters.get(name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                yield one
            elif isinstance(one, Mapping):
                column = one.get("column") or {}
                found = column.get("column_name") if isinstance(column, Mapping) else None
                if isinstance(found, str):
                    yield found


def _dashboards(directory: Path) -> Iterator[SupersetDashboard]:
    for file, document in _documents(directory, "dashboards"):
        position = document.get("position") or {}
        charts = [
            str(one["meta"]["uuid"])
            for one in position.values()
            if isinstance(one, Mapping) and one.get("type") == "CHART" and "uuid" in one["meta"]
        ]
        yield SupersetDashboard(
            uuid=_text(file, document, "uuid"),
            title=_text(file, document, "dashboard_title"),
            description=str(document.get("description") or ""),
            charts=tuple(dict.fromkeys(charts)),
        )


def _documents(directory: Path, folder: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """What files of a kind say, in the order of their names."""
    for file in sorted(directory.rglob("*.yaml")):
        if folder not in file.relative_to(directory).parts[:-1]:
            continue
        try:
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise DataHubExportError(file, " ".join(str(error).split())) from error
        if not isinstance(document, Mapping):
            reason = "it holds no fields"
            raise DataHubExportError(file, reason)
        yield file, document


def _text(file: Path, document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        reason = f'it has no "{name}"'
        raise DataHubExportError(file, reason)
    return value
