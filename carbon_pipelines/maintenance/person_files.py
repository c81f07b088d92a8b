"""Which rows of which data files are the person's, deleted ones too.

What belongs here: reading a few columns of any data file of a table, whether a snapshot has it or
none, and where in it the rows are. What does not: which files are asked about
(``person_snapshots.py``, ``erasure_litter.py``) and what becomes of them.

Row groups whose statistics allow no match are not read, where the key itself is known.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from carbon_pipelines.lake.dead_letters import NAME as DEAD_LETTERS
from carbon_pipelines.lake.extension import storage, storage_type
from carbon_pipelines.lake.lookup import column_names
from carbon_pipelines.lake.pruning import BoundsPruner
from carbon_pipelines.lake.table_files import LiveFile
from carbon_pipelines.lake.types import arrow_type
from carbon_pipelines.maintenance.person_key import PersonKey
from carbon_pipelines.maintenance.person_letters import COLUMNS, PersonLetters

PARALLEL_FILES = 8
READ_ROWS = 65_536


class RowMatch(Protocol):
    """Tells rows by some of their columns."""

    def match(self, columns: Sequence[pa.Array]) -> np.ndarray:
        """Which of the rows are meant (bool)."""
        ...


class PersonFiles:
    """Finds the person's rows in data files of one table; remembers what it has found."""

    def __init__(self, table: Table, key: PersonKey, letters: PersonLetters | None = None) -> None:
        self._io: FileIO = table.io
        self._match: RowMatch = key
        ids = key.field_ids
        if table.name()[-1] == DEAD_LETTERS:
            assert letters is not None
            self._match = letters
            ids = tuple(table.schema().find_field(name).field_id for name in COLUMNS)
        self._schema = _with_columns(table, ids)
        self._ids = ids
        fields = [self._schema.find_field(field_id) for field_id in ids]
        self._kinds = [storage_type(arrow_type(field.field_type)) for field in fields]
        self._pruners: list[BoundsPruner] = []
        if self._match is key and key.values:
            pairs = zip(key.values, ids, strict=True)
            self._pruners = [BoundsPruner(storage(v), i, self._schema) for v, i in pairs]
        self._known: dict[str, np.ndarray | None] = {}

    def find(self, paths: Iterable[str]) -> dict[str, np.ndarray | None]:
        """Positions of the rows in each file, sorted; None for one that cannot be read or is gone.

        Raises:
            OSError: The store does not answer.
        """
        asked = list(dict.fromkeys(paths))
        unknown = [path for path in asked if path not in self._known]
        with ThreadPoolExecutor(PARALLEL_FILES) as pool:
            self._known.update(zip(unknown, pool.map(self._read, unknown), strict=True))
        return {path: self._known[path] for path in asked}

    def may_hold(self, file: LiveFile) -> bool:
        """Whether a file may hold such a row, by the bounds that a manifest tells."""
        return all(pruner.may_hold(file) for pruner in self._pruners)

    def _read(self, path: str) -> np.ndarray | None:
        try:
            with self._io.new_input(path).open() as stream:
                return self._positions(pq.ParquetFile(stream))
        except (FileNotFoundError, pa.ArrowInvalid):
            return None

    def _positions(self, parquet: pq.ParquetFile) -> np.ndarray:
        names = column_names(parquet.schema_arrow, self._schema, self._ids)
        there = [name for name in names if name is not None]
        found = [np.empty(0, dtype=np.int64)]
        if len(there) < len(names) and not isinstance(self._match, PersonLetters):
            return found[0]  # the key has a NULL there
        first, may_be_in = 0, self._groups(parquet, there)
        for group in range(parquet.num_row_groups):
            start, rows = first, parquet.metadata.row_group(group).num_rows
            first += rows
            if group not in may_be_in:
                continue
            for batch in parquet.iter_batches(
                READ_ROWS, row_groups=[group], columns=there, use_threads=False
            ):
                columns = [
                    storage(batch.column(name)).cast(kind)
                    if name is not None
                    else pa.nulls(len(batch), kind)
                    for name, kind in zip(names, self._kinds, strict=True)
                ]
                found.append(np.flatnonzero(self._match.match(columns)) + start)
                start += len(batch)
        return np.concatenate(found).astype(np.int64)

    def _groups(self, parquet: pq.ParquetFile, names: Sequence[str]) -> set[int]:
        """The row groups whose statistics allow a match."""
        groups = set(range(parquet.num_row_groups))
        for pruner, name in zip(self._pruners, names, strict=False):
            groups &= {number for number, _ in pruner.row_groups(parquet.metadata, name)}
        return groups


def _with_columns(table: Table, field_ids: Sequence[int]) -> Schema:
    """The newest schema of the table that has all of these columns.

    One that was dropped since is in files that were written before.
    """
    newest_first = sorted(table.schemas().values(), key=lambda one: -one.schema_id)
    for schema in (table.schema(), *newest_first):
        if set(field_ids) <= {field.field_id for field in schema.fields}:
            return schema
    return table.schema()
