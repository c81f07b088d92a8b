"""Kafka's users may do what they need and no more: the rights of deploy/base/kafka/users.yaml.

A broker of its own has the rights in its authorizer, and asks who comes by SCRAM over TLS, as the
cluster's does.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from carbon_pipelines.embedded.downloads import ensure_program
from carbon_pipelines.embedded.endpoints import Endpoints, cache_directory
from carbon_pipelines.embedded.java import CONSOLE_LOGGING, small_java
from carbon_pipelines.embedded.kafka import KAFKA
from carbon_pipelines.embedded.ports import choose_port
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import CarbonPipelinesError, StreamError, StreamForbiddenError
from carbon_pipelines.stream.topics import delete_topics
from carbon_pipelines_tests.alerts.certificates import make_certificate
from carbon_pipelines_tests.conftest import SourceDatabase, silent
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration

USERS = Path(__file__).resolve().parents[2] / "deploy/base/kafka/users.yaml"
PASSWORD = "planted-password"
MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"
SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=ADMIN://127.0.0.1:{admin},CONTROLLER://127.0.0.1:{controller},TLS://127.0.0.1:{tls}
advertised.listeners=ADMIN://127.0.0.1:{admin},TLS://localhost:{tls}
listener.security.protocol.map=ADMIN:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SASL_SSL
inter.broker.listener.name=ADMIN
controller.listener.names=CONTROLLER
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.tls.scram-sha-512.sasl.jaas.config={module} required;
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=4194304
"""


@dataclass(frozen=True)
class Guarded:
    """A broker that asks who comes."""

    bootstrap: str
    certificate: Path


class GuardedPipeline(Pipeline):
    """A pipeline whose Kafka is the guarded one."""

    guarded: Guarded

    @property
    def endpoints(self) -> Endpoints:
        return replace(super().endpoints, stream_bootstrap=self.guarded.bootstrap)


@pytest.fixture(scope="module")
def guarded(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "tmp").mkdir()
    (directory / "log4j2.properties").write_text(CONSOLE_LOGGING)
    certificate, private = make_certificate(directory)
    keystore = directory / "keystore.pem"
    keystore.write_bytes(private.read_bytes() + certificate.read_bytes())
    ports: dict[str, int] = {}
    for name in ("admin", "controller", "tls"):
        ports[name] = choose_port(set(ports.values()))
    properties = directory / "server.properties"
    properties.write_text(
        SETTINGS.format(**ports, keystore=keystore, data=directory / "data", module=MODULE),
        encoding="utf-8",
    )
    java = small_java(256, directory, ensure_program(cache_directory(os.environ), KAFKA, silent))
    users = list(yaml.safe_load_all(USERS.read_text()))
    scram = [
        argument
        for user in users
        for argument in (
            "--add-scram",
            f"SCRAM-SHA-512=[name={user['metadata']['name']},password={PASSWORD}]",
        )
    ]
    storage = [*java, "kafka.tools.StorageTool", "format", "-t", "GuardedGuardedGuardedG"]
    subprocess.run(
        [*storage, "-c", str(properties), *scram], check=True, capture_output=True, timeout=60
    )
    with (directory / "log").open("wb") as log:
        broker = subprocess.Popen(
            [*java, "kafka.Kafka", str(properties)], stdout=log, stderr=log, cwd=directory
        )
    try:
        allow(f"127.0.0.1:{ports['admin']}", users, directory / "log")
        yield Guarded(f"localhost:{ports['tls']}", certificate)
    finally:
        broker.kill()
        broker.wait()


def allow(bootstrap: str, users: list[dict], log: Path) -> None:
    """Give the users the rights of their resources, as Strimzi's user operator does."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    bindings = [
        AclBinding(
            {
                "topic": ResourceType.TOPIC,
                "group": ResourceType.GROUP,
                "cluster": ResourceType.BROKER,
                "transactionalId": ResourceType.TRANSACTIONAL_ID,
            }[rule["resource"]["type"]],
            rule["resource"].get("name", "kafka-cluster"),
            {"literal": ResourcePatternType.LITERAL, "prefix": ResourcePatternType.PREFIXED}[
                rule["resource"].get("patternType", "literal")
            ],
            f"User:{user['metadata']['name']}",
            "*",
            {
                "Create": AclOperation.CREATE,
                "Delete": AclOperation.DELETE,
                "Describe": AclOperation.DESCRIBE,
                "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
                "Read": AclOperation.READ,
                "Write": AclOperation.WRITE,
            }[operation],
            AclPermissionType.ALLOW,
        )
        for user in users
        for rule in user["spec"]["authorization"]["acls"]
        for operation in rule["operations"]
    ]
    until = time.monotonic() + 90
    while True:
        try:
            for future in admin.create_acls(bindings).values():
                future.result(10)
        except (KafkaException, TimeoutError):
            assert time.monotonic() < until, log.read_text()[-2000:]
            time.sleep(0.5)
        else:
            return


@pytest.fixture
def pipeline(stack: Stack, source: SourceDatabase, guarded: Guarded) -> Iterator[GuardedPipeline]:
    made = GuardedPipeline.__new__(GuardedPipeline)
    made.guarded = guarded
    made.__init__(stack, source)
    made.execute("CREATE TABLE a (id bigint PRIMARY KEY, n bigint)")
    made.declare("a")
    yield made
    made.close()


def log_in(monkeypatch: pytest.MonkeyPatch, guarded: Guarded, user: str, password: str) -> None:
    monkeypatch.setenv("CARBON_STREAM_USER", user)
    monkeypatch.setenv("CARBON_STREAM_PASSWORD", password)
    monkeypatch.setenv("CARBON_STREAM_CA", str(guarded.certificate))


def test_capture_writes_and_the_reader_merges_and_may_not_write(
    pipeline: GuardedPipeline, guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(monkeypatch, guarded, "carbon-capture", PASSWORD)
    pipeline.execute("INSERT INTO a SELECT g, g FROM generate_series(1, 100) g")
    pipeline.drain()
    pipeline.sync("a")
    pipeline.execute("DELETE FROM a WHERE id < 10")
    log_in(monkeypatch, guarded, "carbon-reader", PASSWORD)
    with pytest.raises(StreamForbiddenError, match="TRANSACTIONAL_ID_AUTHORIZATION_FAILED"):
        pipeline.drain()
    log_in(monkeypatch, guarded, "carbon-capture", PASSWORD)
    pipeline.drain()
    log_in(monkeypatch, guarded, "carbon-reader", PASSWORD)
    merged = pipeline.sync("a")
    assert (merged.deleted_rows, pipeline.differences("a")) == (9, 0)


def test_topics_are_deleted_by_capture_alone(
    pipeline: GuardedPipeline, guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(monkeypatch, guarded, "carbon-capture", PASSWORD)
    pipeline.drain()
    log_in(monkeypatch, guarded, "carbon-reader", PASSWORD)
    with pytest.raises(StreamError):
        delete_topics(guarded.bootstrap, pipeline.name)
    log_in(monkeypatch, guarded, "carbon-capture", PASSWORD)
    delete_topics(guarded.bootstrap, pipeline.name)


def test_a_wrong_password_is_told_without_it(
    pipeline: GuardedPipeline, guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(monkeypatch, guarded, "carbon-capture", "wrong-and-secret")
    with pytest.raises(CarbonPipelinesError) as caught:
        pipeline.drain()
    assert "wrong-and-secret" not in str(caught.value)
