"""How many of everything the platform has, by namespace, beside its owner's own figures.

What belongs here: counting rendered objects, and the table. What does not: rendering them.

An operator makes pods, Services and volumes of its custom resources, which no rendering shows; for
those that we use, what they make is counted here as the operators' documentation says.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

Object = Mapping[str, Any]
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    unit + "i": 1024**power for power, unit in enumerate("KMGT", 1)
}
_ROLES = frozenset({"Role", "ClusterRole"})
_SECRETS = frozenset({"Secret", "ExternalSecret", "Certificate", "KafkaUser"})
"""Objects that are a Secret, or of which an operator makes one."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What there is in a namespace; ``-`` is the whole cluster."""

    pods: int = 0
    services: int = 0
    stateful_sets: int = 0
    deployments: int = 0
    volumes: int = 0
    volume_bytes: int = 0
    roles: int = 0
    network_policies: int = 0
    secrets: int = 0
    dashboards: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A figure of the platform's owner: what it counts, and why ours differs."""

    what: str
    theirs: str
    ours: Callable[[Mapping[str, Counts]], int]
    why: str


def count_objects(objects: Iterable[Object]) -> Mapping[str, Counts]:
    """Counts by namespace of rendered objects, and of what operators make of them."""
    found: dict[str, Counts] = {}
    for body in objects:
        namespace = body["metadata"].get("namespace", "-")
        found[namespace] = found.get(namespace, Counts()) + _of(body)
    return dict(sorted(found.items()))


def count_recorded(recorded: Mapping[str, Any]) -> Mapping[str, Counts]:
    """Counts of a chart, from the ``rendered.yaml`` beside it."""
    return {
        namespace: Counts(
            pods=counted["pods"],
            volumes=counted["volumes"],
            volume_bytes=counted["bytes"],
            services=counted["objects"].get("Service", 0),
            stateful_sets=counted["objects"].get("StatefulSet", 0),
            deployments=counted["objects"].get("Deployment", 0),
            roles=sum(counted["objects"].get(kind, 0) for kind in _ROLES),
            secrets=sum(counted["objects"].get(kind, 0) for kind in _SECRETS),
        )
        for namespace, counted in recorded["namespaces"].items()
    }


def sum_counts(all_counts: Iterable[Mapping[str, Counts]]) -> Mapping[str, Counts]:
    """Counts of several sources together, in name order."""
    found: dict[str, Counts] = {}
    for counts in all_counts:
        for namespace, counted in counts.items():
            found[namespace] = found.get(namespace, Counts()) + counted
    return dict(sorted(found.items()))


def _of(body: Object) -> Counts:
    kind, spec = body["kind"], body.get("spec") or {}
    labels = body["metadata"].get("labels") or {}
    made = _MADE.get(kind, lambda _: Counts())(spec)
    return made + Counts(
        services=int(kind == "Service"),
        stateful_sets=int(kind == "StatefulSet"),
        deployments=int(kind == "Deployment"),
        roles=int(kind in _ROLES),
        network_policies=int(kind == "NetworkPolicy"),
        secrets=int(kind in _SECRETS),
        dashboards=int(kind == "ConfigMap" and labels.get("grafana_dashboard") == "1"),
    )


def _replicas(spec: Object) -> Counts:
    return Counts(pods=spec.get("replicas", 1))


def _stateful_set(spec: Object) -> Counts:
    replicas = spec.get("replicas", 1)
    sizes = [
        claim["spec"]["resources"]["requests"]["storage"]
        for claim in spec.get("volumeClaimTemplates") or ()
    ]
    return Counts(pods=replicas) + _volumes(replicas, sizes)


def _volumes(pods: int, sizes: Sequence[str]) -> Counts:
    each = sum(quantity(size) for size in sizes)
    return Counts(volumes=pods * len(sizes), volume_bytes=pods * each)


def _kafka(_: Object) -> Counts:
    # Services bootstrap and brokers; the entity operator; Secrets of two authorities, each with its
    # key and certificate, and certificates of the pools and both operators.
    return Counts(pods=1, deployments=1, services=2, secrets=8)


def _pool(spec: Object) -> Counts:
    storage = spec.get("storage") or {}
    volumes = storage.get("volumes") or ([storage] if "size" in storage else [])
    sizes = [volume["size"] for volume in volumes if "size" in volume]
    return Counts(pods=spec["replicas"]) + _volumes(spec["replicas"], sizes)


def _connect(spec: Object) -> Counts:
    return Counts(pods=spec["replicas"], services=1)


def _postgres(spec: Object) -> Counts:
    sizes = [spec[part]["size"] for part in ("storage", "walStorage") if part in spec]
    # Services rw, ro and r; Secrets of the authority, the server and the standbys.
    return Counts(pods=spec["instances"], services=3, secrets=3) + _volumes(
        spec["instances"], sizes
    )


def _doris(spec: Object) -> Counts:
    total = Counts()
    for part in ("feSpec", "beSpec"):
        node = spec.get(part) or {}
        sizes = [
            volume["persistentVolumeClaimSpec"]["resources"]["requests"]["storage"]
            for volume in node.get("persistentVolumes") or ()
            if "persistentVolumeClaimSpec" in volume
        ]
        replicas = node.get("replicas", 0)
        total += Counts(pods=replicas, services=2, stateful_sets=1) + _volumes(replicas, sizes)
    return total


def _claim(spec: Object) -> Counts:
    return _volumes(1, [spec["resources"]["requests"]["storage"]])


_MADE: Mapping[str, Callable[[Object], Counts]] = {
    "Deployment": _replicas,
    "StatefulSet": _stateful_set,
    "PersistentVolumeClaim": _claim,
    "Kafka": _kafka,
    "KafkaNodePool": _pool,
    "KafkaConnect": _connect,
    "Cluster": _postgres,
    "DorisCluster": _doris,
}


def quantity(text: str) -> int:
    """A quantity of bytes, as Kubernetes writes them."""
    number = str(text).rstrip("KMGTki")
    return int(float(number) * _UNITS[str(text)[len(number) :]])


def namespaces_table(counts: Mapping[str, Counts]) -> str:
    """One row for each namespace, in Markdown."""
    head = [
        "| namespace | pods | Services | StatefulSets | Deployments | volumes | GiB | roles | "
        "policies | secrets | dashboards |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [_row(name, counted) for name, counted in counts.items()]
    total = _row("**all**", sum(counts.values(), Counts()))
    return "\n".join([*head, *rows, total]) + "\n"


def _row(name: str, counted: Counts) -> str:
    cells = [
        counted.pods,
        counted.services,
        counted.stateful_sets,
        counted.deployments,
        counted.volumes,
        round(counted.volume_bytes / 2**30),
        counted.roles,
        counted.network_policies,
        counted.secrets,
        counted.dashboards,
    ]
    return f"| {name} | {' | '.join(str(cell) for cell in cells)} |"


def wanted_table(counts: Mapping[str, Counts], wanted: Iterable[Wanted]) -> str:
    """Each figure of the platform's owner beside ours, with the reason for the difference."""
    rows = [f"| {w.what} | {w.theirs} | {w.ours(counts)} | {w.why} |" for w in wanted]
    return "\n".join(["| what | theirs | ours | why |", "|---|---|---|---|", *rows]) + "\n"


def inside(counts: Mapping[str, Counts]) -> Iterator[Counts]:
    """Counts of namespaces, without what belongs to the whole cluster."""
    return (counted for name, counted in counts.items() if name != "-")
