r"""The one form in which values of source and lake are compared.

What belongs here: for each PostgreSQL type the DuckDB type that holds it exactly, and the SQL that
brings COPY's text and an Iceberg column to it. What does not: hashing (``rowhash.py``) and reading.

This is written apart from the lake's own types and codec on purpose: a mistake there must not be
made a second time here. The casts are DuckDB's; of ours there are only the forms DuckDB does not
read (``BC``, bytea's ``\x``, arrays). A value that does not fit its type is *refused*: it compares
unequal to everything, never equal to NULL. Sources: PostgreSQL manual 8.5 and 8.15; DuckDB manual,
"Typecasting".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from carbon_pipelines.catalog.table import TEXT_TYPE
from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.source.array_text import parse_array
from carbon_pipelines.source.relation import SourceColumn, SourceType

_DUCKDB_TYPES = {
    "int2": "INTEGER",
    "int4": "INTEGER",
    "int8": "BIGINT",
    "oid": "BIGINT",
    "bool": "BOOLEAN",
    "float4": "FLOAT",
    "float8": "DOUBLE",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "uuid": "UUID",
    "bytea": "BLOB",
}
_TEXT = "VARCHAR"
_DECLARED_DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")
NO_LIST = "\x00array"
"""Stands for an array of several dimensions or with another lower bound than 1, which a list column
cannot hold: no element equals it."""


@dataclass(frozen=True, slots=True)
class ComparedColumn:
    """A column as both ends are compared.

    Attributes:
        name: Its name in the source and in the lake.
        element: The DuckDB type of the value, or of the elements of an array.
        is_array: Whether it is an array of ``element``.
        declared_scale: Digits after the point, if an unbounded numeric is declared a decimal.
    """

    name: str
    element: str
    is_array: bool = False
    declared_scale: int | None = None

    @property
    def type(self) -> str:
        """The DuckDB type both ends must have."""
        return f"{self.element}[]" if self.is_array else self.element

    def cast(self, text: str) -> str:
        """SQL that turns PostgreSQL's text (or list of texts) into ``type``; NULL if it cannot."""
        if not self.is_array:
            return _cast_text(text, self.element)
        if self.element == _TEXT:
            return text
        return f"list_transform({text}, lambda item: {_cast_text('item', self.element)})"

    def refused(self, text: str, value: str) -> str | None:
        """SQL that is true where ``text`` has no exact place in ``type``; None if it always has."""
        if self.element == _TEXT:
            return None
        if self.is_array:
            return f"(list_count({text}) IS DISTINCT FROM list_count({value}))"
        condition = f"({text} IS NOT NULL AND {value} IS NULL)"
        if self.declared_scale is not None:
            rounded = rf"'\.\d{{{self.declared_scale}}}\d*[1-9]'"
            condition = f"({condition} OR coalesce(regexp_matches({text}, {rounded}), false))"
        return condition

    def hash_arguments(self, value: str) -> tuple[str, ...]:
        """What to pass to ``hash``; a list needs its length too, for hash([]) is hash(NULL)."""
        return (value, f"coalesce(len({value}), -1)") if self.is_array else (value,)


def compared_column(column: SourceColumn, declared: str | None = None) -> ComparedColumn:
    """How ``column`` is compared; ``declared`` is its type in the declaration, if any."""
    if declared == TEXT_TYPE:
        return ComparedColumn(column.name, _TEXT)
    is_array = column.type.element is not None and column.type.is_list
    element = (column.type.element if is_array else None) or column.type
    decimal = _DECLARED_DECIMAL.fullmatch(declared) if declared and element.typmod < 0 else None
    return ComparedColumn(
        name=column.name,
        element=_element_type(element, declared),
        is_array=is_array,
        declared_scale=int(decimal[2]) if decimal else None,
    )


def _element_type(source: SourceType, declared: str | None) -> str:
    if not source.is_built_in:
        return _TEXT
    if source.base_name == "numeric":
        return _decimal_type(source.typmod, declared)
    return _DUCKDB_TYPES.get(source.base_name, _TEXT)


def _decimal_type(typmod: int, declared: str | None) -> str:
    if declared is not None and (match := _DECLARED_DECIMAL.fullmatch(declared)):
        return f"DECIMAL({match[1]},{match[2]})"
    if typmod < 0:
        return _TEXT
    # pg_attribute.atttypmod of numeric: ((precision << 16) | scale in 11 bits, signed) + 4
    precision, scale = (typmod - 4) >> 16 & 0xFFFF, (typmod - 4) & 0x7FF
    if scale >= 1 << 10:
        scale -= 1 << 11
    if scale < 0:  # numeric(3,-2) holds up to 99900: five digits before the point
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    return f"DECIMAL({precision},{scale})" if precision <= 38 else _TEXT


def _cast_text(text: str, target: str) -> str:
    if target == _TEXT:
        return text
    if target == "BLOB":
        return f"unhex(substr({text}, 3))"
    plain = f"TRY_CAST({text} AS {target})"
    if target == "DATE":
        before_christ = f"replace({text}, ' BC', ' (BC)')"
    elif target.startswith("TIMESTAMP"):
        before_christ = rf"regexp_replace({text}, '^(\S+) (.*) BC$', '\1 (BC) \2')"
    else:
        return plain
    return (
        f"CASE WHEN {text} LIKE '% BC' THEN TRY_CAST({before_christ} AS {target}) ELSE {plain} END"
    )


def text_batch(batch: pa.RecordBatch, columns: Sequence[ComparedColumn]) -> pa.RecordBatch:
    """COPY's text columns as ``c0``, ``c1``, ..., in the order of ``columns``; arrays as lists."""
    arrays = [
        text_lists(batch.column(column.name)) if column.is_array else batch.column(column.name)
        for column in columns
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=text_schema(columns))


def text_schema(columns: Sequence[ComparedColumn]) -> pa.Schema:
    """The Arrow schema of ``text_batch``."""
    return pa.schema(
        [
            (f"c{index}", pa.list_(pa.string()) if column.is_array else pa.string())
            for index, column in enumerate(columns)
        ]
    )


def text_lists(values: pa.StringArray) -> pa.ListArray:
    """PostgreSQL's array texts as lists of element texts.

    Where no value of the batch has quotes, escapes, bounds or nesting the split is Arrow's.
    """
    irregular = pc.match_substring_regex(values, r'["\\\[]|.\{')
    if pc.any(irregular).as_py():
        return pa.array([_elements(text) for text in values.to_pylist()], pa.list_(pa.string()))
    empty = pc.equal(values, "{}")
    inner = pc.utf8_slice_codeunits(pc.if_else(empty, None, values), 1, -1)
    lists = pc.split_pattern(inner, ",")
    elements = lists.flatten()
    elements = pc.if_else(pc.equal(elements, "NULL"), None, elements)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), elements, mask=values.is_null())


def _elements(text: str | None) -> list[str | None] | None:
    if text is None:
        return None
    if text[0] == "[" or text[1] == "{":
        return [NO_LIST]
    return [
        item.decode() if isinstance(item, bytes) else None for item in parse_array(text.encode())
    ]
