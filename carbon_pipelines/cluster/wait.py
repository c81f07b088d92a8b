"""Waiting until a service works: its objects, and who answers behind its Services.

What belongs here: asking again and again until a deadline, and the error that says what is missing.
What does not: the verdict on one object (``readiness.py``) and why it is so (``diagnosis.py``).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from carbon_pipelines.cluster.api import Cluster, Json
from carbon_pipelines.cluster.diagnosis import diagnose
from carbon_pipelines.cluster.manifest import Manifest
from carbon_pipelines.cluster.readiness import READY, Verdict, is_judged, judge, waits
from carbon_pipelines.cluster.service import EndpointSpec, ServiceSpec
from carbon_pipelines.errors import ServiceNotReadyError

_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a service, and the time by which it is measured."""

    deadline: timedelta = timedelta(minutes=10)
    stuck: timedelta = timedelta(minutes=2)
    """How long nothing may change at all while a pod cannot start, before it is given up."""
    sleep: Callable[[float], None] = field(default=time.sleep)
    clock: Callable[[], float] = field(default=time.monotonic)


@dataclass(frozen=True, slots=True)
class Found:
    """An object that is not ready."""

    manifest: Manifest
    verdict: Verdict
    live: Json | None


def await_ready(
    cluster: Cluster,
    service: str,
    manifests: Sequence[Manifest],
    patience: Patience,
    *,
    keep: Callable[[], None] = lambda: None,
) -> timedelta:
    """Wait for every object of a service that can be there and not work; how long it took.

    ``keep`` is called each time round: a lock's check, say.

    Raises:
        ServiceNotReadyError: The deadline has passed, an object has failed for good, or nothing
            moved for as long as patience allows.
    """
    began = patience.clock()
    moved, last = began, ""
    manifests = [each for each in manifests if is_judged(each.group, each.kind)]
    while True:
        keep()
        unready = list(not_ready(cluster, manifests))
        if not unready:
            return timedelta(seconds=patience.clock() - began)
        told = repr([(found.manifest.identity, found.verdict) for found in unready])
        now = patience.clock()
        if told != last:
            moved, last = now, told
        waited = now - began
        final = any(found.verdict.final for found in unready)
        late = waited >= patience.deadline.total_seconds()
        reason = None
        if now - moved >= patience.stuck.total_seconds():
            reason = diagnose(cluster, [(found.manifest, found.live) for found in unready])
        if final or late or (reason is not None and reason.stuck):
            raise _not_ready(cluster, service, unready, waited)
        patience.sleep(_POLL_SECONDS)


def _not_ready(
    cluster: Cluster, service: str, unready: Sequence[Found], waited: float
) -> ServiceNotReadyError:
    """What failed for good comes first, and a Service after the pods it waits for."""
    ordered = sorted(
        unready, key=lambda found: (not found.verdict.final, found.manifest.kind == "Service")
    )
    reason = diagnose(cluster, [(found.manifest, found.live) for found in ordered])
    waiting = [(found.manifest.label, found.verdict.why) for found in ordered]
    if reason.condition:
        waiting[0] = (waiting[0][0], f"{waiting[0][1]}; {reason.condition}")
    return ServiceNotReadyError(
        service, waiting, waited_seconds=waited, event=reason.event, log_line=reason.log_line
    )


def not_ready(cluster: Cluster, manifests: Sequence[Manifest]) -> Iterator[Found]:
    """Every object that is not there, does not work, or has nobody behind it."""
    for manifest in manifests:
        path = cluster.place(manifest)
        live = cluster.get(path) if path else None
        if live is None:
            yield Found(manifest, waits("it is not there"), None)
            continue
        verdict = judge(live)
        if verdict.ready and manifest.kind == "Service" and manifest.group == "":
            verdict = _answered(cluster, live, manifests)
        if not verdict.ready:
            yield Found(manifest, verdict, live)


def _answered(cluster: Cluster, live: Json, manifests: Sequence[Manifest]) -> Verdict:
    """Whether a Service with a selector has a pod that answers; one may be scaled to nothing."""
    spec, metadata = live.get("spec", {}), live["metadata"]
    if not spec.get("selector") or spec.get("type") == "ExternalName":
        return READY
    if ready_addresses(cluster, metadata["namespace"], metadata["name"]):
        return READY
    selected = [each for each in manifests if _selects(spec["selector"], each)]
    if selected and all(each.body["spec"].get("replicas", 1) == 0 for each in selected):
        return READY
    if not selected:
        kind = "no workload of this service has its labels, and"
        return waits(f"{kind} no pod is ready behind it")
    return waits("no pod is ready behind it")


def _selects(selector: Json, manifest: Manifest) -> bool:
    if manifest.group != "apps":
        return False
    labels = manifest.body["spec"]["template"]["metadata"].get("labels") or {}
    return selector.items() <= labels.items()


def ready_addresses(cluster: Cluster, namespace: str, service: str) -> int:
    """How many addresses are ready behind a Service, by its EndpointSlices."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    slices = cluster.items(path, f"kubernetes.io/service-name={service}")
    return sum(
        len(endpoint.get("addresses", ()))
        for each in slices
        for endpoint in each.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
    )


def unanswered_endpoints(
    cluster: Cluster, service: ServiceSpec, manifests: Sequence[Manifest]
) -> list[tuple[str, str]]:
    """Declared endpoints that nobody answers: (endpoint, what is missing).

    Its port need not be the Service's: figures are fetched from the pods themselves. An endpoint
    whose pods the overlay does not have (a store outside of the cluster stands in) is none of it.
    """
    found: list[tuple[str, str]] = []
    for name, endpoint in declared_here(service, manifests).items():
        label = f"endpoint {service.name}/{name} (Service {endpoint.service})"
        path = f"/api/v1/namespaces/{service.namespace}/services/{endpoint.service}"
        live = cluster.get(path)
        if live is None:
            found.append((label, "there is no such Service"))
        elif live["spec"].get("type") != "ExternalName" and not ready_addresses(
            cluster, str(service.namespace), str(endpoint.service)
        ):
            found.append((label, "no pod is ready behind it"))
    return found


def declared_here(service: ServiceSpec, manifests: Sequence[Manifest]) -> dict[str, EndpointSpec]:
    """Endpoints whose pods this overlay has, or an operator makes, or nobody has said who does."""
    there = {f"{each.kind}/{each.name}" for each in manifests}
    absent = {
        name
        for name, pods in service.pods.items()
        if pods.workload is not None
        and pods.workload.partition("/")[0] in {"Deployment", "StatefulSet", "DaemonSet"}
        and pods.workload not in there
    }
    return {
        name: endpoint
        for name, endpoint in service.endpoints.items()
        if endpoint.service is not None and endpoint.pods not in absent
    }


def await_endpoints(
    cluster: Cluster, service: ServiceSpec, manifests: Sequence[Manifest], patience: Patience
) -> int:
    """Wait until every declared endpoint has somebody who answers; how many there are.

    Raises:
        ServiceNotReadyError: The deadline has passed.
    """
    began = patience.clock()
    while missing := unanswered_endpoints(cluster, service, manifests):
        waited = patience.clock() - began
        if waited >= patience.deadline.total_seconds():
            raise ServiceNotReadyError(
                service.name, missing, waited_seconds=waited, event=None, log_line=None
            )
        patience.sleep(_POLL_SECONDS)
    return len(declared_here(service, manifests))
