"""The committed NetworkPolicies are the service graph's, and allow exactly its edges."""

import os
from itertools import product
from pathlib import Path

import pytest
import yaml

from carbon_pipelines.cluster.graph import ServiceGraph
from carbon_pipelines.cluster.load import load_graph
from carbon_pipelines.cluster.network_policy import AddressSpace, as_text, network_policies
from carbon_pipelines.cluster.policy_semantics import Outside, Pod, Policies, Transport

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NETWORK = DEPLOY / "policies" / "network"
INTERNET, METADATA, NODE = (
    Outside("93.184.216.34"),
    Outside("169.254.169.254"),
    Outside("172.18.0.2"),
)
DNS = Pod("kube-system", "dns", {"k8s-app": "kube-dns"}, "10.244.200.1")


@pytest.fixture(scope="module")
def graph() -> ServiceGraph:
    return load_graph(DEPLOY)


def committed() -> dict[str, str]:
    return {path.name: path.read_text() for path in NETWORK.glob("*.yaml")}


def test_the_committed_policies_are_those_of_the_graph(graph: ServiceGraph) -> None:
    wanted = {
        f"{namespace}.yaml": as_text(policies)
        for namespace, policies in network_policies(graph, AddressSpace()).items()
    }
    wanted["kustomization.yaml"] = yaml.safe_dump(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": sorted(wanted),
        },
        sort_keys=False,
    )
    if os.environ.get("CARBON_UPDATE_SNAPSHOT") == "1":
        for name in committed().keys() - wanted.keys():
            (NETWORK / name).unlink()
        for name, text in wanted.items():
            (NETWORK / name).write_text(text)
    assert committed() == wanted, "run this test again with CARBON_UPDATE_SNAPSHOT=1"


class Cluster:
    """The committed policies, and one pod for each kind that the graph declares."""

    def __init__(self, graph: ServiceGraph) -> None:
        self.graph = graph
        objects = [
            policy
            for name, text in sorted(committed().items())
            if name != "kustomization.yaml"
            for policy in yaml.load_all(text, Loader=LOADER)
        ]
        self.pods = {
            (service.name, kind): Pod(
                service.namespace or "",
                f"{service.name}-{kind}",
                {**spec.labels, "pod-template-hash": "abc"},
                f"10.244.{index}.{number}",
            )
            for index, service in enumerate(graph.services)
            for number, (kind, spec) in enumerate(service.pods.items(), 1)
        }
        names = {pod.namespace for pod in [*self.pods.values(), DNS]} | {"default"}
        labels = {name: {"kubernetes.io/metadata.name": name} for name in names}
        self.policies = Policies(objects, labels)
        self.known = self.ports()
        self.strangers = [
            Pod(name, f"stranger-in-{name}", {"app": "stranger"}, f"10.244.201.{index}")
            for index, name in enumerate(sorted(names - {"kube-system"}), 1)
        ]

    def allows(
        self, sender: Pod | Outside, receiver: Pod | Outside, port: int, by: Transport
    ) -> bool:
        return self.policies.verdict(sender, receiver, port, by).allowed

    def passing(
        self, sender: Pod | Outside, receiver: Pod | Outside
    ) -> frozenset[tuple[int, Transport]]:
        return self.policies.passing(sender, receiver, self.known)

    def ports(self) -> set[tuple[int, Transport]]:
        """Every port that the graph knows, and one that nobody does."""
        known: set[tuple[int, Transport]] = {
            (number, endpoint.transport)
            for service in self.graph.services
            for endpoint in service.endpoints.values()
            for number in (endpoint.port, endpoint.pod_port)
        }
        return known | {(31337, "TCP"), (53, "TCP"), (53, "UDP")}


@pytest.fixture(scope="module")
def cluster(graph: ServiceGraph) -> Cluster:
    return Cluster(graph)


def test_between_pods_exactly_the_edges_of_the_graph_are_allowed(cluster: Cluster) -> None:
    edges = {
        (
            cluster.pods[edge.client.name, edge.pods].name,
            cluster.pods[edge.server.name, edge.endpoint.pods].name,
            edge.endpoint.pod_port,
            edge.endpoint.transport,
        )
        for edge in cluster.graph.edges
        if edge.endpoint.pods is not None
    }
    # Pods whose labels hold those of others are selected as the others are.
    alike = {
        pod.name: {
            other.name
            for other in cluster.pods.values()
            if other.namespace == pod.namespace and other.labels.items() <= pod.labels.items()
        }
        for pod in cluster.pods.values()
    }
    allowed = {
        (sender.name, receiver.name, port, transport)
        for sender, receiver in product(cluster.pods.values(), repeat=2)
        for port, transport in cluster.passing(replica(sender), receiver)
    }
    by_label = {
        (sender, receiver, port, transport)
        for client, server, port, transport in edges
        for sender, as_client in alike.items()
        for receiver, as_server in alike.items()
        if client in as_client and server in as_server
    }
    assert sorted(allowed) == sorted(by_label)
    assert edges <= allowed
    shared = {name: others - {name} for name, others in alike.items() if others - {name}}
    assert {name for name in shared if not name.startswith("postgres-")} == set(), (
        "these pods carry all labels by which others are selected"
    )


def replica(pod: Pod) -> Pod:
    """Another pod of the same kind: a pod always reaches itself."""
    return Pod(pod.namespace, pod.name, pod.labels, pod.address.replace("10.244", "10.245"))


def test_pods_that_nobody_declared_reach_nothing_and_are_reached_by_nobody(
    cluster: Cluster,
) -> None:
    reached = {
        (sender.name, receiver.name, port)
        for stranger in cluster.strangers
        for pod in cluster.pods.values()
        for sender, receiver in ((stranger, pod), (pod, stranger))
        for port, _ in cluster.passing(sender, receiver)
    }
    assert reached == set()


def test_every_pod_may_ask_dns_and_nothing_else_there(cluster: Cluster) -> None:
    for pod in cluster.pods.values():
        answered = cluster.passing(pod, DNS)
        assert answered == {(53, "TCP"), (53, "UDP")}, pod.name


def test_only_those_leave_the_cluster_that_the_graph_lets_out(cluster: Cluster) -> None:
    outward = {
        (edge.client.name, edge.pods, number, edge.endpoint.transport)
        for edge in cluster.graph.edges
        if edge.server.kind == "external"
        for number in (edge.endpoint.port, edge.endpoint.pod_port)
    }
    left = {
        (service, kind, *at)
        for (service, kind), pod in cluster.pods.items()
        for at in cluster.passing(pod, INTERNET)
    }
    assert left >= outward
    assert {(service, number, by) for service, _, number, by in left} == {
        (service, number, by) for service, _, number, by in outward
    }


def test_no_pod_reaches_the_metadata_server_of_a_cloud(cluster: Cluster) -> None:
    reached = [pod.name for pod in cluster.pods.values() if cluster.passing(pod, METADATA)]
    assert reached == []


def test_from_outside_only_open_endpoints_are_reached(cluster: Cluster) -> None:
    wanted = {
        (service.name, endpoint.pods, endpoint.pod_port)
        for service in cluster.graph.services
        for endpoint in service.endpoints.values()
        if endpoint.open_to
    }
    reached = {
        (service, kind, port)
        for (service, kind), pod in cluster.pods.items()
        for port, _ in cluster.passing(NODE, pod)
    }
    assert reached == wanted


def test_a_probe_of_the_own_node_needs_no_policy(cluster: Cluster) -> None:
    pod = cluster.pods["vault", "server"]
    there = Pod(pod.namespace, pod.name, pod.labels, pod.address, node="node-1")
    assert cluster.allows(Outside("172.18.0.2", node="node-1"), there, 8200, "TCP")
    assert not cluster.allows(Outside("172.18.0.3", node="node-2"), there, 8200, "TCP")


def test_every_namespace_with_pods_denies_what_is_not_allowed(cluster: Cluster) -> None:
    for pod in cluster.pods.values():
        for direction in ("Ingress", "Egress"):
            names = [p["metadata"]["name"] for p in cluster.policies.selecting(pod, direction)]
            assert "default-deny" in names, pod.name
