"""Giving chosen keys the rows that are known to be theirs, as one snapshot.

What belongs here: whether rows that were right at one progress of the table still are, and the
commit that replaces whatever stands at their keys. What does not: how the rows became known
(``quality/repair.py``).

What keeps the table exact beside a stream that goes on, in this order:
1. a row is known for a progress of the table: what the source's row was when everything before that
   progress had been committed, and nothing after it;
2. the table is loaded. It may have merged since; a row is still right unless an event between the
   known progress and the loaded one names its key. Keys that one names are left out, and a table
   that was truncated, copied anew or changed its shape in between is refused altogether;
3. the commit carries the loaded progress unchanged, so every later event is merged on top of it. It
   lands only on the snapshot that was loaded; if the table moved on, it is begun again from 2.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import CommitConflictError, StateMissingError, TableMovedError
from carbon_pipelines.lake.change_batch import TRUNCATE, EnvelopeReader
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.connection import lake_errors, load_table
from carbon_pipelines.lake.evolution import arrow_schema
from carbon_pipelines.lake.keys import KeyMatcher, KeySet, number_keys
from carbon_pipelines.lake.merge import COMMIT_ATTEMPTS, MergeHooks
from carbon_pipelines.lake.new_rows import sort_rows
from carbon_pipelines.lake.row_swap import swap_rows
from carbon_pipelines.lake.state import TableProgress, load_progress
from carbon_pipelines.lake.types import json_type
from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.stream.changes import read_changes
from carbon_pipelines.stream.topics import topic_of


@dataclass(frozen=True, slots=True)
class KnownRows:
    """What some keys hold at one progress of the table.

    Attributes:
        progress: Where a table stands for which this is right.
        relation: The source table, for the types of the keys in its events.
        keys: The key columns, typed as the lake's; every key whose rows are replaced.
        rows: Rows of those keys, typed; a key without one is to have none. Columns that the source
            has no more may be left out.
    """

    progress: TableProgress
    relation: SourceRelation
    keys: pa.Table
    rows: pa.Table


@dataclass(frozen=True, slots=True)
class Replaced:
    """What was done; no snapshot if events came for every key. Rows are counted in the lake."""

    snapshot_id: int | None
    keys: int
    written_rows: int
    removed_rows: int
    moved_keys: int


class RowReplacement:
    """Replaces rows of one table's ``main``."""

    def __init__(
        self,
        catalog: Catalog,
        table: TableSpec,
        bootstrap: str,
        *,
        hooks: MergeHooks | None = None,
    ) -> None:
        self._catalog, self._spec, self._bootstrap = catalog, table, bootstrap
        self._hooks = hooks or MergeHooks()

    def apply(self, known: Sequence[KnownRows], notes: Mapping[str, str]) -> Replaced:
        """Replace the rows of every key that no event has named since, in one snapshot.

        Args:
            known: No key is in two of them.
            notes: Summary properties to leave in the snapshot, next to the progress.

        Raises:
            TableMovedError: The table was truncated, copied anew or changed its shape (retryable
                with newly read rows).
            CommitConflictError: Other writers won too many times (retryable).
            CommitUnknownError: The answer to the commit was lost (retryable).
        """
        for _ in range(COMMIT_ATTEMPTS):
            table, progress = self._load()
            still = [_still_right(part, self._unnamed(part, progress)) for part in known]
            moved = sum(len(part.keys) for part in known) - sum(len(keys) for keys, _ in still)
            keys = pa.concat_tables([keys for keys, _ in still])
            rows = pa.concat_tables([rows for _, rows in still], promote_options="default")
            if not len(keys):
                return Replaced(None, 0, 0, 0, moved)
            properties = {**progress.to_properties(), **notes}
            replaced = self._replace(table, keys, rows, properties, moved)
            if replaced is not None:
                self._hooks.after_commit()
                return replaced
        raise CommitConflictError(self._spec.label, COMMIT_ATTEMPTS)

    def _load(self) -> tuple[Table, TableProgress]:
        table = load_table(self._catalog, self._spec.identifier)
        progress = load_progress(table.metadata, self._spec.label) if table is not None else None
        if table is None or progress is None:
            raise StateMissingError(self._spec.label)
        return table, progress

    def _replace(
        self,
        table: Table,
        keys: pa.Table,
        rows: pa.Table,
        properties: Mapping[str, str],
        moved: int,
    ) -> Replaced | None:
        """One attempt on the table as loaded; None if another commit came first."""
        with lake_errors(f"Iceberg table {self._spec.label}"):
            swapped = swap_rows(
                table,
                self._spec.key,
                _key_set(keys, self._spec.key),
                sort_rows(_whole(rows, arrow_schema(table.schema())), self._spec),
                properties,
                after_write=self._hooks.after_write,
            )
        if swapped is None:
            return None
        return Replaced(swapped.snapshot_id, len(keys), rows.num_rows, swapped.removed_rows, moved)

    def _unnamed(self, part: KnownRows, now: TableProgress) -> np.ndarray:
        """Which keys of ``part`` no event between its progress and ``now`` names."""
        _check_follows(self._spec.label, part.progress, now)
        unnamed = np.ones(len(part.keys), dtype=bool)
        matcher = KeyMatcher(_key_set(part.keys, self._spec.key))
        for columns in self._event_keys(part, now.next_offset):
            numbers = matcher.match(columns)
            unnamed[numbers[numbers >= 0]] = False
        return unnamed

    def _event_keys(self, part: KnownRows, end_offset: int) -> Iterator[list[pa.Array]]:
        """The keys that events name: the old ones, then the new ones, a batch at a time."""
        start, topic = part.progress.next_offset, topic_of(self._spec)
        if start == end_offset:
            return
        types = {c.name: c.type for c in part.relation.columns}
        declared = self._spec.declared_type
        key = {name: json_type(types[name], declared(name)) for name in self._spec.key}
        reader = EnvelopeReader(topic, key, self._spec.key)
        position = part.progress.position
        for raw in read_changes(self._bootstrap, self._spec, start, end_offset, after=position):
            if not raw.values:
                continue
            batch = reader.read(raw)
            if (batch.operation == TRUNCATE).any():
                raise TableMovedError(self._spec.label, "the source table was truncated")
            for image in (batch.before, batch.after):
                present = image.filter(image.column(self._spec.key[0]).is_valid())
                yield [
                    decode_column(
                        present.column(name).combine_chunks(),
                        part.keys.schema.field(name).type,
                        column=name,
                    )
                    for name in self._spec.key
                ]


def _check_follows(label: str, known: TableProgress, now: TableProgress) -> None:
    """Only merging may lie between two progresses of which one is to say something of the other.

    A copy that is newer than ``known`` may hold changes whose events are yet to be skipped, so it
    would not be told from its offsets that a key has changed.
    """
    merged = replace(
        known,
        position=now.position,
        next_offset=now.next_offset,
        ddl_offset=now.ddl_offset,
        edge=now.edge,
        dead_letters=now.dead_letters,
    )
    if merged != now or now.edge not in (None, known.edge):
        raise TableMovedError(label, "it was copied anew, or its columns changed")
    if now.next_offset < known.next_offset:
        raise TableMovedError(label, "its main branch was set back")


def _still_right(part: KnownRows, unnamed: np.ndarray) -> tuple[pa.Table, pa.Table]:
    """Keys and rows of ``part`` at the keys that are kept."""
    names = part.keys.column_names
    numbers = KeyMatcher(_key_set(part.keys, names)).match(_arrays(part.rows, names))
    return part.keys.filter(pa.array(unnamed)), part.rows.filter(pa.array(unnamed[numbers]))


def _key_set(keys: pa.Table, names: Sequence[str]) -> KeySet:
    """The keys in their order; ``keys`` holds each once."""
    return KeySet(tuple(_arrays(keys, names)))


def _arrays(columns: pa.Table, names: Sequence[str]) -> list[pa.Array]:
    return [columns.column(name).combine_chunks() for name in names]


def distinct_keys(keys: pa.Table) -> pa.Table:
    """Each key once."""
    found, _ = number_keys(_arrays(keys, keys.column_names))
    return pa.Table.from_arrays(list(found.columns), schema=keys.schema)


def _whole(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """``rows`` in the table's column order, columns that the source has no more as NULLs."""
    arrays = [
        rows.column(field.name).combine_chunks()
        if field.name in rows.column_names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
