"""Which snapshots marts read: those that the branch ``certified`` is at, and no others.

What belongs here: looking that up once for a whole build. What does not: moving the branch, and
reading (``duckdb_plugin.py``, and the macro ``certified`` for Trino).

Every model of a build reads the same snapshots, however the branch moves meanwhile. Tables are
certified one by one, so that two of them may stand at different positions of their source.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from carbon_pipelines.errors import NotCertifiedError
from carbon_pipelines.lake.certificate import CERTIFIED
from carbon_pipelines.lake.connection import load_table
from carbon_pipelines.lake.reached import Place, place_of
from carbon_pipelines.mart.project import Mart

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog


def load_certified(catalog: "Catalog", marts: Iterable[Mart]) -> Mapping[str, int]:
    """Snapshot id of ``certified`` for each table that the marts read, as ``database.table``.

    Raises:
        NotCertifiedError: One of them has none.
    """
    found: dict[str, int] = {}
    for identifier in sorted({source for mart in marts for source in mart.sources}):
        table = load_table(catalog, identifier)
        ref = table.metadata.refs.get(CERTIFIED) if table is not None else None
        if ref is None:
            raise NotCertifiedError("/".join(identifier))
        found[".".join(identifier)] = ref.snapshot_id
    return found


def load_places(catalog: "Catalog", certified: Mapping[str, int]) -> Mapping[str, Place]:
    """Where in its source each of these snapshots stands, if it tells, by ``database/table``."""
    found: dict[str, Place] = {}
    for name, snapshot_id in certified.items():
        database, _, table = name.partition(".")
        loaded = load_table(catalog, (database, table))
        label = f"{database}/{table}"
        place = place_of(loaded.metadata, snapshot_id, label) if loaded is not None else None
        if place is not None:
            found[label] = place
    return found
