"""States of a service that worked, to go back to.

What belongs here: keeping what was applied once it is ready, and reading it again. What does not:
applying it. A revision is a ConfigMap beside the lock's Lease; Secrets and definitions of kinds are
left out of it: values must not lie around twice, and a kind's older definition may lose data.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from carbon_pipelines.cluster.api import Cluster, Json
from carbon_pipelines.cluster.lock import NAMESPACE, Lock
from carbon_pipelines.cluster.manifest import Manifest
from carbon_pipelines.errors import RevisionMissingError

KEPT = 5
_OF = "carbon-pipelines/revision-of"
_PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
_LEFT_OUT = frozenset({"Secret", "CustomResourceDefinition", "Namespace"})


@dataclass(frozen=True, slots=True)
class Revision:
    """A recorded state."""

    service: str
    number: int
    overlay: str
    by: str
    digest: str
    manifests: tuple[Manifest, ...]


def record_revision(
    cluster: Cluster, overlay: str, service: str, manifests: Sequence[Manifest], lock: Lock
) -> int | None:
    """Keep a state that works; None when it is the one that was kept last."""
    content = _content(manifests)
    digest = digest_of(manifests)
    listed = _listed(cluster, service)
    if listed and listed[-1]["data"]["digest"] == digest:
        return None
    number = (_number(listed[-1]) if listed else 0) + 1
    lock.check()
    cluster.request(
        "POST",
        _PATH,
        body={
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"carbon-revision-{service}-{number:05}",
                "namespace": NAMESPACE,
                "labels": {_OF: service},
            },
            "data": {"overlay": overlay, "by": lock.holder, "digest": digest},
            "binaryData": {"objects": base64.b64encode(gzip.compress(content)).decode()},
        },
    )
    for old in listed[: max(0, len(listed) + 1 - KEPT)]:
        cluster.request("DELETE", f"{_PATH}/{old['metadata']['name']}")
    return number


def load_revisions(cluster: Cluster, service: str) -> list[Revision]:
    """Every recorded state of a service, the oldest first."""
    return [_read(service, each) for each in _listed(cluster, service)]


def choose_revision(revisions: Sequence[Revision], service: str, number: int | None) -> Revision:
    """The revision with a number; None: the one before the newest.

    Raises:
        RevisionMissingError: There is none.
    """
    known = [revision.number for revision in revisions]
    if number is None and len(revisions) > 1:
        return revisions[-2]
    for revision in revisions:
        if revision.number == number:
            return revision
    raise RevisionMissingError(service, str(number or "before the newest"), known)


def digest_of(manifests: Sequence[Manifest]) -> str:
    """What tells one state of a service from another."""
    return hashlib.sha256(_content(manifests)).hexdigest()


def _content(manifests: Sequence[Manifest]) -> bytes:
    bodies = [manifest.body for manifest in manifests if manifest.kind not in _LEFT_OUT]
    return json.dumps(bodies, sort_keys=True).encode()


def _listed(cluster: Cluster, service: str) -> list[Json]:
    return sorted(cluster.items(_PATH, f"{_OF}={service}"), key=_number)


def _number(body: Json) -> int:
    return int(body["metadata"]["name"].rpartition("-")[2])


def _read(service: str, body: Json) -> Revision:
    content = gzip.decompress(base64.b64decode(body["binaryData"]["objects"]))
    data = body["data"]
    return Revision(
        service=service,
        number=_number(body),
        overlay=data["overlay"],
        by=data["by"],
        digest=data["digest"],
        manifests=tuple(Manifest(service, each) for each in json.loads(content)),
    )
