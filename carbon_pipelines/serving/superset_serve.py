"""A dashboard from end to end: brought, refreshed, warm, and read back.

What belongs here: the order of steps for one dashboard, and the facts of it. What does not: each
step (``superset_data.py``, ``superset_import.py``, ``superset_charts.py``).

The order that makes "done" mean "seen": the newest snapshot of each mart is looked up once;
database, datasets and access are there; each dataset says its snapshot, which outdates what was
cached of it; the dashboard is as its files say, with what is proven of exactly these snapshots, and
not before its numbers can be those; each chart is computed anew; then each chart is asked for as a
viewer does, and has to equal the snapshot.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.embedded.endpoints import TrinoEndpoint
from carbon_pipelines.errors import ServedMartMissingError
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.mart.project import NAMESPACE, Mart
from carbon_pipelines.serving.superset_access import ensure_access, load_access
from carbon_pipelines.serving.superset_charts import ask_chart, require_visible
from carbon_pipelines.serving.superset_code import CodeObject, DashboardCode
from carbon_pipelines.serving.superset_data import (
    DATABASE,
    Shown,
    ensure_database,
    ensure_datasets,
    show_snapshot,
)
from carbon_pipelines.serving.superset_http import SupersetApi
from carbon_pipelines.serving.superset_import import apply_plan, load_plan
from carbon_pipelines.serving.superset_plan import DashboardPlan
from carbon_pipelines.serving.superset_proven import Proven, load_proven, say_proven, score_of


@dataclass(frozen=True, slots=True)
class ServedDashboard:
    """What became of one dashboard.

    Attributes:
        snapshots: Of each mart, as its charts show it.
        changed: Sentences on what was made, replaced or kept.
        outdated: Marts whose cached answers were made outdated.
        charts: Rows of each chart, by title.
    """

    name: str
    address: str
    snapshots: Mapping[str, int]
    proven: Proven
    changed: tuple[str, ...]
    outdated: tuple[str, ...]
    charts: Mapping[str, int]
    seconds: float

    @property
    def score(self) -> float | None:
        """The lowest of its tables; None if that is not known."""
        return score_of(self.proven.proofs)

    def sentence(self) -> str:
        """What was done, as one line."""
        what = f"{len(self.outdated)} marts had changed" if self.outdated else "nothing had changed"
        return (
            f"{self.address}: {len(self.charts)} charts show their marts, read back; {what}; "
            f"proven as of {self.proven.headline()}"
        )


@dataclass(frozen=True, slots=True)
class Lake:
    """Where marts are: the catalog for us, Trino for Superset, and whom to ask about them."""

    catalog: Catalog
    trino: TrinoEndpoint
    marts: Sequence[Mart]
    contacts: Mapping[str, str]


def plan(api: SupersetApi, code: DashboardCode, lake: Lake) -> DashboardPlan:
    """What `serve_dashboard` would change of the dashboard itself; nothing is changed.

    Raises:
        ServedMartMissingError: A mart was never published.
        ServingError: Superset does not answer, or refuses us.
    """
    proven = load_proven(lake.catalog, _tables(lake, code))
    return load_plan(api, say_proven(code, proven))


def serve_dashboard(api: SupersetApi, code: DashboardCode, lake: Lake) -> ServedDashboard:
    """Have people see the newest snapshots of a dashboard's marts; returns once they do.

    Raises:
        ServedMartMissingError: A mart was never published.
        NotVisibleError: A chart shows something else (retryable).
        DashboardImportError, DashboardFilesError: The files do not fit, or Superset refuses them.
        ServingError: Superset does not answer, or refuses us.
    """
    began = time.monotonic()
    tables = _tables(lake, code)
    snapshots = {mart: _snapshot(mart, table) for mart, table in tables.items()}
    proven = load_proven(lake.catalog, tables)
    said = say_proven(code, proven)
    access = load_access(code.place, frozenset(code.marts))
    database = ensure_database(api, said, lake.trino)
    datasets = ensure_datasets(api, said, database, lake.trino.catalog)
    granted = ensure_access(api, access, datasets, DATABASE)
    by_name = {mart.name: mart for mart in lake.marts}
    outdated = tuple(
        dataset.mart
        for dataset in said.datasets
        if show_snapshot(
            api,
            dataset,
            Shown(
                by_name[dataset.mart],
                snapshots[dataset.mart],
                lake.contacts.get(by_name[dataset.mart].owner, ""),
            ),
        )
    )
    planned = load_plan(api, said)
    apply_plan(api, planned)
    charts = _show_charts(api, said, tables, snapshots, outdated)
    return ServedDashboard(
        name=code.name,
        address=f"{api.settings.url}/superset/dashboard/{code.dashboard.uuid}/",
        snapshots=snapshots,
        proven=proven,
        changed=(*granted, *(one.sentence() for one in planned.changes)),
        outdated=outdated,
        charts=charts,
        seconds=time.monotonic() - began,
    )


def _show_charts(
    api: SupersetApi,
    code: DashboardCode,
    tables: Mapping[str, Table],
    snapshots: Mapping[str, int],
    outdated: Sequence[str],
) -> dict[str, int]:
    """Warm every chart of a mart that changed, then read all back."""
    rows: dict[str, pa.Table] = {}

    def content(mart: str) -> pa.Table:
        if mart not in rows:
            with lake_errors(f"Iceberg table {NAMESPACE}/{mart}"):
                rows[mart] = tables[mart].scan(snapshot_id=snapshots[mart]).to_arrow()
        return rows[mart]

    marts = {chart.uuid: _mart_of(code, chart) for chart in code.charts}
    for chart in code.charts:
        if marts[chart.uuid] in outdated:
            ask_chart(api, chart, force=True)
    shown: dict[str, int] = {}
    for chart in code.charts:
        mart = marts[chart.uuid]
        data = require_visible(api, chart, mart, snapshots[mart], lambda mart=mart: content(mart))
        shown[chart.title] = len(data.rows)
    return shown


def _mart_of(code: DashboardCode, chart: CodeObject) -> str:
    wanted = chart.fields["dataset_uuid"]
    return next(dataset.mart for dataset in code.datasets if dataset.uuid == wanted)


def _tables(lake: Lake, code: DashboardCode) -> dict[str, Table]:
    known = {mart.name for mart in lake.marts}
    found: dict[str, Table] = {}
    for mart in code.marts:
        table = load_table(lake.catalog, (NAMESPACE, mart)) if mart in known else None
        if table is None:
            raise ServedMartMissingError(mart)
        found[mart] = table
    return found


def _snapshot(mart: str, table: Table) -> int:
    snapshot = table.current_snapshot()
    if snapshot is None:
        raise ServedMartMissingError(mart)
    return snapshot.snapshot_id
