"""Bringing a dashboard to Superset: what is there, and the one import that changes it.

What belongs here: exporting what has our uuids, and carrying out a plan. What does not: deciding
(``superset_plan.py``).

One import holds the objects that change and the copies of what was edited by hand, and Superset
takes it in one transaction: an edit is kept or nothing is replaced. It is a sparse one, which
leaves alone whatever it does not hold. The same import twice has the same outcome, so a lost answer
is asked for again.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import yaml

from carbon_pipelines.errors import DashboardImportError, SupersetRefusedError
from carbon_pipelines.serving.superset_code import (
    VERSION,
    CodeObject,
    DashboardCode,
    content_digest,
    read_mark,
)
from carbon_pipelines.serving.superset_http import SupersetApi, Upload
from carbon_pipelines.serving.superset_plan import (
    DashboardPlan,
    LiveObject,
    bundle_files,
    plan_dashboard,
)

_ASSETS = "/api/v1/assets/import/"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def load_plan(api: SupersetApi, code: DashboardCode) -> DashboardPlan:
    """What bringing the dashboard would change now; nothing is changed.

    Raises:
        ServingError: Superset does not answer, or refuses us.
    """
    objects = (*code.charts, code.dashboard)
    live = {one.uuid: found for one in objects if (found := _live(api, one)) is not None}
    there = [one.uuid for one in code.datasets if find_id(api, "dataset", one.uuid) is not None]
    return plan_dashboard(code, live, frozenset(there))


def apply_plan(api: SupersetApi, plan: DashboardPlan) -> None:
    """Carry a plan out; its datasets must be there.

    Raises:
        DashboardImportError: Superset does not take it; nothing was changed.
        ServingError: It does not answer, or refuses us.
    """
    files = bundle_files(plan)
    if files:
        import_files(api, plan.code.name, files)


def import_files(api: SupersetApi, name: str, files: Mapping[str, Any]) -> None:
    """One sparse import; errors as for `apply_plan`."""
    bundle = Upload("bundle", f"{name}.zip", _zip(files), {"sparse": "true"})
    try:
        api.upload(_ASSETS, bundle)
    except SupersetRefusedError as refusal:
        raise DashboardImportError(name, api.settings.label, refusal.reason) from refusal


def find_id(api: SupersetApi, kind: str, uuid: str) -> int | None:
    """Superset's own number of an object; None if it is not there, or no more."""
    found = api.find(f"/api/v1/{kind}/{uuid}")
    return None if found is None else int(found["result"]["id"])


def _live(api: SupersetApi, code: CodeObject) -> LiveObject | None:
    found = api.find(f"/api/v1/{code.kind}/{code.uuid}")
    if found is None:
        return None
    number = int(found["result"]["id"])
    fields = _export(api, code, number)
    if fields is None:
        return None
    edited = content_digest(code.kind, fields) != read_mark(fields)
    return LiveObject(fields, _who_changed(api, code.kind, number) if edited else "")


def _who_changed(api: SupersetApi, kind: str, number: int) -> str:
    """Only lists tell it of charts."""
    one = {"filters": [{"col": "id", "opr": "eq", "value": number}]}
    listed = api.get(f"/api/v1/{kind}/", one).get("result", [])
    return next((str(found.get("changed_by_name") or "") for found in listed), "")


def _export(api: SupersetApi, code: CodeObject, number: int) -> Mapping[str, Any] | None:
    """The object's own file out of an export, in which there are others too."""
    content = api.download(f"/api/v1/{code.kind}/export/", [number])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if f"/{code.kind}s/" in name:
                fields = yaml.safe_load(archive.read(name))
                if str(fields.get("uuid")) == code.uuid:
                    return fields
    return None


def _zip(files: Mapping[str, Any]) -> bytes:
    """An archive as Superset exports one; the same files make the same bytes."""
    metadata = {"version": VERSION, "type": "assets", "timestamp": "2000-01-01T00:00:00+00:00"}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, fields in {"metadata.yaml": metadata, **files}.items():
            text = yaml.safe_dump(json.loads(json.dumps(fields)), sort_keys=False)
            archive.writestr(zipfile.ZipInfo(f"carbon/{name}", _EPOCH), text)
    return target.getvalue()
