"""What provisioning would do: every object asked of the API server, nothing changed.

What belongs here: asking, object by object (a server-side dry run passes admission, quotas and
webhooks as the real thing would), and which errors end a plan. What does not: rendering
(``render.py``), one object's answer (``dry_run.py``), and doing it (``apply.py``).

A plan is made whole before anything is changed: whatever is wrong with any object is said, all of
it at once, while the cluster is as it was.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from carbon_pipelines.cluster.api import MANAGER, Cluster, Json, Kind
from carbon_pipelines.cluster.change import Change, Plan
from carbon_pipelines.cluster.danger import dangers_of
from carbon_pipelines.cluster.dry_run import Answer, Surroundings, ask
from carbon_pipelines.cluster.manifest import PART_OF, SERVICE_LABEL, Manifest
from carbon_pipelines.cluster.references import notes_of
from carbon_pipelines.cluster.render import FOUNDATION, Rendered
from carbon_pipelines.errors import (
    CrdMissingError,
    FieldConflictError,
    NamespaceTerminatingError,
    ObjectsRefusedError,
    UnknownServiceError,
    WebhookDownError,
)

_THREADS = 8
_DERIVED = frozenset(
    [
        "Event",
        "Endpoints",
        "EndpointSlice",
        "Pod",
        "ReplicaSet",
        "ControllerRevision",
        "Lease",
        "Node",
        "PodMetrics",
        "NodeMetrics",
        "ComponentStatus",
    ]
)
"""Kinds that nobody declares: controllers make them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which part of an overlay, and whether fields that others own are taken over.

    ``services`` None means all. The foundation is part of every choice but of those that say
    ``alone``.
    """

    services: Collection[str] | None = None
    alone: bool = False
    take_over: bool = False
    removals: bool = True
    """Whether to look for objects that are no longer declared: every kind is listed for it."""

    def of(self, rendered: Rendered) -> tuple[str, ...]:
        """The chosen services, in the order to apply them.

        Raises:
            UnknownServiceError: The overlay does not hold one.
        """
        if self.services is None:
            return tuple(rendered.services)
        known = {*rendered.services, *rendered.without_chart}
        known |= {service.name for service in rendered.graph.services}
        for name in self.services:
            if name not in known:
                raise UnknownServiceError(name, known=sorted(known))
        wanted = {*self.services} | (set() if self.alone else {FOUNDATION})
        return tuple(name for name in rendered.services if name in wanted)


def make_plan(cluster: Cluster, rendered: Rendered, choice: Choice | None = None) -> Plan:
    """Ask the API server about every object of the chosen services.

    Raises:
        CrdMissingError: A kind is defined neither by the cluster nor by a chosen service.
        NamespaceTerminatingError: A namespace is being deleted.
        WebhookDownError: A webhook that must agree does not answer.
        ObjectsRefusedError: The server refuses objects.
        FieldConflictError: Others own fields, and we were not told to take them over.
        UnknownServiceError: The overlay does not hold a chosen service.
    """
    choice = choice or Choice()
    cluster.forget_kinds()
    services = choice.of(rendered)
    chosen = [manifest for name in services for manifest in rendered.services[name]]
    surroundings = _surroundings(cluster, chosen, take_over=choice.take_over)
    _refuse_unknown_kinds(cluster, chosen, surroundings)
    with ThreadPoolExecutor(_THREADS) as threads:
        answers = list(threads.map(lambda each: ask(cluster, each, surroundings), chosen))
    _refuse(answers)
    conflicts = [conflict for answer in answers for conflict in answer.conflicts]
    if conflicts and not choice.take_over:
        raise FieldConflictError(conflicts)
    changes = tuple(answer.change for answer in answers if answer.change is not None)
    removals = tuple(_removals(cluster, rendered, services)) if choice.removals else ()
    return Plan(
        overlay=rendered.overlay,
        server=cluster.server,
        version=cluster.version,
        services=services,
        changes=changes,
        removals=removals,
        checked=len(chosen),
        conflicts=tuple(conflicts),
        dangers=tuple(danger for change in changes for danger in dangers_of(change)),
        removal_dangers=tuple(danger for change in removals for danger in dangers_of(change)),
        notes=tuple(notes_of(cluster, rendered, chosen, changes)),
        without_chart=rendered.without_chart,
    )


def _surroundings(cluster: Cluster, chosen: Sequence[Manifest], *, take_over: bool) -> Surroundings:
    """What the chosen objects may count on: namespaces that are there, and what they bring."""
    live = {each["metadata"]["name"]: each for each in cluster.items("/api/v1/namespaces")}
    used = {manifest.namespace for manifest in chosen if manifest.namespace}
    used |= {manifest.name for manifest in chosen if manifest.kind == "Namespace"}
    for name in sorted(used & live.keys()):
        if live[name].get("status", {}).get("phase") == "Terminating":
            raise NamespaceTerminatingError(name, _held_by(live[name]))
    defined = {
        (manifest.body["spec"]["group"], manifest.body["spec"]["names"]["kind"])
        for manifest in chosen
        if manifest.kind == "CustomResourceDefinition"
    }
    coming = {manifest.name for manifest in chosen if manifest.kind == "Namespace"} - live.keys()
    return Surroundings(frozenset(live), frozenset(coming), frozenset(defined), take_over)


def _held_by(namespace: Json) -> list[str]:
    """What the namespace controller says still has to go."""
    return [
        condition["message"]
        for condition in namespace.get("status", {}).get("conditions", ())
        if condition.get("status") == "True" and condition.get("message")
    ]


def _refuse_unknown_kinds(
    cluster: Cluster, chosen: Iterable[Manifest], surroundings: Surroundings
) -> None:
    lacking = [
        (f"{manifest.kind} of {manifest.api_version}", manifest.service, manifest.label)
        for manifest in chosen
        if cluster.kind(manifest.api_version, manifest.kind) is None
        and (manifest.group, manifest.kind) not in surroundings.defined
    ]
    if lacking:
        raise CrdMissingError(lacking)


def _refuse(answers: Iterable[Answer]) -> None:
    refused = [answer for answer in answers if answer.refusal is not None]
    for answer in refused:
        if answer.webhook is not None:
            same = [each for each in refused if each.webhook == answer.webhook]
            raise WebhookDownError(answer.webhook, [each.told for each in same])
    if refused:
        raise ObjectsRefusedError([answer.told for answer in refused])


def _removals(cluster: Cluster, rendered: Rendered, services: Collection[str]) -> Iterator[Change]:
    """Objects that we once applied for a chosen service and that the overlay no longer asks for."""
    wanted = {manifest.identity for manifest in rendered.manifests}
    whole = {*services} - {*rendered.without_chart}
    for manifest in sorted(applied_by_us(cluster), key=lambda each: each.rank, reverse=True):
        if manifest.service in whole and manifest.identity not in wanted:
            yield Change(manifest, "remove")


def applied_by_us(cluster: Cluster) -> list[Manifest]:
    """Every object on the cluster that our field manager applied, with its service."""
    kinds = [
        kind
        for kind in cluster.kinds()
        if {"list", "delete"} <= kind.verbs and kind.name not in _DERIVED
    ]
    selector = "=".join(PART_OF)

    def listed(kind: Kind) -> list[Manifest]:
        return [
            _as_manifest(kind, body)
            for body in cluster.items(kind.path(None), selector)
            if _is_ours(body)
        ]

    with ThreadPoolExecutor(_THREADS) as threads:
        found = [manifest for part in threads.map(listed, kinds) for manifest in part]
    return list({manifest.identity: manifest for manifest in found}.values())


def _as_manifest(kind: Kind, body: Json) -> Manifest:
    """Items of a list carry neither their kind nor its version."""
    labels: Mapping[str, str] = body["metadata"].get("labels") or {}
    whole = {"apiVersion": kind.api_version, "kind": kind.name, **body}
    return Manifest(labels.get(SERVICE_LABEL, FOUNDATION), whole)


def _is_ours(body: Json) -> bool:
    return any(
        entry.get("manager") == MANAGER and entry.get("operation") == "Apply"
        for entry in body["metadata"].get("managedFields", ())
    )
