"""PostgreSQL's text form of values to Arrow, a column at a time.

What belongs here: the conversion of values. Both the first copy (COPY, csv) and the merge
(envelopes) come through here, so a value is the same however it arrived. What does not: which type
a column has (``types.py``). The usual forms go through Arrow's vectorised casts; only a column that
holds a value these do not know (infinity, BC, years past 9999) is parsed a value at a time.
Infinite timestamps and dates are stored as the largest and the negated largest integer, which
DuckDB reads as infinity; see docs/lake.md.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from carbon_pipelines.errors import UnrepresentableValueError
from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.temporal import parse_date, parse_time, parse_timestamp
from carbon_pipelines.lake.types import type_name
from carbon_pipelines.source.array_text import parse_array


def decode_column(values: pa.Array, target: pa.DataType, *, column: str) -> pa.Array:
    """Convert one column of values in PostgreSQL's forms to ``target``.

    Args:
        values: Text, or numbers, booleans and lists as envelopes and csv give them.
        target: The Arrow type of ``types.arrow_type``.
        column: The column's name, for errors.

    Raises:
        UnrepresentableValueError: A value has no place in ``target``; the value is named.
    """
    if values.type == target:
        return values
    if pa.types.is_list(target):
        return _decode_list(values, target, column)
    if not pa.types.is_string(values.type):
        return _cast(values, target, column)
    return _decode_text(values, target, column)


def decode_text_batch(batch: pa.RecordBatch, targets: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Convert every column of ``batch`` that ``targets`` names; others are left out."""
    return pa.RecordBatch.from_arrays(
        [
            decode_column(batch.column(name), target, column=name)
            for name, target in targets.items()
        ],
        names=list(targets),
    )


def _decode_text(values: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    if isinstance(target, pa.UuidType):
        return _decode_uuid(values, column)
    if pa.types.is_binary(target):
        return _decode_hex(values, column)
    if pa.types.is_boolean(target):
        return _decode_boolean(values, column)
    if pa.types.is_date32(target):
        return _cast_or_parse(values, target, parse_date, np.int32, column)
    if pa.types.is_time64(target):
        return _decode_time(values, target, column)
    if pa.types.is_timestamp(target):
        return _cast_or_parse(values, target, parse_timestamp, np.int64, column)
    return _cast(values, target, column)


def _decode_boolean(values: pa.Array, column: str) -> pa.Array:
    known = pc.index_in(values, value_set=pa.array(["f", "false", "t", "true"]))
    if known.null_count != values.null_count:
        raise UnrepresentableValueError(column, "boolean", _first(values, known))
    return pc.greater_equal(known, 2)


def _first(values: pa.Array, converted: pa.Array) -> str:
    """The first value that did not convert."""
    failed = pc.and_(pc.is_valid(values), pc.is_null(converted))
    return str(values.filter(failed)[0].as_py())


def _cast(values: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    try:
        return values.cast(target)
    except pa.ArrowInvalid as error:
        raise UnrepresentableValueError(
            column, type_name(target), _first_that_fails(values, target)
        ) from error


def _first_that_fails(values: pa.Array, target: pa.DataType) -> str:
    """Halve the array until the value that does not cast is alone."""
    while len(values) > 1:
        half = values.slice(0, len(values) // 2)
        try:
            half.cast(target)
            values = values.slice(len(half))
        except pa.ArrowInvalid:
            values = half
    return str(values[0].as_py())


def _cast_or_parse(
    values: pa.Array,
    target: pa.DataType,
    parse: Callable[[str], int | None],
    width: type[np.int32 | np.int64],
    column: str,
    called: str | None = None,
) -> pa.Array:
    try:
        return values.cast(target)
    except pa.ArrowInvalid:
        pass
    numbers = np.zeros(len(values), dtype=width)
    for index, text in enumerate(values.to_pylist()):
        if text is not None:
            number = parse(text)
            if number is None:
                raise UnrepresentableValueError(column, called or type_name(target), text)
            numbers[index] = number
    missing = values.is_null().to_numpy(zero_copy_only=False)
    return pa.array(numbers, mask=missing).view(target)


def _decode_time(values: pa.Array, target: pa.DataType, column: str) -> pa.Array:
    """Times of day by way of a timestamp on the first day: Arrow casts no text to a time."""
    dated = pc.binary_join_element_wise("1970-01-01", values, " ")
    moments = _cast_or_parse(dated, pa.timestamp("us"), _first_day, np.int64, column, "time")
    return moments.view(pa.int64()).view(target)


def _first_day(text: str) -> int | None:
    return parse_time(text.removeprefix("1970-01-01 "))


def _joined_hex(values: pa.Array, column: str, target: str) -> bytes:
    """All hex digits of a text column, decoded at once."""
    text = b"".join(
        pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values), "")
        .cast(pa.binary())
        .to_pylist()
    )
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError as error:
        raise UnrepresentableValueError(column, target, "text that is not hexadecimal") from error


def _decode_uuid(values: pa.Array, column: str) -> pa.Array:
    filled = pc.fill_null(values, "00000000-0000-0000-0000-000000000000")
    digits = pc.replace_substring(filled, "-", "")
    if len(digits) and pc.any(pc.not_equal(pc.binary_length(digits), 32)).as_py():
        raise UnrepresentableValueError(column, "uuid", "text that is not a uuid")
    raw = _joined_hex(digits, column, "uuid") if len(digits) else b""
    validity = None if values.null_count == 0 else pa.array(values.is_valid()).buffers()[1]
    storage = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(values), [validity, pa.py_buffer(raw)]
    )
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def _decode_hex(values: pa.Array, column: str) -> pa.Array:
    """Hex digits, with or without the prefix of ``bytea_output = hex``, to binary."""
    filled = pc.fill_null(values, "")
    digits = pc.replace_substring_regex(filled, r"^\\x", "")
    lengths = pc.binary_length(digits).to_numpy(zero_copy_only=False) // 2
    if int(lengths.sum()) > np.iinfo(np.int32).max:
        raise UnrepresentableValueError(column, "binary", "more than 2 GiB in one batch")
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    raw = _joined_hex(digits, column, "binary") if len(digits) else b""
    validity = None if values.null_count == 0 else pa.array(values.is_valid()).buffers()[1]
    return pa.Array.from_buffers(
        pa.binary(), len(values), [validity, pa.py_buffer(offsets), pa.py_buffer(raw)]
    )


def _decode_list(values: pa.Array, target: pa.ListType, column: str) -> pa.Array:
    if pa.types.is_string(values.type):
        irregular = values.filter(pc.match_substring_regex(values, r"^(\[|\{\{)"))
        if len(irregular):
            raise UnrepresentableValueError(column, "list", str(irregular[0].as_py()))
        rows = [None if text is None else parse_array(text.encode()) for text in values.to_pylist()]
        values = _lists_of_text(rows)
    lists: pa.ListArray = values
    flat = lists.flatten()
    offsets = np.zeros(len(lists) + 1, dtype=np.int32)
    np.cumsum(
        pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False), out=offsets[1:]
    )
    elements = decode_column(flat, target.value_type, column=f"{column}[]")
    mask = lists.is_null() if lists.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets), elements, type=target, mask=mask)


def _lists_of_text(rows: Sequence[Sequence[object] | None]) -> pa.Array:
    """Lists of PostgreSQL's element texts."""
    texts = [
        None if row is None else [None if item is None else _text(item) for item in row]
        for row in rows
    ]
    return pa.array(texts, pa.list_(pa.string()))


def _text(item: object) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)
