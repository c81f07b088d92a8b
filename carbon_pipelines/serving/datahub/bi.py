"""Datasets, charts and dashboards of Superset, named as DataHub's own source for it names them.

What belongs here: what is told of them. What does not: reading what is declared of them
(``superset.py``). Source: ``datahub.ingestion.source.superset`` of acryl-datahub 1.7.

A dataset of Superset shows a table of another system, of the same columns. Which system that is
says the name of Superset's database: that of Doris, or of Trino.
"""

import re
from collections.abc import Iterator, Mapping

from carbon_pipelines.mart.project import NAMESPACE
from carbon_pipelines.serving.datahub.datasets import (
    ColumnSource,
    Dataset,
    belonging,
    dataset_proposals,
)
from carbon_pipelines.serving.datahub.facts import MartFacts, MartsFacts, Shown
from carbon_pipelines.serving.datahub.marts import mart_domain
from carbon_pipelines.serving.datahub.proposal import Proposal
from carbon_pipelines.serving.datahub.schemas import NOBODY, Column
from carbon_pipelines.serving.datahub.superset import (
    SupersetChart,
    SupersetDataset,
    SupersetExport,
)
from carbon_pipelines.serving.datahub.urns import (
    Names,
    chart_urn,
    dashboard_urn,
    field_urn,
    platform_urn,
)

_KINDS: Mapping[str, str] = {
    # as chart_type_from_viz_type of DataHub's source
    "line": "LINE",
    "echarts_timeseries_line": "LINE",
    "echarts_timeseries_bar": "BAR",
    "dist_bar": "BAR",
    "bar": "BAR",
    "table": "TABLE",
    "pie": "PIE",
    "area": "AREA",
    "echarts_area": "AREA",
    "big_number": "LINE",
    "big_number_total": "TEXT",
    "histogram": "HISTOGRAM",
}
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def bi_proposals(names: Names, facts: MartsFacts) -> Iterator[Proposal]:
    """Everything of Superset that shows one of the marts."""
    export = facts.shown.superset
    if export is None:
        return
    marts = {one.mart.name: one for one in facts.marts}
    shown = {
        dataset.uuid: dataset
        for dataset in export.datasets
        if dataset.table in marts and _origin(names, facts.shown, dataset) is not None
    }
    for dataset in shown.values():
        yield from dataset_proposals(_dataset(names, facts.shown, dataset, marts[dataset.table]))
    for chart in export.charts:
        number = export.numbers.get(chart.uuid)
        if chart.dataset in shown and number is not None:
            dataset = shown[chart.dataset]
            yield from _chart(names, number, chart, dataset, marts[dataset.table])
    yield from _dashboards(export, shown, marts)


def dataset_urn(names: Names, dataset: SupersetDataset) -> str:
    """A dataset of Superset."""
    return names.dataset("superset", dataset.database, dataset.schema, dataset.table)


def _origin(names: Names, shown: Shown, dataset: SupersetDataset) -> str | None:
    """The table that a dataset of Superset shows; None if we know of none."""
    if "trino" in dataset.database.lower() and shown.trino_catalog is not None:
        return names.dataset("trino", shown.trino_catalog, NAMESPACE, dataset.table)
    if "doris" in dataset.database.lower() and shown.doris_database is not None:
        return names.dataset("doris", shown.doris_database, dataset.table)
    return None


def _dataset(names: Names, shown: Shown, dataset: SupersetDataset, mart: MartFacts) -> Dataset:
    origin = _origin(names, shown, dataset)
    assert origin is not None
    classes = mart.mart.column_classes
    columns = dataset.columns or _columns_of(mart)
    metrics = {
        metric: tuple(dict.fromkeys(one for one in _WORD.findall(sql) if one in columns))
        for metric, sql in dataset.metrics.items()
    }
    return Dataset(
        urn=dataset_urn(names, dataset),
        kind="Dataset",
        description=dataset.description or mart.mart.description,
        owner=mart.mart.owner,
        domain=mart_domain(mart.mart),
        columns=(
            *(
                Column(
                    path=name,
                    type=kind,
                    description=mart.mart.columns.get(name),
                    classification=classes.get(name),
                )
                for name, kind in columns.items()
            ),
            *(
                Column(path=metric, type="", description=dataset.metrics[metric], kind="NumberType")
                for metric in metrics
            ),
        ),
        properties={"carbon.stage": "serving", "carbon.mart": mart.mart.name},
        copies=True,
        made_of=(
            *(ColumnSource(name, (field_urn(origin, name),)) for name in columns),
            *(
                ColumnSource(metric, tuple(field_urn(origin, name) for name in named))
                if named
                else ColumnSource(metric, rows_of=(origin,))
                for metric, named in metrics.items()
            ),
        ),
    )


def _columns_of(mart: MartFacts) -> Mapping[str, str]:
    """Columns of a mart with their types, as far as it is there."""
    return {column.name: column.type for column in (mart.lake.columns if mart.lake else ())}


def _chart(
    names: Names, number: int, chart: SupersetChart, dataset: SupersetDataset, mart: MartFacts
) -> Iterator[Proposal]:
    urn, shows = chart_urn(number), dataset_urn(names, dataset)
    known = {*(dataset.columns or _columns_of(mart)), *dataset.metrics}
    info = {
        "customProperties": {"carbon.mart": mart.mart.name},
        "title": chart.title,
        "description": chart.description,
        "lastModified": {"created": NOBODY, "lastModified": NOBODY},
        "inputs": [{"string": shows}],
        "type": _KINDS.get(chart.kind),
    }
    fields = [{"schemaFieldUrn": field_urn(shows, one)} for one in chart.shows if one in known]
    yield Proposal("chart", urn, "chartInfo", info)
    yield Proposal("chart", urn, "inputFields", {"fields": fields})
    yield Proposal("chart", urn, "dataPlatformInstance", {"platform": platform_urn("superset")})
    yield from belonging("chart", urn, owner=mart.mart.owner, domain=mart_domain(mart.mart))


def _dashboards(
    export: SupersetExport,
    shown: Mapping[str, SupersetDataset],
    marts: Mapping[str, MartFacts],
) -> Iterator[Proposal]:
    charts = {chart.uuid: chart for chart in export.charts if chart.dataset in shown}
    for dashboard in export.dashboards:
        number = export.numbers.get(dashboard.uuid)
        ours = [one for one in dashboard.charts if one in charts and one in export.numbers]
        if number is None or not ours:
            continue
        first = marts[shown[charts[ours[0]].dataset].table].mart
        urn = dashboard_urn(number)
        info = {
            "customProperties": {},
            "title": dashboard.title,
            "description": dashboard.description,
            "charts": [chart_urn(export.numbers[one]) for one in ours],
            "datasets": [],
            "dashboards": [],
            "lastModified": {"created": NOBODY, "lastModified": NOBODY},
        }
        yield Proposal("dashboard", urn, "dashboardInfo", info)
        platform = {"platform": platform_urn("superset")}
        yield Proposal("dashboard", urn, "dataPlatformInstance", platform)
        yield from belonging("dashboard", urn, owner=first.owner, domain=mart_domain(first))
