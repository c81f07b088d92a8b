"""From facts to causes, where a network of namespaces on one machine cannot have the fault."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from carbon_pipelines.cluster.doctor_case import Case
from carbon_pipelines.cluster.doctor_diagnosis import diagnose
from carbon_pipelines.cluster.doctor_findings import Diagnosis, Level, Seen, Target
from carbon_pipelines.cluster.doctor_state import (
    ClusterState,
    NodeState,
    PodState,
    ServiceState,
    find_overlaps,
)
from carbon_pipelines.cluster.doctor_text import describe, exit_code

OK = Level(ok=True, seconds=0.001)
TIMEOUT = Level(ok=False, word="timeout", said="no answer to the first packet within 3 s")


def node(number: int) -> NodeState:
    networks = (ip_network(f"10.244.{number}.0/24"),)
    return NodeState(
        f"node-{number}",
        ready=True,
        address=f"172.18.0.{number}",
        pod_networks=networks,
        provider="kind",
    )


def pod(name: str, number: int) -> PodState:
    address = f"10.244.{number}.{sum(map(ord, name)) % 200 + 2}"
    return PodState(name, "data", {"app": name}, f"node-{number}", address, ready=True, trouble="")


TRINO_1, TRINO_2, DB_1, DB_2 = (
    pod("trino1", 1),
    pod("trino2", 2),
    pod("db1", 1),
    pod("db2", 2),
)
STATE = ClusterState(
    pods=(TRINO_1, TRINO_2, DB_1, DB_2),
    services=(ServiceState("db", "data", "10.96.0.20", {"app": "db"}, {5432: 5432}),),
    endpoints={("data", "db"): ((DB_1.address, True), (DB_2.address, True))},
    nodes=(node(1), node(2)),
    daemons={"kube-proxy": (2, 2), "cilium": (2, 2)},
    service_networks=(ip_network("10.96.0.0/12"),),
)
CASE = Case(
    "trino.main->db/sql",
    "db.data.svc",
    5432,
    5432,
    "tcp",
    tls=False,
    server_namespace="data",
    service="db",
    client_namespace="data",
)


def seen(client: PodState, lost: set[str], *, service: Level = OK) -> Seen:
    dns = Level(ok=True, more={"addresses": ["10.96.0.20"]})
    pods = [
        Target("pod", one.address, 5432, {"tcp": TIMEOUT if one.name in lost else OK})
        for one in (DB_1, DB_2)
    ]
    front = Target("service", "10.96.0.20", 5432, {"tcp": service})
    return Seen(f"pod data/{client.name}", client, dns, (front, *pods))


def cause(*places: Seen, state: ClusterState = STATE, case: Case = CASE) -> Diagnosis:
    return diagnose([replace(case, seen=places)], state).diagnoses[0]


def test_pods_that_are_reached_within_a_node_only_are_a_fault_between_nodes() -> None:
    found = cause(seen(TRINO_1, {"db2"}), seen(TRINO_2, {"db1"}))
    assert found.cause == "nodes_apart"
    assert "VXLAN" in found.fix


def test_a_node_that_loses_everything_is_named_and_the_others_are_not() -> None:
    found = cause(seen(TRINO_1, {"db2"}), seen(TRINO_2, {"db1", "db2"}))
    assert (found.cause, found.node) == ("node_drops_forwarded", "node-2")
    assert "node node-2 is Ready" in found.evidence


def test_one_pod_that_nobody_reaches_is_that_pod() -> None:
    found = cause(seen(TRINO_1, {"db1"}), seen(TRINO_2, {"db1"}))
    assert found.cause == "pod_unreachable"
    assert "kubectl -n data delete pod db1" in found.fix


def test_kube_proxy_of_one_node_is_told_with_the_node() -> None:
    found = cause(seen(TRINO_1, set()), seen(TRINO_2, set(), service=TIMEOUT))
    assert (found.cause, found.node) == ("kube_proxy", "node-2")
    assert "so from 1 of 2 places that were tried" in found.evidence


def test_no_place_is_untested_and_says_why() -> None:
    (found,) = diagnose([replace(CASE, untested=("the pod is away",))], STATE).diagnoses
    assert (found.status, found.sentence) == ("untested", "the pod is away")


def test_an_outside_host_behind_a_closed_egress_is_the_policy() -> None:
    deny = {
        "metadata": {"name": "deny", "namespace": "data"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"]},
    }
    away = Target("name", "203.0.113.9", 443, {"tcp": TIMEOUT})
    dns = Level(ok=True, more={"addresses": ["203.0.113.9"]})
    place = Seen("pod data/trino1", TRINO_1, dns, (away,))
    case = replace(CASE, service="", host="api.example.org", port=443, pod_port=443)
    assert cause(place, state=replace(STATE, policies=(deny,)), case=case).cause == "policy_missing"
    assert cause(place, case=case).cause == "outside_unreachable"


def test_networks_that_overlap_are_a_note_of_the_whole_cluster() -> None:
    twice = replace(node(2), pod_networks=(ip_network("10.244.1.128/25"),), address="10.244.1.3")
    state = replace(STATE, nodes=(node(1), twice))
    assert find_overlaps(STATE, {}) == ()
    assert find_overlaps(state, {"the vault": "10.100.0.7"}) == (
        "nodes node-1 and node-2 both give out pod addresses of 10.244.1.128/25",
        "node node-2 has 10.244.1.3, which lies in the pods' network 10.244.1.0/24",
        "the vault has 10.100.0.7, which lies in the Services' network 10.96.0.0/12",
    )
    (note,) = diagnose([replace(CASE, seen=(seen(TRINO_1, set()),))], state).notes
    assert note.cause == "addresses_overlap"


def test_a_network_that_never_enforces_policies_is_named() -> None:
    policy = {"metadata": {"name": "p", "namespace": "x"}, "spec": {"podSelector": {}}}
    state = replace(STATE, daemons={"kube-flannel-ds": (2, 2)}, policies=(policy,))
    (note,) = diagnose([replace(CASE, seen=(seen(TRINO_1, set()),))], state).notes
    assert note.cause == "policy_not_enforced"
    assert "(flannel) does not enforce" in note.sentence


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({"protocol": Level(ok=False, word="closed")}, "hangs_up"),
        ({"protocol": Level(ok=False, word="wrong_protocol")}, "wrong_protocol"),
        ({"tls": Level(ok=False, word="tls_missing")}, "tls_missing"),
        ({"auth": Level(ok=False, word="login_missing")}, "login_missing"),
        ({"auth": Level(ok=False, word="clock")}, "clock"),
        ({"permission": Level(ok=False, word="not_found")}, "not_found"),
        ({"permission": Level(ok=False, word="advertised_away", said="b:1")}, "advertised_away"),
        ({"permission": Level(ok=False, word="status", said="it answers 503")}, "server_error"),
        ({"protocol": Level(ok=True, seconds=1.5)}, "slow"),
    ],
)
def test_words_of_the_probe_have_causes(levels: dict[str, Level], expected: str) -> None:
    place = seen(TRINO_1, set())
    targets = tuple(replace(one, levels={**one.levels, **levels}) for one in place.targets)
    found = cause(replace(place, targets=targets))
    assert found.cause == expected
    assert found.fix


def test_text_and_exit_codes() -> None:
    lost = diagnose([replace(CASE, seen=(seen(TRINO_1, set(), service=TIMEOUT),))], STATE)
    works = diagnose([replace(CASE, seen=(seen(TRINO_1, set()),))], STATE)
    untested = diagnose([CASE], STATE)
    assert [exit_code(found) for found in (works, lost, untested)] == [0, 3, 4]
    told = describe(lost).splitlines()
    assert told[0].startswith(
        "broken    trino.main->db/sql: the pods answer at their own addresses"
    )
    assert told[-1] == "1 edges: 1 broken"
    assert describe(works).splitlines()[0] == "works     trino.main->db/sql"
