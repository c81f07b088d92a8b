"""Which dead letters are about the person.

What belongs here: the keys that a message's bytes name, and holding them against the person's. What
does not: the dead letters' table (``lake/dead_letters.py``).

A message names keys in its own key and in the images of its row before and after the change. One
that names none, since it cannot be read, is the person's if its bytes have the text of every value
of the key; that can be told only while the key itself is at hand.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from carbon_pipelines.errors import UnrepresentableValueError
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.lake.lacking import json_object
from carbon_pipelines.maintenance.person_key import PersonKey

COLUMNS = ("table_name", "key", "value")


@dataclass(frozen=True, slots=True)
class PersonLetters:
    """Tells the letters of one table that are about a key.

    Attributes:
        table_name: The table's logical name.
        key: The person's.
        columns: Name and type of each column of the key, as they are now.
        texts: The values as they were written; none where only the hash is known.
    """

    table_name: str
    key: PersonKey
    columns: Sequence[tuple[str, pa.DataType]]
    texts: Sequence[str] = ()

    def match(self, columns: Sequence[pa.Array]) -> np.ndarray:
        """Which rows of ``COLUMNS`` are about the person (bool)."""
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        found = (name == self.table_name and self.is_about(key, value) for name, key, value in rows)
        return np.fromiter(found, dtype=np.bool_, count=len(columns[0]))

    def is_about(self, key: bytes | None, value: bytes | None) -> bool:
        """Whether a message is."""
        named = list(self._keys(key, value))
        if named:
            return any(bool(self.key.match(one)[0]) for one in named)
        message = (key or b"") + b"\0" + (value or b"")
        return bool(self.texts) and all(text.encode() in message for text in self.texts)

    def names_a_row(self, key: bytes | None, value: bytes | None) -> bool:
        """Whether a message says whose it is."""
        return any(True for _ in self._keys(key, value))

    def _keys(self, key: bytes | None, value: bytes | None) -> Iterator[list[pa.Array]]:
        envelope = _payload(json_object(value))
        for image in (_payload(json_object(key)), envelope.get("before"), envelope.get("after")):
            if isinstance(image, dict) and (typed := self._typed(image)) is not None:
                yield typed

    def _typed(self, image: Mapping[str, Any]) -> list[pa.Array] | None:
        names = [name for name, _ in self.columns]
        if len(image) == len(names) and not image.keys() & set(names):
            image = dict(zip(names, image.values(), strict=True))  # as it was before a rename
        if any(image.get(name) is None for name in names):
            return None
        try:
            return [
                decode_column(pa.array([image[name]]), kind, column=name)
                for name, kind in self.columns
            ]
        except (UnrepresentableValueError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None


def _payload(message: dict[str, Any]) -> dict[str, Any]:
    """What a connector wraps into its schema."""
    inner = message.get("payload")
    return inner if isinstance(inner, dict) else message
