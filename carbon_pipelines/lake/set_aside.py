"""Setting events aside that cannot be merged, and going on with the others.

What belongs here: how many a table may lack, where it stops, and the order of the two commits. What
does not: finding the events (``judge.py``, ``event_reading.py``) and their table
(``dead_letters.py``).

The order that loses and doubles nothing, whenever the process dies:
1. the batch is judged; past what the declaration allows, it is cut before the first event too many;
2. the dead letters are written, each once: a run that dies here finds the same ones again;
3. one commit merges the other events, moves the table past all of them, and names what it lacks.
   It lands only on the progress that the batch was read from;
4. dead letters that the batch has made irrelevant are resolved in their table, or by a later run.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pyiceberg.catalog import Catalog

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import CarbonPipelinesError, StateMissingError
from carbon_pipelines.lake.change_batch import ChangeBatch
from carbon_pipelines.lake.connection import load_table
from carbon_pipelines.lake.dead_letters import DeadLetter, DeadLetterTable, Resolution
from carbon_pipelines.lake.event_reading import Part, unseen
from carbon_pipelines.lake.judge import Judge, Judgement, Refusals
from carbon_pipelines.lake.lacking import Key, Lacking, json_object, key_of_message, needed_by
from carbon_pipelines.lake.merge import MERGE_REFUSALS, Merge, Merged, MergeHooks
from carbon_pipelines.lake.state import TableProgress
from carbon_pipelines.source.position import Position
from carbon_pipelines.stream.consumer import read_messages
from carbon_pipelines.stream.topics import topic_of

Moved = Callable[[Position | None, int], TableProgress]
"""From the last position that was read and the offset to go on from to the progress after."""
SUPERSEDED = Resolution("superseded", "carbon", "a later event decides its row")


@dataclass(frozen=True, slots=True)
class SetAside:
    """What became of one batch: ``merged`` is None if nothing was committed, ``stop`` why it ended.

    ``events`` counts those merged.
    """

    after: TableProgress
    merged: Merged | None
    events: int
    stop: CarbonPipelinesError | None


@dataclass(frozen=True, slots=True)
class _Cut:
    """A batch, or its beginning: events, broken messages, where it ends and why it ends there."""

    batch: ChangeBatch | None
    broken: Refusals
    last: Position | None
    end: int
    stop: CarbonPipelinesError | None = None

    def before(self, offset: int, why: CarbonPipelinesError, whole: ChangeBatch | None) -> "_Cut":
        """Its events before ``offset``; ``whole`` tells the last position there."""
        batch = self.batch
        last = None
        if batch is not None and whole is not None:
            batch = batch.slice(0, int(np.searchsorted(batch.offset, offset)))
            end = int(np.searchsorted(whole.offset, offset))
            if end:
                last = Position(int(whole.commit_lsn[end - 1]), int(whole.ordinal[end - 1]))
        broken = {o: error for o, error in self.broken.items() if o < offset}
        return _Cut(batch, broken, last, offset, why)


class SettingAside:
    """Merges batches of one table that hold events which cannot be merged."""

    def __init__(
        self, catalog: Catalog, spec: TableSpec, bootstrap: str, merge: Merge, hooks: MergeHooks
    ) -> None:
        self._catalog, self._spec, self._bootstrap = catalog, spec, bootstrap
        self._merge, self._hooks = merge, hooks
        self._letters = DeadLetterTable(catalog, spec.database)
        self._known: tuple[tuple[int, ...], Lacking] = ((), Lacking())

    def apply(self, base: TableProgress, part: Part, broken: Refusals, moved: Moved) -> SetAside:
        """Merge what can be merged of ``part``, from progress ``base``.

        Args:
            base: The table's progress.
            part: Events as read.
            broken: Messages before the end of ``part`` that are no change events.
            moved: Makes the progress after.

        Raises:
            CarbonPipelinesError: As ``Merge.apply``, but for what can be set aside.
        """
        batch = unseen(part.batch, base) if part.batch is not None else None
        whole = _Cut(batch, broken, part.last, part.next_offset)
        if not broken and base.dead_letters:
            judged = self._judged(base, whole, values=False)
            if not judged.refused:
                # the usual way of a table that lacks something; else values are looked at as well
                with suppress(*MERGE_REFUSALS):
                    return self._commit(base, whole, judged, moved)
        room = max(0, self._spec.dead_letters.at_most - len(base.dead_letters))
        cut = whole
        while True:
            judged = self._judged(base, cut, most=room)
            if len(judged.refused) <= room:
                return self._commit(base, cut, judged, moved)
            first = sorted(judged.refused)[room]
            cut = cut.before(first, judged.refused[first], part.batch)

    def _judged(
        self, base: TableProgress, cut: _Cut, *, most: int = 0, values: bool = True
    ) -> Judgement:
        table = load_table(self._catalog, self._spec.identifier)
        if table is None:
            raise StateMissingError(self._spec.label)
        judge = Judge(table, self._spec, self._merge.branch)
        lacking = self._lacking(base, judge)
        broken: dict[int, DeadLetter] = {
            letter.offset: letter for letter in self._made(base, cut.broken)
        }
        keys = {o: self._key(letter, judge) for o, letter in broken.items()}
        if cut.batch is None:
            return Judgement(dict(cut.broken), keys, frozenset())
        judged = judge.judge(cut.batch, lacking.plus(keys), most=most + 1, values=values)
        return replace(judged, refused={**judged.refused, **cut.broken})

    def _commit(self, base: TableProgress, cut: _Cut, judged: Judgement, moved: Moved) -> SetAside:
        lacks = (set(base.dead_letters) | judged.refused.keys()) - judged.superseded
        after = replace(moved(cut.last, cut.end), dead_letters=tuple(sorted(lacks)))
        if cut.stop is not None and cut.end == base.next_offset:
            return SetAside(base, None, 0, cut.stop)
        letters = self._made(base, judged.refused)
        if letters:
            outdone = judged.superseded
            self._letters.add([_resolved(x) if x.offset in outdone else x for x in letters])
            self._hooks.after_dead_letters()
        events = 0
        if cut.batch is None:
            merged = self._merge.record(base, after)
        else:
            kept = cut.batch.filter(~np.isin(cut.batch.offset, list(judged.refused)))
            merged, events = self._merge.apply(kept, base, after), len(kept)
        self._resolve(base, judged.superseded)
        return SetAside(after, merged, events, cut.stop)

    def _resolve(self, base: TableProgress, superseded: frozenset[int]) -> None:
        gone = superseded & set(base.dead_letters)
        if gone:
            lacked = self._letters.lacked(self._spec, base)
            self._letters.resolve([x for x in lacked if x.offset in gone], SUPERSEDED)

    def _lacking(self, base: TableProgress, judge: Judge) -> Lacking:
        """The rows of the table's dead letters; asked for once as long as they are the same."""
        if self._known[0] != base.dead_letters:
            letters = self._letters.lacked(self._spec, base)
            rows = {letter.offset: self._key(letter, judge) for letter in letters}
            values = {letter.offset: letter.value for letter in letters}
            self._known = (base.dead_letters, Lacking(rows, needed_by(values)))
        return self._known[1]

    def _key(self, letter: DeadLetter, judge: Judge) -> Key | None:
        return key_of_message(letter.key, letter.value, judge.key_types)

    def _made(self, base: TableProgress, refused: Refusals) -> list[DeadLetter]:
        """Dead letters of the refused offsets, with their bytes from Kafka."""
        if not refused:
            return []
        topic, now = topic_of(self._spec), datetime.now(UTC)
        messages = read_messages(self._bootstrap, topic, refused.keys())
        return [
            _letter(self._spec, base.topic_id, topic, offset, error, messages.get(offset), now)
            for offset, error in sorted(refused.items())
        ]


def _letter(
    spec: TableSpec,
    topic_id: str,
    topic: str,
    offset: int,
    error: CarbonPipelinesError,
    message: tuple[bytes | None, bytes | None] | None,
    now: datetime,
) -> DeadLetter:
    key, value = message or (None, None)
    source = _source(value)
    version = source.get("schema_version")
    return DeadLetter(
        table_name=spec.name,
        error=type(error).__name__,
        reason=str(error),
        topic=topic,
        topic_id=topic_id,
        partition=0,
        offset=offset,
        key=key,
        value=value,
        schema_version=version if isinstance(version, int) else None,
        position=_position(source),
        set_aside_at=now,
    )


def _source(value: bytes | None) -> Mapping[str, Any]:
    """The ``source`` of an envelope; empty if it has none."""
    source = json_object(value).get("source")
    return source if isinstance(source, dict) else {}


def _position(source: Mapping[str, Any]) -> str | None:
    lsn, ordinal = source.get("commit_lsn"), source.get("ordinal")
    if not isinstance(lsn, int) or not isinstance(ordinal, int):
        return None
    return str(Position(lsn, ordinal))


def _resolved(letter: DeadLetter) -> DeadLetter:
    """A dead letter that its own batch has made irrelevant."""
    return SUPERSEDED.of(letter, letter.set_aside_at)
