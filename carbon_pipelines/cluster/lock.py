"""One at a time: a Lease on the cluster that says who is changing it.

What belongs here: taking it, keeping it, giving it back. What does not: what is done meanwhile.

The Lease is written by compare-and-set (its resourceVersion), so of two who find it free or expired
one gets a conflict. A holder renews it well before it expires; whoever finds it expired takes it
over, so that a killed run does not lock the cluster for ever. It stays when given back and also
remembers the overlay, so that nobody brings another one onto the cluster by mistake.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from carbon_pipelines.cluster.api import Cluster, Json
from carbon_pipelines.errors import (
    ApiRefusalError,
    ClusterError,
    LockLostError,
    OverlayMismatchError,
    ProvisionLockedError,
)

NAMESPACE, NAME = "default", "carbon-pipelines"
"""A namespace that every cluster has, and that lets us write; ``kube-system`` often does not."""

OVERLAY = "carbon-pipelines/overlay"
_PATH = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"

Clock = Callable[[], datetime]


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Lock:
    """A lock that we hold; ``check`` before each change."""

    cluster: Cluster
    holder: str
    overlay: str
    duration: timedelta
    clock: Clock
    renewed_at: datetime

    def check(self) -> None:
        """Raise unless the lock is still ours.

        Raises:
            LockLostError: It was not renewed in time, or somebody took it.
        """
        if self.clock() - self.renewed_at >= self.duration:
            raise LockLostError("nobody yet")

    def renew(self) -> None:
        """Say that we are still at it.

        Raises:
            LockLostError: Somebody else holds it.
        """
        lease = self.cluster.get(f"{_PATH}/{NAME}")
        found = (lease or {}).get("spec", {}).get("holderIdentity")
        if lease is None or found != self.holder:
            raise LockLostError(str(found or "nobody"))
        at = self.clock()
        lease["spec"]["renewTime"] = _written(at)
        self.cluster.request("PUT", f"{_PATH}/{NAME}", body=lease)
        self.renewed_at = at


@contextmanager
def locked(
    cluster: Cluster,
    holder: str,
    overlay: str,
    *,
    change_overlay: bool = False,
    duration: timedelta = timedelta(seconds=60),
    clock: Clock = now,
) -> Generator[Lock]:
    """Hold the cluster's lock; a thread renews it meanwhile.

    Raises:
        ProvisionLockedError: Somebody else holds it.
        OverlayMismatchError: The cluster was provisioned from another overlay.
    """
    lock = acquire(
        cluster, holder, overlay, change_overlay=change_overlay, duration=duration, clock=clock
    )
    stopped = threading.Event()

    def keep() -> None:
        while not stopped.wait(duration.total_seconds() / 4):
            try:
                lock.renew()
            except LockLostError:
                return  # the holder's next ``check`` finds it expired
            except ClusterError:
                continue  # a server that does not answer now may answer before it expires

    thread = threading.Thread(target=keep, name="cluster lock", daemon=True)
    thread.start()
    try:
        yield lock
    finally:
        stopped.set()
        thread.join()
        release(lock)


def acquire(
    cluster: Cluster,
    holder: str,
    overlay: str,
    *,
    change_overlay: bool = False,
    duration: timedelta = timedelta(seconds=60),
    clock: Clock = now,
) -> Lock:
    """Take the lock, or take it again as the same holder.

    Raises:
        ProvisionLockedError: Somebody else holds it.
        OverlayMismatchError: The cluster was provisioned from another overlay.
    """
    lease, at = cluster.get(f"{_PATH}/{NAME}"), clock()
    if lease is not None:
        refuse_other_overlay(cluster, lease, overlay, change_overlay=change_overlay)
        _refuse_held(lease, holder, at)
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": max(1, round(duration.total_seconds())),
        "acquireTime": _written(at),
        "renewTime": _written(at),
    }
    metadata: Json = {"name": NAME, "namespace": NAMESPACE, "annotations": {OVERLAY: overlay}}
    if lease is not None:
        metadata["resourceVersion"] = lease["metadata"]["resourceVersion"]
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": spec,
    }
    try:
        if lease is None:
            cluster.request("POST", _PATH, body=body)
        else:
            cluster.request("PUT", f"{_PATH}/{NAME}", body=body)
    except ApiRefusalError as error:
        if error.code != 409:
            raise
        other = cluster.get(f"{_PATH}/{NAME}") or {}
        _refuse_held(other, holder, at)
        raise ProvisionLockedError("somebody", _written(at), duration.total_seconds()) from error
    return Lock(cluster, holder, overlay, duration, clock, at)


def refuse_other_overlay(
    cluster: Cluster, lease: Json | None, overlay: str, *, change_overlay: bool
) -> None:
    """Refuse an overlay that the cluster does not have.

    Raises:
        OverlayMismatchError: It was provisioned from another one.
    """
    found = ((lease or {}).get("metadata", {}).get("annotations") or {}).get(OVERLAY)
    if found not in {None, overlay} and not change_overlay:
        raise OverlayMismatchError(overlay, str(found), cluster.server)


def load_lease(cluster: Cluster) -> Json | None:
    """The Lease as it is."""
    return cluster.get(f"{_PATH}/{NAME}")


def release(lock: Lock) -> None:
    """Give the lock back, if it is still ours; it stays, held by nobody."""
    lease = load_lease(lock.cluster)
    if lease is None or lease["spec"].get("holderIdentity") != lock.holder:
        return
    spec: dict[str, Any] = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
    lock.cluster.request("PUT", f"{_PATH}/{NAME}", body={**lease, "spec": spec})


def _refuse_held(lease: Json, holder: str, at: datetime) -> None:
    spec = lease.get("spec", {})
    other = spec.get("holderIdentity")
    if not other or other == holder:
        return
    lasts = timedelta(seconds=int(spec.get("leaseDurationSeconds", 0)))
    left = _read(spec.get("renewTime", "")) + lasts - at
    if left > timedelta():
        raise ProvisionLockedError(other, str(spec.get("acquireTime")), left.total_seconds())


def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.fromtimestamp(0, UTC)
