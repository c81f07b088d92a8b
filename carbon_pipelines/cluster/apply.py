"""Carrying a plan out, service by service.

What belongs here: writing objects as they were planned, in order. What does not: deciding what is
written (``plan.py``) and waiting until it works (``wait.py``).

Each object is one request under our field manager, and the API server does nothing for one that is
as declared. So a run that ends in the middle leaves a cluster from which any later run goes on:
there is no other record of progress that could disagree with it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from carbon_pipelines.cluster.api import Cluster
from carbon_pipelines.cluster.change import Change, Plan
from carbon_pipelines.cluster.dry_run import apply_object
from carbon_pipelines.cluster.lock import Lock
from carbon_pipelines.cluster.manifest import Manifest
from carbon_pipelines.errors import ApiRefusalError, ApplyStoppedError, DangerousPlanError

_GONE_SECONDS = 60.0
_POLL_SECONDS = 0.1
_AGAIN_SECONDS = 30.0
"""How long a namespace, a definition or an account that was just made may take to be usable."""

Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Applied:
    """What was written of one service."""

    service: str
    changes: tuple[Change, ...]

    def sentence(self) -> str:
        """In one line."""
        if not self.changes:
            return f"{self.service}: as declared, nothing written"
        counts: dict[str, int] = {}
        for change in self.changes:
            counts[change.act] = counts.get(change.act, 0) + 1
        told = ", ".join(f"{count} to {act}" for act, count in counts.items())
        return f"{self.service}: {len(self.changes)} objects written ({told})"


def refuse_dangers(plan: Plan, *, accept_dangers: bool, prune: bool) -> None:
    """Refuse a plan whose dangers nobody accepted; removals count only if they are to be made.

    Raises:
        DangerousPlanError: With each danger.
    """
    dangers = (*plan.dangers, *(plan.removal_dangers if prune else ()))
    if dangers and not accept_dangers:
        raise DangerousPlanError(dangers)


def apply_service(
    cluster: Cluster, plan: Plan, service: str, lock: Lock, *, take_over: bool = False
) -> Applied:
    """Write a service's planned changes.

    Raises:
        ApplyStoppedError: The server refused an object that it had accepted in the plan.
        LockLostError: The lock is no longer ours.
    """
    changes = plan.of(service)
    for number, change in enumerate(changes):
        lock.check()
        try:
            _write(cluster, change, force=take_over)
        except ApiRefusalError as error:
            raise ApplyStoppedError(
                service,
                change.manifest.label,
                error.message,
                done=number,
                left=len(changes) - number,
            ) from error
    return Applied(service, changes)


def remove_objects(cluster: Cluster, removals: Sequence[Change], lock: Lock) -> None:
    """Delete what an overlay no longer asks for; dependents go with it.

    Raises:
        ApiRefusalError: The server refuses.
    """
    for change in removals:
        lock.check()
        delete_object(cluster, change.manifest)


def delete_object(cluster: Cluster, manifest: Manifest, *, propagation: str = "Background") -> None:
    """Delete an object; one that is gone already is no error."""
    path = cluster.place(manifest)
    if path is None:
        return
    try:
        cluster.request("DELETE", path, query={"propagationPolicy": propagation})
    except ApiRefusalError as error:
        if error.code != 404:
            raise


def _write(cluster: Cluster, change: Change, *, force: bool, sleep: Sleep = time.sleep) -> None:
    manifest = change.manifest
    if change.act == "replace":
        delete_object(cluster, manifest, propagation="Foreground")
        _await_gone(cluster, manifest, sleep)
    deadline = time.monotonic() + _AGAIN_SECONDS
    while True:
        try:
            apply_object(cluster, manifest, dry_run=False, force=force)
        except ApiRefusalError as error:
            # A definition is served a moment after it is written; a namespace gets its accounts so.
            late = change.unchecked is not None and error.code == 404
            if not late or time.monotonic() > deadline:
                raise
        else:
            return
        sleep(_POLL_SECONDS)


def _await_gone(cluster: Cluster, manifest: Manifest, sleep: Sleep) -> None:
    path = cluster.place(manifest)
    deadline = time.monotonic() + _GONE_SECONDS
    while path and cluster.get(path) is not None:
        if time.monotonic() > deadline:
            message = f"it is not gone {_GONE_SECONDS:.0f} s after it was deleted"
            raise ApiRefusalError(f"delete {manifest.label}", 409, "Conflict", message)
        sleep(_POLL_SECONDS)
