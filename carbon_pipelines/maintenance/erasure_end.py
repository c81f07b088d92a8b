"""The end of an erasure: the request goes, a record of it stays, old metadata files go.

What belongs here: the last commits and the metadata files from before them. What does not: whether
everything else is gone (``erasure.py``).

Old metadata files hold the request with its hash, and from before it the reasons for which a table
was parked, which quote values. They leave the table's log before they are deleted:
1. one commit takes the request away, puts its record down, blanks the reasons of marks that were
   taken off, and has the log keep one version;
2. the next commit makes that one a version from after 1;
3. the last one restores how many versions the log keeps.
A property remembers that number meanwhile; a process that dies is finished by the next run.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.update import RemovePropertiesUpdate, SetPropertiesUpdate, TableUpdate

from carbon_pipelines.lake.commit import commit_updates
from carbon_pipelines.lake.connection import lake_errors, load_lake_table
from carbon_pipelines.lake.staging import beside_others
from carbon_pipelines.maintenance.erasure_request import (
    RECORDS,
    ErasureRequest,
    record_value,
)
from carbon_pipelines.maintenance.erasure_targets import blanked_reasons
from carbon_pipelines.maintenance.storage import open_storage

VERSIONS = "write.metadata.previous-versions-max"
ENDING = "carbon.erasure-ending"
"""Table property: JSON of what is to be restored and deleted while an erasure ends."""


def end_erasure(
    catalog: Catalog,
    identifier: tuple[str, str],
    request: ErasureRequest,
    now: datetime,
    counts: Mapping[str, int],
    *,
    after_record: Callable[[], None] = lambda: None,
) -> int:
    """Put the record in the request's place; how many metadata files were deleted.

    ``after_record`` is called after the first commit; for tests.

    Raises:
        CommitConflictError: Others committed first again and again (retryable).
        StoreInterruptedError: Some files are left; run it again (retryable).
    """

    def attempt(table: Table) -> Table:
        if ENDING in table.properties or request.name not in table.properties:
            return table
        ending = {
            "restore": table.properties.get(VERSIONS),
            "files": [table.metadata_location, *_logged(table)],
        }
        updates: list[TableUpdate] = [
            SetPropertiesUpdate(
                updates={
                    ENDING: json.dumps(ending),
                    VERSIONS: "1",
                    RECORDS: record_value(table.metadata, request, now, **counts),
                    **blanked_reasons(table),
                }
            ),
            RemovePropertiesUpdate(removals=[request.name]),
        ]
        return commit_updates(table, (tuple(updates), ()))

    with lake_errors(f"Iceberg table {'/'.join(identifier)}"):
        beside_others(catalog, load_lake_table(catalog, identifier), attempt)
    after_record()
    return finish_ending(catalog, identifier)


def finish_ending(catalog: Catalog, identifier: tuple[str, str]) -> int:
    """Do what an end that was begun has left to do; how many metadata files were deleted."""
    table = load_lake_table(catalog, identifier)
    if ENDING not in table.properties:
        return 0
    ending = json.loads(table.properties[ENDING])
    old = set(ending["files"])

    def push(table: Table) -> Table:
        if not old.intersection(_logged(table)):
            return table
        again = json.dumps({**ending, "turn": table.metadata.last_updated_ms})
        return commit_updates(table, ((SetPropertiesUpdate(updates={ENDING: again}),), ()))

    def restore(table: Table) -> Table:
        before: str | None = ending["restore"]
        removals = [ENDING] if before is not None else [ENDING, VERSIONS]
        updates: list[TableUpdate] = [RemovePropertiesUpdate(removals=removals)]
        if before is not None:
            updates.insert(0, SetPropertiesUpdate(updates={VERSIONS: before}))
        return commit_updates(table, (tuple(updates), ()))

    with lake_errors(f"Iceberg table {'/'.join(identifier)}"):
        table = beside_others(catalog, table, push)
        open_storage(table.location(), table.io.properties).delete(old - {table.metadata_location})
        beside_others(catalog, table, restore)
    return len(old)


def _logged(table: Table) -> Iterator[str]:
    for entry in table.metadata.metadata_log:
        yield entry.metadata_file
