"""Writing down what a service was seen to show.

What belongs here: the record of a mart or certified table, made of what it shows. What does not:
seeing it (each service's own module), and the record's form (``lake/reached.py``).
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from pyiceberg.catalog import Catalog

from carbon_pipelines.errors import TableNotCopiedError
from carbon_pipelines.lake.connection import load_table
from carbon_pipelines.lake.reached import (
    BUILT,
    VISIBLE,
    Place,
    Reached,
    place_of,
    read_reached,
    record_reached,
)
from carbon_pipelines.mart.project import NAMESPACE


def record_visible(
    catalog: Catalog,
    identifier: tuple[str, str],
    system: str,
    snapshot_id: int,
    proof: Mapping[str, str] | None = None,
) -> Reached:
    """Write down that a system was just seen to show a snapshot of a table or mart.

    Args:
        catalog: The lake's.
        identifier: Namespace and name of the table.
        system: Who shows it, in a word.
        snapshot_id: What it shows.
        proof: What it was seen by, for that system to read again.

    Returns:
        What is written there: what was seen before, if it was of the same content.

    Raises:
        TableNotCopiedError: There is no such table.
        CommitConflictError: Others committed first again and again (retryable).
    """
    label = "/".join(identifier)
    table = load_table(catalog, identifier)
    if table is None:
        raise TableNotCopiedError(label)
    sources: dict[str, Place] = {}
    if identifier[0] == NAMESPACE:
        built = read_reached(table.metadata, BUILT, label)
        if built is not None and built.snapshot_id == snapshot_id:
            sources = dict(built.sources)
    else:
        place = place_of(table.metadata, snapshot_id, label)
        sources = {label: place} if place is not None else {}
    seen = Reached(snapshot_id, datetime.now(UTC), sources, dict(proof or {}))
    return record_reached(catalog, identifier, VISIBLE + system, seen)
