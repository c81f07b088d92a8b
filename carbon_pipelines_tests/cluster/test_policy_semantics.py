"""The evaluator reads NetworkPolicies as Kubernetes' documentation has them."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.cluster.policy_semantics import Outside, Pod, Policies, Verdict, matches

NAMESPACES = {"a": {"team": "red"}, "b": {"team": "blue"}}
LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["x", "y"]))
PORTS = st.sampled_from([80, 81, 443])
TRANSPORTS = st.sampled_from(["TCP", "UDP"])
BLOCKS = st.sampled_from(["0.0.0.0/0", "10.1.0.0/16", "10.1.2.0/24", "8.8.8.0/24"])
EXPRESSIONS = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "key": st.sampled_from(["app", "tier"]),
                "operator": st.sampled_from(["In", "NotIn"]),
                "values": st.lists(st.sampled_from(["x", "y"]), min_size=1),
            }
        ),
        st.fixed_dictionaries(
            {
                "key": st.sampled_from(["app", "tier"]),
                "operator": st.sampled_from(["Exists", "DoesNotExist"]),
            }
        ),
    ),
    max_size=2,
)
SELECTORS = st.fixed_dictionaries(
    {}, optional={"matchLabels": LABELS, "matchExpressions": EXPRESSIONS}
)
NAMESPACE_SELECTORS = st.sampled_from(
    [{}, {"matchLabels": {"team": "red"}}, {"matchLabels": {"team": "none"}}]
)
PEERS = st.one_of(
    st.fixed_dictionaries({"podSelector": SELECTORS}),
    st.fixed_dictionaries({"namespaceSelector": NAMESPACE_SELECTORS}),
    st.fixed_dictionaries({"namespaceSelector": NAMESPACE_SELECTORS, "podSelector": SELECTORS}),
    st.fixed_dictionaries(
        {
            "ipBlock": st.fixed_dictionaries(
                {"cidr": BLOCKS}, optional={"except": st.lists(BLOCKS, max_size=2)}
            )
        }
    ),
)
GIVEN_PORTS = st.one_of(
    st.fixed_dictionaries({"protocol": TRANSPORTS}),
    st.fixed_dictionaries(
        {"port": st.sampled_from([80, 81, 443, "web"])}, optional={"protocol": TRANSPORTS}
    ),
    st.just({"port": 80, "endPort": 81, "protocol": "TCP"}),
)


def rules(peers: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    optional = {peers: st.lists(PEERS, max_size=2), "ports": st.lists(GIVEN_PORTS, max_size=2)}
    return st.lists(st.fixed_dictionaries({}, optional=optional), max_size=2)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    optional = {
        "policyTypes": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
        "ingress": rules("from"),
        "egress": rules("to"),
    }
    spec = draw(st.fixed_dictionaries({"podSelector": SELECTORS}, optional=optional))
    name = f"p{draw(st.integers(0, 10**6))}"
    return {
        "metadata": {"name": name, "namespace": draw(st.sampled_from(["a", "b"]))},
        "spec": spec,
    }


def pods(number: int) -> st.SearchStrategy[Pod]:
    return st.builds(
        Pod,
        namespace=st.sampled_from(["a", "b"]),
        name=st.just(f"pod-{number}"),
        labels=LABELS,
        address=st.sampled_from([f"10.1.2.{number}", f"10.2.0.{number}"]),
        ports=st.sampled_from(
            [{}, {("web", "TCP"): 80}, {("web", "UDP"): 81, ("web", "TCP"): 443}]
        ),
    )


PARTIES = st.tuples(
    st.one_of(pods(1), st.just(Outside("8.8.8.8")), st.just(Outside("9.9.9.9"))),
    st.one_of(pods(2), st.just(Outside("8.8.4.4"))),
)


def spelled_out(
    objects: list[dict[str, Any]], sender: Any, receiver: Any, port: int, transport: str
) -> bool:
    """The same rules again, as slowly and literally as the documentation words them."""

    def selected(selector: dict[str, Any], labels: dict[str, str]) -> bool:
        for key, value in (selector.get("matchLabels") or {}).items():
            if key not in labels or labels[key] != value:
                return False
        for wanted in selector.get("matchExpressions") or []:
            has, among = (
                wanted["key"] in labels,
                labels.get(wanted["key"]) in wanted.get("values", []),
            )
            right = {
                "In": has and among,
                "NotIn": not has or not among,
                "Exists": has,
                "DoesNotExist": not has,
            }
            if not right[wanted["operator"]]:
                return False
        return True

    def side(pod: Pod, other: Any, direction: str, field: str, peers: str) -> bool:
        isolated = False
        for policy in objects:
            spec = policy["spec"]
            types = spec.get("policyTypes") or ["Ingress"] + (
                ["Egress"] if spec.get("egress") else []
            )
            mine = policy["metadata"]["namespace"] == pod.namespace
            if (
                not mine
                or direction not in types
                or not selected(spec["podSelector"], dict(pod.labels))
            ):
                continue
            isolated = True
            for rule in spec.get(field) or []:
                from_there = not rule.get(peers)
                for peer in rule.get(peers) or []:
                    if "ipBlock" in peer:
                        address = ip_address(other.address)
                        block = peer["ipBlock"]
                        left_out = any(address in ip_network(e) for e in block.get("except", []))
                        from_there |= address in ip_network(block["cidr"]) and not left_out
                    elif isinstance(other, Pod):
                        if "namespaceSelector" in peer:
                            there = selected(peer["namespaceSelector"], NAMESPACES[other.namespace])
                        else:
                            there = other.namespace == policy["metadata"]["namespace"]
                        from_there |= there and selected(
                            peer.get("podSelector", {}), dict(other.labels)
                        )
                on_it = not rule.get("ports")
                for given_port in rule.get("ports") or []:
                    if given_port.get("protocol", "TCP") != transport:
                        continue
                    number = given_port.get("port")
                    if number == "web":
                        named = receiver.ports if isinstance(receiver, Pod) else {}
                        number = named.get(("web", transport), -1)
                        on_it |= number == port
                    elif number is None:
                        on_it = True
                    else:
                        on_it |= number <= port <= given_port.get("endPort", number)
                if from_there and on_it:
                    return True
        return not isolated

    out = not isinstance(sender, Pod) or side(sender, receiver, "Egress", "egress", "to")
    return out and (
        not isinstance(receiver, Pod) or side(receiver, sender, "Ingress", "ingress", "from")
    )


@given(st.lists(policies(), max_size=4), PARTIES, PORTS, TRANSPORTS)
def test_verdicts_are_those_of_the_rules_spelled_out(
    objects: list[dict[str, Any]], parties: Any, port: int, transport: Any
) -> None:
    verdict = Policies(objects, NAMESPACES).verdict(*parties, port, transport)
    assert verdict.allowed == spelled_out(objects, *parties, port, transport)


@given(st.lists(policies(), max_size=4), PARTIES)
def test_many_ports_at_once_are_what_they_are_one_by_one(
    objects: list[dict[str, Any]], parties: Any
) -> None:
    found = Policies(objects, NAMESPACES)
    ports: list[tuple[int, Any]] = [(port, by) for port in (80, 81, 443) for by in ("TCP", "UDP")]
    wanted = {at for at in ports if found.verdict(*parties, *at).allowed}
    assert found.passing(*parties, ports) == wanted


@given(st.lists(policies(), max_size=3), policies(), PARTIES, PORTS, TRANSPORTS)
def test_a_policy_more_never_takes_away_from_pods_that_are_isolated_already(
    objects: list[dict[str, Any]], more: dict[str, Any], parties: Any, port: int, transport: Any
) -> None:
    denies = [
        {
            "metadata": {"name": "deny", "namespace": n},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        }
        for n in NAMESPACES
    ]
    before = Policies([*denies, *objects], NAMESPACES).verdict(*parties, port, transport)
    after = Policies([*denies, *objects, more], NAMESPACES).verdict(*parties, port, transport)
    assert after.allowed or not before.allowed


@given(st.lists(policies(), max_size=4), PARTIES, PORTS, TRANSPORTS, st.randoms())
def test_the_order_of_policies_means_nothing(
    objects: list[dict[str, Any]], parties: Any, port: int, transport: Any, random: Any
) -> None:
    shuffled = random.sample(objects, len(objects))
    one, two = (
        Policies(o, NAMESPACES).verdict(*parties, port, transport) for o in (objects, shuffled)
    )
    assert (one.allowed, one.blocked_at) == (two.allowed, two.blocked_at)


DENY = {
    "metadata": {"name": "deny", "namespace": "a"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}
CLIENT = Pod("b", "client", {"app": "client"}, "10.1.0.1")
SERVER = Pod("a", "server", {"app": "server"}, "10.1.0.2", {("web", "TCP"): 8181})


def allow(**rule: Any) -> dict[str, Any]:
    spec = {"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [rule]}
    return {"metadata": {"name": "allow", "namespace": "a"}, "spec": spec}


def test_a_blocked_side_is_told_with_the_policies_that_isolate_it() -> None:
    assert Policies([DENY], NAMESPACES).verdict(CLIENT, SERVER, 8181) == Verdict(
        allowed=False, blocked_at="Ingress", blocked_by=("a/deny",)
    )


def test_a_named_port_is_the_number_that_the_receiver_gives_it() -> None:
    found = Policies([DENY, allow(ports=[{"port": "web"}])], NAMESPACES)
    assert found.verdict(CLIENT, SERVER, 8181) == Verdict(allowed=True, ingress=("a/allow",))
    assert not found.verdict(CLIENT, SERVER, 8182).allowed
    assert not found.verdict(CLIENT, replace(SERVER, ports={}), 8181).allowed


def test_selectors_of_pods_and_namespaces_in_one_peer_must_both_hold() -> None:
    both = {
        "namespaceSelector": {"matchLabels": {"team": "blue"}},
        "podSelector": {"matchLabels": {"app": "client"}},
    }
    found = Policies([DENY, allow(**{"from": [both]})], NAMESPACES)
    assert found.verdict(CLIENT, SERVER, 1).allowed
    assert not found.verdict(replace(CLIENT, labels={}), SERVER, 1).allowed
    assert not found.verdict(replace(CLIENT, namespace="a"), SERVER, 1).allowed


def test_the_kubelet_reaches_the_pods_of_its_own_node_and_no_others() -> None:
    here = Outside("192.168.0.1", node="n1")
    found = Policies([DENY], NAMESPACES)
    assert found.verdict(here, replace(SERVER, node="n1"), 8181).allowed
    assert not found.verdict(here, replace(SERVER, node="n2"), 8181).allowed
    assert not found.verdict(here, SERVER, 8181).allowed


def test_an_operator_that_does_not_exist_is_an_error_not_a_match() -> None:
    with pytest.raises(ValueError, match="'Like' is no operator"):
        matches({"matchExpressions": [{"key": "app", "operator": "Like", "values": ["x"]}]}, {})
