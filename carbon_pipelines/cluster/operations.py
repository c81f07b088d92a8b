"""What is done to one service that runs: upgrade, rollback, restart, scale.

What belongs here: each as a plan and its carrying out. What does not: whole overlays
(``provision.py``) and taking one down (``teardown.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from carbon_pipelines.cluster.api import MERGE, Cluster, Json
from carbon_pipelines.cluster.apply import apply_service, refuse_dangers
from carbon_pipelines.cluster.change import Plan
from carbon_pipelines.cluster.lock import Lock
from carbon_pipelines.cluster.manifest import Manifest
from carbon_pipelines.cluster.plan import Choice, make_plan
from carbon_pipelines.cluster.provision import (
    Consent,
    provision_service,
    verify_service,
    working,
)
from carbon_pipelines.cluster.render import Rendered
from carbon_pipelines.cluster.revision import (
    Revision,
    choose_revision,
    load_revisions,
)
from carbon_pipelines.cluster.wait import Patience, await_ready, not_ready
from carbon_pipelines.errors import (
    ClusterError,
    ScaleRefusedError,
    ServiceNotReadyError,
    UnknownServiceError,
)

Report = Callable[[str], None]

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
_RESTARTER = "carbon-pipelines-restart"
"""A field manager of its own: no manifest holds the time of a restart, no plan takes it away."""

_WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})


def manifests_of(rendered: Rendered, service: str) -> tuple[Manifest, ...]:
    """A service's objects.

    Raises:
        UnknownServiceError: The overlay has none of that name.
    """
    if service not in rendered.services:
        raise UnknownServiceError(service, known=list(rendered.services))
    return rendered.services[service]


def gate(cluster: Cluster, rendered: Rendered, service: str) -> None:
    """Before an upgrade: the service and all that it stands on must work as they are now.

    Raises:
        ServiceNotReadyError: One does not, so an upgrade could not be told from what is broken.
    """
    before = {use.endpoint.split("/")[0] for use in rendered.graph.service(service).uses} | {
        *rendered.graph.service(service).needs
    }
    for name in (*sorted(before & rendered.services.keys()), service):
        for found in not_ready(cluster, working(rendered, name)):
            if found.live is None and name == service:
                continue  # what an upgrade adds is not there yet
            waiting = [(found.manifest.label, f"{found.verdict.why}, before the upgrade")]
            raise ServiceNotReadyError(name, waiting, waited_seconds=0, event=None, log_line=None)


def upgrade(
    cluster: Cluster,
    rendered: Rendered,
    service: str,
    lock: Lock,
    consent: Consent,
    patience: Patience,
    report: Report,
) -> None:
    """Bring one service to its manifests, between two gates; if it fails, go back by ourselves.

    Raises:
        ServiceNotReadyError: The gate before is shut (nothing was changed), or the service did not
            become ready; it was then set back to the revision that worked last, if there is one.
    """
    manifests_of(rendered, service)
    gate(cluster, rendered, service)
    try:
        done = provision_service(cluster, rendered, service, lock, consent, patience)
        verify_service(cluster, rendered, service, patience)
    except ServiceNotReadyError:
        revisions = load_revisions(cluster, service)
        if revisions:
            report(f"{service} did not become ready: revision {revisions[-1].number} is put back")
            restore(cluster, rendered, revisions[-1], lock, patience)
        raise
    report(done.sentence())


def plan_rollback(
    cluster: Cluster, rendered: Rendered, service: str, number: int | None
) -> tuple[Revision, Plan]:
    """Which revision a service would go back to, and what that changes.

    Without a number it is the newest one, if what came after it never became ready (it is then not
    what the cluster has); else the one before it.

    Raises:
        RevisionMissingError: There is none such.
    """
    manifests_of(rendered, service)
    revisions = load_revisions(cluster, service)
    if number is None and revisions:
        plan = make_plan(cluster, _as_rendered(rendered, revisions[-1]), _back(service))
        if plan.changes:
            return revisions[-1], plan
    chosen = choose_revision(revisions, service, number)
    return chosen, make_plan(cluster, _as_rendered(rendered, chosen), _back(service))


def restore(
    cluster: Cluster, rendered: Rendered, revision: Revision, lock: Lock, patience: Patience
) -> None:
    """Apply a revision and wait until it works; what came after it and is not in it stays.

    Raises:
        ClusterError: See ``apply_service`` and ``await_ready``.
    """
    wanted, service = _as_rendered(rendered, revision), revision.service
    plan = make_plan(cluster, wanted, _back(service))
    apply_service(cluster, plan, service, lock, take_over=True)
    await_ready(cluster, service, revision.manifests, patience, keep=lock.check)


def _as_rendered(rendered: Rendered, revision: Revision) -> Rendered:
    return replace(rendered, services={revision.service: revision.manifests})


def _back(service: str) -> Choice:
    """One service, whoever changed it meanwhile; what it no longer asks for stays."""
    return Choice([service], alone=True, take_over=True, removals=False)


def plan_restart(rendered: Rendered, service: str) -> tuple[Manifest, ...]:
    """Workloads whose pods are made anew, and databases whose operator does it.

    Raises:
        ScaleRefusedError: The service has nothing that can be restarted.
    """
    found = tuple(
        manifest
        for manifest in manifests_of(rendered, service)
        if (manifest.group == "apps" and manifest.kind in _WORKLOADS)
        or (manifest.group, manifest.kind) == ("postgresql.cnpg.io", "Cluster")
    )
    if not found:
        raise ScaleRefusedError(service, "pods", "the service declares no workload of its own")
    return found


def restart(
    cluster: Cluster,
    rendered: Rendered,
    service: str,
    lock: Lock,
    patience: Patience,
    at: datetime,
) -> tuple[str, ...]:
    """Restart a service's workloads one after another, as their own strategies allow.

    Raises:
        ServiceNotReadyError: One does not come back; those after it are left alone.
    """
    done: list[str] = []
    note = {RESTARTED_AT: at.isoformat(timespec="seconds")}
    for manifest in plan_restart(rendered, service):
        lock.check()
        body: Json = {"metadata": {"annotations": note}}
        if manifest.group == "apps":
            body = {"spec": {"template": body}}
        cluster.request(
            "PATCH",
            str(cluster.place(manifest)),
            query={"fieldManager": _RESTARTER},
            body=body,
            content_type=MERGE,
        )
        await_ready(cluster, service, [manifest], patience, keep=lock.check)
        done.append(manifest.label)
    return tuple(done)


@dataclass(frozen=True, slots=True)
class Scaling:
    """A workload with another number of pods than its manifest says."""

    manifest: Manifest
    declared: int
    wanted: int

    def sentence(self) -> str:
        """What is done, and that the next plan shows it."""
        return (
            f"{self.manifest.label}: {self.wanted} pods, declared are {self.declared}. The next "
            "provisioning sets it back; write the number into the overlay to keep it."
        )


def plan_scale(rendered: Rendered, service: str, workload: str, wanted: int) -> Scaling:
    """One workload (``Kind/name``) of a service with a number of pods.

    Raises:
        ScaleRefusedError: There is no such workload, or it cannot have that many.
    """
    manifests = manifests_of(rendered, service)
    for manifest in manifests:
        if f"{manifest.kind}/{manifest.name}" != workload:
            continue
        field = _count_field(manifest)
        spec: Json = dict(manifest.body.get("spec") or {})
        if field is None:
            raise ScaleRefusedError(service, workload, "its kind has no number of pods")
        strategy = (spec.get("strategy") or {}).get("type")
        if strategy == "Recreate" and wanted > 1:
            reason = "it is declared to be alone (strategy Recreate): two would fence each other"
            raise ScaleRefusedError(service, workload, reason)
        if wanted < 0:
            raise ScaleRefusedError(service, workload, f"{wanted} is no number of pods")
        body = {**manifest.body, "spec": {**spec, field: wanted}}
        return Scaling(Manifest(service, body), int(spec.get(field, 1)), wanted)
    known = [f"{each.kind}/{each.name}" for each in manifests if _count_field(each)]
    raise ScaleRefusedError(service, workload, f"the service has {', '.join(known) or 'none'}")


def _count_field(manifest: Manifest) -> str | None:
    key = (manifest.group, manifest.kind)
    if key == ("postgresql.cnpg.io", "Cluster"):
        return "instances"
    scalable = {("apps", "Deployment"), ("apps", "StatefulSet")}
    scalable |= {("kafka.strimzi.io", "KafkaNodePool"), ("kafka.strimzi.io", "KafkaConnect")}
    return "replicas" if key in scalable else None


def scale(
    cluster: Cluster,
    rendered: Rendered,
    scaling: Scaling,
    lock: Lock,
    consent: Consent,
    patience: Patience,
) -> None:
    """Apply one workload with its number, and wait.

    Raises:
        DangerousPlanError: Fewer pods than now, and nobody accepted that.
        ClusterError: See ``apply_service`` and ``await_ready``.
    """
    service = scaling.manifest.service
    wanted = replace(rendered, services={service: (scaling.manifest,)})
    plan = make_plan(cluster, wanted, _back(service))
    refuse_dangers(plan, accept_dangers=consent.accept_dangers, prune=False)
    apply_service(cluster, plan, service, lock, take_over=True)
    await_ready(cluster, service, [scaling.manifest], patience, keep=lock.check)


def status_lines(cluster: Cluster, rendered: Rendered) -> list[str]:
    """Of each service, whether it works, or what it waits for."""
    lines: list[str] = []
    for service, manifests in rendered.services.items():
        try:
            unready = list(not_ready(cluster, working(rendered, service)))
        except ClusterError as error:
            lines.append(f"{service}: cannot be told: {error}")
            continue
        told = [f"  {found.manifest.label}: {found.verdict.why}" for found in unready]
        state = "ready" if not told else f"{len(told)} of {len(manifests)} objects are not ready"
        lines += [f"{service}: {state}", *told]
    return lines
