"""Whose files lie under one prefix.

What belongs here: where every table of a catalog lies, and refusing a table whose files cannot be
told from another's. What does not: its files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import Table

from carbon_pipelines.errors import TableOverlapError
from carbon_pipelines.lake.connection import lake_errors
from carbon_pipelines.maintenance.locations import overlap, table_roots


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A table and the prefixes that its files lie under."""

    table: str
    uuid: str
    roots: tuple[str, ...]


def load_neighbours(catalog: Catalog) -> tuple[Neighbour, ...]:
    """Every table of the catalog; loads the metadata of each."""
    with lake_errors("Iceberg catalog"):
        return tuple(neighbour_of(table) for table in _tables(catalog))


def neighbour_of(table: Table) -> Neighbour:
    """The prefixes of one table."""
    roots = table_roots(table.location(), table.properties)
    return Neighbour("/".join(table.name()), str(table.metadata.table_uuid), roots)


def check_alone(table: Table, neighbours: Sequence[Neighbour]) -> None:
    """Refuse a table that lies in another's prefix, or the other way round.

    Raises:
        TableOverlapError: Names both.
    """
    ours = neighbour_of(table)
    for other in neighbours:
        if other.table == ours.table:
            continue
        found = overlap(ours.roots, other.roots)
        if found is not None:
            raise TableOverlapError(ours.table, found[0], other.table, found[1])


def _tables(catalog: Catalog) -> Iterator[Table]:
    waiting = list(catalog.list_namespaces())
    seen = set(waiting)
    while waiting:
        namespace = waiting.pop()
        try:
            inner = [one for one in catalog.list_namespaces(namespace) if one not in seen]
            identifiers = catalog.list_tables(namespace)
        except NoSuchNamespaceError:
            continue
        seen.update(inner)
        waiting += inner
        for identifier in identifiers:
            try:
                yield catalog.load_table(identifier)
            except NoSuchTableError:
                continue
