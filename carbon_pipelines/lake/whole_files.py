"""Small Parquet files, fetched whole.

What belongs here: opening one that is to be read as a whole. What does not: what is in it, and
files that are too large for memory.

Opened in place, a file costs a request for its footer and one for each column; a small one takes
less time and CPU if it is fetched first and then read from memory.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO

WHOLE_BYTES = 4 * 1024 * 1024
"""A file up to this size is better fetched whole."""


def open_whole(io: FileIO, path: str, *, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    """The Parquet file at ``path``, in memory; ``dictionaries`` are read as such.

    Raises:
        FileNotFoundError: It is not there.
        ArrowInvalid: It is no Parquet file.
    """
    with io.new_input(path).open() as stream:
        fetched = pa.py_buffer(stream.read())
    return pq.ParquetFile(pa.BufferReader(fetched), read_dictionary=[*dictionaries])
