"""The service graph holds to what its files say, and names every mistake in them."""

from pathlib import Path

import pytest

from carbon_pipelines.cluster.graph import service_graph
from carbon_pipelines.cluster.load import load_graph
from carbon_pipelines.cluster.service import ServiceSpec
from carbon_pipelines.errors import DeclarationError, ServiceGraphError, UnknownServiceError

KAFKA = """\
title: Apache Kafka
about: The stream.
kind: manifests
namespace: data-platform
owner: team:platform
needs: [strimzi]
pods:
  broker:
    labels: {strimzi.io/name: kafka-kafka}
endpoints:
  broker: {pods: broker, service: kafka-kafka-bootstrap, port: 9093, protocol: kafka, tls: true}
uses:
- {endpoint: kafka/broker, pods: [broker], why: brokers replicate}
"""
STRIMZI = """\
title: Strimzi
about: Keeps Kafka.
kind: operator
namespace: strimzi
owner: team:platform
pods:
  operator:
    labels: {name: strimzi-cluster-operator}
uses:
- {endpoint: kafka/broker, pods: [operator], why: asks brokers for their state}
- {endpoint: edge/tunnel, pods: [operator], why: to have an edge that leaves the cluster}
"""
EDGE = """\
title: Edge
about: Outside.
kind: external
owner: team:platform
endpoints:
  tunnel: {hosts: [region1.example.org], port: 7844, protocol: udp}
"""


def written(directory: Path, **services: str) -> Path:
    for name, text in services.items():
        folder = directory / "base" / name
        folder.mkdir(parents=True)
        (folder / "service.yaml").write_text(text)
    return directory


def test_edges_are_the_uses_of_every_kind_of_pods(tmp_path: Path) -> None:
    graph = load_graph(written(tmp_path, kafka=KAFKA, strimzi=STRIMZI, edge=EDGE))
    assert [edge.name for edge in graph.edges] == [
        "kafka.broker->kafka/broker",
        "strimzi.operator->kafka/broker",
        "strimzi.operator->edge/tunnel",
    ]
    assert graph.edges[2].endpoint.transport == "UDP"


def test_an_operator_comes_before_what_it_keeps_though_it_uses_it(tmp_path: Path) -> None:
    graph = load_graph(written(tmp_path, kafka=KAFKA, strimzi=STRIMZI, edge=EDGE))
    assert graph.waves() == (("edge", "strimzi"), ("kafka",))


def test_every_mistake_of_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    wrong = KAFKA.replace("port: 9093", "port: 99999").replace("owner:", "ownr:")
    with pytest.raises(DeclarationError) as caught:
        load_graph(written(tmp_path, kafka=wrong, strimzi=STRIMZI, edge=EDGE))
    assert [(line, reason.split(";")[0]) for _, line, reason in caught.value.problems] == [
        (1, '"owner" is missing'),
        (5, '"ownr" is not a field'),
        (11, 'endpoints.broker.port: must be a port, like 8181, not "99999"'),
    ]


def test_who_calls_from_outside_is_said_only_of_pods_of_ours(tmp_path: Path) -> None:
    webhook = KAFKA.replace("tls: true}", "tls: true, open_to: [api-server]}")
    graph = load_graph(written(tmp_path / "right", kafka=webhook, strimzi=STRIMZI, edge=EDGE))
    assert graph.service("kafka").endpoints["broker"].open_to == ("api-server",)
    wrong = EDGE.replace("protocol: udp}", "protocol: udp, open_to: [internet]}")
    with pytest.raises(DeclarationError, match=r"open_to: is about pods of ours"):
        load_graph(written(tmp_path / "wrong", kafka=KAFKA, strimzi=STRIMZI, edge=wrong))


def test_names_that_lead_nowhere_are_named_together(tmp_path: Path) -> None:
    lost = KAFKA.replace("[strimzi]", "[stimzi]")
    away = STRIMZI.replace("kafka/broker", "kafka/brokers").replace("edge/tunnel", "edg/tunnel")
    with pytest.raises(ServiceGraphError) as caught:
        load_graph(written(tmp_path, kafka=lost, strimzi=away, edge=EDGE))
    assert caught.value.mistakes == (
        'kafka needs "stimzi", which no service is called',
        'strimzi uses "kafka/brokers"; the endpoints of kafka are: broker',
        'strimzi uses "edg/tunnel", but no service is called "edg"',
    )


def service(name: str, *needs: str) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        title=name,
        about=name,
        kind="manifests",
        namespace="n",
        owner="team:platform",
        needs=needs,
    )


def test_a_circle_of_needs_is_refused_and_drawn() -> None:
    with pytest.raises(ServiceGraphError, match=r"a needs b needs a|b needs a needs b"):
        service_graph([service("a", "b"), service("b", "a")])


def test_an_unknown_service_is_answered_with_what_is_close() -> None:
    graph = service_graph([service("trino"), service("kafka")])
    with pytest.raises(UnknownServiceError, match=r'called "trno". Close to it: trino'):
        graph.service("trno")


def test_pods_that_are_not_declared_are_refused(tmp_path: Path) -> None:
    wrong = KAFKA.replace("pods: [broker]", "pods: [brokers]")
    with pytest.raises(
        DeclarationError, match=r'service.yaml:13: uses\[0\].pods: .*called "brokers"'
    ):
        load_graph(written(tmp_path, kafka=wrong, strimzi=STRIMZI, edge=EDGE))


def test_no_declaration_at_all_is_an_error_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"holds no base/<service>/service.yaml"):
        load_graph(tmp_path)
