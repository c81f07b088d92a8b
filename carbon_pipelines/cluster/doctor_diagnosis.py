"""From what all places saw of all edges to one sentence per edge, and what concerns several edges.

What belongs here: the order of the rules, and the questions that only several edges together
answer: which part of the network loses packets, and whether policies are enforced at all. What does
not: rules about one edge (``doctor_causes_*.py``). Everything here is pure.

The order is that of the levels: a name that leads nowhere explains everything above it. What the
API server alone knows (no Service, no endpoint) comes first, for it explains what every place sees.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from carbon_pipelines.cluster.doctor_case import SLOW_SECONDS, Case
from carbon_pipelines.cluster.doctor_causes_network import (
    find_name_fault,
    find_service_fault,
    find_tcp_fault,
    unenforced,
)
from carbon_pipelines.cluster.doctor_causes_service import (
    find_service_level_fault,
    find_slowness,
)
from carbon_pipelines.cluster.doctor_findings import LEVELS, Diagnosis, Findings, Remedy, Seen
from carbon_pipelines.cluster.doctor_state import ClusterState, find_overlaps

LADDER: tuple[Remedy, ...] = ("restart_kube_proxy", "restart_kubelet", "recreate_node")
_LADDER_TEXT = (
    "Restart kube-proxy; if that does not help, the kubelet; then recreate the node after a backup."
)


@dataclass(frozen=True, slots=True)
class _Way:
    """One attempt at a pod's own address: from where to where, and whether packets came back."""

    edge: str
    namespace: str
    client: str
    from_node: str
    server: str
    to_node: str
    lost: bool


def diagnose(
    cases: Sequence[Case], state: ClusterState, *, slow_seconds: float = SLOW_SECONDS
) -> Findings:
    """Every edge's cause, and the notes that concern several."""
    ways = tuple(way for case in cases for way in _ways(case, state))
    alone = [_diagnose_case(case, state, slow_seconds) for case in cases]
    together = tuple(
        _locate_loss(one, ways, state) if one.cause == "pod_unreachable" else one for one in alone
    )
    return Findings(together, tuple(_notes(cases, state, together)))


def _diagnose_case(case: Case, state: ClusterState, slow_seconds: float) -> Diagnosis:
    fault = find_service_fault(case, state)
    if fault is not None:
        return fault
    if not case.seen:
        why = "; ".join(case.untested) or "no pod of the client runs"
        return Diagnosis(case.name, "untested", why, case.untested)
    found = [one for seen in case.seen if (one := _diagnose_place(case, state, seen))]
    if found:
        first = found[0]
        if len(case.seen) > 1:
            count = f"so from {len(found)} of {len(case.seen)} places that were tried"
            first = replace(first, evidence=(*first.evidence, count))
        return first
    for seen in case.seen:
        slow = find_slowness(case, seen, slow_seconds=slow_seconds)
        if slow is not None:
            return slow
    places = ", ".join(seen.place for seen in case.seen)
    levels = _reached(case.seen)
    return Diagnosis(case.name, "works", f"every level is reached: {', '.join(levels)}", (places,))


def _reached(places: Iterable[Seen]) -> tuple[str, ...]:
    names = {"dns" for seen in places if not seen.dns.more.get("literal")}
    names |= {name for seen in places for target in seen.targets for name in target.levels}
    return tuple(name for name in LEVELS if name in names)


def _diagnose_place(case: Case, state: ClusterState, seen: Seen) -> Diagnosis | None:
    name = find_name_fault(case, state, seen)
    if name is not None and name.cause == "dns_down":
        # Where nothing gets through at all, the name server is only one of those not reached.
        tcp = find_tcp_fault(case, state, seen)
        return tcp if tcp is not None and tcp.cause == "pod_unreachable" else name
    if name is not None:
        return name
    tcp = find_tcp_fault(case, state, seen)
    return tcp or find_service_level_fault(case, seen)


def _ways(case: Case, state: ClusterState) -> Iterable[_Way]:
    for seen in case.seen:
        if seen.pod is None:
            continue
        for target in seen.kind("pod"):
            server = state.pod_at(target.address)
            if server is None or server.label == seen.pod.label or "tcp" not in target.levels:
                continue
            yield _Way(
                case.name,
                seen.pod.namespace,
                seen.pod.label,
                seen.pod.node,
                server.label,
                server.node,
                target.lost(),
            )


def _locate_loss(one: Diagnosis, ways: tuple[_Way, ...], state: ClusterState) -> Diagnosis:
    """Which part of the network loses packets: all of a node's, those between nodes, or a pod's."""
    lost = [way for way in ways if way.lost]
    ours = [way for way in lost if way.edge == one.edge]
    passed = [way for way in ways if not way.lost]
    if not ours:
        return one
    node = ours[0].to_node or ours[0].from_node
    tried = sorted({way.namespace for way in ways})
    count = f"lost on {len(lost)} of {len(ways)} ways between pods, from {', '.join(tried)}"
    evidence = (*one.evidence, count, *_node_state(state, node))
    if not passed and len({(way.client, way.server) for way in lost}) > 1:
        sentence = (
            f"TCP to pods' addresses fails from every namespace and no policy forbids it: node "
            f"{node} drops the packets that its bridge forwards"
        )
        return _node_fault(one, sentence, evidence, node)
    for name in dict.fromkeys((ours[0].to_node, ours[0].from_node)):
        touching = [way for way in ways if name in {way.from_node, way.to_node}]
        if len(touching) > 1 and all(way.lost for way in touching):
            sentence = f"every packet to and from pods of node {name} is lost; other nodes are well"
            return _node_fault(one, sentence, evidence, name)
    across = [way for way in ways if way.from_node != way.to_node]
    if across and all(way.lost for way in across) and any(w.from_node == w.to_node for w in passed):
        return replace(
            one,
            cause="nodes_apart",
            sentence="pods reach each other within a node and not across nodes",
            evidence=evidence,
            fix="Look at the network between nodes: firewalls and security groups (VXLAN UDP 4789 "
            "or 8472, Geneve 6081, BGP 179, WireGuard 51820), routes to pod networks, and the MTU; "
            "then restart the CNI's pods.",
        )
    return replace(
        one,
        sentence=f"packets to pod {ours[0].server} get no answer, and no policy forbids them; "
        "other pods are reached",
        evidence=evidence,
        fix=f"Delete the pod, so that it gets a new network: kubectl -n "
        f"{ours[0].server.replace('/', ' delete pod ', 1)}",
    )


def _node_fault(one: Diagnosis, sentence: str, evidence: tuple[str, ...], node: str) -> Diagnosis:
    return replace(
        one,
        cause="node_drops_forwarded",
        sentence=sentence,
        evidence=evidence,
        fix=_LADDER_TEXT,
        remedies=LADDER,
        node=node,
    )


def _node_state(state: ClusterState, name: str) -> tuple[str, ...]:
    daemons = ", ".join(
        f"{daemon} {ready} of {wanted} ready" for daemon, (wanted, ready) in state.daemons.items()
    )
    nodes = [f"node {node.name} is {'' if node.ready else 'not '}Ready" for node in state.nodes]
    found = [text for text in nodes if f"node {name} " in text]
    return (*found, *([daemons] if daemons else []))


def _notes(
    cases: Sequence[Case], state: ClusterState, found: Sequence[Diagnosis]
) -> Iterable[Diagnosis]:
    outside = {
        f"{case.host} (seen from {seen.place})": target.address
        for case in cases
        if case.external
        for seen in case.seen
        for target in seen.kind("name")
    }
    overlaps = find_overlaps(state, outside)
    if overlaps:
        yield Diagnosis(
            "cluster",
            "addresses_overlap",
            f"two networks claim the same addresses: {overlaps[0]}",
            overlaps,
            "Give pods and Services networks that nothing else uses (kind.yaml: podSubnet and "
            "serviceSubnet); a cluster's networks are chosen when it is made, so make it anew.",
        )
    through = [
        line for case in cases for seen in case.seen for line in unenforced(case, state, seen)
    ]
    name, enforces = state.network
    if through or (enforces is False and state.policies):
        how = "does not enforce" if enforces is False or through else "may not enforce"
        yield Diagnosis(
            "cluster",
            "policy_not_enforced",
            f"the network ({name}) {how} NetworkPolicies: what they forbid is reached",
            tuple(through[:5]) or (f"{len(state.policies)} policies are declared",),
            "Use a network that enforces them (Calico, Cilium, a current kindnet; EKS: "
            "enableNetworkPolicy of the VPC CNI; GKE: Dataplane V2; AKS: a network policy engine).",
        )
    for daemon, (wanted, ready) in state.daemons.items():
        if ready < wanted and not any(one.cause == "kube_proxy" for one in found):
            yield Diagnosis(
                "cluster",
                "server_error",
                f"{daemon} runs on {ready} of {wanted} nodes",
                (f"kubectl -n kube-system get pods -o wide | grep {daemon}",),
                f"Look at the pods of {daemon} that are not ready.",
            )
