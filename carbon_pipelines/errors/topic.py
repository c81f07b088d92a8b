"""Errors of topics: what Kafka holds.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Sequence

from carbon_pipelines.errors.capture import StreamError


class TopicMissingError(StreamError):
    """Topic ``topic`` does not exist on Kafka at ``bootstrap``."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.bootstrap, self.topic = bootstrap, topic
        super().__init__(
            f"Topic {topic} does not exist on Kafka at {bootstrap}. If its table was never "
            f'captured, run "carbon capture" or materialize its stream asset first; if the topic '
            f"was deleted, the table needs a re-copy after that."
        )


class TopicRefusedError(StreamError):
    """Kafka refuses what we asked for ``topic``; ``reason`` is its answer."""

    def __init__(self, bootstrap: str, topic: str, *, doing: str, reason: str) -> None:
        self.bootstrap, self.topic, self.doing, self.reason = bootstrap, topic, doing, reason
        super().__init__(
            f"Kafka at {bootstrap} refuses to {doing} topic {topic}: {reason}. Create the topic by "
            f"hand with one partition, or give our user the right to."
        )


class TopicReplacedError(StreamError):
    """Topic ``topic`` is not the one that was read so far.

    ``before`` and ``now`` are ``(cluster id, topic id)``.
    """

    def __init__(self, topic: str, *, before: tuple[str, str], now: tuple[str, str]) -> None:
        self.topic, self.before, self.now = topic, before, now
        what = "topic id" if before[0] == now[0] else "cluster id"
        index = 1 if before[0] == now[0] else 0
        super().__init__(
            f"Topic {topic} was deleted and created again, or is on another cluster: its {what} "
            f"was {before[index]} and is {now[index]}, so remembered offsets mean nothing in it. "
            f'Nothing was read. Run "carbon recopy {_table_of(topic)}".'
        )


class OffsetBeyondEndError(StreamError):
    """Reading ``topic`` has to go on from ``start``, but it ends before ``end``."""

    def __init__(self, topic: str, *, start: int, end: int) -> None:
        self.topic, self.start, self.end = topic, start, end
        super().__init__(
            f"{topic}[0] ends before offset {end}, but reading has to go on from {start}: the "
            f"topic lost records that were read before (an unclean leader election, or a restored "
            f'broker). Nothing was read. Run "carbon recopy {_table_of(topic)}".'
        )


class OffsetGapError(StreamError):
    """Offsets ``first`` to ``last`` of ``topic`` expired unread."""

    def __init__(self, topic: str, *, first: int, last: int) -> None:
        self.topic, self.first, self.last = topic, first, last
        super().__init__(
            f"{topic}[0] starts at offset {last + 1}, but reading has to go on from {first}: "
            f"offsets {first} to {last} expired unread. Nothing was read. A re-copy is needed: "
            f'run "carbon recopy {_table_of(topic)}".'
        )


class SchemaVersionMissingError(StreamError):
    """The DDL topic lacks schema versions that events refer to.

    A Kafka transaction ends in each partition by itself, so events may be readable a moment before
    the shape that they refer to.
    """

    retryable = True

    def __init__(self, topic: str, versions: Sequence[int]) -> None:
        self.topic, self.versions = topic, tuple(versions)
        database = topic.split(".")[1]
        super().__init__(
            f"Events refer to schema version {', '.join(map(str, versions))}, which {topic} does "
            "not hold. Nothing of their batch was merged. Run again: it may come a moment later. "
            f'If the topic was deleted or created again, run "carbon start-over {database}": it '
            "writes the shapes anew and copies the tables."
        )


class MalformedEnvelopeError(StreamError):
    """The message at ``offset`` of ``topic`` is not an envelope; ``reason`` says why."""

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        self.topic, self.partition, self.offset, self.reason = topic, partition, offset, reason
        super().__init__(
            f"The message at {topic}[{partition}]@{offset} is not a change event: {reason}. "
            "Everything before it is merged. See who else writes to the topic; to go on without "
            f'it, let "dead_letters" in the declaration of {_table_of(topic)} have "at_most: 1" '
            f'and run "carbon release", or run "carbon recopy {_table_of(topic)}".'
        )


def _table_of(topic: str) -> str:
    """The default label of a topic's table: ``market/credit`` for ``cdc.market.public.credit``."""
    parts = topic.split(".", 3)
    if len(parts) < 4 or parts[0] != "cdc":
        return topic
    _, database, schema, table = parts
    return f"{database}/{table}" if schema == "public" else f"{database}/{schema}_{table}"
