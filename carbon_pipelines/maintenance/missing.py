"""Files that a table's snapshots need and the store has not.

What belongs here: naming them after a listing. What does not: bringing them back
(``quarantine.py``, ``carbon recopy``).
"""

from pyiceberg.table import Table

from carbon_pipelines.errors import TableFilesMissingError
from carbon_pipelines.maintenance.locations import lies_in, normalise, table_roots
from carbon_pipelines.maintenance.path_set import PathSet
from carbon_pipelines.maintenance.reachable import Kind, Reached, reachable_files
from carbon_pipelines.maintenance.storage import Storage

SHOWN = 5
"""Missing files that an error names."""


def check_nothing_missing(table: Table, listed: PathSet, storage: Storage) -> None:
    """Refuse a table of which files are gone: whoever takes more away makes it worse.

    ``listed`` are the reachable files, those asked for that a listing had. Every other one is
    looked for by itself, and counts only if the catalog still has its snapshot afterwards.

    Raises:
        TableFilesMissingError: Names files, each with the newest snapshot that needs it.
        MetadataFileMissingError: Likewise of a manifest or manifest list.
    """
    if not listed.unasked:
        return
    label = "/".join(table.name())
    roots = table_roots(table.location(), table.properties)
    missing: list[Reached] = []
    looked_for = PathSet()
    for file in reachable_files(table.io, table.metadata, table.metadata_location, label):
        inside = any(lies_in(normalise(file.path), root) for root in roots)
        if file.kind == Kind.METADATA or not inside or file.path not in listed:
            continue
        if listed.was_asked(file.path) or not looked_for.add_new(file.path):
            continue
        if storage.stat(file.path) is None:
            missing.append(file)
    if not missing:
        return
    there = {one.snapshot_id for one in table.catalog.load_table(table.name()).metadata.snapshots}
    lost = [(one.path, one.snapshot_id or 0) for one in missing if one.snapshot_id in there]
    if lost:
        raise TableFilesMissingError(label, lost[:SHOWN], len(lost) - len(lost[:SHOWN]))
