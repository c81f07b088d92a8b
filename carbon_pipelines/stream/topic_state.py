"""Which topic answers to a name now, and how far what was written to it is decided.

What belongs here: asking Kafka for offsets, comparing the topic with the one that was read before,
and Kafka's errors as ours. What does not: reading events (``consumer.py``) and making topics
(``topics.py``).
"""

import time
from collections.abc import Collection, Generator
from contextlib import contextmanager

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec  # pyright: ignore[reportPrivateImportUsage]

from carbon_pipelines.errors import TopicMissingError, TopicReplacedError
from carbon_pipelines.stream.topics import (
    REQUEST_SECONDS,
    TopicState,
    load_ends,
    load_offsets,
    open_admin,
    unavailable,
)

PAUSE_SECONDS = 0.02
"""Between two looks at the ends of topics."""
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # pyright: ignore[reportAssignmentType]
_LATEST: OffsetSpec = OffsetSpec.latest()  # pyright: ignore[reportAssignmentType]
MISSING = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
"""Codes that say that there is no such topic."""


def load_topic_state(bootstrap: str, topic: str) -> TopicState:
    """Ask which topic answers to ``topic`` now, and for its offsets.

    Raises:
        TopicMissingError: None does.
        StreamUnavailableError: Kafka does not answer (retryable).
    """
    admin = open_admin(bootstrap)
    partition = TopicPartition(topic, 0)
    with kafka_errors(bootstrap, topic):
        described = admin.describe_topics(TopicCollection([topic]), request_timeout=REQUEST_SECONDS)
        topic_id = str(described[topic].result().topic_id)
        cluster_id = str(admin.list_topics(topic, timeout=REQUEST_SECONDS).cluster_id)
        low = load_offsets(admin, {partition: _EARLIEST})[partition]
        high = load_offsets(admin, {partition: _LATEST}, isolation=IsolationLevel.READ_COMMITTED)[
            partition
        ]
        return TopicState(topic, topic_id, cluster_id, low, high)


def check_topic(remembered_topic_id: str, remembered_cluster_id: str, found: TopicState) -> None:
    """Compare the topic that offsets were remembered for with the one that is there.

    Raises:
        TopicReplacedError: It is another one, so the offsets mean nothing in it.
    """
    before, now = (remembered_cluster_id, remembered_topic_id), (found.cluster_id, found.topic_id)
    if before != now:
        raise TopicReplacedError(found.topic, before=before, now=now)


def wait_until_decided(bootstrap: str, topics: Collection[str], *, seconds: float) -> bool:
    """Wait until every transaction that wrote to ``topics`` before this call has ended in them.

    A commit is confirmed before its markers are in all the partitions it wrote to; until they are,
    a read_committed reader does not see it. What a new transaction writes meanwhile is not waited
    for.

    Returns:
        Whether they have; False after ``seconds``, as when a dead producer left one open.
    """
    admin = open_admin(bootstrap)
    give_up_at = time.monotonic() + seconds
    with kafka_errors(bootstrap, f"{len(topics)} topics"):
        written = load_ends(admin, topics)
    while True:
        with kafka_errors(bootstrap, f"{len(topics)} topics"):
            decided = load_ends(admin, topics, isolation=IsolationLevel.READ_COMMITTED)
        if all(decided[topic] >= end for topic, end in written.items()):
            return True
        if time.monotonic() > give_up_at:
            return False
        time.sleep(PAUSE_SECONDS)


@contextmanager
def kafka_errors(bootstrap: str, topic: str) -> Generator[None]:
    """Raise what Kafka says about ``topic`` as one of our errors."""
    try:
        yield
    except KafkaException as failed:
        error: KafkaError = failed.args[0]
        if error.code() in MISSING:
            raise TopicMissingError(bootstrap, topic) from failed
        raise unavailable(bootstrap, f"reading {topic}", error) from failed
