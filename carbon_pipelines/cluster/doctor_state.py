"""The cluster as the doctor needs to know it: what the API server says of pods, Services and nodes.

What belongs here: API objects in, typed facts out. What does not: asking for the objects
(``doctor_kubectl.py``), evaluating policies (``doctor_policies.py``) and judging
(``doctor_causes_*.py``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import combinations
from typing import Any

ApiObject = Mapping[str, Any]
Network = IPv4Network | IPv6Network

SYSTEM = "kube-system"
DNS_LABEL = ("k8s-app", "kube-dns")
UNENFORCING = {"kube-flannel-ds": "flannel", "kube-flannel": "flannel"}
"""Networks that no version of enforces NetworkPolicies."""
ENFORCING = (
    "calico",
    "cilium",
    "canal",
    "antrea",
    "weave",
    "kube-router",
    "kindnet",
    "ovn",
    "azure-npm",
)


@dataclass(frozen=True, slots=True)
class PodState:
    """One pod."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    node: str
    address: str
    ready: bool
    trouble: str
    """Why it is not ready, in the API's words; empty if it is."""
    containers: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    """Named ports."""
    host_network: bool = False
    """It has the node's address, and no policy is about it."""

    @property
    def label(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    def has(self, labels: Mapping[str, str]) -> bool:
        """Whether it carries all of these labels."""
        return all(self.labels.get(name) == value for name, value in labels.items())


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One Service; ``address`` is empty where it is headless. A port maps to the pods' port."""

    name: str
    namespace: str
    address: str
    selector: Mapping[str, str]
    ports: Mapping[int, int | str]


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node."""

    name: str
    ready: bool
    address: str
    pod_networks: tuple[Network, ...]
    provider: str
    """``kind``, ``aws``, ``gce``, ``azure`` or empty."""


@dataclass(frozen=True, slots=True)
class ClusterState:
    """Everything at one moment."""

    pods: tuple[PodState, ...] = ()
    services: tuple[ServiceState, ...] = ()
    endpoints: Mapping[tuple[str, str], tuple[tuple[str, bool], ...]] = field(
        default_factory=dict[tuple[str, str], tuple[tuple[str, bool], ...]]
    )
    """Namespace and name of a Service to its addresses, and whether each is ready."""
    policies: tuple[ApiObject, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict[str, Mapping[str, str]]
    )
    nodes: tuple[NodeState, ...] = ()
    daemons: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Name of a DaemonSet of the system to how many of its pods are wanted and ready."""
    service_networks: tuple[Network, ...] = ()

    def service(self, namespace: str, name: str) -> ServiceState | None:
        """One Service, or None."""
        for one in self.services:
            if (one.namespace, one.name) == (namespace, name):
                return one
        return None

    def select(self, namespace: str, labels: Mapping[str, str]) -> tuple[PodState, ...]:
        """Pods of a namespace that carry all of the labels."""
        return tuple(one for one in self.pods if one.namespace == namespace and one.has(labels))

    def pod_at(self, address: str) -> PodState | None:
        """The pod with this address."""
        return next((one for one in self.pods if address and one.address == address), None)

    @property
    def provider(self) -> str:
        """Who runs the nodes."""
        return next((node.provider for node in self.nodes if node.provider), "")

    @property
    def network(self) -> tuple[str, bool | None]:
        """The CNI's name, and whether it enforces policies (None: its name does not tell)."""
        for name in self.daemons:
            if name in UNENFORCING:
                return UNENFORCING[name], False
        for name in self.daemons:
            if name.startswith(ENFORCING):
                return name, True
        other = [name for name in self.daemons if name != "kube-proxy"]
        return (other[0] if other else "unknown"), None


def parse_state(objects: Iterable[ApiObject]) -> ClusterState:
    """Sort API objects of any kinds into a state; kinds that are not needed are passed over."""
    by_kind: dict[str, list[ApiObject]] = {}
    for one in objects:
        by_kind.setdefault(str(one.get("kind")), []).append(one)
    endpoints: dict[tuple[str, str], list[tuple[str, bool]]] = {}
    for piece in by_kind.get("EndpointSlice", []):
        name = (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name", "")
        known = endpoints.setdefault((piece["metadata"]["namespace"], name), [])
        for one in piece.get("endpoints") or []:
            ready = (one.get("conditions") or {}).get("ready") is not False
            known += [(address, ready) for address in one.get("addresses") or []]
    return ClusterState(
        pods=tuple(map(_pod, by_kind.get("Pod", []))),
        services=tuple(map(_service, by_kind.get("Service", []))),
        endpoints={name: tuple(found) for name, found in endpoints.items()},
        policies=tuple(by_kind.get("NetworkPolicy", [])),
        namespaces={
            one["metadata"]["name"]: one["metadata"].get("labels") or {}
            for one in by_kind.get("Namespace", [])
        },
        nodes=tuple(map(_node, by_kind.get("Node", []))),
        daemons={
            one["metadata"]["name"]: (
                (one.get("status") or {}).get("desiredNumberScheduled", 0),
                (one.get("status") or {}).get("numberReady", 0),
            )
            for one in by_kind.get("DaemonSet", [])
            if one["metadata"].get("namespace") in {SYSTEM, "kube-flannel", "calico-system"}
        },
        service_networks=tuple(
            ip_network(network)
            for one in by_kind.get("ServiceCIDR", [])
            for network in (one.get("spec") or {}).get("cidrs") or []
        ),
    )


def find_overlaps(state: ClusterState, outside: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each address that two things of the cluster claim.

    Args:
        state: The cluster.
        outside: Hosts outside of it and the address that each has.
    """
    pod_networks = [(node.name, network) for node in state.nodes for network in node.pod_networks]
    found = [
        f"nodes {one} and {other} both give out pod addresses of {_shared(first, second)}"
        for (one, first), (other, second) in combinations(pod_networks, 2)
        if first.overlaps(second)
    ]
    for services in state.service_networks:
        found += [
            f"the Services' network {services} overlaps {network}, from which {node} gives out pod "
            "addresses"
            for node, network in pod_networks
            if services.overlaps(network)
        ]
    inside = [("pods", network) for _, network in pod_networks]
    inside += [("Services", network) for network in state.service_networks]
    named = {f"node {node.name}": node.address for node in state.nodes} | dict(outside)
    for name, address in named.items():
        found += [
            f"{name} has {address}, which lies in the {kind}' network {network}"
            for kind, network in inside
            if address and ip_address(address) in network
        ]
    return tuple(dict.fromkeys(found))


def _shared(one: Network, other: Network) -> Network:
    return one if one.prefixlen >= other.prefixlen else other


def _pod(one: ApiObject) -> PodState:
    meta, spec, status = one["metadata"], one.get("spec") or {}, one.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    ready = conditions.get("Ready", {}).get("status") == "True" and not meta.get(
        "deletionTimestamp"
    )
    containers = spec.get("containers") or []
    return PodState(
        name=meta["name"],
        namespace=meta["namespace"],
        labels=meta.get("labels") or {},
        node=spec.get("nodeName") or "",
        address=status.get("podIP") or "",
        ready=ready,
        trouble="" if ready else _trouble(meta, status, conditions),
        containers=tuple(each["name"] for each in containers),
        ports={
            port["name"]: port["containerPort"]
            for each in containers
            for port in each.get("ports") or []
            if port.get("name")
        },
        host_network=bool(spec.get("hostNetwork")),
    )


def _trouble(meta: ApiObject, status: ApiObject, conditions: Mapping[str, ApiObject]) -> str:
    if meta.get("deletionTimestamp"):
        return "is being deleted"
    for each in status.get("containerStatuses") or []:
        waiting = (each.get("state") or {}).get("waiting")
        if waiting:
            return f"container {each['name']}: {waiting.get('reason', 'waiting')}"
    for name in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
        found = conditions.get(name)
        if found and found.get("status") != "True":
            why = found.get("message") or found.get("reason") or ""
            return f"{name} is {found.get('status')}" + f": {why}" * bool(why)
    return f"phase {status.get('phase', 'unknown')}"


def _service(one: ApiObject) -> ServiceState:
    meta, spec = one["metadata"], one.get("spec") or {}
    address = spec.get("clusterIP") or ""
    return ServiceState(
        name=meta["name"],
        namespace=meta["namespace"],
        address="" if address == "None" else address,
        selector=spec.get("selector") or {},
        ports={
            each["port"]: each.get("targetPort") or each["port"] for each in spec.get("ports") or []
        },
    )


def _node(one: ApiObject) -> NodeState:
    spec, status = one.get("spec") or {}, one.get("status") or {}
    networks = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    addresses = {each["type"]: each["address"] for each in status.get("addresses") or []}
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or []}
    return NodeState(
        name=one["metadata"]["name"],
        ready=conditions.get("Ready") == "True",
        address=addresses.get("InternalIP", ""),
        pod_networks=tuple(ip_network(network) for network in networks),
        provider=str(spec.get("providerID") or "").partition(":")[0],
    )
