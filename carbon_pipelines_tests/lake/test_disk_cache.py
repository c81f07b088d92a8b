"""What is kept on disk is bounded, whole, of its path and not too old, whoever writes there."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.lake.disk_cache import MAX_AGE_SECONDS, DiskCache
from carbon_pipelines.lake.file_io import (
    CACHE_BYTES,
    CACHE_DIRECTORY,
    KeptFileIO,
    KeptFiles,
    SharedFileIO,
)
from carbon_pipelines_tests.lake.local_lake import LocalLake

LARGE = 1_000_000
MANIFEST = "{}/7f0a4bd2-8a0c-4c52-9d8c-0a1b2c3d4e5f-m0.avro"


def size_of(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.integers(0, 900)), max_size=80))
def test_of_two_processes_each_gets_what_was_put_last_or_nothing_within_the_bound(
    turns: list[tuple[bool, int, int]],
) -> None:
    with TemporaryDirectory() as name:
        caches = [DiskCache(Path(name), 16_000), DiskCache(Path(name), 16_000)]
        last: dict[str, bytes] = {}
        for second, number, size in turns:
            path, content = f"s3://lake/t/{number}", bytes([number]) * size
            caches[second].put(path, content)
            last[path] = content
            assert caches[not second].get(path) == content
            assert size_of(Path(name)) <= 17_500
        for path, content in last.items():
            assert caches[0].get(path) in (content, None)


def test_what_was_not_used_longest_goes_first(tmp_path: Path) -> None:
    time = [1_000.0]
    cache = DiskCache(tmp_path, 16_000, clock=lambda: time[0])
    for number in range(40):
        time[0] += 1
        cache.put(str(number), bytes(900))
        assert cache.get("0") is not None
    assert cache.get("1") is None
    assert cache.get("39") is not None


@pytest.mark.parametrize("what", ["cut off", "damaged", "longer", "empty", "of another path"])
def test_an_entry_that_is_not_whole_is_never_served_and_goes(tmp_path: Path, what: str) -> None:
    cache = DiskCache(tmp_path, LARGE)
    cache.put("s3://lake/t/one", b"content of one")
    cache.put("s3://lake/t/two", b"content of two")
    one, two = (cache._file(f"s3://lake/t/{name}") for name in ("one", "two"))
    framed = one.read_bytes()
    for at in range(len(framed)):
        one.write_bytes(
            {
                "cut off": framed[:at],
                "damaged": framed[:at] + bytes([framed[at] ^ 1]) + framed[at + 1 :],
                "longer": framed + bytes(at + 1),
                "empty": b"",
                "of another path": two.read_bytes(),
            }[what]
        )
        assert cache.get("s3://lake/t/one") is None
        assert not one.exists()
    assert cache.get("s3://lake/t/two") == b"content of two"


def test_an_entry_is_served_for_a_day_and_removed_then_by_whoever_looks(tmp_path: Path) -> None:
    time = [1_000_000.0]
    cache = DiskCache(tmp_path, LARGE, clock=lambda: time[0])
    cache.put("asked for", b"1")
    cache.put("not asked for", b"2")
    time[0] += MAX_AGE_SECONDS - 10
    assert cache.get("asked for") == b"1"
    time[0] += 10
    assert cache.get("asked for") is None
    cache.put("new", b"3")
    assert [file.read_bytes()[-1:] for file in tmp_path.iterdir()] == [b"3"]
    time[0] -= 7_200
    assert cache.get("new") is None  # from the future: how old it is cannot be told


def test_a_directory_that_is_of_no_use_costs_nothing_but_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taken = tmp_path / "file"
    taken.write_bytes(b"")
    cache = DiskCache(taken, LARGE)
    for _ in range(2):
        cache.put("one", b"1")
        assert cache.get("one") is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(taken) in caplog.text


PROCESS = """
import random, sys
from pathlib import Path
from carbon_pipelines.lake.disk_cache import DiskCache
chance, cache = random.Random(int(sys.argv[2])), DiskCache(Path(sys.argv[1]), 64_000)
hits = 0
for _ in range(1_500):
    number = chance.randrange(60)
    path, content = f"s3://lake/t/{number}", bytes([number]) * (number * 50)
    found = cache.get(path)
    assert found in (content, None), (path, found)
    hits += found is not None
    if found is None:
        cache.put(path, content)
print(hits)
"""


def test_processes_that_write_and_evict_at_once_are_never_served_another_or_half(
    tmp_path: Path,
) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path), str(seed)], stdout=subprocess.PIPE
        )
        for seed in range(3)
    ]
    hits = [int(process.communicate()[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert min(hits) > 100
    assert size_of(tmp_path) < 80_000


def test_another_process_is_answered_from_disk_and_whoever_must_know_asks_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = {CACHE_DIRECTORY: str(tmp_path / "cache"), CACHE_BYTES: str(64_000_000)}
    location = MANIFEST.format(tmp_path)
    with KeptFileIO(properties).new_output(location).create(overwrite=True) as stream:
        stream.write(b"one")
    Path(location).unlink()

    monkeypatch.setattr(KeptFileIO, "kept", KeptFiles())  # as another process has it
    with KeptFileIO(properties).new_input(location).open() as stream:
        assert stream.read() == b"one"
    assert len(KeptFileIO(properties).new_input(location)) == 3
    with pytest.raises(FileNotFoundError):
        SharedFileIO(properties).new_input(location).open()

    KeptFileIO.kept.drop(location)
    Path(location).write_bytes(b"one")
    KeptFileIO(properties).delete(location)
    with pytest.raises(FileNotFoundError):
        KeptFileIO(properties).new_input(location).open()


def test_merges_of_processes_that_share_a_cache_leave_what_others_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "cache"
    io = f"{KeptFileIO.__module__}.{KeptFileIO.__name__}"
    catalog = {"py-io-impl": io, CACHE_DIRECTORY: str(directory), CACHE_BYTES: "64000000"}
    lake = LocalLake(tmp_path, {"id": "int8", "n": "int4"}, ["id"], catalog=catalog)
    lake.load([{"id": key, "n": 0} for key in range(100)])
    for number in range(1, 20):
        monkeypatch.setattr(KeptFileIO, "kept", KeptFiles())
        lake.merge([{"op": "u", "after": {"id": number, "n": number}}])
        if number == 10:
            for file in directory.iterdir():
                os.truncate(file, file.stat().st_size // 2)
    expected = [(key, key if key < 20 else 0) for key in range(100)]
    assert lake.rows() == sorted(expected, key=repr)
    assert len(list(directory.iterdir())) > 20
