"""Provisioning: plan, apply, ready, verified; service by service, in the order of their needs.

What belongs here: the order of steps, and what is said of each. What does not: the steps
(``plan.py``, ``apply.py``, ``wait.py``, ``revision.py``).

Each service is planned once more just before it is applied: what it stands on is there by then, so
that objects which could not be checked before are, and what others changed meanwhile is seen.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta

from carbon_pipelines.cluster.api import Cluster
from carbon_pipelines.cluster.apply import (
    Applied,
    apply_service,
    refuse_dangers,
    remove_objects,
)
from carbon_pipelines.cluster.change import Plan
from carbon_pipelines.cluster.lock import Lock, load_lease, refuse_other_overlay
from carbon_pipelines.cluster.manifest import Manifest
from carbon_pipelines.cluster.plan import Choice, make_plan
from carbon_pipelines.cluster.render import Rendered
from carbon_pipelines.cluster.revision import record_revision
from carbon_pipelines.cluster.wait import Patience, await_endpoints, await_ready

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Consent:
    """What the person allowed; none of it is done unasked."""

    accept_dangers: bool = False
    prune: bool = False
    take_over: bool = False
    change_overlay: bool = False


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What became of one service."""

    applied: Applied
    ready_after: timedelta
    revision: int | None
    """The recorded state, or None when it is the one that was recorded last."""

    def sentence(self) -> str:
        """In one line."""
        kept = f", kept as revision {self.revision}" if self.revision is not None else ""
        seconds = self.ready_after.total_seconds()
        return f"{self.applied.sentence()}; ready after {seconds:.1f} s{kept}"


def plan_overlay(
    cluster: Cluster,
    rendered: Rendered,
    services: Collection[str] | None,
    consent: Consent,
) -> Plan:
    """The plan of an overlay, or of some of its services; nothing is changed.

    Raises:
        OverlayMismatchError: The cluster was provisioned from another overlay.
        ClusterError: Whatever ``make_plan`` finds wrong.
    """
    refuse_other_overlay(
        cluster,
        load_lease(cluster),
        rendered.overlay,
        change_overlay=consent.change_overlay,
    )
    return make_plan(cluster, rendered, Choice(services, take_over=consent.take_over))


def apply_planned(
    cluster: Cluster, rendered: Rendered, service: str, lock: Lock, consent: Consent
) -> Applied:
    """Plan one service once more, and write it.

    Raises:
        ClusterError: Whatever ``make_plan`` and ``apply_service`` find.
    """
    choice = Choice([service], alone=True, take_over=consent.take_over, removals=consent.prune)
    plan = make_plan(cluster, rendered, choice)
    refuse_dangers(plan, accept_dangers=consent.accept_dangers, prune=consent.prune)
    return apply_service(cluster, plan, service, lock, take_over=consent.take_over)


def working(rendered: Rendered, service: str) -> tuple[Manifest, ...]:
    """Objects of a service that are waited for; without its chart nobody is behind a Service."""
    manifests = rendered.services[service]
    if service not in rendered.without_chart:
        return manifests
    return tuple(manifest for manifest in manifests if manifest.kind != "Service")


def finish_service(
    cluster: Cluster,
    rendered: Rendered,
    service: str,
    lock: Lock,
    consent: Consent,
    patience: Patience,
) -> tuple[timedelta, int | None]:
    """Wait until one service works, remove what it no longer declares, and keep its state.

    Returns how long it took, and the number of the kept state if it is a new one.

    Raises:
        ServiceNotReadyError: It does not work in time.
    """
    manifests = rendered.services[service]
    took = await_ready(cluster, service, working(rendered, service), patience, keep=lock.check)
    if consent.prune:
        gone = make_plan(cluster, rendered, Choice([service], alone=True)).removals
        remove_objects(cluster, gone, lock)
    return took, record_revision(cluster, rendered.overlay, service, manifests, lock)


def provision_service(
    cluster: Cluster,
    rendered: Rendered,
    service: str,
    lock: Lock,
    consent: Consent,
    patience: Patience,
) -> Provisioned:
    """Bring one service to what its manifests say, and wait until it works.

    Raises:
        ClusterError: Whatever ``apply_planned`` and ``finish_service`` find.
    """
    applied = apply_planned(cluster, rendered, service, lock, consent)
    took, revision = finish_service(cluster, rendered, service, lock, consent, patience)
    return Provisioned(applied, took, revision)


def verify_service(cluster: Cluster, rendered: Rendered, service: str, patience: Patience) -> int:
    """Wait until somebody answers at every declared endpoint of a service; how many there are.

    Raises:
        ServiceNotReadyError: One is not there, or nobody is ready behind it.
    """
    declared = {spec.name: spec for spec in rendered.graph.services}
    if service not in declared or service in rendered.without_chart:
        return 0
    return await_endpoints(cluster, declared[service], rendered.services[service], patience)


def provision(
    cluster: Cluster,
    rendered: Rendered,
    services: Collection[str] | None,
    lock: Lock,
    consent: Consent,
    patience: Patience,
    report: Report,
) -> Plan:
    """Plan all, then bring up service after service; returns the plan that was carried out.

    Raises:
        ClusterError: See ``plan_overlay``, ``provision_service`` and ``verify_service``.
    """
    plan = plan_overlay(cluster, rendered, services, consent)
    report(plan.describe())
    refuse_dangers(plan, accept_dangers=consent.accept_dangers, prune=consent.prune)
    for service in plan.services:
        applied = Applied(service, ())
        if plan.of(service):
            applied = apply_planned(cluster, rendered, service, lock, consent)
        took, revision = finish_service(cluster, rendered, service, lock, consent, patience)
        count = verify_service(cluster, rendered, service, patience)
        done = Provisioned(applied, took, revision)
        report(f"{done.sentence()}; {count} endpoints answer")
    return plan
