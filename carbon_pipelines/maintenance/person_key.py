"""The key of the person whose rows are to go, known by itself or by a salted hash.

What belongs here: typing a key that somebody wrote, hashing keys, and telling which rows carry one.
What does not: which files are read for it (``person_files.py``).

What a request leaves in the lake for its days or weeks must not be the value itself: it is BLAKE2b
keyed with a salt of 16 random bytes, of the values' lengths and texts. Of a key from a small set,
such as a number, that is a pseudonym: who may read the table's properties can try all of them. So
it goes with the request.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyiceberg.schema import Schema

from carbon_pipelines.errors import ErasureKeyError, UnrepresentableValueError
from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.extension import storage, storage_type
from carbon_pipelines.lake.keys import KeyMatcher, KeySet
from carbon_pipelines.lake.types import arrow_type

DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class PersonKey:
    """A key of one or more columns.

    Attributes:
        field_ids: Of its columns in the lake's schema; a rename leaves them as they are.
        salt: Of the hash.
        digest: The hash.
        values: The typed values, an array of one for each column; none where only the hash is
            known.
        texts: The same as they were written.
    """

    field_ids: tuple[int, ...]
    salt: bytes
    digest: bytes
    values: tuple[pa.Array, ...] = ()
    texts: tuple[str, ...] = ()

    def match(self, columns: Sequence[pa.Array]) -> np.ndarray:
        """Which rows of ``columns``, in the order of ``field_ids``, carry the key (bool)."""
        stored = [storage(column) for column in columns]
        if self.values:
            kinds = [storage_type(value.type) for value in self.values]
            same = [column.cast(kind) for column, kind in zip(stored, kinds, strict=True)]
            return KeyMatcher(KeySet(self.values)).match(same) >= 0
        texts = [_texts(column) for column in stored]
        digests = (_digest(row, self.salt) for row in zip(*texts, strict=True))
        found = (digest == self.digest for digest in digests)
        return np.fromiter(found, dtype=np.bool_, count=len(stored[0]))


def person_key(schema: Schema, written: Mapping[str, str], salt: bytes, *, label: str) -> PersonKey:
    """The key that somebody wrote, as PostgreSQL's text of each value by column.

    Raises:
        ErasureKeyError: A column is not in the table, or a value is none of its type.
    """
    values: list[pa.Array] = []
    ids: list[int] = []
    for name, text in written.items():
        if name not in {field.name for field in schema.fields}:
            raise ErasureKeyError(label, f"it has no column {name}")
        field = schema.find_field(name)
        values.append(_typed(text, arrow_type(field.field_type), name, label))
        ids.append(field.field_id)
    row = tuple(_texts(storage(value))[0] for value in values)
    digest = _digest(row, salt)
    assert digest is not None
    return PersonKey(tuple(ids), salt, digest, tuple(values), tuple(written.values()))


def _typed(text: str, kind: pa.DataType, name: str, label: str) -> pa.Array:
    if pa.types.is_list(kind):
        raise ErasureKeyError(label, f"column {name} holds lists, which identify nobody")
    try:
        return decode_column(pa.array([text]), kind, column=name)
    except (UnrepresentableValueError, pa.ArrowInvalid) as error:
        raise ErasureKeyError(label, f"the value for {name} is no {kind}") from error


def column_types(
    schemas: Sequence[Schema], field_ids: Sequence[int]
) -> list[tuple[str, pa.DataType]]:
    """Name and type of columns by their ids, as the newest schema that has them says.

    Args:
        schemas: The newest first.
        field_ids: The columns.
    """
    found: list[tuple[str, pa.DataType]] = []
    for field_id in field_ids:
        field = next(f for s in schemas for f in s.fields if f.field_id == field_id)
        found.append((field.name, arrow_type(field.field_type)))
    return found


def _digest(row: Sequence[str | None], salt: bytes) -> bytes | None:
    """The hash of one key; NULL is in none."""
    hashed = hashlib.blake2b(key=salt, digest_size=DIGEST_BYTES)
    for text in row:
        if text is None:
            return None
        encoded = text.encode()
        hashed.update(len(encoded).to_bytes(4, "big"))
        hashed.update(encoded)
    return hashed.digest()


def _texts(values: pa.Array) -> list[str | None]:
    """One text for each value, the same before and after its column's type was widened."""
    kind = values.type
    if pa.types.is_fixed_size_binary(kind) or pa.types.is_binary(kind):
        return [None if one is None else one.hex() for one in values.to_pylist()]
    if pa.types.is_date32(kind):
        values = values.view(pa.int32())
    elif pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        values = values.view(pa.int64())
    elif pa.types.is_floating(kind):
        values = values.cast(pa.float64())
    return pc.cast(values, pa.string()).to_pylist()
