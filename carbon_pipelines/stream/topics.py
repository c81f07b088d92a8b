"""Names of topics, and seeing to it that they exist.

What belongs here: which topic a table, the progress and the DDL history have, how they are
configured, and which cluster and topic answer to a name. What does not: reading or writing them.

Every topic has one partition: a key change and a TRUNCATE keep their place among the other events.
"""

import hashlib
import re
import time
from collections.abc import Collection, Mapping
from concurrent.futures import wait
from dataclasses import dataclass

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]
)

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    StreamError,
    StreamForbiddenError,
    StreamUnavailableError,
    TopicRefusedError,
)
from carbon_pipelines.stream.client import client_settings

LARGEST_EVENT_BYTES = 64 << 20
"""The largest event capture sends; topics accept a little more, for what a record batch adds."""

REQUEST_SECONDS = 15.0
_PAUSE_SECONDS = 0.02

_DDL_SCHEMA, _DDL_TABLE = "carbon", "ddl_history"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_UNSAFE_OF_DEBEZIUM = re.compile(r"[^A-Za-z0-9._-]")
_NO_ANSWER = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
    }
)

_FORBIDDEN = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)

_SETTLING = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)
"""What a broker says of a partition that it takes over, as for a moment after it was started."""
_PASSING = _SETTLING | {
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.NOT_CONTROLLER,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.THROTTLING_QUOTA_EXCEEDED,
}
"""What a controller says meanwhile: we ask for as many replicas as the cluster has brokers."""

_SIZE = {"max.message.bytes": str(LARGEST_EVENT_BYTES + (1 << 20))}
_TABLE_CONFIG = {"cleanup.policy": "delete", **_SIZE}
_DDL_CONFIG = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", **_SIZE}
_PROGRESS_CONFIG = {"cleanup.policy": "compact", "segment.ms": "3600000"}


@dataclass(frozen=True, slots=True)
class TopicState:
    """Which topic answers to a name, and which offsets it holds.

    The ids change when a topic is deleted and created again. ``high`` is the read_committed end:
    the offset after the last one that may be read now.
    """

    topic: str
    topic_id: str
    cluster_id: str
    low: int
    high: int


def table_topic(database: str, schema: str, table: str) -> str:
    """``cdc.<database>.<schema>.<table>``.

    Characters a topic cannot have, and dots, become ``_``; a short hash then keeps names apart.
    """
    safe_schema, safe_table = _UNSAFE.sub("_", schema), _UNSAFE.sub("_", table)
    name = f"cdc.{database}.{safe_schema}.{safe_table}"
    if (safe_schema, safe_table) == (schema, table):
        return name
    digest = hashlib.sha256(b"\0".join((schema.encode(), table.encode()))).hexdigest()
    return f"{name}_{digest[:8]}"


def topic_of(table: TableSpec) -> str:
    """The topic of a declared table; for one that Debezium captures, as Debezium names it."""
    if table.debezium is not None:
        name = f"{table.source_schema}.{table.source_table}"
        return f"{topic_prefix(table.database)}.{_UNSAFE_OF_DEBEZIUM.sub(_underscores, name)}"
    return table_topic(table.database, table.source_schema, table.source_table)


def topic_prefix(database: str) -> str:
    """What the names of all topics of a database begin with: Debezium's ``topic.prefix``."""
    return f"cdc.{database}"


def ddl_topic(database: str) -> str:
    """The topic of ``carbon.ddl_history``, kept for ever: envelopes refer to its rows."""
    return table_topic(database, _DDL_SCHEMA, _DDL_TABLE)


def progress_topic(database: str) -> str:
    """The compacted topic in which every Kafka transaction of capture leaves its position."""
    return f"cdc.{database}._progress"


def topics_of(database: DatabaseSpec) -> tuple[str, ...]:
    """Every topic that capture of ``database`` writes to."""
    tables = (topic_of(table) for table in database.tables)
    if database.connector is not None:
        return (*tables, ddl_topic(database.name))
    return (*tables, ddl_topic(database.name), progress_topic(database.name))


def ensure_topics(bootstrap: str, database: DatabaseSpec) -> tuple[str, ...]:
    """Create what is missing of the database's topics; others stay as they are.

    Returns:
        The names of the topics created.

    Raises:
        StreamUnavailableError: Kafka does not answer (retryable).
        TopicRefusedError: Kafka refuses to create one.
    """
    wanted = dict.fromkeys(topics_of(database), _TABLE_CONFIG)
    wanted[ddl_topic(database.name)] = _DDL_CONFIG
    if database.connector is None:
        wanted[progress_topic(database.name)] = _PROGRESS_CONFIG
    admin = open_admin(bootstrap)
    try:
        present = admin.list_topics(timeout=REQUEST_SECONDS).topics
    except KafkaException as error:
        raise unavailable(bootstrap, "listing topics", error.args[0]) from error
    missing = [
        NewTopic(name, num_partitions=1, replication_factor=-1, config=config)
        for name, config in wanted.items()
        if name not in present
    ]
    return tuple(sorted(_create(admin, bootstrap, missing))) if missing else ()


def topic_exists(bootstrap: str, topic: str) -> bool:
    """Whether Kafka has a topic of this name now."""
    try:
        return topic in open_admin(bootstrap).list_topics(timeout=REQUEST_SECONDS).topics
    except KafkaException as error:
        raise unavailable(bootstrap, "listing topics", error.args[0]) from error


def topics_with_events(bootstrap: str, database: DatabaseSpec) -> tuple[str, ...]:
    """The topics of tables of ``database`` to which anything was ever written."""
    admin = open_admin(bootstrap)  # its futures are never resolved once it is gone
    try:
        ends = load_ends(admin, [topic_of(table) for table in database.tables])
    except KafkaException as error:
        raise unavailable(bootstrap, "listing offsets", error.args[0]) from error
    return tuple(sorted(topic for topic, end in ends.items() if end > 0))


def load_ends(
    admin: AdminClient,
    topics: Collection[str],
    *,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[str, int]:
    """The offset after the last one of each topic; only decided ones count if read_committed."""
    latest: OffsetSpec = OffsetSpec.latest()  # pyright: ignore[reportAssignmentType]
    wanted = {TopicPartition(topic, 0): latest for topic in topics}
    offsets = load_offsets(admin, wanted, isolation=isolation)
    return {partition.topic: offset for partition, offset in offsets.items()}


def load_offsets(
    admin: AdminClient,
    wanted: Mapping[TopicPartition, OffsetSpec],
    *,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[TopicPartition, int]:
    """The offset of each partition that ``wanted`` asks for, negative where there is none.

    A broker that is about to lead a partition is asked again for ``REQUEST_SECONDS``. Every answer
    is waited for before one is looked at: a client must not go while it still answers.

    Raises:
        KafkaException: Kafka does not answer, or there is no such topic.
    """
    give_up_at = time.monotonic() + REQUEST_SECONDS
    while True:
        futures = admin.list_offsets(
            dict(wanted), isolation_level=isolation, request_timeout=REQUEST_SECONDS
        )
        wait(futures.values())
        try:
            return {partition: int(found.result().offset) for partition, found in futures.items()}
        except KafkaException as failed:
            if failed.args[0].code() not in _SETTLING or time.monotonic() > give_up_at:
                raise
        time.sleep(_PAUSE_SECONDS)


def delete_topics(bootstrap: str, database: str) -> tuple[str, ...]:
    """Delete every topic of ``database``, its progress too: its capture then starts over.

    Whoever remembers offsets in them is told by ``check_topic`` that the topics are others now.
    """
    admin = open_admin(bootstrap)
    try:
        present = admin.list_topics(timeout=REQUEST_SECONDS).topics
        doomed = sorted(name for name in present if name.startswith(f"cdc.{database}."))
        futures = admin.delete_topics(doomed, operation_timeout=REQUEST_SECONDS) if doomed else {}
    except KafkaException as error:
        raise unavailable(bootstrap, "listing topics", error.args[0]) from error
    for name, future in futures.items():
        try:
            future.result()
        except KafkaException as error:
            raise _refused(bootstrap, name, "delete", error) from error
    return tuple(doomed)


def open_admin(bootstrap: str) -> AdminClient:
    """An admin client whose log lines go nowhere: its errors are raised."""
    return AdminClient(client_settings(bootstrap))


def unavailable(bootstrap: str, doing: str, error: KafkaError) -> StreamError:
    """The error for a request that Kafka did not answer as it must: retryable, if not a refusal."""
    if error.code() in _FORBIDDEN:
        return StreamForbiddenError(bootstrap, f"{error.name()} while {doing}")
    state = "no broker answers" if error.code() in _NO_ANSWER else error.name()
    return StreamUnavailableError(bootstrap, f"{state} while {doing} ({error.str()})")


def _underscores(found: re.Match[str]) -> str:
    """One for each character as Java counts them."""
    return "_" * (len(found[0].encode("utf-16-le")) // 2)


def _create(admin: AdminClient, bootstrap: str, topics: list[NewTopic]) -> list[str]:
    """Create topics; a cluster whose brokers are coming back is asked again for a while."""
    created: list[str] = []
    give_up_at = time.monotonic() + REQUEST_SECONDS
    while topics:
        futures = admin.create_topics(topics, operation_timeout=REQUEST_SECONDS)
        wait(futures.values())
        again: list[NewTopic] = []
        for topic in topics:
            try:
                futures[topic.topic].result()
                created.append(topic.topic)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    continue
                if error.args[0].code() not in _PASSING or time.monotonic() > give_up_at:
                    raise _refused(bootstrap, topic.topic, "create", error) from error
                again.append(topic)
        topics = again
        time.sleep(_PAUSE_SECONDS if again else 0.0)
    _wait_until_readable(bootstrap, created)
    return created


def _wait_until_readable(bootstrap: str, topics: list[str]) -> None:
    """A topic that was just created is unknown to its own broker for a moment.

    Each look has a client of its own: one that was told of no leader remembers it for long.
    """
    give_up_at = time.monotonic() + REQUEST_SECONDS
    while True:
        admin = open_admin(bootstrap)
        try:
            load_ends(admin, topics)
        except KafkaException as error:
            if time.monotonic() > give_up_at:
                raise unavailable(bootstrap, "creating topics", error.args[0]) from error
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _refused(bootstrap: str, topic: str, doing: str, error: KafkaException) -> StreamError:
    cause: KafkaError = error.args[0]
    if cause.code() in _PASSING | _NO_ANSWER:
        return unavailable(bootstrap, f"asked to {doing} topic {topic}", cause)
    return TopicRefusedError(bootstrap, topic, doing=doing, reason=f"{cause.name()}, {cause.str()}")
