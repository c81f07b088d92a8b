"""Objects are counted with what operators make of them."""

from typing import Any

import pytest

from carbon_pipelines.cluster.figures import (
    Counts,
    Wanted,
    count_objects,
    count_recorded,
    namespaces_table,
    quantity,
    sum_counts,
    wanted_table,
)


def body(kind: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x", "namespace": "n", **metadata}, "spec": spec}


def claims(*sizes: str) -> list[dict[str, Any]]:
    return [{"spec": {"resources": {"requests": {"storage": size}}}} for size in sizes]


def test_each_replica_has_its_own_volumes() -> None:
    found = count_objects(
        [body("StatefulSet", {"replicas": 3, "volumeClaimTemplates": claims("1Gi", "2Gi")})]
    )
    assert found == {"n": Counts(pods=3, stateful_sets=1, volumes=6, volume_bytes=9 * 2**30)}


def test_what_operators_make_of_their_resources_is_counted() -> None:
    found = count_objects(
        [
            body("Cluster", {"instances": 3, "storage": {"size": "10Gi"}}),
            body("KafkaNodePool", {"replicas": 3, "storage": {"volumes": [{"size": "1Gi"}]}}),
            body("KafkaUser", {}),
        ]
    )
    assert found == {"n": Counts(pods=6, services=3, volumes=6, volume_bytes=33 * 2**30, secrets=4)}


def test_objects_without_a_namespace_are_the_clusters_and_charts_are_added() -> None:
    role = {"kind": "ClusterRole", "metadata": {"name": "x"}}
    dashboard = body("ConfigMap", {}, labels={"grafana_dashboard": "1"})
    chart = {"pods": 2, "volumes": 0, "bytes": 0, "objects": {"Deployment": 1, "Role": 2}}
    found = sum_counts(
        [count_objects([role, dashboard]), count_recorded({"namespaces": {"n": chart}})]
    )
    assert found == {
        "-": Counts(roles=1),
        "n": Counts(pods=2, deployments=1, roles=2, dashboards=1),
    }
    assert namespaces_table(found).splitlines()[-1] == (
        "| **all** | 2 | 0 | 0 | 1 | 0 | 0 | 3 | 0 | 0 | 1 |"
    )
    theirs = Wanted("pods", "66", lambda counts: counts["n"].pods, "fewer")
    assert wanted_table(found, [theirs]).splitlines()[-1] == "| pods | 66 | 2 | fewer |"


@pytest.mark.parametrize(
    ("text", "size"), [("10Gi", 10 * 2**30), ("1.5Ti", 3 * 2**39), ("500M", 5 * 10**8), ("7", 7)]
)
def test_quantities_are_read_as_kubernetes_writes_them(text: str, size: int) -> None:
    assert quantity(text) == size
