"""Everything that a bucket holds of a table, searched for values.

What belongs here: fetching every object under a location, undoing what compresses it, and looking
for a text and a number in names and bytes. What does not: the code under test; Avro's blocks are
taken apart here, and Parquet is read by Arrow and DuckDB.
"""

import gzip
import io
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, S3FileSystem
from pyiceberg.table import Table

from carbon_pipelines_tests.integration.upkeep import store_of


@dataclass(frozen=True)
class Planted:
    """What is looked for: a number of 64 bits and the first characters of a text.

    Bounds cut a text after 16 characters and raise the last one: the beginning is what stays.
    """

    number: int
    text: str

    def is_in(self, content: bytes) -> bool:
        """Whether either is, as text or as Iceberg and Parquet store a long."""
        needles = (str(self.number).encode(), struct.pack("<q", self.number), self.text.encode())
        return any(needle in content for needle in needles)


_seen: dict[tuple[object, ...], tuple[str, bool]] = {}
"""What was found in an object that is still as it was."""


def found_in(table: Table, planted: Planted) -> dict[str, str]:
    """Path -> kind, of every object under the table's location that has it."""
    store, prefix = store_of(table), table.location().removeprefix("s3://")
    found: dict[str, str] = {}
    listed = store.get_file_info(FileSelector(prefix, recursive=True))
    objects = [one for one in listed if one.is_file]
    assert objects
    for one in objects:
        known = (one.path, one.size, one.mtime_ns, planted)
        if known not in _seen:
            kind, parts = _opened(store, one.path)
            named = planted.is_in(one.path.encode())
            _seen[known] = kind, named or any(planted.is_in(part) for part in parts)
        kind, has = _seen[known]
        if has:
            found[one.path] = kind
    return found


def _opened(store: S3FileSystem, path: str) -> tuple[str, Iterator[bytes]]:
    with store.open_input_stream(path) as stream:
        content = stream.read()
    if content[:4] == b"PAR1":
        return "parquet", _parquet(content)
    if content[:4] == b"Obj\x01":
        return "avro", _avro(content)
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    return "json" if path.endswith(".json") else "other", iter([content])


def _parquet(content: bytes) -> Iterator[bytes]:
    """The bytes as they are, every row, and the statistics as DuckDB reads them."""
    yield content
    for row in pq.read_table(io.BytesIO(content)).to_pylist():
        for value in row.values():
            yield value if isinstance(value, bytes) else str(value).encode()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "file.parquet"
        file.write_bytes(content)
        for function in ("parquet_metadata", "read_parquet"):
            rows = duckdb.sql(f"SELECT * FROM {function}('{file}')").fetchall()
            yield from (str(row).encode() for row in rows)


def _avro(content: bytes) -> Iterator[bytes]:
    """The header and every block, decompressed. Source: Avro specification 1.11, "Files"."""
    stream = io.BytesIO(content)
    stream.seek(4)
    meta: dict[str, bytes] = {}
    while count := _long(stream):
        if count < 0:
            _long(stream)
        for _ in range(abs(count)):
            name = stream.read(_long(stream)).decode()
            meta[name] = stream.read(_long(stream))
    yield b"".join(meta.values())
    stream.read(16)
    codec = meta.get("avro.codec", b"null")
    while stream.tell() < len(content):
        _long(stream)
        block = stream.read(_long(stream))
        assert codec in (b"null", b"deflate"), codec
        yield zlib.decompress(block, -15) if codec == b"deflate" else block
        stream.read(16)


def _long(stream: io.BytesIO) -> int:
    """A zigzag number of variable length."""
    value = shift = 0
    while True:
        (byte,) = stream.read(1)
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1)
