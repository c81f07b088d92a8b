"""Small files of a table are asked for once; what is kept is bounded, and never another's."""

import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import S3FileSystem

from carbon_pipelines.lake.file_io import KeptFileIO, KeptFiles, SharedFileIO
from carbon_pipelines_tests.lake.local_lake import LocalLake

S3 = {
    "s3.endpoint": "http://127.0.0.1:1",
    "s3.access-key-id": "key",
    "s3.secret-access-key": "secret",
    "s3.region": "local",
}


def _named(path: Path, suffix: str) -> str:
    return str(path / f"{uuid.uuid4()}{suffix}")


@pytest.mark.parametrize("suffix", ["-m0.avro", ".metadata.json", "-deletes.parquet"])
def test_a_file_that_was_written_is_not_read_again(tmp_path: Path, suffix: str) -> None:
    io, location = KeptFileIO(), _named(tmp_path, suffix)
    with io.new_output(location).create(overwrite=True) as stream:
        stream.write(b"one")
    assert Path(location).read_bytes() == b"one"
    Path(location).unlink()
    with io.new_input(location).open() as stream:
        assert stream.read() == b"one"
    assert len(io.new_input(location)) == 3


def test_a_file_that_was_read_is_not_read_again(tmp_path: Path) -> None:
    location = _named(tmp_path, "-m0.avro")
    Path(location).write_bytes(b"one")
    for _ in range(2):
        with KeptFileIO().new_input(location).open() as stream:
            assert stream.read() == b"one"
        Path(location).unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["data.parquet", "v1.metadata.json", "snap-1.avro"])
def test_rows_and_names_that_may_come_again_are_not_kept(tmp_path: Path, name: str) -> None:
    location = tmp_path / name
    location.write_bytes(b"one")
    with KeptFileIO().new_input(str(location)).open() as stream:
        assert stream.read() == b"one"
    location.write_bytes(b"two")
    with KeptFileIO().new_input(str(location)).open() as stream:
        assert stream.read() == b"two"


def test_a_removed_file_is_gone(tmp_path: Path) -> None:
    io, location = KeptFileIO(), _named(tmp_path, "-m0.avro")
    with io.new_output(location).create(overwrite=True) as stream:
        stream.write(b"one")
    io.delete(location)
    with pytest.raises(FileNotFoundError):
        io.new_input(location).open()


def test_a_file_that_could_not_be_written_is_not_kept(tmp_path: Path) -> None:
    io, location = KeptFileIO(), _named(tmp_path, "-m0.avro")
    stream = io.new_output(location).create(overwrite=True)
    stream.write(b"one")
    stream._stream.close()  # pyright: ignore[reportAttributeAccessIssue] (the store went away)
    with pytest.raises(ValueError, match="closed"):
        stream.close()
    Path(location).write_bytes(b"other")
    with io.new_input(location).open() as again:
        assert again.read() == b"other"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60))
def test_what_is_kept_is_bounded_and_the_last_that_was_put(files: list[tuple[int, int]]) -> None:
    kept, last = KeptFiles(most_bytes=100), dict[str, bytes]()
    for name, size in files:
        content = bytes([size]) * size
        kept.put(str(name), content)
        last[str(name)] = content
        assert kept.size_bytes <= 100
        assert kept.get(str(name)) == content
    held = {name: kept.get(name) for name in last}
    assert all(content in (None, last[name]) for name, content in held.items())
    assert kept.size_bytes == sum(len(content) for content in held.values() if content is not None)


def test_a_file_that_is_too_large_is_not_kept() -> None:
    kept = KeptFiles(most_bytes=10)
    kept.put("small", b"12345")
    kept.put("large", b"12345678901")
    assert kept.get("large") is None
    assert kept.get("small") == b"12345"


def test_tables_share_a_connection_and_other_credentials_have_their_own() -> None:
    first = SharedFileIO({**S3, "carbon.position": "1"}).fs_by_scheme("s3", "lake")
    again = SharedFileIO({**S3, "carbon.position": "2"}).fs_by_scheme("s3", "lake")
    other = SharedFileIO({**S3, "s3.secret-access-key": "another"}).fs_by_scheme("s3", "lake")
    assert first is again
    assert first is not other
    assert isinstance(first, S3FileSystem)
    (options,) = first.__reduce__()[1]
    assert options["allow_delayed_open"] is True
    assert options["endpoint_override"] == S3["s3.endpoint"]
    assert options["secret_key"] == S3["s3.secret-access-key"]


def test_merges_with_kept_files_leave_what_others_read(tmp_path: Path) -> None:
    io = f"{KeptFileIO.__module__}.{KeptFileIO.__name__}"
    lake = LocalLake(tmp_path, {"id": "int8", "n": "int4"}, ["id"], catalog={"py-io-impl": io})
    lake.load([{"id": key, "n": 0} for key in range(100)])
    for number in range(1, 30):
        lake.merge([{"op": "u", "after": {"id": number, "n": number}}])
    expected = [(key, key if key < 30 else 0) for key in range(100)]
    assert lake.rows() == sorted(expected, key=repr)
    for file in tmp_path.rglob("*-deletes.parquet"):
        assert pq.read_metadata(file).num_rows
