"""Finding the few that fail among many, by halving.

What belongs here: the search, and its use on the values of a column and the messages of a topic.
What does not: what is tried (``codec.py``, ``change_batch.py``) and what a failure means.
"""

from collections.abc import Callable
from contextlib import suppress

import pyarrow as pa

from carbon_pipelines.errors import (
    CarbonPipelinesError,
    MalformedEnvelopeError,
    UnrepresentableValueError,
)
from carbon_pipelines.lake.change_batch import ChangeBatch
from carbon_pipelines.lake.codec import decode_column
from carbon_pipelines.stream.consumer import RawBatch

Failure = UnrepresentableValueError | MalformedEnvelopeError


def failures(
    count: int, attempt: Callable[[int, int], object], most: int | None = None
) -> dict[int, Failure]:
    """The first ``most`` of ``count`` items that ``attempt(start, stop)`` fails for."""
    found: dict[int, Failure] = {}
    todo = [(0, count)]
    while todo and (most is None or len(found) < most):
        start, stop = todo.pop()
        if start == stop:
            continue
        try:
            attempt(start, stop)
        except (UnrepresentableValueError, MalformedEnvelopeError) as error:
            if stop - start == 1:
                found[start] = error
                continue
            middle = (start + stop) // 2
            todo += [(middle, stop), (start, middle)]
    return found


def undecodable(
    values: pa.Array, kind: pa.DataType, column: str, most: int | None = None
) -> dict[int, Failure]:
    """The first ``most`` of ``values`` that have no place in ``kind``."""

    def decode(start: int, stop: int) -> None:
        decode_column(values.slice(start, stop - start), kind, column=column)

    return failures(len(values), decode, most)


def sift(
    read: Callable[[RawBatch], ChangeBatch], raw: RawBatch
) -> tuple[ChangeBatch, RawBatch, dict[int, CarbonPipelinesError]]:
    """What ``read`` makes of ``raw``: the events, their messages, and why others are none."""
    with suppress(MalformedEnvelopeError, UnrepresentableValueError):
        return read(raw), raw, {}
    count = len(raw.values)
    bad = failures(count, lambda start, stop: read(raw.pick(range(start, stop))))
    rest = raw.pick([index for index in range(count) if index not in bad])
    return read(rest), rest, {raw.offsets[index]: error for index, error in bad.items()}
