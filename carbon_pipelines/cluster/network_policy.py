"""NetworkPolicies from the service graph: deny everything, then one allow for each edge.

What belongs here: the objects, as values, and their text. What does not: what they mean
(``policy_semantics.py``), the graph (``graph.py``) and applying them.

In each namespace of the graph:

* ``default-deny`` isolates every pod in both directions;
* ``allow-dns`` lets every pod ask the cluster's DNS, without which no edge can be used;
* an edge has an egress policy where its client is and an ingress policy where its server is. Both
  are needed: either one alone allows nothing, because the other side is isolated too;
* an edge that leaves the cluster has the egress policy alone. Policies know no host names, so it is
  allowed by port to every address except pods, Services and link-local ones (a cloud's metadata
  server is at 169.254.169.254, and gives away the node's rights);
* an endpoint that is open to somebody who is no pod has an ingress policy from all addresses but
  pods'. The API server calls webhooks from such an address; no policy can say more about it.

The kubelet needs no policy: traffic between a pod and its own node is always allowed (Kubernetes
documentation, "Network Policies").
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from carbon_pipelines.cluster.graph import Edge, ServiceGraph
from carbon_pipelines.cluster.service import EndpointSpec, PodsSpec

Policy = Mapping[str, Any]
LINK_LOCAL = "169.254.0.0/16"
EVERYWHERE = "0.0.0.0/0"
DNS_NAMESPACE = "kube-system"
DNS_LABELS = {"k8s-app": "kube-dns"}
DNS_PORT = 53
_HEADER = (
    "# Generated from the service graph; every edit is lost. Change deploy/*/<service>/service.yaml"
    "\n# and run the tests with CARBON_UPDATE_SNAPSHOT=1.\n"
)


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """Addresses of the cluster's own network, as CIDRs."""

    pods: str = "10.244.0.0/16"
    services: str = "10.96.0.0/12"


def network_policies(graph: ServiceGraph, space: AddressSpace) -> Mapping[str, tuple[Policy, ...]]:
    """All policies by namespace, in name order."""
    found: defaultdict[str, dict[str, Policy]] = defaultdict(dict)
    for service in graph.services:
        if service.namespace is not None and service.pods:
            for policy in (_default_deny(service.namespace), _allow_dns(service.namespace)):
                found[service.namespace][policy["metadata"]["name"]] = policy
        for name, endpoint in service.endpoints.items():
            if endpoint.open_to:
                policy = _open(service.name, service.pods, name, endpoint, space)
                _add(found, service.namespace, policy)
    for edge in graph.edges:
        _add(found, edge.client.namespace, _egress(edge, space))
        if edge.server.kind != "external":
            _add(found, edge.server.namespace, _ingress(edge))
    return {
        namespace: tuple(policy for _, policy in sorted(policies.items()))
        for namespace, policies in sorted(found.items())
    }


def _add(
    found: dict[str, dict[str, Policy]], namespace: str | None, policy: Mapping[str, Any]
) -> None:
    assert namespace is not None  # only external services have none
    policy["metadata"]["namespace"] = namespace
    found[namespace][policy["metadata"]["name"]] = policy


def as_text(policies: tuple[Policy, ...]) -> str:
    """The file that ``deploy/policies/network`` holds for a namespace."""
    return _HEADER + "".join(f"---\n{yaml.safe_dump(dict(p), sort_keys=False)}" for p in policies)


def _policy(name: str, spec: Mapping[str, Any], **annotations: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "",
        "labels": {"app.kubernetes.io/part-of": "carbon-pipelines"},
    }
    if annotations:
        metadata["annotations"] = {
            f"carbon-pipelines/{key}": value for key, value in annotations.items()
        }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": dict(spec),
    }


def _default_deny(namespace: str) -> Policy:
    policy = _policy("default-deny", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    policy["metadata"]["namespace"] = namespace
    return policy


def _allow_dns(namespace: str) -> Policy:
    ports = [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")]
    peer = _peer(DNS_NAMESPACE, DNS_LABELS)
    spec = {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [{"to": [peer], "ports": ports}],
    }
    policy = _policy("allow-dns", spec)
    policy["metadata"]["namespace"] = namespace
    return policy


def _egress(edge: Edge, space: AddressSpace) -> Policy:
    name = f"{edge.client.name}-{edge.pods}-to-{edge.server.name}-{edge.endpoint_name}"
    selector = _selector(edge.client.pods[edge.pods].labels)
    if edge.server.kind == "external":
        to = _outside(space.pods, space.services, LINK_LOCAL)
        numbers = sorted({edge.endpoint.port, edge.endpoint.pod_port})
    else:
        assert edge.server.namespace is not None
        assert edge.endpoint.pods is not None
        to = _peer(edge.server.namespace, edge.server.pods[edge.endpoint.pods].labels)
        numbers = [edge.endpoint.pod_port]
    ports = [{"port": number, "protocol": edge.endpoint.transport} for number in numbers]
    spec = {
        "podSelector": selector,
        "policyTypes": ["Egress"],
        "egress": [{"to": [to], "ports": ports}],
    }
    return _policy(name, spec, edge=edge.name, why=edge.use.why)


def _ingress(edge: Edge) -> Policy:
    assert edge.client.namespace is not None
    assert edge.endpoint.pods is not None
    name = f"{edge.server.name}-{edge.endpoint_name}-from-{edge.client.name}-{edge.pods}"
    peer = _peer(edge.client.namespace, edge.client.pods[edge.pods].labels)
    port = {"port": edge.endpoint.pod_port, "protocol": edge.endpoint.transport}
    spec = {
        "podSelector": _selector(edge.server.pods[edge.endpoint.pods].labels),
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [peer], "ports": [port]}],
    }
    return _policy(name, spec, edge=edge.name, why=edge.use.why)


def _open(
    service: str,
    pods: Mapping[str, PodsSpec],
    name: str,
    endpoint: EndpointSpec,
    space: AddressSpace,
) -> Policy:
    assert endpoint.pods is not None
    callers = "-and-".join(endpoint.open_to)
    port = {"port": endpoint.pod_port, "protocol": endpoint.transport}
    spec = {
        "podSelector": _selector(pods[endpoint.pods].labels),
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [_outside(space.pods)], "ports": [port]}],
    }
    return _policy(f"{service}-{name}-from-{callers}", spec)


def _selector(labels: Mapping[str, str]) -> dict[str, Any]:
    return {"matchLabels": dict(sorted(labels.items()))}


def _peer(namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Pods with these labels in that namespace; the API server labels namespaces by their name."""
    names = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return {"namespaceSelector": names, "podSelector": _selector(labels)}


def _outside(*inside: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": EVERYWHERE, "except": list(inside)}}
