"""Everything that a bucket holds of a table, searched for values.

What belongs here: fetching every object under a location. What does not: what is in one
(``stored_bytes.py``).
"""

from pyarrow.fs import FileSelector
from pyiceberg.table import Table

from carbon_pipelines_tests.integration.upkeep import store_of
from carbon_pipelines_tests.stored_bytes import Planted, search

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
            with store.open_input_stream(one.path) as stream:
                _seen[known] = search(one.path, stream.read(), planted)
        kind, has = _seen[known]
        if has:
            found[one.path] = kind
    return found
