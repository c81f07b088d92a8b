"""Backups before a removal.

What belongs here: a PostgreSQL backup by its operator, the snapshots that a service declares as
CronJobs (Vault's), and the objects as they are. What does not: restoring
(docs/cluster/provision.md says how).
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from carbon_pipelines.cluster.api import Cluster, Json
from carbon_pipelines.cluster.lock import Lock
from carbon_pipelines.cluster.manifest import Manifest
from carbon_pipelines.cluster.readiness import judge
from carbon_pipelines.errors import ApiRefusalError, BackupFailedError

_BACKUP_SECONDS = 3_600.0
_SNAPSHOTS = ("-snapshot", "-backup")
"""How CronJobs are called that save a service's data; each is run once more."""

_OF_SERVER = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation")


def back_up(
    cluster: Cluster,
    manifests: Sequence[Manifest],
    directory: Path,
    lock: Lock,
    *,
    sleep: Callable[[float], None] = time.sleep,
    seconds: float = _BACKUP_SECONDS,
) -> list[Path]:
    """Write all objects into a file (Secrets without values), and back up PostgreSQL clusters.

    Raises:
        BackupFailedError: An operator says so, or does not say anything in time.
    """
    at = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / f"objects-{at}.yaml"
    path.write_text(yaml.safe_dump_all(_saved(each) for each in manifests), encoding="utf-8")
    path.chmod(0o600)
    for manifest in manifests:
        if (manifest.group, manifest.kind) == ("postgresql.cnpg.io", "Cluster"):
            _back_up_postgres(cluster, manifest, at, lock, sleep, seconds)
        if manifest.kind == "CronJob" and manifest.name.endswith(_SNAPSHOTS):
            _run_snapshot(cluster, manifest, at, lock, sleep, seconds)
    return [path]


def _saved(manifest: Manifest) -> Json:
    body = {key: value for key, value in manifest.body.items() if key != "status"}
    body["metadata"] = {
        key: value for key, value in body["metadata"].items() if key not in _OF_SERVER
    }
    if manifest.kind == "Secret":
        for field in ("data", "stringData"):
            body.pop(field, None)
    return body


def _back_up_postgres(
    cluster: Cluster,
    manifest: Manifest,
    at: str,
    lock: Lock,
    sleep: Callable[[float], None],
    seconds: float,
) -> None:
    """A Backup by the method of the cluster itself, awaited."""
    name = f"{manifest.name}-before-teardown-{at}"
    spec: Json = {"cluster": {"name": manifest.name}}
    plugins = [each for each in manifest.body["spec"].get("plugins") or () if each.get("name")]
    if plugins:
        spec |= {"method": "plugin", "pluginConfiguration": {"name": plugins[0]["name"]}}
    elif (manifest.body["spec"].get("backup") or {}).get("volumeSnapshot"):
        spec |= {"method": "volumeSnapshot"}
    else:
        said = "it declares neither a backup plugin nor volume snapshots"
        raise BackupFailedError(manifest.service, manifest.label, said)
    base = f"/apis/{manifest.api_version}/namespaces/{manifest.namespace}/backups"
    body = {
        "apiVersion": manifest.api_version,
        "kind": "Backup",
        "metadata": {"name": name, "namespace": manifest.namespace},
        "spec": spec,
    }
    try:
        cluster.request("POST", base, body=body)
    except ApiRefusalError as error:
        raise BackupFailedError(manifest.service, manifest.label, error.message) from error
    deadline = time.monotonic() + seconds
    while True:
        lock.check()
        status = (cluster.get(f"{base}/{name}") or {}).get("status") or {}
        if status.get("phase") == "completed":
            return
        if status.get("phase") == "failed" or time.monotonic() > deadline:
            said = str(status.get("error") or f"Backup {name} is {status.get('phase')}")
            raise BackupFailedError(manifest.service, manifest.label, said)
        sleep(0.5)


def _run_snapshot(
    cluster: Cluster,
    manifest: Manifest,
    at: str,
    lock: Lock,
    sleep: Callable[[float], None],
    seconds: float,
) -> None:
    """Run a CronJob now, and wait for its end."""
    base = f"/apis/batch/v1/namespaces/{manifest.namespace}/jobs"
    template = manifest.body["spec"]["jobTemplate"]
    name = f"{manifest.name}-{at}"
    labels = {**(template.get("metadata", {}).get("labels") or {})}
    metadata = {"name": name, "namespace": manifest.namespace, "labels": labels}
    body = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"],
    }  # fmt: skip
    try:
        cluster.request("POST", base, body=body)
    except ApiRefusalError as error:
        raise BackupFailedError(manifest.service, manifest.label, error.message) from error
    deadline = time.monotonic() + seconds
    while True:
        lock.check()
        verdict = judge(cluster.get(f"{base}/{name}") or body)
        if verdict.ready:
            return
        if verdict.final or time.monotonic() > deadline:
            raise BackupFailedError(manifest.service, manifest.label, verdict.why)
        sleep(0.5)
