"""Which encodings fit the values of a data file.

What belongs here: looking at a file's first rows and choosing dictionaries, compression and how
many rows are encoded at once. What does not: writing the file (``data_file.py``).
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from carbon_pipelines.lake.arrow import compute as pc
from carbon_pipelines.lake.data_file import FileTarget
from carbon_pipelines.lake.extension import storage

DICTIONARY_SHARE = 0.25
"""A column with no more distinct values than this part of its rows gets a dictionary."""
NOISE_SHARE = 0.9
"""Numbers that compression leaves this part of are kept as they are."""
BATCH_BYTES = 4 * 1024 * 1024
"""Rows that are encoded at once."""
WORTH_ROWS = 1000
"""With fewer rows a file's encodings are not worth a look."""
_SAMPLE_ROWS = 16_384
_CODEC = pa.Codec("zstd", compression_level=1)


def fitted(target: FileTarget, rows: pa.Table) -> FileTarget:
    """``target`` with the encodings that fit the first rows of a file.

    A column of ever other values costs more with a dictionary than without: it is filled, given up
    and lies there beside the values. One that compression makes no smaller costs it for nothing.
    """
    if rows.num_rows < WORTH_ROWS:
        return target
    sample = rows.slice(0, _SAMPLE_ROWS).combine_chunks()
    flat = {
        name: storage(column.chunk(0))
        for name, column in zip(sample.column_names, sample.columns, strict=True)
        if not pa.types.is_nested(column.type)
    }
    most = sample.num_rows * DICTIONARY_SHARE
    repeating = [
        name
        for name, values in flat.items()
        if pc.count_distinct(values, mode="all").as_py() <= most
    ]
    return replace(
        target,
        dictionary=tuple(repeating),
        uncompressed=frozenset(
            name
            for name, values in flat.items()
            if name not in repeating and pa.types.is_floating(values.type) and _is_noise(values)
        ),
        batch_rows=max(1024, min(65_536, BATCH_BYTES * rows.num_rows // max(1, rows.nbytes))),
    )


def _is_noise(values: pa.Array) -> bool:
    held = np.ascontiguousarray(values.drop_null().to_numpy(zero_copy_only=False))
    packed = _CODEC.compress(pa.py_buffer(held))
    return packed.size > NOISE_SHARE * held.nbytes
