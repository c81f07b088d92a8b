"""What an erasure takes from this machine's cache of metadata.

What belongs here: forgetting the files of a table that merges have kept on local disk. What does
not: keeping them (``lake/disk_cache.py``).

A manifest has the least and greatest value of each column, so an entry may have a person's. Once
the table's manifests are written again without them, no merge reads the old ones, so what is
forgotten after that does not come back. Entries of other machines are served for a day.
"""

from pyiceberg.table import Table

from carbon_pipelines.embedded.lake_cache import LakeCache
from carbon_pipelines.errors import ErasureUnfinishedError
from carbon_pipelines.lake.disk_cache import DiskCache
from carbon_pipelines.maintenance.locations import lies_in, normalise, table_roots


def forget_cached(cache: LakeCache | None, table: Table) -> int:
    """Remove all files of ``table`` from this machine's cache, if it has one; how many.

    Raises:
        ErasureUnfinishedError: One could not be removed (retryable).
    """
    if cache is None:
        return 0
    roots = table_roots(table.location(), table.properties)

    def is_its(path: str) -> bool:
        name = normalise(path)
        return any(lies_in(name, root) for root in roots)

    try:
        return DiskCache(cache.directory, cache.most_bytes).forget(is_its)
    except OSError as error:
        reason = f"files of it in the cache {cache.directory} of this machine: {error.strerror}"
        raise ErasureUnfinishedError("/".join(table.name()), reason) from error
