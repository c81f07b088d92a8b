"""The embedded stack with its real parts: up, down, crashes, strangers on its ports."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from pyarrow import fs

from carbon_pipelines.embedded.ports import describe_occupant
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.embedded.state import PartName, StackHome
from carbon_pipelines.embedded.status import StackStatus
from carbon_pipelines.errors import (
    PartEndedError,
    PartRefusedError,
    PortOccupiedError,
    PostgresBinariesError,
)
from carbon_pipelines_tests.conftest import SourceDatabase, make_stack, silent

pytestmark = pytest.mark.integration

PARTS: tuple[PartName, ...] = ("postgres", "kafka", "s3")

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Servers of Debian's packages on this machine; none: nothing to prove."""


class Kept:
    """A row, a message and an object in a stack, to find them again later."""

    def __init__(self, stack: Stack, dsn: str) -> None:
        self.stack = stack
        self.dsn = dsn
        self.topic = dsn.rsplit("/", 1)[1]

    def put(self) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute("CREATE TABLE kept (word text)")
            connection.execute("INSERT INTO kept VALUES ('row')")
        bootstrap = {"bootstrap.servers": self.stack.endpoints().stream_bootstrap}
        admin = AdminClient(bootstrap)
        for made in admin.create_topics([NewTopic(self.topic, 1, 1)]).values():
            made.result()
        producer = Producer({**bootstrap, "transactional.id": self.topic, "log_level": 0})
        producer.init_transactions()
        producer.begin_transaction()
        producer.produce(self.topic, b"message")
        producer.commit_transaction()
        with self._store().open_output_stream(f"lake/{self.topic}") as file:
            file.write(b"object")

    def get(self) -> list[str]:
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute("SELECT word FROM kept").fetchone()
        consumer = Consumer(
            {
                "bootstrap.servers": self.stack.endpoints().stream_bootstrap,
                "group.id": self.topic,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        consumer.assign([TopicPartition(self.topic, 0, 0)])
        message = consumer.poll(20)
        consumer.close()
        with self._store().open_input_stream(f"lake/{self.topic}") as file:
            found = file.read()
        assert row is not None
        assert message is not None
        return [row[0], str(message.value(), "ascii"), str(found, "ascii")]

    def _store(self) -> fs.S3FileSystem:
        lake = self.stack.endpoints().lake
        return fs.S3FileSystem(
            access_key=lake.s3_access_key,
            secret_key=lake.s3_secret_key,
            endpoint_override=lake.s3_endpoint,
            region=lake.s3_region,
        )


@pytest.fixture
def kept(stack: Stack, source: SourceDatabase) -> Kept:
    things = Kept(stack, source.dsn)
    things.put()
    return things


@pytest.fixture
def other(stack_directory: Path, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A second stack in a home of its own, not up yet."""
    started = make_stack(stack_directory / request.node.name[:40])
    yield started
    started.down(silent)


def pids(status: StackStatus) -> dict[str, int | None]:
    return {part.name: part.pid for part in status.parts}


def processes_of(home: Path) -> list[str]:
    """Command lines of all processes that work in a stack's home or name it."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                inside = Path(process.cwd()).is_relative_to(home)
                if inside or str(home) in command:
                    found.append(command)
        except (psutil.Error, OSError):
            continue
    return found


def test_up_again_leaves_running_parts_alone(stack: Stack) -> None:
    before = stack.status()
    told: list[str] = []
    after = stack.up(told.append)
    assert after.running
    assert pids(after) == pids(before)
    assert sorted(line.partition(" on ")[0] for line in told) == [
        "kafka: already runs",
        "postgres: already runs",
        "s3: already runs",
    ]


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_part_is_repaired_and_nothing_it_held_is_lost(
    part: PartName, stack: Stack, kept: Kept
) -> None:
    before = pids(stack.status())
    stack.kill(part)
    assert stack.status().part(part).state == "stopped"
    after = pids(stack.up(silent))
    assert {name for name in PARTS if after[name] != before[name]} == {part}
    assert kept.get() == ["row", "message", "object"]


def test_all_parts_killed_at_once_are_repaired_and_nothing_is_lost(
    stack: Stack, kept: Kept
) -> None:
    for part in PARTS:
        stack.kill(part)
    assert stack.up(silent).running
    assert kept.get() == ["row", "message", "object"]


def test_data_is_still_there_after_down_and_up(other: Stack) -> None:
    other.up(silent)
    kept = Kept(other, other.create_source_database("market"))
    kept.put()
    other.down(silent)
    assert processes_of(other.home) == []
    assert other.up(silent).running
    assert kept.get() == ["row", "message", "object"]


def test_every_port_listens_on_loopback_only(stack: Stack) -> None:
    found = {
        connection.laddr.ip.removeprefix("::ffff:")
        for part in stack.status().parts
        for connection in psutil.Process(part.pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert found == {"127.0.0.1"}


def test_passwords_are_in_one_file_for_its_owner_and_nowhere_else_to_be_seen(stack: Stack) -> None:
    files = StackHome(stack.home)
    drawn = files.load_secrets()
    assert drawn is not None
    assert stat.S_IMODE(files.secrets_file.stat().st_mode) == 0o600
    seen = [
        json.dumps(stack.status().document()),
        repr(stack.status()),
        repr(stack.endpoints()),
        files.state_file.read_text(),
        *(log.read_text(errors="replace") for log in (stack.home / "logs").iterdir()),
        *processes_of(stack.home),
    ]
    for secret in (drawn.postgres_password, drawn.s3_access_key, drawn.s3_secret_key):
        assert [text for text in seen if secret in text] == []


def test_a_wrong_password_opens_nothing(stack: Stack) -> None:
    wrong = stack.admin_dsn.replace(":", ":x", 2).replace(":x//", "://")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    store = fs.S3FileSystem(
        access_key=stack.endpoints().lake.s3_access_key,
        secret_key="wrong",
        endpoint_override=stack.endpoints().lake.s3_endpoint,
        region="us-east-1",
    )
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        store.get_file_info("lake")


def test_two_stacks_run_at_once_and_share_nothing(stack: Stack, other: Stack) -> None:
    assert other.up(silent).running
    other.create_source_database("only_in_the_other")
    with psycopg.connect(stack.admin_dsn) as connection:
        names = connection.execute("SELECT datname FROM pg_database").fetchall()
    assert ("only_in_the_other",) not in names
    other.down(silent)
    assert processes_of(other.home) == []
    assert stack.status().running


def test_an_occupied_port_is_refused_and_its_occupant_named(other: Stack) -> None:
    other.up(silent)
    port = other.status().part("kafka").port
    other.kill("kafka")
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        assert other.status().part("kafka").state == "stopped"
        with pytest.raises(PortOccupiedError) as caught:
            other.up(silent)
        assert (caught.value.part, caught.value.port) == ("kafka", port)
        assert caught.value.occupant == describe_occupant(port)
        assert f"process {os.getpid()} (" in str(caught.value)
    assert other.up(silent).running


def test_an_inner_port_taken_by_a_stranger_is_replaced_and_nothing_is_lost(other: Stack) -> None:
    other.up(silent)
    kept = Kept(other, other.create_source_database("market"))
    kept.put()
    addresses = other.endpoints()
    other.down(silent)
    state = StackHome(other.home).load_state()
    assert state is not None
    inner = [
        port
        for name, ports in state.ports.items()
        for port in list(ports.values())[1:]
        if name in PARTS
    ]
    with contextlib.ExitStack() as strangers:
        for port in inner:
            stranger = strangers.enter_context(socket.socket())
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.bind(("127.0.0.1", port))
            stranger.listen()
        assert other.up(silent).running
        assert other.endpoints() == addresses
        assert kept.get() == ["row", "message", "object"]


def test_an_up_killed_halfway_leaves_nothing_that_down_does_not_stop(
    stack_directory: Path, other: Stack
) -> None:
    other.home.mkdir()
    killed_halfway = (
        "import os, signal, sys; from pathlib import Path;"
        "from carbon_pipelines_tests.conftest import make_stack;"
        "make_stack(Path(sys.argv[1])).up("
        "lambda line: os.kill(os.getpid(), signal.SIGKILL) if 'ready' in line else None)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", killed_halfway, str(other.home)],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ended.returncode == -signal.SIGKILL
    assert processes_of(other.home) != []
    other.down(silent)
    assert processes_of(other.home) == []
    assert other.up(silent).running


def test_processes_that_were_never_recorded_are_stopped_too(other: Stack) -> None:
    other.up(silent)
    files = StackHome(other.home)
    state = files.load_state()
    assert state is not None
    files.save_state(state.model_copy(update={"processes": {}}))
    other.down(silent)
    assert processes_of(other.home) == []


def test_two_ups_at_once_start_each_part_once(other: Stack) -> None:
    twin = make_stack(other.home)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda each: each.up(silent), (other, twin))
    assert first.running
    assert pids(first) == pids(second)
    assert len([line for line in processes_of(other.home) if " mini " in line]) == 1


def test_a_part_that_cannot_start_says_why_with_the_end_of_its_log(other: Stack) -> None:
    other.up(silent)
    other.down(silent)
    settings = other.home / "postgres" / "data" / "postgresql.auto.conf"
    good = settings.read_text()
    settings.write_text("shared_buffers = 'plenty'\n")
    with pytest.raises(PartEndedError, match=r'invalid value for parameter "shared_buffers"'):
        other.up(silent)
    assert other.status().part("kafka").state == "running"
    settings.write_text(good)
    assert other.up(silent).running


def test_secrets_that_were_lost_are_named_and_the_data_is_kept(other: Stack) -> None:
    other.up(silent)
    other.down(silent)
    secrets_file = StackHome(other.home).secrets_file
    drawn = secrets_file.read_text()
    secrets_file.unlink()
    with pytest.raises(PartRefusedError, match=r"secrets\.json beside it\. Restore that file"):
        other.up(silent)
    assert other.status().part("postgres").state == "silent"
    secrets_file.write_text(drawn)
    assert other.up(silent).running


@pytest.mark.parametrize("binaries", DEBIAN, ids=lambda path: path.parent.name)
def test_a_debian_postgresql_serves_logical_decoding(binaries: Path, other: Stack) -> None:
    debian = make_stack(other.home, postgres_bin=binaries)
    assert debian.up(silent).running
    with psycopg.connect(debian.create_source_database("market"), autocommit=True) as connection:
        version = connection.info.server_version // 10_000
        connection.execute("SELECT pg_create_logical_replication_slot('slot', 'pgoutput')")
        connection.execute("CREATE EXTENSION hstore")
        connection.execute("SELECT pg_drop_replication_slot('slot')")
    assert str(version) == binaries.parent.name
    assert make_stack(other.home).up(silent).running  # the choice is remembered


@pytest.mark.parametrize("binaries", DEBIAN, ids=lambda path: path.parent.name)
def test_data_of_another_version_is_refused_and_left_alone(binaries: Path, other: Stack) -> None:
    other.up(silent)
    other.down(silent)
    with pytest.raises(PostgresBinariesError, match=r"is version \d+, and .* made by version 18"):
        make_stack(other.home, postgres_bin=binaries).up(silent)
    assert (other.home / "postgres" / "data" / "PG_VERSION").read_text() == "18\n"
