"""Which NetworkPolicies decide over one connection, and which would have allowed it.

What belongs here: evaluating policies as the API defines them, for one pod, peer and port, with
the reasons. What does not: making policies, and the graph (``network_policy.py``).

Source: the reference of networking.k8s.io/v1. A pod that no policy of a direction selects is open
in that direction; one that any selects is closed but for what the policies that select it allow.
A connection needs both the client's egress and the server's ingress. An ``ipBlock`` also matches
pods by their address, as most CNIs have it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Literal

from carbon_pipelines.cluster.doctor_state import ApiObject, ClusterState, PodState

Direction = Literal["Ingress", "Egress"]
_PEERS = {"Ingress": "from", "Egress": "to"}


@dataclass(frozen=True, slots=True)
class Connection:
    """What a policy is asked about; an end that is no pod is only an address."""

    client: PodState | None
    server: PodState | None
    server_address: str
    port: int
    transport: str = "TCP"
    client_address: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policies of one direction say."""

    direction: Direction
    allowed: bool
    selecting: tuple[str, ...]
    """Names of the policies that select the pod."""
    allowing: tuple[str, ...]
    other_ports: Mapping[str, tuple[str, ...]]
    """Policies that select the pod and allow the peer, but only on these ports."""
    elsewhere: tuple[str, ...]
    """Policies that would allow it, did they select the pod."""


def judge(state: ClusterState, connection: Connection) -> tuple[Verdict, ...]:
    """The verdict over the client's egress, then over the server's ingress, where they are pods."""
    found: list[Verdict] = []
    if connection.client is not None and connection.client == connection.server:
        return ()  # a pod reaches itself, whatever policies say
    if connection.client is not None and not connection.client.host_network:
        found.append(_verdict(state, "Egress", connection.client, connection))
    if connection.server is not None and not connection.server.host_network:
        found.append(_verdict(state, "Ingress", connection.server, connection))
    return tuple(found)


def _verdict(
    state: ClusterState, direction: Direction, pod: PodState, connection: Connection
) -> Verdict:
    selecting: list[str] = []
    allowing: list[str] = []
    elsewhere: list[str] = []
    other_ports: dict[str, tuple[str, ...]] = {}
    for policy in state.policies:
        spec, meta = policy.get("spec") or {}, policy["metadata"]
        if meta["namespace"] != pod.namespace or direction not in policy_types(spec):
            continue
        selects = matches(spec.get("podSelector") or {}, pod.labels)
        rules = [
            rule
            for rule in spec.get(direction.lower()) or []
            if _admits_peer(state, rule.get(_PEERS[direction]), direction, pod, connection)
        ]
        allows = any(_admits_port(rule.get("ports"), connection) for rule in rules)
        if selects:
            selecting.append(meta["name"])
            if allows:
                allowing.append(meta["name"])
            elif rules:
                other_ports[meta["name"]] = _ports(rules)
        elif allows:
            elsewhere.append(meta["name"])
    return Verdict(
        direction,
        allowed=bool(allowing) or not selecting,
        selecting=tuple(selecting),
        allowing=tuple(allowing),
        other_ports=other_ports,
        elsewhere=tuple(elsewhere),
    )


def policy_types(spec: ApiObject) -> tuple[str, ...]:
    """The directions that a policy is about; ingress is always one unless it says otherwise."""
    named = spec.get("policyTypes")
    if named:
        return tuple(named)
    return ("Ingress", "Egress") if spec.get("egress") else ("Ingress",)


def matches(selector: ApiObject, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects these labels; an empty one selects everything."""
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    for each in selector.get("matchExpressions") or []:
        key, values = each["key"], each.get("values") or []
        holds = {
            "In": key in labels and labels[key] in values,
            "NotIn": key not in labels or labels[key] not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[each["operator"]]
        if not holds:
            return False
    return True


def _admits_peer(
    state: ClusterState,
    peers: Iterable[Mapping[str, Any]] | None,
    direction: Direction,
    pod: PodState,
    connection: Connection,
) -> bool:
    if not peers:
        return True
    peer = connection.client if direction == "Ingress" else connection.server
    address = connection.client_address if direction == "Ingress" else connection.server_address
    for each in peers:
        block = each.get("ipBlock")
        if block is not None:
            if address and _in_block(address, block):
                return True
            continue
        if peer is None:
            continue
        if "namespaceSelector" in each:
            near = matches(each["namespaceSelector"] or {}, _namespace(state, peer.namespace))
        else:
            near = peer.namespace == pod.namespace
        if near and matches(each.get("podSelector") or {}, peer.labels):
            return True
    return False


def _namespace(state: ClusterState, name: str) -> Mapping[str, str]:
    return {"kubernetes.io/metadata.name": name, **state.namespaces.get(name, {})}


def _in_block(address: str, block: Mapping[str, Any]) -> bool:
    inside = ip_address(address) in ip_network(block["cidr"])
    excepted = any(ip_address(address) in ip_network(one) for one in block.get("except") or [])
    return inside and not excepted


def _admits_port(ports: Iterable[Mapping[str, Any]] | None, connection: Connection) -> bool:
    if not ports:
        return True
    named = {} if connection.server is None else connection.server.ports
    for each in ports:
        if (each.get("protocol") or "TCP") != connection.transport:
            continue
        port = each.get("port")
        if port is None:
            return True
        first = named.get(port) if isinstance(port, str) else int(port)
        if first is not None and first <= connection.port <= int(each.get("endPort") or first):
            return True
    return False


def _ports(rules: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    found = [
        f"{each.get('protocol') or 'TCP'} {each.get('port')}"
        + (f" to {each['endPort']}" if each.get("endPort") else "")
        for rule in rules
        for each in rule.get("ports") or []
    ]
    return tuple(dict.fromkeys(found))
