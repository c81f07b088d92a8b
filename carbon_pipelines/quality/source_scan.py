"""Reading the source under one exported snapshot, as text.

What belongs here: which columns are read, in which ranges, and keeping the reader's own error while
DuckDB pulls from it. What does not: COPY itself (``source/copy.py``) and casts (``canonical.py``).
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from carbon_pipelines.errors import CarbonPipelinesError
from carbon_pipelines.quality.canonical import ComparedColumn, text_batch, text_schema
from carbon_pipelines.quality.rowhash import RowShape
from carbon_pipelines.quality.touched_keys import Key
from carbon_pipelines.source.copy import CtidRange, ExportedSnapshot, read_range
from carbon_pipelines.source.key_read import WantedRows, read_by_key
from carbon_pipelines.source.leaves import load_heaps_as_of
from carbon_pipelines.source.relation import SourceRelation

SOURCE_TEXT = "source_text"
"""The name under which DuckDB knows the stream of the source's rows."""
KEYS_AT_ONCE = 5_000
"""Keys that one query names."""
ANSWER_BYTES = 64_000_000
"""Text of an answer; where it is more, fewer keys are asked for."""
LONGEST_ROW_BYTES = 1 << 31
"""Of one row; PostgreSQL has none that is longer."""


def source_batches(
    dsn: str,
    snapshot: ExportedSnapshot,
    relation: SourceRelation,
    columns: Sequence[ComparedColumn],
) -> Iterator[pa.RecordBatch]:
    """Every row as ``snapshot`` sees it, as text; one COPY of each table that holds some."""
    names, whole = [column.name for column in columns], CtidRange(0, None)
    for heap in load_heaps_as_of(dsn, snapshot.snapshot_id, relation):
        yield from read_range(dsn, snapshot.snapshot_id, heap.relation, names, whole, {})


def rows_of_keys(
    dsn: str,
    snapshot: ExportedSnapshot,
    relation: SourceRelation,
    shape: RowShape,
    keys: Sequence[Key],
) -> Iterator[pa.RecordBatch]:
    """The rows of some keys as ``snapshot`` sees them, as ``source_batches`` gives all of them."""
    names = [column.name for column in shape.columns]
    key = [names[i] for i in shape.key]
    for first in range(0, len(keys), KEYS_AT_ONCE):
        waiting = [keys[first : first + KEYS_AT_ONCE]]
        while waiting:
            chosen = waiting.pop()
            texts = [list(map(str, values)) for values in zip(*chosen, strict=True)]
            found = read_by_key(
                dsn,
                snapshot.snapshot_id,
                relation,
                WantedRows(key, texts, names),
                max_bytes=ANSWER_BYTES if len(chosen) > 1 else LONGEST_ROW_BYTES,
            )
            if found is not None:
                yield from found.select(names).to_batches()
            else:  # wide rows: fewer at once
                half = len(chosen) // 2
                waiting += [chosen[half:], chosen[:half]]


def can_read_by_key(shape: RowShape) -> bool:
    """Whether rows of some keys can be asked for by equality, as those of a table with a key can.

    Floats have values that are equal and not written alike, and arrays are no plain texts.
    """
    columns = [shape.columns[i] for i in shape.key]
    return bool(columns) and not any(
        column.is_array or column.type in {"FLOAT", "DOUBLE"} for column in columns
    )


@dataclass(slots=True)
class SourceStream:
    """Batches for DuckDB; it turns a Python error into one of its own, so ours is kept here."""

    batches: Callable[[], Iterator[pa.RecordBatch]]
    columns: Sequence[ComparedColumn]
    error: CarbonPipelinesError | None = field(default=None, init=False)

    def reader(self) -> pa.RecordBatchReader:
        """Text columns ``c0..``, read as DuckDB asks for them."""
        return pa.RecordBatchReader.from_batches(text_schema(self.columns), self._pull())

    def _pull(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self.batches():
                yield text_batch(batch, self.columns)
        except CarbonPipelinesError as error:
            self.error = error
            raise


@contextmanager
def registered(engine: duckdb.DuckDBPyConnection, stream: SourceStream) -> Generator[None]:
    """Let one query read ``stream`` as ``SOURCE_TEXT``.

    Raises:
        CarbonPipelinesError: Whatever ended the reading, as it was raised.
    """
    engine.register(SOURCE_TEXT, stream.reader())
    try:
        yield
    except duckdb.Error:
        if stream.error is not None:
            raise stream.error from None
        raise
    finally:
        engine.unregister(SOURCE_TEXT)
