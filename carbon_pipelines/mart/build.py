"""Building marts: dbt makes and tests the rows, and what has passed is published.

What belongs here: one build of some marts from the snapshots that are certified now, and the facts
of it. What does not: the models (``dbt/``), dbt's process (``dbt_run.py``) and Dagster.

The order that keeps readers from seeing what nobody has proven: the certified snapshots are looked
up once; the rows are made of exactly these, out of the readers' sight; every test of a mart is run
on them; then one commit puts them in the place of what was published before.
"""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from pyiceberg.catalog import Catalog

from carbon_pipelines.embedded.endpoints import Endpoints, LakeEndpoint, TrinoEndpoint
from carbon_pipelines.errors import (
    MartBuildError,
    MartError,
    MartPublishError,
    MartTestsFailedError,
)
from carbon_pipelines.lake.connection import load_table, open_catalog
from carbon_pipelines.lake.reached import BUILT, Place, Reached, record_reached
from carbon_pipelines.lake.trino import request_token
from carbon_pipelines.maintenance.thinning import thin_table
from carbon_pipelines.mart.certified import load_certified, load_places
from carbon_pipelines.mart.dbt_run import DbtRun, NodeResult, run_dbt
from carbon_pipelines.mart.project import NAMESPACE, TARGET_VARIABLE, Mart

KEPT_SNAPSHOTS = 20
"""Of a mart; older ones are of use to nobody, for what made them is told by the newer."""


@dataclass(frozen=True, slots=True)
class BuiltMart:
    """What became of one mart.

    Attributes:
        certified: Snapshot that was read of each table, by ``database.table``.
        tests: Those that were run, by name.
        error: Why it was not published; None if it was.
        snapshot_id: Of the mart as published now; None if it never was.
        changed: Whether this build made that snapshot.
        columns: Name and Iceberg type of the mart's columns.
        seconds: Of the whole build, whatever else was built with it.
    """

    name: str
    certified: Mapping[str, int]
    tests: tuple[NodeResult, ...]
    error: MartError | None
    snapshot_id: int | None
    changed: bool
    row_count: int
    columns: tuple[tuple[str, str], ...]
    seconds: float

    def sentence(self) -> str:
        """What was done, as one line."""
        if self.error is not None:
            return str(self.error)
        what = "published" if self.changed else "has the same rows as before"
        tests = sum(test.passed for test in self.tests)
        return f"mart/{self.name}: {what}, {self.row_count:,} rows, {tests} tests passed"


@dataclass(frozen=True, slots=True)
class _Published:
    """A mart as the lake has it."""

    snapshot_id: int | None = None
    row_count: int = 0
    columns: tuple[tuple[str, str], ...] = ()


def build_marts(
    marts: Sequence[Mart], endpoints: Endpoints, *, target: str, project: Path
) -> tuple[BuiltMart, ...]:
    """Build marts from what is certified now, and publish those that pass their tests.

    Args:
        marts: Of ``project``.
        endpoints: Where the lake is, and for ``cluster`` Trino.
        target: ``embedded`` (DuckDB) or ``cluster`` (Trino).
        project: The dbt project's directory.

    Raises:
        NotCertifiedError: A table that one of them reads has no certified snapshot.
        LakeUnavailableError: The catalog does not answer (retryable).
        SettingMissingError: Where Trino is is not known.
    """
    began = time.monotonic()
    with open_catalog(endpoints.lake) as catalog:
        certified = load_certified(catalog, marts)
        places = load_places(catalog, certified)
        before = {mart.name: _published(catalog, mart.name) for mart in marts}
        environ = {
            **_lake_variables(endpoints),
            "CARBON_MART_CERTIFIED": json.dumps(certified),
            TARGET_VARIABLE: target,
            **(_trino_variables(endpoints.trino) if target == "cluster" else {}),
        }
        selected = " ".join(f"+{mart.name}" for mart in marts)
        command = ["build", "--select", *selected.split(), "--exclude-resource-type", "unit_test"]
        with TemporaryDirectory(prefix="carbon-mart-") as work:
            run = run_dbt(command, project=project, work=Path(work), environ=environ)
        after = {mart.name: _published(catalog, mart.name) for mart in marts}
        seconds = time.monotonic() - began
        for mart in marts:
            snapshot_id = after[mart.name].snapshot_id
            if snapshot_id is not None and why_not_published(mart, run) is None:
                _record(catalog, mart, snapshot_id, places)
            thin_table(catalog, (NAMESPACE, mart.name), KEPT_SNAPSHOTS, datetime.now(UTC))
    return tuple(
        _built(mart, run, certified, before[mart.name], after[mart.name], seconds) for mart in marts
    )


def _record(catalog: Catalog, mart: Mart, snapshot_id: int, places: Mapping[str, Place]) -> None:
    """Write down what a mart was built from: equal rows make no snapshot that could tell."""
    sources = {label: places[label] for label in map("/".join, mart.sources) if label in places}
    built = Reached(snapshot_id, datetime.now(UTC), sources)
    record_reached(catalog, (NAMESPACE, mart.name), BUILT, built)


def _built(
    mart: Mart,
    run: DbtRun,
    certified: Mapping[str, int],
    before: _Published,
    after: _Published,
    seconds: float,
) -> BuiltMart:
    read = {".".join(source) for source in mart.sources}
    return BuiltMart(
        name=mart.name,
        certified={name: found for name, found in certified.items() if name in read},
        tests=_tests_of(mart, run),
        error=why_not_published(mart, run),
        snapshot_id=after.snapshot_id,
        changed=after.snapshot_id != before.snapshot_id,
        row_count=after.row_count,
        columns=after.columns,
        seconds=seconds,
    )


def why_not_published(mart: Mart, run: DbtRun) -> MartError | None:
    """What kept a mart from being published; None if nothing did."""
    made = [node for node in run.nodes if node.kind == "model" and node.name == mart.name]
    if [node.status for node in made] != ["success"]:
        errors = [node for node in run.nodes if node.status == "error"]
        reason = "; ".join(f"{node.name}: {node.message}" for node in errors) or run.said
        return MartBuildError(mart.name, reason or "dbt said nothing")
    tests = {test.name: test for test in _tests_of(mart, run)}
    failed = {test.name: test.message or test.status for test in tests.values() if not test.passed}
    failed |= {test.name: "was not run" for test in mart.tests if test.name not in tests}
    if failed:
        return MartTestsFailedError(mart.name, failed)
    if mart.name not in run.published:
        return MartPublishError(mart.name, run.said)
    return None


def _tests_of(mart: Mart, run: DbtRun) -> tuple[NodeResult, ...]:
    names = {test.name for test in mart.tests}
    return tuple(node for node in run.nodes if node.kind == "test" and node.name in names)


def _published(catalog: Catalog, mart: str) -> _Published:
    table = load_table(catalog, (NAMESPACE, mart))
    if table is None:
        return _Published()
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot else None
    rows = summary.additional_properties.get("total-records", "0") if summary else "0"
    return _Published(
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        row_count=int(rows),
        columns=tuple((field.name, str(field.field_type)) for field in table.schema().fields),
    )


def _lake_variables(endpoints: Endpoints) -> dict[str, str]:
    """What ``resolve_endpoints`` reads in the process that dbt is."""
    lake: LakeEndpoint = endpoints.lake
    return {
        "CARBON_STREAM_BOOTSTRAP": endpoints.stream_bootstrap,
        "CARBON_LAKE_CATALOG_TYPE": lake.catalog_type,
        "CARBON_LAKE_CATALOG_URI": lake.catalog_uri,
        "CARBON_LAKE_WAREHOUSE": lake.warehouse,
        "CARBON_LAKE_S3_ENDPOINT": lake.s3_endpoint,
        "CARBON_LAKE_S3_ACCESS_KEY": lake.s3_access_key,
        "CARBON_LAKE_S3_SECRET_KEY": lake.s3_secret_key,
        "CARBON_LAKE_S3_REGION": lake.s3_region,
        "CARBON_LAKE_CATALOG_CREDENTIAL": lake.catalog_credential,
        "CARBON_LAKE_CATALOG_SCOPE": lake.catalog_scope,
    }


def _trino_variables(trino: TrinoEndpoint) -> dict[str, str]:
    """What the target ``cluster`` of the profile reads."""
    token = trino.token or (request_token(trino.oauth, trino.ca) if trino.oauth else "")
    return {
        "CARBON_MART_BUILD": secrets.token_hex(4),
        "CARBON_MART_TRINO_METHOD": "jwt" if token else "ldap" if trino.password else "none",
        "CARBON_MART_TRINO_SCHEME": trino.scheme,
        "CARBON_MART_TRINO_HOST": trino.host,
        "CARBON_MART_TRINO_PORT": str(trino.port),
        "CARBON_MART_TRINO_USER": trino.user,
        "CARBON_MART_TRINO_CATALOG": trino.catalog,
        "CARBON_MART_TRINO_CA": trino.ca or "True",
        "DBT_ENV_SECRET_MART_TRINO_PASSWORD": trino.password,
        "DBT_ENV_SECRET_MART_TRINO_TOKEN": token,
    }
