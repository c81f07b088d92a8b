"""API objects of the lab's cluster, as an API server returns them.

What belongs here: making objects that a real API server accepts; ``test_doctor_cluster.py`` has one
accept them. What does not: the network that they describe.
"""

from typing import Any

Object = dict[str, Any]


def namespace(name: str) -> Object:
    labels = {"kubernetes.io/metadata.name": name}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def node(name: str, networks: str = "10.244.0.0/24") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"podCIDR": networks, "podCIDRs": [networks], "providerID": f"kind://k/{name}"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "172.18.0.2"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(
    space: str,
    name: str,
    address: str,
    *,
    ready: bool = True,
    port: int = 80,
    on: str = "node-1",
    labels: dict[str, str] | None = None,
) -> Object:
    status: Object = {"type": "Ready", "status": "True" if ready else "False"}
    if not ready:
        status |= {"reason": "ContainersNotReady", "message": "containers not ready: [main]"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": labels or {"app": name}},
        "spec": {
            "nodeName": on,
            "containers": [
                {
                    "name": "main",
                    "image": "registry.invalid/none:1",
                    "ports": [{"name": "main", "containerPort": port}],
                }
            ],
        },
        "status": {"phase": "Running", "podIP": address, "conditions": [status]},
    }


def service(
    space: str, name: str, address: str, port: int, target: int | str, app: str | None = None
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": space},
        "spec": {
            "clusterIP": address,
            "selector": {"app": app or name},
            "ports": [{"port": port, "targetPort": target, "protocol": "TCP"}],
        },
    }


def endpoints(space: str, name: str, port: int, *addresses: str, ready: bool = True) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-1",
            "namespace": space,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [one], "conditions": {"ready": ready}} for one in addresses],
        "ports": [{"name": "", "port": port, "protocol": "TCP"}],
    }


def policy(space: str, name: str, app: str | None, **spec: Any) -> Object:
    selector = {"matchLabels": {"app": app}} if app else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": space},
        "spec": {"podSelector": selector, **spec},
    }


def allow_in(space: str, app: str, port: int, *clients: tuple[str, str]) -> Object:
    """Ingress of a server from clients, each a namespace and an app."""
    peers = [_peer(*client) for client in clients]
    rule = {"from": peers, "ports": [{"protocol": "TCP", "port": port}]}
    return policy(space, f"in-{app}", app, policyTypes=["Ingress"], ingress=[rule])


def allow_out(space: str, app: str, to: tuple[str, str], port: int) -> Object:
    """Egress of a client to a server."""
    rule = {"to": [_peer(*to)], "ports": [{"protocol": "TCP", "port": port}]}
    return policy(space, f"out-{app}-{to[1]}", app, policyTypes=["Egress"], egress=[rule])


def deny_all(space: str) -> Object:
    return policy(space, "default-deny", None, policyTypes=["Ingress", "Egress"])


def allow_dns(space: str) -> Object:
    ports = [{"protocol": kind, "port": 53} for kind in ("UDP", "TCP")]
    peer = _peer("kube-system", "") | {"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    rule = {"to": [peer], "ports": ports}
    return policy(space, "allow-dns", None, policyTypes=["Egress"], egress=[rule])


def daemon(name: str, *, wanted: int = 1, ready: int = 1) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "registry.invalid/none:1"}]},
            },
        },
        "status": {
            "currentNumberScheduled": wanted,
            "desiredNumberScheduled": wanted,
            "numberMisscheduled": 0,
            "numberReady": ready,
        },
    }


def _peer(space: str, app: str) -> Object:
    labels = {"kubernetes.io/metadata.name": space}
    return {
        "namespaceSelector": {"matchLabels": labels},
        "podSelector": {"matchLabels": {"app": app}},
    }
