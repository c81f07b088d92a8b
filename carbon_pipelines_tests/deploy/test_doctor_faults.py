"""Faults are injected into a small cluster of network namespaces, and the doctor names each.

Every fault is real where the network or a server can have it: packets are dropped, rules are
missing, a server hangs. What only the API server knows is changed in the objects it would return.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from carbon_pipelines.cluster.doctor_findings import Diagnosis
from carbon_pipelines_tests.deploy import api_objects as api
from carbon_pipelines_tests.deploy.lab_certificates import make_authority
from carbon_pipelines_tests.deploy.lab_world import (
    CATALOG_NAME,
    GRAFANA_CATALOG,
    GRAFANA_DB,
    MONITORING,
    PLATFORM,
    TRINO_CATALOG,
    TRINO_DB,
    World,
    running,
)
from carbon_pipelines_tests.deploy.network_lab import find_nft

BOTH_DB = {TRINO_DB, GRAFANA_DB}
BOTH_CATALOG = {TRINO_CATALOG, GRAFANA_CATALOG}
ALL = BOTH_DB | BOTH_CATALOG
NAME = f"{CATALOG_NAME}.{PLATFORM}.svc"


@dataclass(frozen=True)
class Fault:
    """How to break the world, and what has to be said of which edges."""

    inject: Callable[[World], object]
    cause: str
    edges: set[str]
    said: str
    evidence: str = ""
    remedies: tuple[str, ...] = ()


def stop_names(world: World) -> None:
    assert world.names is not None
    world.lab.end(world.names)
    world.put(api.pod("kube-system", "coredns-1", "", ready=False, labels={"k8s-app": "kube-dns"}))


def block_names(world: World) -> None:
    world.remove("NetworkPolicy", "allow-dns", MONITORING)
    world.lab.drop_incoming(f"ip saddr {world.lab.addresses['grafana']} udp dport 53")


def forget_name(world: World) -> None:
    world.zone.write_text(world.zone.read_text().replace(CATALOG_NAME, "another-name"))


def lead_name_astray(world: World) -> None:
    world.zone.write_text(world.zone.read_text().replace("10.96.0.20", world.lab.addresses["db"]))


def lose_endpoints(world: World) -> None:
    address = world.lab.addresses["db"]
    world.put(api.pod(PLATFORM, "db", address, port=5432, ready=False))
    world.put(api.endpoints(PLATFORM, "db", 5432, address, ready=False))
    world.lab.expose({("10.96.0.21", 8181): (world.lab.addresses["catalog"], 8443)})


def select_nothing(world: World) -> None:
    world.put(api.service(PLATFORM, "db", "10.96.0.20", 5432, "main", app="database"))
    world.put(api.endpoints(PLATFORM, "db", 5432))
    world.lab.expose({("10.96.0.21", 8181): (world.lab.addresses["catalog"], 8443)})


def drop(world: World, client: str, server: str, port: int) -> None:
    at = world.lab.addresses
    world.lab.drop(f"ip saddr {at[client]} ip daddr {at[server]} tcp dport {port}")


def miss_policy(world: World) -> None:
    world.remove("NetworkPolicy", "out-grafana-db", MONITORING)
    drop(world, "grafana", "db", 5432)


def miss_ingress(world: World) -> None:
    world.put(api.allow_in(PLATFORM, CATALOG_NAME, 8443, (PLATFORM, "trino")))
    drop(world, "grafana", "catalog", 8443)


def allow_service_port(world: World) -> None:
    """The mistake that everybody makes once: a policy with the Service's port, not the pods'."""
    world.put(api.allow_out(PLATFORM, "trino", (PLATFORM, CATALOG_NAME), 8181))
    drop(world, "trino", "catalog", 8443)


def forget_rules(world: World) -> None:
    world.lab.expose({})


def stop_catalog(world: World) -> None:
    assert world.catalog is not None
    world.lab.end(world.catalog)


def hang(world: World) -> None:
    assert world.catalog is not None
    world.catalog.send_signal(signal.SIGSTOP)


def expire(world: World) -> None:
    issued = world.authority.issue("expired", NAME, until=timedelta(days=-3))
    world.serve_catalog(*issued)


def rename(world: World) -> None:
    world.serve_catalog(*world.authority.issue("renamed", "polaris.data-platform.svc"))


def distrust(world: World) -> None:
    folder = world.directory / "other"
    folder.mkdir(exist_ok=True)
    world.serve_catalog(*make_authority(folder, "Other").issue("untrusted", NAME))


def mistype(world: World) -> None:
    world.password = "not the password"


def revoke(world: World) -> None:
    assert world.sql("REVOKE SELECT ON price FROM lab_reader")
    world.revoked = True


def slow_down(world: World) -> None:
    world.delay.write_text(str(0.8 * world.patience.timeout_seconds))


def ignore_policies(world: World) -> None:
    world.remove("NetworkPolicy", "out-grafana-db", MONITORING)


LADDER = ("restart_kube_proxy", "restart_kubelet", "recreate_node")
FAULTS: Mapping[str, Fault] = {
    "dns_down": Fault(
        stop_names, "dns_down", ALL, "no DNS pod is ready", "169.254.20.10: ", ("restart_dns",)
    ),
    "dns_blocked": Fault(
        block_names,
        "dns_blocked",
        {GRAFANA_DB, GRAFANA_CATALOG},
        "egress is closed by default-deny, out-grafana-db",
    ),
    "name_unknown": Fault(
        forget_name,
        "name_unknown",
        BOTH_CATALOG,
        f"does not know {NAME}",
        "no_such_name",
        ("restart_dns",),
    ),
    "dns_wrong": Fault(
        lead_name_astray, "dns_wrong", BOTH_DB, "the Service has 10.96.0.20", "", ("restart_dns",)
    ),
    "no_endpoints": Fault(
        lose_endpoints,
        "no_endpoints",
        BOTH_DB,
        "none of its 1 pods is ready",
        "containers not ready",
        ("restart_server",),
    ),
    "selector_wrong": Fault(
        select_nothing, "no_endpoints", BOTH_DB, "no pod carries app=database", "'app': 'db'"
    ),
    "service_missing": Fault(
        lambda world: world.remove("Service", CATALOG_NAME),
        "service_missing",
        BOTH_CATALOG,
        f"no Service {PLATFORM}/{CATALOG_NAME}",
        "Services in data-platform: db",
    ),
    "policy_missing": Fault(
        miss_policy,
        "policy_missing",
        {GRAFANA_DB},
        "egress is closed by default-deny, allow-dns, out-grafana-iceberg-rest-catalog: nothing",
    ),
    "ingress_missing": Fault(
        miss_ingress,
        "policy_missing",
        {GRAFANA_CATALOG},
        "ingress is closed by default-deny, in-iceberg-rest-catalog",
    ),
    "policy_wrong_port": Fault(
        allow_service_port,
        "policy_wrong_port",
        {TRINO_CATALOG},
        "out-trino-iceberg-rest-catalog allows TCP 8181, and the pods listen on TCP 8443",
    ),
    "forwarded_packets_dropped": Fault(
        lambda world: world.lab.drop("ip daddr 10.244.0.0/24"),
        "node_drops_forwarded",
        ALL,
        "TCP to pods' addresses fails from every namespace and no policy forbids it: node node-1",
        "from data-platform, monitoring",
        LADDER,
    ),
    "kube_proxy_rules_missing": Fault(
        forget_rules, "kube_proxy", ALL, "kube-proxy on node node-1 has no rule", "", LADDER
    ),
    "pod_cut_off": Fault(
        lambda world: world.lab.set_link("catalog", "down"),
        "pod_unreachable",
        BOTH_CATALOG,
        f"packets to pod {PLATFORM}/{CATALOG_NAME} get no answer, and no policy forbids them",
    ),
    "not_listening": Fault(
        stop_catalog, "not_listening", BOTH_CATALOG, f"port 8443 of pod {CATALOG_NAME}", "refused"
    ),
    "half_open": Fault(
        hang,
        "half_open",
        BOTH_CATALOG,
        "accepts connections and then says nothing (tls)",
        "",
        ("restart_server",),
    ),
    "tls_expired": Fault(expire, "tls_expired", BOTH_CATALOG, f"of {NAME}:8181 expired at 20"),
    "tls_name": Fault(
        rename,
        "tls_name",
        BOTH_CATALOG,
        f"is for polaris.data-platform.svc, and clients ask for {NAME}",
    ),
    "tls_untrusted": Fault(distrust, "tls_untrusted", BOTH_CATALOG, "signed by nobody we trust"),
    "bad_login": Fault(mistype, "bad_login", BOTH_DB, "does not accept lab_reader"),
    "no_right": Fault(
        revoke, "no_right", BOTH_DB, "lab_reader is logged in at db.data-platform.svc:5432 and may"
    ),
    "slow": Fault(slow_down, "slow", BOTH_CATALOG, "the server is slow (protocol)"),
    "policies_not_enforced": Fault(
        ignore_policies, "policy_not_enforced", {"cluster"}, "does not enforce NetworkPolicies"
    ),
}


TOGETHER = (
    ("dns_down",),
    ("dns_blocked",),
    ("name_unknown", "no_endpoints"),
    ("dns_wrong", "tls_expired"),
    ("selector_wrong", "tls_name"),
    ("service_missing", "policy_missing"),
    ("ingress_missing", "no_right"),
    ("policy_wrong_port",),
    ("forwarded_packets_dropped",),
    ("kube_proxy_rules_missing",),
    ("pod_cut_off",),
    ("not_listening", "bad_login"),
    ("half_open",),
    ("tls_untrusted",),
    ("slow", "policies_not_enforced"),
)
"""Two faults of different edges at once are two causes."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("NOT TESTED: network namespaces need root and iproute2, which are not here")
    if find_nft() is None:
        pytest.skip("NOT TESTED: nft is neither installed nor to be had from Debian's packages")
    with tempfile.TemporaryDirectory(prefix="carbon-lab-") as directory:
        Path(directory).chmod(0o755)
        with running(Path(directory)) as made:
            yield made


def healthy(world: World) -> None:
    found = world.examine()
    assert {one.edge: one.cause for one in found.diagnoses} == dict.fromkeys(ALL, "works")
    assert not found.notes


def test_a_healthy_cluster_has_no_fault(world: World) -> None:
    healthy(world)
    reached = {one.edge: one.sentence for one in world.examine(TRINO_DB).diagnoses}
    assert reached[TRINO_DB].startswith("every level is reached: dns, tcp")
    assert reached[TRINO_DB].endswith("protocol, auth, permission")


def test_every_fault_is_injected() -> None:
    assert sorted(name for names in TOGETHER for name in names) == sorted(FAULTS)


@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
def test_a_fault_is_named_and_nothing_else_is(world: World, names: tuple[str, ...]) -> None:
    faults = [FAULTS[name] for name in names]
    try:
        for fault in faults:
            fault.inject(world)
        found = world.examine()
    finally:
        world.heal()
    told: dict[str, Diagnosis] = {one.edge: one for one in (*found.diagnoses, *found.notes)}
    named = {edge: one.cause for edge, one in told.items() if one.cause != "works"}
    expected = {edge: fault.cause for fault in faults for edge in fault.edges}
    assert named == expected, found.document()
    for fault in faults:
        for edge in fault.edges:
            assert fault.said in told[edge].sentence
            assert fault.evidence in "; ".join(told[edge].evidence)
            assert told[edge].fix
            assert told[edge].remedies == fault.remedies


def test_one_edge_alone_still_tells_the_node_from_the_pod(world: World) -> None:
    """The other edges are looked at too once packets of the one that was asked for are lost."""
    try:
        world.lab.drop("ip daddr 10.244.0.0/24")
        found = world.examine("trino->db")
    finally:
        world.heal()
    assert [(one.edge, one.cause) for one in found.diagnoses] == [
        (TRINO_DB, "node_drops_forwarded")
    ]


def test_after_all_faults_nothing_is_named(world: World) -> None:
    healthy(world)


def test_no_password_is_in_what_the_doctor_says(world: World) -> None:
    try:
        mistype(world)
        told = str(world.examine("trino->db").document())
    finally:
        world.heal()
    assert "not the password" not in told
