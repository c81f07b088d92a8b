"""A person's bounds leave this machine's cache of metadata with the table's other files there."""

from pathlib import Path

import pytest

from carbon_pipelines.embedded.lake_cache import LakeCache
from carbon_pipelines.errors import ErasureUnfinishedError
from carbon_pipelines.lake.disk_cache import DiskCache
from carbon_pipelines.lake.file_io import CACHE_BYTES, CACHE_DIRECTORY, KeptFileIO
from carbon_pipelines.maintenance.erasure_cache import forget_cached
from carbon_pipelines_tests.lake.local_lake import LocalLake
from carbon_pipelines_tests.stored_bytes import Planted, search_cache

PERSON = Planted(987_654_321_012, "Wilhelmine Maier")


def test_what_is_kept_of_a_table_is_forgotten_and_others_stay(tmp_path: Path) -> None:
    cache = LakeCache(tmp_path / "cache")
    io = f"{KeptFileIO.__module__}.{KeptFileIO.__name__}"
    catalog = {"py-io-impl": io, CACHE_DIRECTORY: str(cache.directory), CACHE_BYTES: "64000000"}
    lake = LocalLake(tmp_path, {"id": "int8", "name": "text"}, ["id"], catalog=catalog)
    lake.load([{"id": PERSON.number, "name": PERSON.text}])
    kept = DiskCache(cache.directory, cache.most_bytes)
    beside = f"{lake.fresh().location()}_2/metadata/other.avro"
    kept.put(beside, b"another table's")
    assert search_cache(cache.directory, PERSON)

    assert forget_cached(cache, lake.fresh()) > 1

    assert [file.read_bytes()[-15:] for file in cache.directory.iterdir()] == [b"another table's"]
    assert kept.get(beside) == b"another table's"
    assert forget_cached(None, lake.fresh()) == 0


def test_an_entry_that_cannot_be_removed_leaves_the_erasure_unfinished(tmp_path: Path) -> None:
    cache = LakeCache(tmp_path / "cache")
    lake = LocalLake(tmp_path, {"id": "int8"}, ["id"])
    (cache.directory / "a directory.kept").mkdir(parents=True)

    with pytest.raises(ErasureUnfinishedError, match="of this machine: Is a directory"):
        forget_cached(cache, lake.fresh())
