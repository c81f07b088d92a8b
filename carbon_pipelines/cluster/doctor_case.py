"""One edge under examination: what is asked of it, and what was seen.

What belongs here: turning an edge of the graph into what the probe is asked and what the rules need
to know. What does not: running the probe (``doctor.py``) and judging (``doctor_causes*.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from carbon_pipelines.cluster.doctor_findings import Seen
from carbon_pipelines.cluster.doctor_state import ClusterState, PodState
from carbon_pipelines.cluster.graph import Edge

TIMEOUT_SECONDS = 3.0
SLOW_SECONDS = 1.0
"""A level that takes longer is slow: in one cluster each takes milliseconds, and a packet that is
lost is sent again after one second."""

_MOST_PODS = 3


@dataclass(frozen=True, slots=True)
class Login:
    """With what the probe logs in; nothing of it shows in a repr, and the probe prints nothing."""

    user: str = ""
    password: str = field(default="", repr=False)
    more: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    ca: str = field(default="", repr=False)

    def document(self) -> dict[str, str]:
        """As the probe takes it."""
        return {"user": self.user, "password": self.password, **self.more}


@dataclass(frozen=True, slots=True)
class Case:
    """An edge, and what each place saw of it."""

    name: str
    host: str
    port: int
    pod_port: int
    protocol: str
    tls: bool
    transport: str = "TCP"
    path: str = ""
    statuses: tuple[int, ...] = (200,)
    resource: str = ""
    asks: str = ""
    account: str = ""
    may: str = ""
    secret: str = ""
    ca: str = ""
    verify: bool = True
    client_namespace: str = ""
    client_labels: Mapping[str, str] = field(default_factory=dict[str, str])
    client_container: str = ""
    server_namespace: str = ""
    service: str = ""
    server_labels: Mapping[str, str] = field(default_factory=dict[str, str])
    workload: str = ""
    seen: tuple[Seen, ...] = ()
    untested: tuple[str, ...] = ()
    """For each place where the probe could not run, why."""

    @property
    def external(self) -> bool:
        """Whether the server is outside of the cluster."""
        return not self.service

    @property
    def what(self) -> str:
        """The endpoint for people."""
        return f"{self.host}:{self.port}"


def make_case(edge: Edge) -> Case:
    """What is to be tried of an edge; nothing was seen yet."""
    end, use = edge.endpoint, edge.use
    client = edge.client.pods[edge.pods]
    server = None if end.pods is None else edge.server.pods[end.pods]
    host = f"{end.service}.{edge.server.namespace}.svc" if end.service else end.hosts[0]
    return Case(
        name=edge.name,
        host=host,
        port=end.port,
        pod_port=end.pod_port,
        protocol=end.protocol,
        tls=end.tls,
        transport=end.transport,
        path=end.path or "",
        statuses=end.status,
        resource=use.resource or "",
        asks=use.asks or "",
        account=use.account or "",
        may=use.may or "",
        secret=use.secret or "",
        ca=end.ca or "",
        client_namespace=edge.client.namespace or "",
        client_labels=client.labels,
        client_container=client.container or "",
        server_namespace=edge.server.namespace or "",
        service=end.service or "",
        server_labels={} if server is None else server.labels,
        workload=(server.workload or "") if server else "",
    )


def make_request(
    case: Case, state: ClusterState, login: Login | None, *, timeout_seconds: float
) -> dict[str, Any]:
    """What the probe is asked: the name, and every address it should lead to."""
    return {
        "edge": case.name,
        "host": case.host,
        "port": case.port,
        "service_port": case.port,
        "protocol": case.protocol,
        "tls": case.tls,
        "verify": case.verify,
        "path": case.path,
        "status": list(case.statuses),
        "resource": case.resource,
        "asks": case.asks,
        "timeout": timeout_seconds,
        "login": None if login is None else login.document(),
        "ca": "" if login is None else login.ca,
        "targets": _targets(case, state),
    }


def _targets(case: Case, state: ClusterState) -> Sequence[Mapping[str, object]]:
    """The Service's address, and those of up to three pods, the ready ones of other nodes first."""
    if case.external:
        return []
    found: list[Mapping[str, object]] = []
    service = state.service(case.server_namespace, case.service)
    if service is not None and service.address and case.port in service.ports:
        found.append({"kind": "service", "address": service.address, "port": case.port})
    for pod in servers(case, state)[:_MOST_PODS]:
        target = None if service is None else service.ports.get(case.port)
        port = pod.ports.get(target) if isinstance(target, str) else target
        found.append({"kind": "pod", "address": pod.address, "port": port or case.pod_port})
    return found


def servers(case: Case, state: ClusterState) -> tuple[PodState, ...]:
    """Pods that should answer and have an address: those behind the Service, else the declared."""
    listed = dict(state.endpoints.get((case.server_namespace, case.service), ()))
    behind = [pod for pod in state.pods if pod.address in listed]
    declared = state.select(case.server_namespace, case.server_labels) if case.server_labels else ()
    candidates = [pod for pod in behind or declared if pod.address]
    seen_nodes: set[str] = set()
    first: list[PodState] = []
    later: list[PodState] = []
    for pod in sorted(candidates, key=lambda one: (not one.ready, one.name)):
        (later if pod.node in seen_nodes else first).append(pod)
        seen_nodes.add(pod.node)
    return (*first, *later)


def clients(case: Case, state: ClusterState) -> tuple[PodState, ...]:
    """Pods to try the edge from: running ones, at most one on each of three nodes."""
    found: dict[str, PodState] = {}
    for pod in state.select(case.client_namespace, case.client_labels):
        if pod.address and (pod.ready or pod.node not in found):
            found.setdefault(pod.node, pod)
    return tuple(found.values())[:_MOST_PODS]
