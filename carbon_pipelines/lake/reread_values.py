"""The values that events lack: reading them from the source, and putting them into a batch.

What belongs here: PostgreSQL's text to what an envelope would have carried. What does not: whether
that is what the event left (``reread.py``), and the query (``source/key_read.py``).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from carbon_pipelines.catalog.table import TEXT_TYPE, TableSpec
from carbon_pipelines.lake.change_batch import UNCHANGED_SEPARATOR, ChangeBatch, EnvelopeReader
from carbon_pipelines.lake.keys import KeySet
from carbon_pipelines.lake.types import json_type
from carbon_pipelines.source.copy import ExportedSnapshot
from carbon_pipelines.source.key_read import WantedRows, read_by_key
from carbon_pipelines.source.relation import SourceColumn, SourceRelation, SourceType
from carbon_pipelines.stream.consumer import RawBatch
from carbon_pipelines.stream.json_values import value_encoding
from carbon_pipelines.stream.topics import topic_of

MAX_BYTES = 64 << 20
"""Of the values that are read for one batch; where they are more, the table needs a copy."""


@dataclass(frozen=True, slots=True)
class LackingValues:
    """Events of a batch that lack values: their indexes, keys, and the columns each lacks."""

    events: np.ndarray
    keys: KeySet
    columns: Mapping[str, np.ndarray]
    """Column -> for each event, whether it lacks the column."""


def read_values(
    dsn: str,
    snapshot: ExportedSnapshot,
    batch: ChangeBatch,
    lacking: LackingValues,
    spec: TableSpec,
    present: SourceRelation,
) -> pa.Table | None:
    """The columns that any of the rows lacks, as text, a row for each; None where it is too much.

    A row that the source has not, has NULLs.
    """
    types = {column.name: column.type for column in present.columns}
    rows = pa.array(lacking.events)
    keys = [
        [_text(value, types[name]) for value in batch.after.column(name).take(rows).to_pylist()]
        for name in spec.key
    ]
    wanted = WantedRows(spec.key, keys, list(lacking.columns))
    read = read_by_key(dsn, snapshot.snapshot_id, present, wanted, max_bytes=MAX_BYTES)
    if read is None:
        return None
    places = np.full(len(lacking.events), -1)
    places[read.column(0).to_numpy()] = np.arange(read.num_rows)
    return read.take(pa.array(places, mask=places < 0))


def _text(value: object, kind: SourceType) -> str:
    """PostgreSQL's text of a key's value in an envelope."""
    if kind.is_built_in and kind.base_name == "bytea":
        return f"\\x{value}"
    return str(value)


def filled(
    batch: ChangeBatch, spec: TableSpec, column: SourceColumn, events: np.ndarray, texts: pa.Array
) -> ChangeBatch:
    """``batch`` as if its ``events`` had carried ``texts``.

    Raises:
        MalformedEnvelopeError, UnrepresentableValueError: One has no place in an envelope.
    """
    name, declared = column.name, spec.declared_type(column.name)
    encode = value_encoding(column.type, as_text=declared == TEXT_TYPE).encode
    messages = [
        b'{"op":"c","after":{%b:%b},"source":{"txId":0,"commit_lsn":0,"ordinal":0,'
        b'"schema_version":0}}'
        % (json.dumps(name).encode(), encode(text) if encode is not None else text)
        for text in (value.encode() for value in texts.to_pylist())
    ]
    reader = EnvelopeReader(topic_of(spec), {name: json_type(column.type, declared)}, ())
    raw = RawBatch(messages, batch.offset[events].tolist(), 0, 0)
    values = reader.read(raw).after.column(name).combine_chunks()
    old = batch.after.column(name).combine_chunks()
    index = np.arange(len(old))
    index[events] = len(old) + np.arange(len(events))
    place = batch.after.column_names.index(name)
    after = batch.after.set_column(
        place, name, pa.concat_arrays([old, values]).take(pa.array(index))
    )
    unchanged = batch.unchanged.to_pylist()
    for event in events.tolist():
        left = [n for n in (unchanged[event] or "").split(UNCHANGED_SEPARATOR) if n != name]
        unchanged[event] = UNCHANGED_SEPARATOR.join(left) or None
    return replace(batch, after=after, unchanged=pa.array(unchanged, pa.string()))
