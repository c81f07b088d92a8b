"""What is in an object's bytes, whatever compresses them.

What belongs here: undoing what Parquet, Avro and gzip do, and looking for a text and a number. What
does not: fetching objects, and the code under test; Avro's blocks are taken apart here, and Parquet
is read by Arrow and DuckDB.
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


def search(path: str, content: bytes, planted: Planted) -> tuple[str, bool]:
    """What kind of object it is, and whether its name or content has what is looked for."""
    kind, parts = _opened(path, content)
    return kind, planted.is_in(path.encode()) or any(planted.is_in(part) for part in parts)


def search_cache(directory: Path, planted: Planted) -> set[str]:
    """Paths of the entries of a cache of metadata that have what is looked for.

    An entry is 14 bytes of magic, the lengths of path and content, 32 bytes of checksum, path and
    content.
    """
    found: set[str] = set()
    for file in directory.iterdir():
        entry = file.read_bytes()
        (length,) = struct.unpack_from("<I", entry, 14)
        start = 14 + 8 + 32 + length
        path = entry[start - length : start].decode()
        if search(path, entry[start:], planted)[1]:
            found.add(path)
    return found


def _opened(path: str, content: bytes) -> tuple[str, Iterator[bytes]]:
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
