"""What about a change may lose data or stop a service.

What belongs here: rules, each about one change, and a sentence for each. What does not: whether it
is done all the same; whoever applies says so.
"""

import re
from collections.abc import Iterator
from typing import Any

from carbon_pipelines.cluster.change import Change
from carbon_pipelines.cluster.diff import FieldChange

HOLDS_DATA = frozenset(
    [
        "PersistentVolumeClaim",
        "PersistentVolume",
        "Namespace",
        "CustomResourceDefinition",
        "Secret",
        "Kafka",
        "KafkaNodePool",
        "KafkaTopic",
        "Cluster",
        "DorisCluster",
        "StatefulSet",
        "Database",
        "ObjectStore",
    ]
)
"""Kinds whose removal takes data along: their own, or that of what an operator or the garbage
collector removes with them."""

_STORAGE = re.compile(r"storage|volumeclaim|volumemode|walstorage|accessmodes", re.IGNORECASE)
_COUNTS = ("spec.replicas", "spec.instances")
_LEVELS = {"privileged": 0, "baseline": 1, "restricted": 2}
_ENFORCE = "metadata.labels.pod-security.kubernetes.io/enforce"


def dangers_of(change: Change) -> Iterator[str]:
    """Each danger of a change as a sentence; none for what is only created or adopted."""
    label = change.manifest.label
    if change.act == "remove":
        if change.manifest.kind in HOLDS_DATA:
            yield f"{label}: is removed, and its data with it"
        else:
            yield f"{label}: is removed"
    if change.act != "change":
        return
    for field in change.fields:
        reason = _danger(change.manifest.kind, field)
        if reason:
            yield f"{label}: {field.path}: {reason}"


def _danger(kind: str, field: FieldChange) -> str | None:
    path, before, after = field.path, field.before, field.after
    if path in _COUNTS and _less(before, after):
        return f"fewer pods ({before} -> {after}); a quorum or the only copy may go"
    if path.startswith("spec.selector") and kind == "Service":
        return "traffic goes to other pods at once"
    if kind == "CustomResourceDefinition" and path.startswith("spec.versions") and after is None:
        return "a version is no longer served; objects of it cannot be read"
    if path == _ENFORCE and _LEVELS.get(str(after), 0) < _LEVELS.get(str(before), 0):
        return f"pods may do more than before ({before} -> {after})"
    if path.startswith("spec") and _STORAGE.search(path) and before is not None:
        if after is None:
            return "storage goes away"
        if _bytes(before) is not None and _bytes(after) is not None:
            return "storage shrinks" if _less(_bytes(before), _bytes(after)) else None
        return "storage changes"
    if kind == "PersistentVolume" and path == "spec.persistentVolumeReclaimPolicy":
        return "what happens to the data once its claim is gone"
    return None


def _less(before: Any, after: Any) -> bool:
    return isinstance(before, int | float) and isinstance(after, int | float) and after < before


def _bytes(quantity: Any) -> float | None:
    """A quantity of Kubernetes in bytes; None for what is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?", str(quantity))
    if found is None:
        return None
    unit = found[2] or ""
    power = "kMGTP".find(unit[:1].replace("K", "k")) + 1 if unit else 0
    return float(found[1]) * (1024 if unit.endswith("i") else 1000) ** power
