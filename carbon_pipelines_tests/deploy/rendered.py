"""The data services' part of an overlay as kustomize renders it, and questions about it.

What belongs here: rendering, pods and references in objects, and what operators make of their
resources. What does not: what has to hold (``test_overlays.py``).
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from carbon_pipelines_tests.deploy.kubectl import ensure_kubectl

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
OVERLAYS = ("local", "staging", "production")
SERVICE_LABEL = "carbon-pipelines/service"
WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"})

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Made:
    """What somebody else makes: a Service with its ports, Secrets, labels of pods, accounts."""

    services: dict[str, frozenset[int]]
    secrets: frozenset[str]
    pods: tuple[dict[str, str], ...]
    accounts: frozenset[str] = frozenset()


@cache
def render(directory: Path) -> tuple[Object, ...]:
    """Every object of a kustomization."""
    command = [str(ensure_kubectl()), "kustomize", str(directory)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return tuple(found for found in yaml.load_all(ended.stdout, Loader=LOADER) if found)


def data_platform(overlay: str) -> tuple[Object, ...]:
    """Every object of the data services in an overlay."""
    return render(DEPLOY / "overlays" / overlay / "data-platform")


def name_of(found: Object) -> str:
    """``Kind/name``."""
    return f"{found['kind']}/{found['metadata']['name']}"


def of_kind(objects: tuple[Object, ...], *kinds: str) -> list[Object]:
    """Those of some kinds."""
    return [found for found in objects if found["kind"] in kinds]


def template(found: Object) -> Object:
    """The pod template of a workload."""
    spec = found["spec"]
    if found["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec["template"]


def containers(found: Object) -> list[Object]:
    """All containers of a workload, those that run first included."""
    spec = template(found)["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


def walk(value: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value inside, with the names that lead to it."""
    yield path, value
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from walk(inside, f"{path}.{key}")
    elif isinstance(value, list):
        for inside in value:
            yield from walk(inside, f"{path}[]")


def made_by_operators(objects: tuple[Object, ...]) -> Made:
    """What Strimzi, CloudNativePG, the Doris operator, External Secrets and cert-manager make.

    Sources: the operators' own names of Services, Secrets and labels, in the versions of
    ``deploy/versions.yaml``; the iceberg catalog's set-up Job writes the Secrets of its users.
    """
    services: dict[str, frozenset[int]] = {}
    secrets: set[str] = set()
    pods: list[dict[str, str]] = []
    accounts: set[str] = set()
    for found in objects:
        name, spec = found["metadata"]["name"], found.get("spec", {})
        match found["kind"]:
            case "Kafka":
                listeners = {listener["port"] for listener in spec["kafka"]["listeners"]}
                services[f"{name}-kafka-bootstrap"] = frozenset({9091, *listeners})
                services[f"{name}-kafka-brokers"] = frozenset({9090, 9091, 8443, *listeners})
                secrets.add(f"{name}-cluster-ca-cert")
                accounts |= {f"{name}-kafka", f"{name}-entity-operator"}
                pods += [
                    {"strimzi.io/cluster": name, "strimzi.io/name": f"{name}-{part}"}
                    for part in ("kafka", "entity-operator")
                ]
            case "KafkaConnect":
                services[f"{name}-connect-api"] = frozenset({8083})
                accounts.add(f"{name}-connect")
                pods.append({"strimzi.io/cluster": name, "strimzi.io/name": f"{name}-connect"})
            case "KafkaUser":
                secrets.add(name)
            case "Cluster":
                for role in ("rw", "ro", "r"):
                    services[f"{name}-{role}"] = frozenset({5432})
                secrets |= {f"{name}-ca", f"{name}-replication"}
                accounts.add(name)
                pods.append({"cnpg.io/cluster": name, "cnpg.io/podRole": "instance"})
            case "DorisCluster":
                for part, ports in (
                    ("fe", (8030, 9020, 9030, 9010)),
                    ("be", (9060, 8040, 9050, 8060)),
                ):
                    services[f"{name}-{part}-service"] = frozenset(ports)
                    services[f"{name}-{part}-internal"] = frozenset(ports)
                    pods.append(
                        {
                            "app.doris.ownerreference/name": f"{name}-{part}",
                            "app.kubernetes.io/component": part,
                        }
                    )
            case "ExternalSecret":
                secrets.add(spec["target"]["name"])
            case "Certificate":
                secrets.add(spec["secretName"])
            case "Job" if name.startswith("iceberg-rest-catalog-setup"):
                secrets |= {f"iceberg-rest-catalog-{user}" for user in ("carbon", "trino", "doris")}
            case "ConfigMap" if name == "dagster-instance":
                pods.append(
                    {"app.kubernetes.io/name": "dagster", "app.kubernetes.io/component": "run"}
                )
            case _:
                pass
    return Made(services, frozenset(secrets), tuple(pods), frozenset(accounts))
