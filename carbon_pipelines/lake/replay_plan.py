"""The plan of a replay: which dead letters of a table could be applied now, and with what.

What belongs here: reading the events of their rows again and judging them. What does not: doing it,
and what keeps it exactly once (``replay.py``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    CarbonPipelinesError,
    DeadLetterExpiredError,
    MalformedEnvelopeError,
    SchemaVersionMissingError,
)
from carbon_pipelines.lake.change_batch import (
    DELETE,
    TRUNCATE,
    ChangeBatch,
    EnvelopeReader,
    concat_batches,
)
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.dead_letters import DeadLetter
from carbon_pipelines.lake.evolution import followed_version
from carbon_pipelines.lake.halving import sift, undecodable
from carbon_pipelines.lake.judge import Judge
from carbon_pipelines.lake.keys import KeyMatcher, number_keys
from carbon_pipelines.lake.lacking import Key, Lacking, key_of_message, needed_by
from carbon_pipelines.lake.normalise import Normaliser
from carbon_pipelines.lake.present import present_spec
from carbon_pipelines.lake.state import TableProgress
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.stream.changes import read_changes
from carbon_pipelines.stream.consumer import RawBatch
from carbon_pipelines.stream.schemas import load_schema_history
from carbon_pipelines.stream.topic_state import check_topic, load_topic_state
from carbon_pipelines.stream.topics import ddl_topic, topic_of


@dataclass(frozen=True, slots=True)
class Replay:
    """What replaying one table does.

    Attributes:
        letters: Every dead letter that the table lacks.
        fails: Offset -> why it still cannot be merged; the others can.
        base: The progress that this is right for.
        table: The declaration under the present names.
        batch: The events to apply; None if no dead letter can be.
        present: The relation under whose columns they were read.
    """

    table: TableSpec
    letters: tuple[DeadLetter, ...]
    fails: Mapping[int, CarbonPipelinesError]
    base: TableProgress
    batch: ChangeBatch | None
    present: SourceRelation | None = None

    @property
    def succeeding(self) -> tuple[DeadLetter, ...]:
        """Those that can be applied now."""
        return tuple(letter for letter in self.letters if letter.offset not in self.fails)

    def describe(self) -> str:
        """The plan in words."""
        label = self.table.label
        if not self.letters:
            return f"{label}: no dead letter is pending."
        lines = [
            f"{label}: {len(self.letters)} pending, {len(self.succeeding)} can be replayed now."
        ]
        for error, count in sorted(Counter(letter.error for letter in self.succeeding).items()):
            lines.append(f"  {count} x {error}: replayed")
        for letter in self.letters:
            if letter.offset in self.fails:
                why = self.fails[letter.offset]
                lines.append(f"  offset {letter.offset} stays: {type(why).__name__}: {why}")
        return "\n".join(lines)


class Planning:
    """Plans the replay of one table as it was loaded.

    Args:
        bootstrap: Kafka's bootstrap servers.
    """

    def __init__(self, table: Table, spec: TableSpec, base: TableProgress, bootstrap: str) -> None:
        history = load_schema_history(bootstrap, spec.database)
        version = followed_version(table, base.schema_version)
        versions = [
            relation
            for _, relation in history.rows
            if relation.oid == base.relation_oid and relation.version <= version
        ]
        present = [one for one in versions if one.version == version]
        if not present:
            raise SchemaVersionMissingError(ddl_topic(spec.database), [version])
        self._spec = present_spec(spec, present[0], versions)
        self._base, self._bootstrap, self._present = base, bootstrap, present[0]
        self._judge = Judge(table, self._spec, MAIN_BRANCH)
        self._normaliser = Normaliser(self._spec, present[0], versions)
        self._places = EnvelopeReader(topic_of(spec), {}, ())

    def plan(self, letters: Sequence[DeadLetter]) -> Replay:
        """Decode and judge every one of ``letters``, which the table lacks, again."""
        return self._plan_rows(letters) if self._spec.key else self._plan_inserts(letters)

    def key_of(self, letter: DeadLetter) -> Key | None:
        """The key of the row that a dead letter is about, if it says."""
        return key_of_message(letter.key, letter.value, self._judge.key_types)

    def _read(self, raw: RawBatch) -> ChangeBatch:
        """The events of ``raw`` under the present columns, each read by its own version."""
        places = self._places.read(raw)
        versions = places.schema_version
        batches: list[ChangeBatch] = []
        for run in np.split(np.arange(len(places)), np.flatnonzero(np.diff(versions)) + 1):
            version = int(versions[run[0]]) if len(run) else self._present.version
            if not self._normaliser.knows(version):
                topic, offset = topic_of(self._spec), raw.offsets[int(run[0])]
                reason = f"it names schema version {version}, which the table never had"
                raise MalformedEnvelopeError(topic, 0, offset, reason)
            batches.append(self._normaliser.read(raw.pick(run), version))
        return concat_batches(batches)

    def _plan_inserts(self, letters: Sequence[DeadLetter]) -> Replay:
        batch, _, fails = sift(self._read, _raw(letters))
        judged = self._judge.judge(batch, Lacking(), most=len(letters))
        fails |= judged.refused
        kept = batch.filter(~np.isin(batch.offset, list(fails)))
        return self._replay(letters, fails, kept if len(kept) else None)

    def _plan_rows(self, letters: Sequence[DeadLetter]) -> Replay:
        keys = {letter.offset: self.key_of(letter) for letter in letters}
        events, broken, low = self._events(letters, keys)
        offsets = keys.keys()
        fails = {offset: error for offset, error in broken.items() if offset in offsets}
        for offset, key in keys.items():
            if any(between not in offsets for between in range(offset + 1, low)):
                fails[offset] = DeadLetterExpiredError(self._spec.label, offset, low)
            elif key is None and offset not in fails:
                reason = "it names no row that the table could hold"
                fails[offset] = MalformedEnvelopeError(topic_of(self._spec), 0, offset, reason)
        batch = events.filter(~np.isin(events.offset, list(fails)))
        values = {letter.offset: letter.value for letter in letters if letter.offset in fails}
        failing = Lacking({offset: keys[offset] for offset in fails}, needed_by(values))
        judged = self._judge.judge(batch, failing, most=len(batch))
        for offset, error in judged.refused.items():
            if offset not in offsets:  # the lake has what this event left, and nothing knows better
                raise error
            fails[offset] = error
        kept = batch.filter(~np.isin(batch.offset, list(judged.refused)))
        applied = [key for offset, key in keys.items() if key is not None and offset not in fails]
        delta = kept.filter(_of_rows(kept, applied, self._judge))
        done = len(fails) < len(letters)
        return self._replay(letters, fails, delta if done else None)

    def _replay(
        self,
        letters: Sequence[DeadLetter],
        fails: Mapping[int, CarbonPipelinesError],
        batch: ChangeBatch | None,
    ) -> Replay:
        return Replay(self._spec, tuple(letters), fails, self._base, batch, self._present)

    def _events(
        self, letters: Sequence[DeadLetter], keys: Mapping[int, Key | None]
    ) -> tuple[ChangeBatch, dict[int, CarbonPipelinesError], int]:
        """All events of the letters' rows in order, messages that are none, and Kafka's start."""
        base = self._base
        topic = load_topic_state(self._bootstrap, topic_of(self._spec))
        check_topic(base.topic_id, base.cluster_id, topic)
        known = [key for key in keys.values() if key is not None]
        raws = [_raw([letter for letter in letters if letter.offset < topic.low])]
        start = max(topic.low, min(keys))
        if start < base.next_offset:
            end, every = base.next_offset, Position(0, 0)
            raws += read_changes(self._bootstrap, self._spec, start, end, after=every)
        parts: list[ChangeBatch] = []
        broken: dict[int, CarbonPipelinesError] = {}
        for raw in raws:
            batch, _, bad = sift(self._read, raw)
            broken |= bad
            truncates = np.flatnonzero(batch.operation == TRUNCATE)
            if len(truncates):  # what was before it has no say; it must not empty the table again
                parts = []
                batch = batch.slice(int(truncates[-1]) + 1, len(batch))
            parts.append(batch.filter(_of_rows(batch, known, self._judge)))
        return _in_order(concat_batches(parts)), broken, topic.low


def _raw(letters: Sequence[DeadLetter]) -> RawBatch:
    offsets = [letter.offset for letter in letters]
    end = offsets[-1] + 1 if offsets else 0
    return RawBatch([x.value or b"" for x in letters], offsets, offsets[0] if offsets else 0, end)


def _of_rows(batch: ChangeBatch, keys: Sequence[Key], judge: Judge) -> np.ndarray:
    """Which events are about one of the rows with these keys."""
    if not keys or not len(batch):
        return np.zeros(len(batch), dtype=bool)
    names = list(judge.key_types)
    distinct, _ = number_keys([pa.concat_arrays([k[i] for k in keys]) for i in range(len(names))])
    matcher = KeyMatcher(distinct)
    found = np.zeros(len(batch), dtype=bool)
    deletes = batch.operation == DELETE
    for image, relevant in ((batch.before, deletes), (batch.after, ~deletes)):
        indexes = np.flatnonzero(relevant)
        typed: list[pa.Array] = []
        usable = np.ones(len(indexes), dtype=bool)
        for name, kind in judge.key_types.items():
            values = image.column(name).take(pa.array(indexes)).combine_chunks()
            usable[list(undecodable(values, kind, name))] = False
        for name, kind in judge.key_types.items():
            values = image.column(name).take(pa.array(indexes[usable])).combine_chunks()
            typed.append(decode_column(values, kind, column=name))
        found[indexes[usable]] = matcher.match(typed) >= 0
    return found


def _in_order(batch: ChangeBatch) -> ChangeBatch:
    """Without events that a restarted producer wrote again after later ones."""
    high = (-1, -1)
    fresh = np.ones(len(batch), dtype=bool)
    for index, place in enumerate(
        zip(batch.commit_lsn.tolist(), batch.ordinal.tolist(), strict=True)
    ):
        fresh[index] = place > high
        high = max(high, place)
    return batch.filter(fresh)
