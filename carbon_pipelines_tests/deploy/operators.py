"""A stand-in for operators, which cannot run where no container does.

What belongs here: giving custom resources the ``Ready`` condition that their operator would give.
It proves that provisioning waits for operators, and in which order; nothing of any operator.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from carbon_pipelines.cluster.api import MERGE, Cluster, Json, Kind
from carbon_pipelines.cluster.render import Rendered
from carbon_pipelines.cluster.wait import declared_here
from carbon_pipelines.errors import ApiRefusalError, ClusterError

REFUSES = "carbon-test/never-ready"
"""Objects with this annotation are left without a condition."""

DORIS_PARTS = ("feStatus", "beStatus", "cnStatus")


@contextmanager
def stand_in_operators(cluster: Cluster, rendered: Rendered | None = None) -> Iterator[None]:
    """Tend custom resources until the end, in a thread; and Services that operators would make."""
    stopped = threading.Event()
    refused: dict[str, ClusterError] = {}

    def tend() -> None:
        while not stopped.wait(0.3):
            try:
                if rendered is not None:
                    make_services(cluster, rendered)
                for kind in custom_kinds(cluster):
                    for body in cluster.items(kind.path(None)):
                        tend_object(cluster, kind, body)
            except ClusterError as error:  # it was deleted meanwhile, its kind was, or worse
                refused[str(error)] = error

    thread = threading.Thread(target=tend, name="stand-in operators", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        lasting = [
            told
            for told, error in refused.items()
            if not (isinstance(error, ApiRefusalError) and error.code in {404, 409})
        ]
        assert not lasting, lasting


def custom_kinds(cluster: Cluster) -> list[Kind]:
    """Kinds with a status, of groups that are not Kubernetes' own."""
    found: list[Kind] = []
    definitions = cluster.items("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
    for definition in definitions:
        spec = definition["spec"]
        for version in spec["versions"]:
            kind = cluster.kind(f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            if kind and "status" in (version.get("subresources") or {}):
                found.append(kind)
                break
    return found


def tend_object(cluster: Cluster, kind: Kind, body: Json) -> None:
    """Say that an object is ready, and which generation of it."""
    metadata = body["metadata"]
    told = body.get("status") or {}
    seen = told.get("observedGeneration")
    if REFUSES in (metadata.get("annotations") or {}) or seen == metadata["generation"]:
        return
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "StandIn",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    available = {**condition, "type": "Available"}
    status = {
        "observedGeneration": metadata["generation"],
        "conditions": [condition, available],
        "applied": True,
        **{part: {"componentCondition": {"phase": "available"}} for part in DORIS_PARTS},
    }
    path = f"{kind.path(metadata.get('namespace'), metadata['name'])}/status"
    cluster.request("PATCH", path, body={"status": status}, content_type=MERGE)


def define_kinds(cluster: Cluster, rendered: Rendered) -> list[str]:
    """Define the kinds that neither the cluster nor the overlay does; each accepts any field."""
    brought = {
        (manifest.body["spec"]["group"], manifest.body["spec"]["names"]["kind"])
        for manifest in rendered.manifests
        if manifest.kind == "CustomResourceDefinition"
    }
    lacking = {
        (manifest.group, manifest.api_version.rpartition("/")[2], manifest.kind): manifest
        for manifest in rendered.manifests
        if cluster.kind(manifest.api_version, manifest.kind) is None
        and (manifest.group, manifest.kind) not in brought
    }
    for (group, version, kind), manifest in sorted(lacking.items()):
        plural = f"{kind.lower()}s"
        names = {
            "kind": kind,
            "plural": plural,
            "singular": kind.lower(),
            "listKind": f"{kind}List",
        }
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"{plural}.{group}",
                "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
            },
            "spec": {
                "group": group,
                "scope": "Namespaced" if manifest.namespace else "Cluster",
                "names": names,
                "versions": [
                    {
                        "name": version,
                        "served": True,
                        "storage": True,
                        "subresources": {"status": {}},
                        "schema": {"openAPIV3Schema": schema},
                    }
                ],
            },
        }
        base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        cluster.request("POST", base, body=definition)
    for group, version, kind in lacking:
        while cluster.kind(f"{group}/{version}", kind) is None:
            threading.Event().wait(0.1)
    return [f"{kind} of {group}" for group, _, kind in sorted(lacking)]


def make_services(cluster: Cluster, rendered: Rendered) -> None:
    """Give an address to Services whose pods an operator would make, and make those it would."""
    templates = [
        (manifest.namespace, manifest.body["spec"]["template"]["metadata"].get("labels") or {})
        for manifest in rendered.manifests
        if manifest.group == "apps"
    ]
    wanted: dict[tuple[str, str], set[int]] = {}
    for manifest in rendered.manifests:
        selector = manifest.body.get("spec", {}).get("selector")
        if manifest.kind == "Service" and manifest.group == "" and selector:
            place = (str(manifest.namespace), manifest.name)
            if not any(
                namespace == place[0] and selector.items() <= labels.items()
                for namespace, labels in templates
            ):
                wanted[place] = {port["port"] for port in manifest.body["spec"]["ports"]}
    rendered_ones = {
        (manifest.namespace, manifest.name)
        for manifest in rendered.manifests
        if manifest.kind == "Service"
    }
    for service in rendered.graph.services:
        for endpoint in declared_here(service, rendered.services.get(service.name, ())).values():
            place = (str(service.namespace), str(endpoint.service))
            if service.name in rendered.services and place not in rendered_ones:
                wanted.setdefault(place, set()).add(endpoint.port)
    for place, ports in wanted.items():
        make_service(cluster, *place, sorted(ports), whole=place not in rendered_ones)


def make_service(
    cluster: Cluster, namespace: str, name: str, ports: list[int], *, whole: bool
) -> None:
    """A slice that says somebody is ready behind a Service; ``whole``: and the Service."""
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    if cluster.get(f"{slices}/{name}-stand-in") is not None:
        return
    named = [{"name": f"p{port}", "port": port} for port in ports]
    service = {"metadata": {"name": name}, "spec": {"ports": named}}
    piece = {
        "metadata": {"name": f"{name}-stand-in", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": named,
        "endpoints": [{"addresses": ["10.244.250.1"], "conditions": {"ready": True}}],
    }
    core = f"/api/v1/namespaces/{namespace}/services"
    for path, body in ((core, service), (slices, piece))[0 if whole else 1 :]:
        try:
            cluster.request("POST", path, body=body)
        except ApiRefusalError as error:
            if error.code not in {404, 409}:
                raise  # its namespace may not be there yet
