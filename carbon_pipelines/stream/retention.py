"""How long a topic keeps what was written to it.

What belongs here: a topic's retention as Kafka is configured. What does not: offsets that have
expired (``topic_state.py``).
"""

from concurrent.futures import wait
from dataclasses import dataclass
from datetime import timedelta

from confluent_kafka.admin import (
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from carbon_pipelines.stream.topic_state import kafka_errors
from carbon_pipelines.stream.topics import REQUEST_SECONDS, open_admin


@dataclass(frozen=True, slots=True)
class TopicRetention:
    """What Kafka keeps of a topic.

    Attributes:
        topic: Its name.
        keeps: How long an event stays at most; None for ever. Events go by whole segments, and a
            segment by its newest event, so the time that one is written to is part of it.
        compacted: Events go too when a newer one of their key, or a tombstone, has come.
    """

    topic: str
    keeps: timedelta | None
    compacted: bool


def load_retention(bootstrap: str, topic: str) -> TopicRetention:
    """Ask Kafka.

    Raises:
        TopicMissingError: There is no such topic.
        StreamUnavailableError: Kafka does not answer (retryable).
    """
    admin = open_admin(bootstrap)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    with kafka_errors(bootstrap, topic):
        futures = admin.describe_configs([resource], request_timeout=REQUEST_SECONDS)
        wait(futures.values())
        entries = futures[resource].result()
    values = {name: str(entry.value) for name, entry in entries.items()}
    policy, kept_ms = values["cleanup.policy"].split(","), int(values["retention.ms"])
    segment_ms = int(values["segment.ms"])
    keeps = None
    if "delete" in policy and kept_ms >= 0:
        keeps = timedelta(milliseconds=min(kept_ms + segment_ms, 10**14))
    return TopicRetention(topic, keeps, "compact" in policy)
