"""What NetworkPolicies mean: whether traffic between two pods, or a pod and an address, is allowed.

What belongs here: the rules of ``networking.k8s.io/v1`` (Kubernetes documentation, "Network
Policies", and the API reference of NetworkPolicySpec), over policies as plain values. What does
not: making policies (``network_policy.py``), reading them from a cluster, and whether a CNI
enforces them.

* A pod is isolated in a direction once one policy of its namespace selects it for that direction;
  then only what some such policy allows may pass. Policies add up and never forbid.
* Traffic passes when the sender's egress and the receiver's ingress both let it.
* A pod reaches itself, and a node the pods on it, whatever policies say.
* ``policyTypes`` that are missing mean Ingress, and Egress too where there are egress rules.
* A rule without peers is about everybody, one without ports about every port; a port may be a
  number, a range (``endPort``) or the name that the receiver gives it.
* An ``ipBlock`` also matches pods by their address, as most CNIs have it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Literal

Direction = Literal["Ingress", "Egress"]
Transport = Literal["TCP", "UDP", "SCTP"]
_FIELDS: Mapping[Direction, tuple[str, str]] = {
    "Egress": ("egress", "to"),
    "Ingress": ("ingress", "from"),
}


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as policies see it; ``ports`` are the numbers of its named ports."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    address: str
    ports: Mapping[tuple[str, Transport], int] = field(default_factory=dict)
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Outside:
    """An address that is no pod's; ``node`` if it is the address of a node."""

    address: str
    node: str | None = None


Party = Pod | Outside


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether traffic passes, and why.

    ``egress`` and ``ingress`` are the policies that let it through on either side, as
    ``namespace/name``; ``blocked_by`` those that isolate the side that does not.
    """

    allowed: bool
    egress: tuple[str, ...] = ()
    ingress: tuple[str, ...] = ()
    blocked_at: Direction | None = None
    blocked_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies of a cluster, and the labels of its namespaces."""

    objects: Sequence[Mapping[str, Any]]
    namespaces: Mapping[str, Mapping[str, str]]
    _found: dict[object, Sequence[Mapping[str, Any]]] = field(
        default_factory=dict[object, Sequence[Mapping[str, Any]]], repr=False, compare=False
    )

    def selecting(self, pod: Pod, direction: Direction) -> Sequence[Mapping[str, Any]]:
        """The policies that isolate ``pod`` in this direction; looked for once."""
        key = (pod.namespace, frozenset(pod.labels.items()), direction)
        if key not in self._found:
            self._found[key] = [
                policy
                for policy in self.objects
                if policy["metadata"]["namespace"] == pod.namespace
                and direction in _types(policy["spec"])
                and matches(policy["spec"].get("podSelector") or {}, pod.labels)
            ]
        return self._found[key]

    def verdict(
        self, sender: Party, receiver: Party, port: int, transport: Transport = "TCP"
    ) -> Verdict:
        """Whether ``sender`` may open a connection to this port of ``receiver``."""
        if sender == receiver or _own_node(sender, receiver):
            return Verdict(allowed=True)
        egress: tuple[str, ...] = ()
        ingress: tuple[str, ...] = ()
        if isinstance(sender, Pod):
            isolating = self.selecting(sender, "Egress")
            egress = self._allowing(isolating, "Egress", receiver, receiver, port, transport)
            if isolating and not egress:
                return Verdict(
                    allowed=False, blocked_at="Egress", blocked_by=_names(isolating), egress=egress
                )
        if isinstance(receiver, Pod):
            isolating = self.selecting(receiver, "Ingress")
            ingress = self._allowing(isolating, "Ingress", sender, receiver, port, transport)
            if isolating and not ingress:
                return Verdict(
                    allowed=False, blocked_at="Ingress", blocked_by=_names(isolating), egress=egress
                )
        return Verdict(allowed=True, egress=egress, ingress=ingress)

    def passing(
        self, sender: Party, receiver: Party, ports: Iterable[tuple[int, Transport]]
    ) -> frozenset[tuple[int, Transport]]:
        """Those of ``ports`` at which ``verdict`` lets the sender in; for many ports at once.

        Most pairs of pods are told apart by who they are, before any port is looked at.
        """
        sides: tuple[tuple[Party, Party, Direction], ...] = (
            (sender, receiver, "Egress"),
            (receiver, sender, "Ingress"),
        )
        for pod, other, direction in sides:
            if sender == receiver or _own_node(sender, receiver) or not isinstance(pod, Pod):
                continue
            rules, peers = _FIELDS[direction]
            isolating = self.selecting(pod, direction)
            if isolating and not any(
                self._about(rule.get(peers), policy["metadata"]["namespace"], other)
                for policy in isolating
                for rule in policy["spec"].get(rules) or ()
            ):
                return frozenset()
        return frozenset(at for at in ports if self.verdict(sender, receiver, *at).allowed)

    def _allowing(
        self,
        policies: Iterable[Mapping[str, Any]],
        direction: Direction,
        peer: Party,
        receiver: Party,
        port: int,
        transport: Transport,
    ) -> tuple[str, ...]:
        """Names of those policies of which a rule is about this peer and this port."""
        rules, peers = _FIELDS[direction]
        return _names(
            policy
            for policy in policies
            if any(
                self._about(rule.get(peers), policy["metadata"]["namespace"], peer)
                and _on_port(rule.get("ports"), receiver, port, transport)
                for rule in policy["spec"].get(rules) or ()
            )
        )

    def _about(
        self, peers: Sequence[Mapping[str, Any]] | None, namespace: str, party: Party
    ) -> bool:
        return not peers or any(self._is(peer, namespace, party) for peer in peers)

    def _is(self, peer: Mapping[str, Any], namespace: str, party: Party) -> bool:
        if "ipBlock" in peer:
            return _in_block(peer["ipBlock"], party.address)
        if not isinstance(party, Pod):
            return False
        in_namespace = (
            matches(peer["namespaceSelector"] or {}, self.namespaces.get(party.namespace, {}))
            if "namespaceSelector" in peer
            else party.namespace == namespace
        )
        return in_namespace and matches(peer.get("podSelector") or {}, party.labels)


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects these labels; an empty one selects everything.

    Raises:
        ValueError: An operator that the API server would not have accepted.
    """
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions") or ()
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case unknown:
            message = f"{unknown!r} is no operator of a label selector"
            raise ValueError(message)


def _types(spec: Mapping[str, Any]) -> Sequence[str]:
    given = spec.get("policyTypes")
    if given:
        return given
    return ("Ingress", "Egress") if spec.get("egress") else ("Ingress",)


def _own_node(sender: Party, receiver: Party) -> bool:
    """Between a pod and the node that it runs on: the kubelet's probes are such traffic."""
    if isinstance(sender, Pod) == isinstance(receiver, Pod):
        return False
    return sender.node is not None and sender.node == receiver.node


def _in_block(block: Mapping[str, Any], address: str) -> bool:
    """Whether an address is in a CIDR and in none that it excepts; families never mix."""
    parsed = ip_address(address)
    inside = parsed in ip_network(block["cidr"])
    return inside and not any(
        parsed in ip_network(excepted) for excepted in block.get("except") or ()
    )


def _on_port(
    ports: Sequence[Mapping[str, Any]] | None, receiver: Party, port: int, transport: Transport
) -> bool:
    return not ports or any(_is_port(given, receiver, port, transport) for given in ports)


def _is_port(given: Mapping[str, Any], receiver: Party, port: int, transport: Transport) -> bool:
    if given.get("protocol", "TCP") != transport:
        return False
    number = given.get("port")
    if number is None:
        return True
    if isinstance(number, str):
        named = receiver.ports if isinstance(receiver, Pod) else {}
        return named.get((number, transport)) == port
    return number <= port <= given.get("endPort", number)


def _names(policies: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in policies)
