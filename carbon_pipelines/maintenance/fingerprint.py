"""What must be the same of rows before and after they were written again.

What belongs here: counting rows and NULLs and hashing keys, whatever the order of the rows, and
comparing. What does not: reading and writing the rows (``rewrite.py``).

The keys' hash is the sum and the exclusive or, modulo 2^64, of a hash of each row's key: a key that
is lost, doubled or changed changes both unless 64-bit hashes collide. Rows without a key are hashed
by all of their values. What was written is hashed as it is read back from the store, and its NULLs
are those that the files' footers count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import PrimitiveType

from carbon_pipelines.lake.extension import storage

if TYPE_CHECKING:
    import duckdb

_NULL = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is known of some rows; ``nulls`` counts NULLs by column."""

    rows: int = 0
    key_sum: int = 0
    key_xor: int = 0
    nulls: dict[str, int] = field(default_factory=dict[str, int])


def key_columns(schema: Schema) -> tuple[str, ...]:
    """The columns that a row is known by: its key, else all."""
    key = tuple(sorted(schema.identifier_field_names()))
    return key or tuple(field.name for field in schema.fields)


class Fingerprinter:
    """Sums rows up as they come by."""

    def __init__(self, schema: Schema, key: Sequence[str]) -> None:
        self._key = tuple(key)
        self._nullable = [
            field.name for field in schema.fields if isinstance(field.field_type, PrimitiveType)
        ]
        self._rows, self._sum, self._xor = 0, 0, 0
        self._nulls = dict.fromkeys(self._nullable, 0)
        self._engine: duckdb.DuckDBPyConnection | None = None

    def add(self, rows: pa.Table, *, keys_only: bool = False) -> None:
        """Count ``rows`` in; with ``keys_only`` they have the key's columns alone."""
        if not rows.num_rows:
            return
        codes = self._codes(rows.column(self._key[0]))
        for name in self._key[1:]:
            codes = _mixed(codes * np.uint64(31) + self._codes(rows.column(name)))
        self._rows += rows.num_rows
        self._sum = (self._sum + int(codes.sum(dtype=np.uint64))) % 2**64
        self._xor ^= int(np.bitwise_xor.reduce(codes))
        for name in () if keys_only else self._nullable:
            self._nulls[name] += rows.column(name).null_count

    def result(self) -> Fingerprint:
        """What was counted; nothing can be added any more."""
        if self._engine is not None:
            self._engine.close()
        return Fingerprint(self._rows, self._sum, self._xor, dict(self._nulls))

    def _codes(self, column: pa.ChunkedArray) -> np.ndarray:
        """A number for each value, the same for equal ones."""
        chunks = [storage(chunk) for chunk in column.chunks]
        kind = chunks[0].type
        if _is_integral(kind):
            parts = [self._integers(chunk) for chunk in chunks]
            return np.concatenate(parts)
        if self._engine is None:
            import duckdb  # only keys that are no numbers need it

            self._engine = duckdb.connect(config={"threads": 1})
        values = pa.table({"v": pa.chunked_array(chunks, kind)})
        self._engine.register("rows", values)
        hashed = self._engine.execute("SELECT hash(v) AS h FROM rows").to_arrow_table()
        self._engine.unregister("rows")
        return hashed.column("h").to_numpy().astype(np.uint64)

    @staticmethod
    def _integers(values: pa.Array) -> np.ndarray:
        whole = values.view(pa.int32()).cast(pa.int64()) if values.type.bit_width == 32 else values
        if not pa.types.is_int64(whole.type):
            whole = whole.view(pa.int64())
        if not values.null_count:
            return _mixed(whole.to_numpy().view(np.uint64))
        numbers = whole.fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
        missing = values.is_null().to_numpy(zero_copy_only=False)
        return np.where(missing, _NULL, _mixed(numbers))


def _is_integral(kind: pa.DataType) -> bool:
    is_number = pa.types.is_int32(kind) or pa.types.is_int64(kind)
    return is_number or pa.types.is_date32(kind) or pa.types.is_timestamp(kind)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Each number spread over all 64 bits (the finaliser of splitmix64)."""
    mixed = numbers ^ (numbers >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
