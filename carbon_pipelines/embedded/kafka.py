"""Apache Kafka in KRaft mode (broker and controller in one) as a local process.

What belongs here: its settings, its storage, its Java. What does not: topics (``stream``).
"""

import base64
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from carbon_pipelines.embedded.downloads import JavaProgram, ensure_program
from carbon_pipelines.embedded.java import CONSOLE_LOGGING, small_java
from carbon_pipelines.embedded.names import LOOPBACK
from carbon_pipelines.embedded.process import Launch, bare_environment
from carbon_pipelines.embedded.state import PartName, Report, write_atomically
from carbon_pipelines.errors import PartEndedError

KAFKA = JavaProgram(
    name="kafka-4.4.0",
    with_dependencies="org.apache.kafka:kafka_2.13:4.4.0",
    alone=("org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",),
)

_LARGEST_MESSAGE_BYTES = 64 * 1024 * 1024
_LONGEST_TRANSACTION_MS = 6 * 60 * 60 * 1000

_SETTINGS = """\
# Written by `carbon up` on every start.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{broker},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{broker}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
# One broker holds everything, so nothing may wait for a second replica.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# One source transaction is one Kafka transaction, and may be long.
transaction.max.timeout.ms={transaction_ms}
message.max.bytes={message_bytes}
replica.fetch.max.bytes={message_bytes}
group.initial.rebalance.delay.ms=0
# After a kill, the controller refuses the broker until the session of the killed one ends (9 s).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# Small machine: the log cleaner alone would take 128 MB.
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=4
"""

_LOGGING = f"""\
{CONSOLE_LOGGING}\
logger.server.name = kafka.server
logger.server.level = info
"""


@dataclass(frozen=True, slots=True)
class Kafka:
    """The part `kafka`."""

    directory: Path
    log: Path
    cache: Path
    ports: Mapping[str, int]
    """``broker`` and ``controller``."""

    name: PartName = field(default="kafka", init=False)
    program: str = field(default="java", init=False)
    gently: signal.Signals = field(default=signal.SIGTERM, init=False)
    start_seconds: float = field(default=120.0, init=False)

    @property
    def bootstrap(self) -> str:
        """Address for clients."""
        return f"{LOOPBACK}:{self.ports['broker']}"

    @property
    def data(self) -> Path:
        """Topics and the cluster's metadata."""
        return self.directory / "data"

    def prepare(self, report: Report) -> None:
        """Download Kafka, write its settings, and format its storage once.

        Raises:
            DownloadError: Kafka is neither in the cache nor to be had.
        """
        ensure_program(self.cache, KAFKA, report)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        (self.directory / "tmp").mkdir(exist_ok=True)
        settings = _SETTINGS.format(
            host=LOOPBACK,
            broker=self.ports["broker"],
            controller=self.ports["controller"],
            data=self.data,
            transaction_ms=_LONGEST_TRANSACTION_MS,
            message_bytes=_LARGEST_MESSAGE_BYTES,
        )
        write_atomically(self.directory / "server.properties", settings, mode=0o600)
        write_atomically(self.directory / "log4j2.properties", _LOGGING, mode=0o600)
        if not (self.data / "meta.properties").exists():
            report("kafka: formats its storage")
            self._format_storage()

    def launch(self) -> Launch:
        """The broker, its settings in a file."""
        return Launch(
            (*self._java(), "kafka.Kafka", str(self.directory / "server.properties")),
            directory=self.directory,
            log=self.log,
        )

    def answers(self) -> bool:
        """Whether the broker that answers is of our own cluster."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        try:
            return str(admin.list_topics(timeout=2).cluster_id) == self._cluster_id()
        except KafkaException:
            return False

    def finish(self) -> None:
        """Nothing: topics are made by those who fill them."""

    def sweep(self) -> None:
        """Nothing: its temporary files are in its directory."""

    def _java(self) -> tuple[str, ...]:
        files = ensure_program(self.cache, KAFKA, _silent)
        return small_java(256, self.directory, files)

    def _format_storage(self) -> None:
        """Kafka's own tool; a killed one left no ``meta.properties``, so what it left can go."""
        shutil.rmtree(self.data, ignore_errors=True)
        cluster_id = name_cluster(uuid.uuid4())
        settings = str(self.directory / "server.properties")
        formatted = subprocess.run(
            [*self._java(), "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", settings],
            cwd=self.directory,
            env=bare_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode != 0:
            said = (formatted.stdout + formatted.stderr).strip()
            raise PartEndedError("kafka", self.directory / "server.properties", said)

    def _cluster_id(self) -> str:
        lines = (self.data / "meta.properties").read_text(encoding="utf-8").splitlines()
        facts = dict(line.split("=", 1) for line in lines if "=" in line)
        return facts["cluster.id"]


def name_cluster(drawn: uuid.UUID) -> str:
    """A cluster id as Kafka writes UUIDs: 22 letters, digits, "-" and "_", no "-" in front.

    Kafka draws its own that way too, because its tools take such an id for an option.
    """
    first, *others = drawn.bytes
    return base64.urlsafe_b64encode(bytes([first & 0x7F, *others])).decode("ascii").rstrip("=")


def _silent(_line: str) -> None:
    """The download was told when it was made."""
