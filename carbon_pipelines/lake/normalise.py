"""Events of any schema version under the columns that the table has now.

What belongs here: reading the events of one version by that version's columns, and giving those
columns, known by ``attnum``, the names and types of the present ones. What does not: which versions
there are (``schema_follow.py``) and which events count (``catch_up.py``).

An event is written under the names that its columns had then. A name may have gone to another
column since, so nothing is matched by name across versions. A column that is no more is left out,
one that an event's version has not yet has the constant that PostgreSQL gave to rows of that time,
or NULL.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.change_batch import (
    UNCHANGED_SEPARATOR,
    ChangeBatch,
    EnvelopeReader,
)
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.evolution import captured_columns
from carbon_pipelines.lake.types import json_type
from carbon_pipelines.source.relation import SourceColumn, SourceRelation
from carbon_pipelines.stream.consumer import RawBatch
from carbon_pipelines.stream.topics import topic_of


class Normaliser:
    """Reads events of every version of one table under its present columns.

    Args:
        spec: The declaration under the present names.
        present: The shape that the table has now.
        versions: Every recorded shape of the same table.
    """

    def __init__(
        self, spec: TableSpec, present: SourceRelation, versions: Iterable[SourceRelation]
    ) -> None:
        self._spec, self.present = spec, present
        self._versions = {r.version: r for r in (*versions, present) if r.oid == present.oid}
        self._columns = captured_columns(present, spec)
        self._constants = _constants(spec, self._columns, self._versions)
        self._readers: dict[int, _VersionReader] = {}

    def knows(self, version: int) -> bool:
        """Whether events of ``version`` can be read."""
        return version in self._versions

    def read(self, raw: RawBatch, version: int) -> ChangeBatch:
        """The events of ``raw``, all of which have to be of one version.

        Raises:
            MalformedEnvelopeError: Names the first message that is no such event.
        """
        if version not in self._readers:
            self._readers[version] = self._compile(self._versions[version])
        return self._readers[version].read(raw)

    def _compile(self, relation: SourceRelation) -> "_VersionReader":
        then = {column.attnum: column for column in relation.columns}
        columns = [
            _Column(
                now,
                then.get(now.attnum),
                self._constants.get(now.attnum),
                self._spec.declared_type(now.name),
            )
            for now in self._columns
        ]
        return _VersionReader(self._spec, columns)


@dataclass(frozen=True, slots=True)
class _Column:
    """A present column, and the same one in the version that is read, if it was there."""

    now: SourceColumn
    then: SourceColumn | None
    constant: pa.Array | None
    declared: str | None

    @property
    def is_the_same(self) -> bool:
        return self.then is not None and (self.then.name, self.then.type) == (
            self.now.name,
            self.now.type,
        )


class _VersionReader:
    """Reads events of one version."""

    def __init__(self, spec: TableSpec, columns: Sequence[_Column]) -> None:
        self._columns = columns
        self._changed = not all(column.is_the_same for column in columns)
        self._names = {c.then.name: c.now.name for c in columns if c.then is not None}
        self._old = [c for c in columns if spec.is_bag or c.now.name in spec.key]
        then = {c.now.name: c.then.name for c in columns if c.then is not None}
        self._reader = EnvelopeReader(
            topic_of(spec),
            {
                c.then.name: json_type(c.then.type, c.declared)
                for c in columns
                if c.then is not None
            },
            [then[name] for name in spec.key],
            whole_rows=spec.is_bag,
        )

    def read(self, raw: RawBatch) -> ChangeBatch:
        batch = self._reader.read(raw)
        if not self._changed:
            return batch
        return replace(
            batch,
            before=self._present(batch.before, self._old, len(batch)),
            after=self._present(batch.after, self._columns, len(batch)),
            unchanged=_translated(batch.unchanged, self._names),
        )

    def _present(self, read: pa.Table, columns: Sequence[_Column], rows: int) -> pa.Table:
        return pa.table(
            [_present_values(read, column, rows) for column in columns],
            names=[column.now.name for column in columns],
        )


def _present_values(read: pa.Table, column: _Column, rows: int) -> pa.Array | pa.ChunkedArray:
    kind = json_type(column.now.type, column.declared)
    if column.then is None:
        if column.constant is None:
            return pa.nulls(rows, kind)
        return pa.concat_arrays([column.constant]).take(pa.array([0] * rows, pa.int64()))
    values = read.column(column.then.name)
    if (column.then.type.base_name, column.now.type.base_name) == ("float4", "float8"):
        # as PostgreSQL's own cast: 0.1 as a float is not the double 0.1
        values = values.cast(pa.float32())
    return values if values.type == kind else values.cast(kind)


def _constants(
    spec: TableSpec, columns: Sequence[SourceColumn], versions: Mapping[int, SourceRelation]
) -> dict[int, pa.Array]:
    """Attnum -> the value that rows had when the column was added, as events would spell it.

    Only the version that brought the column tells: later ones forget it once the table is
    rewritten, when every row has it written out.
    """
    found: dict[int, pa.Array] = {}
    wanted = {column.attnum: column for column in columns}
    for _, relation in sorted(versions.items()):
        for column in relation.columns:
            if column.attnum in wanted:
                now = wanted.pop(column.attnum)
                if column.missing_value is not None:
                    text = pa.array([column.missing_value])
                    kind = json_type(now.type, spec.declared_type(now.name))
                    found[now.attnum] = decode_column(text, kind, column=now.name)
    return found


def _translated(unchanged: pa.Array, names: Mapping[str, str]) -> pa.Array:
    """The names of unchanged columns as they are called now; null where none is left."""
    if unchanged.null_count == len(unchanged):
        return unchanged
    encoded = unchanged.dictionary_encode()
    texts = [
        UNCHANGED_SEPARATOR.join(names[n] for n in text.split(UNCHANGED_SEPARATOR) if n in names)
        for text in encoded.dictionary.to_pylist()
    ]
    known = pa.array([text or None for text in texts], pa.string())
    return pc.take(known, encoded.indices)
