"""Superset's database and datasets: there, of the right columns, and not out of an old cache.

What belongs here: making and repairing them by their uuids, the badge with owner and contact, and
making every cached answer of a dataset outdated. What does not: dashboards and charts.

Superset caches a chart's data under its query and the dataset's ``changed_on``. Refreshing the
columns does not move that, and ``/cachekey/invalidate`` finds nothing where cache keys are not
stored, which is Superset's default. A changed dataset does: the snapshot that people are to see is
written into it (``extra``), so every answer of before is outdated in all caches at once.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from carbon_pipelines.embedded.endpoints import TrinoEndpoint
from carbon_pipelines.mart.project import NAMESPACE, Mart
from carbon_pipelines.serving.superset_code import DashboardCode, DatasetCode
from carbon_pipelines.serving.superset_http import SupersetApi
from carbon_pipelines.serving.superset_import import find_id

DATABASE = "Lake (Trino)"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a dataset is to say: the mart, its snapshot, and whom to ask."""

    mart: Mart
    snapshot_id: int
    contact: str

    def fields(self) -> dict[str, Any]:
        """The badge and the description."""
        details = f"Of certified snapshots alone; the dashboard says how proven. {self.whom()}"
        extra = {
            "certification": {"certified_by": self.mart.owner, "details": details},
            "carbon": {"mart": self.mart.name, "snapshot_id": str(self.snapshot_id)},
        }
        description = f"{self.mart.description} {self.whom()}"
        return {"description": description, "extra": json.dumps(extra, sort_keys=True)}

    def whom(self) -> str:
        """Owner and contact."""
        contact = f", contact {self.contact}" if self.contact else ""
        return f"Owner {self.mart.owner}{contact}."


def ensure_database(api: SupersetApi, code: DashboardCode, trino: TrinoEndpoint) -> int:
    """The database over the lake, made or pointed at where Trino is; returns its id."""
    wanted = sqlalchemy_uri(trino)
    found = _database(api, code.database_uuid)
    fields = {"database_name": DATABASE, "sqlalchemy_uri": wanted, "expose_in_sqllab": True}
    if found is None:
        made = api.send("POST", "/api/v1/database/", {**fields, "uuid": code.database_uuid})
        return int(made["id"])
    number = int(found["id"])
    connection = api.get(f"/api/v1/database/{number}/connection")["result"]
    # The password is masked in what Superset tells; whether it is right shows when it is used.
    if connection.get("sqlalchemy_uri") != sqlalchemy_uri(trino, password="X" * 10):
        api.send("PUT", f"/api/v1/database/{number}", {"sqlalchemy_uri": wanted})
    return number


def _database(api: SupersetApi, uuid: str) -> Mapping[str, Any] | None:
    listed = api.pages("/api/v1/database/", order="database_name")
    return next((one for one in listed if one.get("uuid") == uuid), None)


def sqlalchemy_uri(trino: TrinoEndpoint, *, password: str | None = None) -> str:
    """How Superset reaches Trino."""
    secret = trino.password if password is None or not trino.password else password
    user = quote(trino.user, safe="") + (f":{quote(secret, safe='')}" if secret else "")
    port = "" if (trino.scheme, trino.port) == ("https", 443) else f":{trino.port}"
    # The driver speaks https if there is a password, or the port is 443.
    return f"trino://{user}@{trino.host}{port}/{quote(trino.catalog, safe='')}"


def ensure_datasets(
    api: SupersetApi, code: DashboardCode, database: int, catalog: str
) -> dict[str, int]:
    """Make the datasets that are not there, be it that somebody deleted one by hand.

    Returns:
        Superset's number of each mart's dataset.
    """
    numbers: dict[str, int] = {}
    for one in code.datasets:
        number = find_id(api, "dataset", one.uuid)
        if number is None:
            made = {"database": database, "catalog": catalog, "schema": NAMESPACE}
            fields = {**made, "table_name": one.mart, "uuid": one.uuid}
            number = int(api.send("POST", "/api/v1/dataset/", fields)["id"])
        numbers[one.mart] = number
    return numbers


def show_snapshot(api: SupersetApi, dataset: DatasetCode, shown: Shown) -> bool:
    """Refresh a dataset's columns and badge; whether what was cached of it is outdated now.

    A dataset that somebody made a query of by hand stays as a copy; ours is over its mart again.
    """
    number = find_id(api, "dataset", dataset.uuid)
    path = f"/api/v1/dataset/{number}"
    there = api.get(path)["result"]
    if there.get("sql"):
        _keep_query(api, dataset, there)
    columns = {one["column_name"] for one in there["columns"]}
    wanted = shown.fields()
    if dict(json.loads(there["extra"] or "{}")) != json.loads(wanted["extra"]) or not columns:
        api.send("PUT", f"{path}/refresh")
    own = {"sql": None, "schema": NAMESPACE, "table_name": dataset.mart, **wanted}
    changed = {name: value for name, value in own.items() if (there.get(name) or None) != value}
    if changed:
        api.send("PUT", path, changed)
    return bool(changed)


def _keep_query(api: SupersetApi, dataset: DatasetCode, there: Mapping[str, Any]) -> None:
    """The same query again has the same name, so that it is kept once."""
    digest = hashlib.sha256(str(there["sql"]).encode()).hexdigest()[:12]
    name = f"{dataset.mart} (edited, {digest})"
    where = {"filters": [{"col": "table_name", "opr": "eq", "value": name}]}
    if next(iter(api.pages("/api/v1/dataset/", order="table_name", query=where)), None) is None:
        fields = {"base_model_id": there["id"], "table_name": name}
        api.send("POST", "/api/v1/dataset/duplicate", fields, again=False)
