"""Taking services down: a backup first, the data kept unless it is said otherwise.

What belongs here: what goes, what stays, and the order. What does not: the backups (``backup.py``).

Kept without further words: volumes and their claims, namespaces, definitions of kinds (with one
goes every object of it), Secrets, and the objects whose operator removes data with them. A
PostgreSQL cluster hibernates: its pods end, its volumes stay.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from carbon_pipelines.cluster.api import MERGE, Cluster
from carbon_pipelines.cluster.apply import delete_object
from carbon_pipelines.cluster.backup import back_up
from carbon_pipelines.cluster.lock import Lock
from carbon_pipelines.cluster.manifest import Manifest
from carbon_pipelines.cluster.plan import applied_by_us
from carbon_pipelines.cluster.render import FOUNDATION, Rendered
from carbon_pipelines.errors import UnknownServiceError

_KEPT = frozenset(
    {
        "PersistentVolumeClaim",
        "PersistentVolume",
        "Namespace",
        "CustomResourceDefinition",
        "Secret",
        "KafkaTopic",
        "KafkaUser",
        "Database",
        "ObjectStore",
        "DorisCluster",
        "StorageClass",
    }
)
_HIBERNATED = ("postgresql.cnpg.io", "Cluster")
_HIBERNATION = "cnpg.io/hibernation"
_GONE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Teardown:
    """What becomes of every object that we applied for the chosen services."""

    removed: tuple[Manifest, ...]
    kept: tuple[Manifest, ...]
    hibernated: tuple[Manifest, ...]
    delete_data: bool

    def describe(self) -> str:
        """As a person reads it."""
        lines = [f"  - {each.label}" for each in self.removed]
        lines += [f"  z {each.label}  (its pods end, its volumes stay)" for each in self.hibernated]
        lines += [f"  = {each.label}  (kept)" for each in self.kept]
        data = "WITH ITS DATA" if self.delete_data else "its data is kept"
        count = len(self.removed)
        return "\n".join([f"{count} objects are removed, {data}; a backup comes first", *lines])


def plan_teardown(
    cluster: Cluster, rendered: Rendered, services: Collection[str] | None, *, delete_data: bool
) -> Teardown:
    """Which objects go, in the order to remove them: users before what they use.

    Raises:
        UnknownServiceError: The overlay does not hold a chosen service.
    """
    order = list(rendered.services)
    for name in services or ():
        if name not in order:
            raise UnknownServiceError(name, known=order)
    chosen = {*(order if services is None else services)}
    ours = [each for each in applied_by_us(cluster) if each.service in chosen]
    ours.sort(key=lambda each: (order.index(each.service), each.rank), reverse=True)
    hibernated = tuple(
        each for each in ours if not delete_data and (each.group, each.kind) == _HIBERNATED
    )
    kept = tuple(
        each
        for each in ours
        if each not in hibernated and not delete_data and (_holds_data(each) or _is_base(each))
    )
    gone = tuple(each for each in ours if each not in hibernated and each not in kept)
    return Teardown(gone, kept, hibernated, delete_data)


def _holds_data(manifest: Manifest) -> bool:
    if manifest.kind in _KEPT:
        return True
    spec = manifest.body.get("spec") or {}
    if manifest.kind == "StatefulSet":
        policy = spec.get("persistentVolumeClaimRetentionPolicy") or {}
        return policy.get("whenDeleted") == "Delete"
    if manifest.kind == "KafkaNodePool":
        storage = spec.get("storage") or {}
        return any(each.get("deleteClaim") for each in (storage, *storage.get("volumes", ())))
    return False


def _is_base(manifest: Manifest) -> bool:
    """Quotas, policies and rights go with the namespaces that they are for."""
    return manifest.service == FOUNDATION


def tear_down(
    cluster: Cluster,
    plan: Teardown,
    lock: Lock,
    directory: Path,
    report: Callable[[str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Sequence[Path]:
    """Back up, then remove; returns the files of the backup.

    Raises:
        BackupFailedError: Nothing was removed.
        LockLostError: The lock is no longer ours.
    """
    everything = (*plan.removed, *plan.kept, *plan.hibernated)
    files = back_up(cluster, everything, directory, lock, sleep=sleep)
    report(f"backup: {', '.join(map(str, files))}")
    for manifest in plan.hibernated:
        lock.check()
        cluster.request(
            "PATCH",
            str(cluster.place(manifest)),
            query={"fieldManager": "carbon-pipelines-teardown"},
            body={"metadata": {"annotations": {_HIBERNATION: "on"}}},
            content_type=MERGE,
        )
        report(f"{manifest.label}: hibernates")
    for manifest in plan.removed:
        lock.check()
        delete_object(cluster, manifest)
    deadline = time.monotonic() + _GONE_SECONDS
    for manifest in plan.removed:
        path = cluster.place(manifest)
        while path and cluster.get(path) is not None and time.monotonic() < deadline:
            lock.check()
            sleep(0.2)
    report(f"{len(plan.removed)} objects removed")
    return files
