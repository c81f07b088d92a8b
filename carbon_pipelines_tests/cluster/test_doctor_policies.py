"""NetworkPolicies mean what the API says, and the reasons for a refusal are named."""

from dataclasses import replace
from typing import Any

import pytest

from carbon_pipelines.cluster.doctor_policies import Connection, Verdict, judge
from carbon_pipelines.cluster.doctor_state import ClusterState, PodState

NAMESPACES = {"a": {"team": "red"}, "b": {"team": "blue"}}


def pod(name: str, space: str = "a", **labels: str) -> PodState:
    ports = {"sql": 5432} if name == "server" else {}
    chosen = {"app": name, **labels}
    return PodState(
        name, space, chosen, "node-1", "10.244.0.9", ready=True, trouble="", ports=ports
    )


def policy(name: str, space: str = "a", app: str | None = None, **spec: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app": app}} if app else {}
    return {
        "metadata": {"name": name, "namespace": space},
        "spec": {"podSelector": selector, **spec},
    }


def ask(*policies: dict[str, Any], port: int = 5432, space: str = "a") -> tuple[Verdict, Verdict]:
    state = ClusterState(policies=policies, namespaces=NAMESPACES)
    client, server = pod("client", space), pod("server")
    egress, ingress = judge(state, Connection(client, server, server.address, port))
    return egress, ingress


def allowed(*policies: dict[str, Any], port: int = 5432, space: str = "a") -> bool:
    return all(one.allowed for one in ask(*policies, port=port, space=space))


DENY = policy("deny", policyTypes=["Ingress"])
FROM_CLIENT = {"podSelector": {"matchLabels": {"app": "client"}}}


def test_without_policies_everything_is_open() -> None:
    assert allowed()


def test_a_pod_that_is_selected_is_closed_in_that_direction_alone() -> None:
    egress, ingress = ask(DENY)
    assert (egress.allowed, ingress.allowed, ingress.selecting) == (True, False, ("deny",))


def test_policies_add_up() -> None:
    assert allowed(DENY, policy("ok", app="server", ingress=[{"from": [FROM_CLIENT]}]))


def test_egress_without_policy_types_closes_both_directions() -> None:
    assert not allowed(policy("both", egress=[{}]))


@pytest.mark.parametrize(
    ("peer", "space", "expected"),
    [
        (FROM_CLIENT, "a", True),
        (FROM_CLIENT, "b", False),
        ({"namespaceSelector": {}}, "b", True),
        ({"namespaceSelector": {"matchLabels": {"team": "red"}}}, "b", False),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "b"}}}, "b", True),
        ({"namespaceSelector": {"matchLabels": {"team": "blue"}}, **FROM_CLIENT}, "b", True),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}, "a", True),
        (
            {
                "podSelector": {
                    "matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["client"]}]
                }
            },
            "a",
            False,
        ),
        (
            {"podSelector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}},
            "a",
            True,
        ),
    ],
)
def test_peers(peer: dict[str, Any], space: str, *, expected: bool) -> None:
    assert allowed(policy("in", app="server", ingress=[{"from": [peer]}]), space=space) is expected


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([{"port": 5432}], True),
        ([{"port": "sql"}], True),
        ([{"port": "other"}], False),
        ([{"port": 5400, "endPort": 5500}], True),
        ([{"port": 5432, "protocol": "UDP"}], False),
        ([{"protocol": "TCP"}], True),
        ([{"port": 80}, {"port": 5432}], True),
    ],
)
def test_ports(ports: list[dict[str, Any]], *, expected: bool) -> None:
    rule = {"from": [FROM_CLIENT], "ports": ports}
    assert allowed(policy("in", app="server", ingress=[rule])) is expected


def test_a_refusal_names_the_policy_that_has_another_port_and_the_one_that_selects_others() -> None:
    wrong = policy("wrong", app="server", ingress=[{"from": [FROM_CLIENT], "ports": [{"port": 1}]}])
    typo = policy("typo", app="sever", ingress=[{"from": [FROM_CLIENT], "ports": [{"port": 5432}]}])
    _, ingress = ask(DENY, wrong, typo)
    assert ingress == Verdict(
        "Ingress",
        allowed=False,
        selecting=("deny", "wrong"),
        allowing=(),
        other_ports={"wrong": ("TCP 1",)},
        elsewhere=("typo",),
    )


def test_blocks_of_addresses_are_for_what_is_outside() -> None:
    block = {"cidr": "203.0.113.0/24", "except": ["203.0.113.7/32"]}
    out = policy("out", app="client", policyTypes=["Egress"], egress=[{"to": [{"ipBlock": block}]}])
    state = ClusterState(policies=(out,))

    def reaches(address: str) -> bool:
        (verdict,) = judge(state, Connection(pod("client"), None, address, 443))
        return verdict.allowed

    assert reaches("203.0.113.9")
    assert not reaches("203.0.113.7")
    assert not reaches("198.51.100.1")


def test_a_pod_reaches_itself_whatever_policies_say() -> None:
    one = pod("server")
    assert judge(ClusterState(policies=(DENY,)), Connection(one, one, one.address, 5432)) == ()


def test_no_policy_is_about_a_pod_with_the_nodes_own_network() -> None:
    host = replace(pod("client"), host_network=True)
    closed = policy("closed", app="client", policyTypes=["Egress"])
    state = ClusterState(policies=(closed,))
    assert judge(state, Connection(host, None, "203.0.113.9", 443)) == ()
