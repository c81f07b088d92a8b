"""Kafka Connect with Debezium's PostgreSQL connector as a local process, on request.

What belongs here: getting it, its settings, its Java. What does not: connectors and what they are
configured with (``stream/debezium_config.py``); whoever wants one registers it over REST.
"""

import json
import signal
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from carbon_pipelines.embedded.downloads import JavaProgram, ensure_program
from carbon_pipelines.embedded.endpoints import EmbeddedAddresses
from carbon_pipelines.embedded.java import CONSOLE_LOGGING, small_java
from carbon_pipelines.embedded.names import EMBEDDED_PASSWORD_VARIABLE, LOOPBACK
from carbon_pipelines.embedded.process import Launch
from carbon_pipelines.embedded.state import PartName, Report, write_atomically

# Not Debezium 3.7.0: it takes a column's type from what the database has under that name when it
# comes to read a change (its change dbz#2232), so a value is read as one of another type, or not at
# all, once two columns have swapped names.
# The worker is the newest patch of the Kafka that this Debezium is built for; it talks to newer
# brokers too.
CONNECT = JavaProgram(
    name="kafka-connect-4.3.1", with_dependencies="org.apache.kafka:connect-runtime:4.3.1"
)
LOGGING = JavaProgram(
    name="log4j-slf4j-2.25.5",
    with_dependencies=None,
    alone=(
        "org.apache.logging.log4j:log4j-api:2.25.5",
        "org.apache.logging.log4j:log4j-core:2.25.5",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",
    ),
)
DEBEZIUM = JavaProgram(
    name="debezium-postgres-3.6.1",
    with_dependencies="io.debezium:debezium-connector-postgres:3.6.1.Final",
)

_SETTINGS = """\
# Written by `carbon up --with connect` on every start.
bootstrap.servers={bootstrap}
group.id=carbon-connect
listeners=http://{host}:{port}
rest.advertised.host.name={host}
plugin.discovery=service_load
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
key.converter.schemas.enable=false
value.converter.schemas.enable=false
config.storage.topic=_connect_configs
config.storage.replication.factor=1
offset.storage.topic=_connect_offsets
offset.storage.partitions=1
offset.storage.replication.factor=1
status.storage.topic=_connect_status
status.storage.partitions=1
status.storage.replication.factor=1
# The slot is acknowledged only after a flush, and whoever waits for a change waits for that.
offset.flush.interval.ms=500
# One worker: nobody else may come, so nobody is waited for.
scheduled.rebalance.max.delay.ms=0
config.providers=env
config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider
config.providers.env.param.allowlist.pattern=CARBON_[A-Z0-9_]+
"""


@dataclass(frozen=True, slots=True)
class Connect:
    """The part `connect`; the password it hands to connectors shows in no repr, argument or log."""

    directory: Path
    log: Path
    cache: Path
    port: int
    addresses: EmbeddedAddresses

    name: PartName = field(default="connect", init=False)
    program: str = field(default="java", init=False)
    gently: signal.Signals = field(default=signal.SIGTERM, init=False)
    start_seconds: float = field(default=120.0, init=False)

    @property
    def ports(self) -> Mapping[str, int]:
        """One."""
        return {"rest": self.port}

    def prepare(self, report: Report) -> None:
        """Download Connect and Debezium once, and write the settings.

        Raises:
            DownloadError: one is neither in the cache nor to be had.
        """
        _class_path(self.cache, report)
        (self.directory / "tmp").mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = _SETTINGS.format(
            bootstrap=self.addresses.bootstrap, host=LOOPBACK, port=self.port
        )
        write_atomically(self.directory / "worker.properties", settings, mode=0o600)
        write_atomically(self.directory / "log4j2.properties", CONSOLE_LOGGING, mode=0o600)

    def launch(self) -> Launch:
        """Java with little memory; the password is in its environment, for the provider `env`."""
        return Launch(
            (
                *small_java(384, self.directory, _class_path(self.cache, _silent)),
                "org.apache.kafka.connect.cli.ConnectDistributed",
                str(self.directory / "worker.properties"),
            ),
            directory=self.directory,
            log=self.log,
            environment={EMBEDDED_PASSWORD_VARIABLE: self.addresses.postgres_password},
        )

    def answers(self) -> bool:
        """Whether the worker lists its connectors, which it does once it has joined its group."""
        address = f"http://{LOOPBACK}:{self.port}/connectors"
        try:
            with urllib.request.urlopen(address, timeout=2) as response:
                return isinstance(json.load(response), list)
        except (OSError, HTTPException, ValueError):
            return False

    def finish(self) -> None:
        """Nothing: connectors are registered by those who want them."""

    def sweep(self) -> None:
        """Nothing: its temporary files are in its directory."""


def _class_path(cache: Path, report: Report) -> tuple[Path, ...]:
    """Connect's jars, then those of Debezium that Connect has not in any version of its own."""
    files: dict[str, Path] = {}
    for program in (CONNECT, LOGGING, DEBEZIUM):
        for file in ensure_program(cache, program, report):
            files.setdefault(file.name, file)
    return tuple(files.values())


def _silent(_line: str) -> None:
    """The downloads were told when they were made."""
