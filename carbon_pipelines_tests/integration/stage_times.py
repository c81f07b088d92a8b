"""When each of some changes came to each stage, read back at each one.

What belongs here: making changes of the sample market one after another, moving them on as capture,
follower, certification and marts do, and watching. What does not: what follows from the times.

Each change is a quote of one day that nobody else writes, so that a count says which have come: in
Trino's view, in the mart, in the certified snapshot. Kafka is read as a consumer reads it. Of a
merge the snapshot's own time counts; it is made before the commit, by some hundredths of a second.
"""

import json
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
from confluent_kafka import Consumer, TopicPartition

from carbon_pipelines.lake.follow import Follower
from carbon_pipelines.lake.state import read_progress
from carbon_pipelines.lake.trino import open_trino
from carbon_pipelines.mart.build import build_marts
from carbon_pipelines.mart.project import select_marts
from carbon_pipelines.quality.certification import certify_table
from carbon_pipelines.quality.lake_scores import open_scores
from carbon_pipelines.serving.trino_serving import TrinoServing
from carbon_pipelines.serving.trino_view import mart_as_it_is, view_of
from carbon_pipelines.source.position import Position, parse_lsn
from carbon_pipelines.stream.capture import Capture
from carbon_pipelines.stream.consumer import CONSUMER
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import topic_of
from carbon_pipelines_tests.integration.mart_market import MARTS, PROJECT, Market

TABLE, MART = "carbon_price_tick", "price_curve"
FIRST = datetime(2001, 2, 5, tzinfo=UTC)
"""A day that the sample has nothing of."""
LOOK_SECONDS = 0.5
STAGES = (
    "captured",
    "merged",
    "certified",
    "in the view",
    "mart built",
    "in the mart",
    "read back",
)
INSERT = f"INSERT INTO {TABLE} VALUES ('EUA', %s, %s, 70, 71, false)"
IN_VIEW = (
    f"SELECT count(*) FROM lake.certified_market.{TABLE}"
    f" WHERE instrument = 'EUA' AND ticked_at >= TIMESTAMP '{FIRST:%Y-%m-%d} 00:00:00 UTC'"
    f" AND ticked_at < TIMESTAMP '{FIRST + timedelta(days=1):%Y-%m-%d} 00:00:00 UTC'"
)
IN_MART = (
    f"SELECT coalesce(max(quotes), 0) FROM lake.mart.{MART}"
    f" WHERE instrument = 'EUA' AND day = DATE '{FIRST:%Y-%m-%d}'"
)


@dataclass(frozen=True, slots=True)
class Change:
    """A transaction: its commit lies above ``lsn``, and was done at ``at`` (Unix seconds)."""

    lsn: int
    at: float


@dataclass(slots=True)
class Counted:
    """How many changes a stage had, each time that somebody looked."""

    seen: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])

    def add(self, count: int, at: float) -> None:
        """Note a look."""
        self.seen.append((max(count, self.count), at))

    @property
    def count(self) -> int:
        """The most that was seen."""
        return self.seen[-1][0] if self.seen else 0

    def ages(self, changes: Sequence[Change]) -> np.ndarray:
        """Seconds from each change's commit to the first look that saw it."""
        counts = [count for count, _ in self.seen]
        return np.array(
            [
                self.seen[bisect_left(counts, number)][1] - change.at
                for number, change in enumerate(changes, start=1)
            ]
        )


class StageTimes:
    """Makes changes and watches them on their way; ``run`` does all of it once."""

    def __init__(self, market: Market) -> None:
        self.market, self.endpoints = market, market.endpoints
        self.table = market.database.table(TABLE)
        self.changes: list[Change] = []
        self.unproven: list[str] = []
        self.counted = {stage: Counted() for stage in STAGES}
        self._stop = threading.Event()

    def run(self, changes: int, pause: float) -> dict[str, np.ndarray]:
        """Ages of ``changes`` changes, one each ``pause`` seconds, at each stage."""
        self._publish()  # whatever is there already, so that each stage has been used once
        capture = Capture(self.market.database, self.endpoints)
        follower = Follower(
            [self.table], {self.market.database.name: self.market.database}, self.endpoints
        )
        with ThreadPoolExecutor(6) as pool:
            watching = [
                pool.submit(capture.run_forever, self._stop),
                pool.submit(follower.run, self._stop),
                pool.submit(
                    self._watch_kafka,
                    load_topic_state(self.endpoints.stream_bootstrap, topic_of(self.table)).high,
                ),
                pool.submit(self._watch_trino, IN_VIEW, self.counted["in the view"]),
                pool.submit(self._watch_trino, IN_MART, self.counted["in the mart"]),
            ]
            writing = pool.submit(self._write, changes, pause)
            try:
                while self.counted["read back"].count < changes:
                    self._require(watching)
                    self._publish()
                self._wait_for(changes)
            finally:
                self._stop.set()
            writing.result()
            for one in watching:
                one.result()
        self._note_merges()
        return {stage: one.ages(self.changes) for stage, one in self.counted.items()}

    def _publish(self) -> None:
        """Certify, build and read back once, and note what came to where."""
        with open_scores(self.endpoints.lake) as scores:
            done = certify_table(
                self.table, self.market.database, self.endpoints, scores, by="a test"
            )
        if done.what == "unproven":  # the merges beside it were in its way: the next round does it
            self.unproven.append(done.proof())
            return
        assert done.is_certified, done.sentence()
        standing = done.standing
        assert standing is not None
        assert standing.certificate is not None
        certified = self._up_to(standing.certificate.position)
        self.counted["certified"].add(certified, time.time())
        [built] = build_marts(
            select_marts(MARTS, [MART]), self.endpoints, target="embedded", project=PROJECT
        )
        assert built.error is None, built.error
        self.counted["mart built"].add(certified, time.time())
        serving = TrinoServing(self.endpoints.trino, self.endpoints.lake)
        serving.serve(self.market.catalog, view_of(self.table))
        [mart] = select_marts(MARTS, [MART])
        shown = serving.serve(self.market.catalog, mart_as_it_is(mart))
        [place] = [p for name, p in shown.visible.sources.items() if name == self.table.label]
        self.counted["read back"].add(self._up_to(place.position), time.time())

    def _up_to(self, position: str) -> int:
        """How many changes a position has."""
        lsns = [change.lsn for change in list(self.changes)]
        return bisect_right(lsns, Position.parse(position).commit_lsn)

    def _write(self, changes: int, pause: float) -> None:
        due = time.monotonic()
        known = self.market.connection.info
        with psycopg.connect(known.dsn, password=known.password) as connection:
            for number in range(1, changes + 1):
                moment = FIRST + timedelta(seconds=number)
                connection.execute(INSERT.encode(), (moment, number))
                row = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
                assert row is not None
                connection.commit()
                self.changes.append(Change(parse_lsn(str(row[0])), time.time()))
                due += pause
                self._stop.wait(max(0.0, due - time.monotonic()))

    def _watch_kafka(self, start: int) -> None:
        """Count our events as a consumer of the topic gets them."""
        settings = {**CONSUMER, "bootstrap.servers": self.endpoints.stream_bootstrap}
        counted, count = self.counted["captured"], 0
        with closing(Consumer(settings)) as consumer:
            consumer.assign([TopicPartition(topic_of(self.table), 0, start)])
            while not self._stop.is_set():
                message = consumer.poll(0.1)
                if message is None or message.error() is not None:
                    continue
                after = json.loads(message.value() or b"{}").get("after") or {}
                if str(after.get("ticked_at", "")).startswith(f"{FIRST:%Y-%m-%d}"):
                    count += 1
                    counted.add(count, time.time())

    def _watch_trino(self, query: str, counted: Counted) -> None:
        with open_trino(self.endpoints.trino) as connection:
            while not self._stop.wait(LOOK_SECONDS):
                [[count]] = connection.cursor().execute(query).fetchall()
                counted.add(int(count), time.time())

    def _note_merges(self) -> None:
        """From the snapshots, oldest first: none of them has expired."""
        snapshots = self.market.catalog.load_table(self.table.identifier).metadata.snapshots
        for one in sorted(snapshots, key=lambda snapshot: snapshot.sequence_number or 0):
            properties = one.summary.additional_properties if one.summary else {}
            if "carbon.cluster_id" in properties:
                progress = read_progress(properties, self.table.label)
                place = self._up_to(str(progress.position))
                self.counted["merged"].add(place, one.timestamp_ms / 1000)

    def _wait_for(self, changes: int, seconds: float = 30.0) -> None:
        """Until those who watch have seen all that was read back."""
        until = time.monotonic() + seconds
        watched = ("captured", "in the view", "in the mart")
        while any(self.counted[stage].count < changes for stage in watched):
            assert time.monotonic() < until, {s: c.count for s, c in self.counted.items()}
            time.sleep(0.1)

    def _require(self, watching: Sequence) -> None:
        """Whoever has ended tells why."""
        for one in watching:
            if one.done():
                one.result()


def in_words(ages: dict[str, np.ndarray]) -> list[str]:
    """A line for each stage: half, 99 of 100 and all of the changes."""
    return [
        f"{stage:<12} {np.quantile(one, 0.5):7.2f} {np.quantile(one, 0.99):7.2f} {one.max():7.2f}"
        for stage, one in ages.items()
    ]
