"""Everything that serving a dashboard needs, out of the environment and the declarations.

What belongs here: opening Superset and the lake for a command or an asset. What does not: serving.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.embedded.trino_endpoint import load_trino
from carbon_pipelines.errors import DashboardUnknownError
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.mart.project import Mart
from carbon_pipelines.serving.superset_code import (
    DashboardCode,
    dashboards_directory,
    load_dashboards,
)
from carbon_pipelines.serving.superset_serve import Lake

TRINO_VARIABLE = "CARBON_SUPERSET_TRINO_URI"


@contextmanager
def open_lake(
    endpoints: Endpoints, marts: Sequence[Mart], catalog: Catalog, environ: Mapping[str, str]
) -> Generator[Lake]:
    """The lake, as we and as Superset reach it.

    Raises:
        SettingsError: Nobody says where Trino is, or in a way without meaning.
        LakeUnavailableError: The catalog does not answer (retryable).
    """
    its_own = {TRINO_VARIABLE: environ.get(TRINO_VARIABLE, "")}
    trino = load_trino(its_own, TRINO_VARIABLE) or endpoints.trino
    with open_catalog(endpoints.lake) as lake:
        yield Lake(lake, trino, marts, team_contacts(catalog, marts))


def team_contacts(catalog: Catalog, marts: Sequence[Mart]) -> dict[str, str]:
    """The first address that each owner of a mart is written to, if one is declared."""
    if catalog.owners is None:
        return {}
    found: dict[str, str] = {}
    for mart in marts:
        receivers = catalog.owners.teams.get(mart.owner, catalog.owners.default)
        addresses = [address for one in receivers for address in one.to]
        if addresses:
            found[mart.owner] = addresses[0]
    return found


def select_dashboards(
    environ: Mapping[str, str], names: Sequence[str] = ()
) -> tuple[DashboardCode, ...]:
    """Dashboards of the given names; without names, all.

    Raises:
        DashboardUnknownError: A name is none of theirs.
        DashboardFilesError: The files cannot be understood.
    """
    found = load_dashboards(dashboards_directory(environ))
    known = [code.name for code in found]
    for name in names:
        if name not in known:
            raise DashboardUnknownError(name, known)
    return tuple(code for code in found if not names or code.name in names)
