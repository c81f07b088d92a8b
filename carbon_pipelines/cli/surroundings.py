"""What every command finds around it: declarations, addresses and the local stack.

What belongs here: reading the environment, once per command. What does not: commands.
"""

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING

from carbon_pipelines.catalog.load import PACKAGED, Catalog, load_catalog
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import (
    Endpoints,
    cache_directory,
    catalog_directory,
    home_directory,
    resolve_endpoints,
)

if TYPE_CHECKING:
    from carbon_pipelines.embedded.stack import Stack


def catalog() -> Catalog:
    """Everything declared, from ``CARBON_CATALOG_DIR`` or the package."""
    return load_catalog(catalog_directory(os.environ))


def table(label: str) -> TableSpec:
    """The declared table ``<database>/<table>``."""
    database, _, name = label.partition("/")
    return catalog().database(database).table(name)


def declarations() -> Path:
    """The directory that ``catalog()`` reads, and ``carbon tables add`` writes."""
    return catalog_directory(os.environ) or PACKAGED


def endpoints() -> Endpoints:
    """Where PostgreSQL, Kafka and the lake are."""
    return resolve_endpoints(os.environ)


def stack(postgres_bin: Path | None = None) -> "Stack":
    """The embedded stack of this directory; nothing is read or started yet."""
    from carbon_pipelines.embedded.stack import Stack

    home, cache = home_directory(os.environ), cache_directory(os.environ)
    return Stack(home, cache, postgres_bin=postgres_bin)


def user() -> str:
    """Who runs the command, to write down beside what it changes."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"
