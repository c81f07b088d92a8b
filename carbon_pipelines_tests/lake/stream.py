"""A topic and the DDL history as the lake reads them, without a Kafka.

What belongs here: what unit tests of catching up and of replay share. What does not: assertions.
"""

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest

from carbon_pipelines.lake import (
    catch_up,
    gap,
    replay_plan,
    schema_follow,
    set_aside,
)
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.stream import changes
from carbon_pipelines.stream.consumer import RawBatch
from carbon_pipelines.stream.progress import Progress
from carbon_pipelines.stream.schemas import SchemaHistory
from carbon_pipelines.stream.topics import TopicState
from carbon_pipelines_tests.lake.local_lake import START

CAPTURED = Progress(Position(103, 1), 200, START.system_identifier, 1, 16384, {}, "ddl")


class Stream:
    """A topic and the DDL topic as they would be read; ``None`` is a marker's offset."""

    def __init__(self, *relations: SourceRelation) -> None:
        self.messages: list[bytes | None] = []
        self.history = [(Position(0, n), made) for n, made in enumerate(relations, start=1)]
        self.read_size = 3
        self.low = 0
        self.captured = CAPTURED
        self.on_read: Callable[[int], None] = lambda _: None

    def put(self, lsn: int, op: str, *, ordinal: int = 1, **more: Any) -> None:
        xid, version = more.pop("xid", 900), more.pop("version", 1)
        source = {"txId": xid, "commit_lsn": lsn, "ordinal": ordinal, "schema_version": version}
        if unchanged := more.pop("unchanged", None):
            source["unchanged"] = unchanged
        body = {"op": op, "before": None, "after": None, **more, "source": source}
        self.messages.append(json.dumps(body).encode())

    def marker(self) -> None:
        self.messages.append(None)

    def topic_state(self, _bootstrap: str, topic: str) -> TopicState:
        high = len(self.history) if "ddl" in topic else len(self.messages)
        return TopicState(topic, "topic", "cluster", self.low, high)

    def load_history(self, _bootstrap: str, _database: str) -> SchemaHistory:
        return SchemaHistory(tuple(self.history), len(self.history))

    def read(
        self, _bootstrap: str, _topic: str, start: int, end: int, *, max_events: int = 0
    ) -> Iterator[RawBatch]:
        for first in range(start, end, self.read_size):
            self.on_read(first)
            stop = min(end, first + self.read_size)
            offsets = [o for o in range(first, stop) if self.messages[o] is not None]
            yield RawBatch([self.messages[o] for o in offsets], offsets, first, stop)

    def messages_at(
        self, _bootstrap: str, _topic: str, offsets: Collection[int]
    ) -> dict[int, tuple[bytes | None, bytes | None]]:
        return {
            offset: (_key_of(self.messages[offset]), self.messages[offset]) for offset in offsets
        }

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the lake read this."""
        monkeypatch.setattr(changes, "read_batches", self.read)
        for asking in (catch_up, schema_follow, replay_plan):
            monkeypatch.setattr(asking, "load_topic_state", self.topic_state)
        for following in (schema_follow, replay_plan):
            monkeypatch.setattr(following, "load_schema_history", self.load_history)
        monkeypatch.setattr(set_aside, "read_messages", self.messages_at)
        monkeypatch.setattr(
            gap, "load_newest_progress", lambda _bootstrap, _database: self.captured
        )


def _key_of(message: bytes | None) -> bytes | None:
    """The message key that capture would have written; one that is broken keeps its own."""
    try:
        envelope = json.loads(message or b"")
        image = envelope["before"] if envelope["op"] == "d" else envelope["after"]
        return json.dumps({"id": image["id"]}).encode()
    except (ValueError, TypeError, KeyError):
        return (message or b"").partition(b" broken")[0]
