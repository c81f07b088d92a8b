"""One scope from beginning to end: what is known of it, and what DataHub should know.

What belongs here: putting together reading and describing, for commands and assets. What does not:
either of them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.embedded.endpoints import Endpoints, cache_directory
from carbon_pipelines.errors import MartLineageError
from carbon_pipelines.mart.project import Mart, require_project
from carbon_pipelines.serving.datahub.describe import (
    MARTS,
    describe_database,
    describe_marts,
)
from carbon_pipelines.serving.datahub.facts import Setting
from carbon_pipelines.serving.datahub.observe import observe_database, observe_marts
from carbon_pipelines.serving.datahub.proposal import Proposal
from carbon_pipelines.serving.datahub.urns import Names


@dataclass(frozen=True, slots=True)
class Wanted:
    """What DataHub should know, and of which marts it cannot be told what they are made of."""

    proposals: tuple[Proposal, ...]
    errors: tuple[MartLineageError, ...] = ()

    def require_whole(self) -> None:
        """Say so, once the rest is told.

        Raises:
            MartLineageError: Of the first of them.
        """
        for error in self.errors:
            raise error


def load_wanted(
    scope: str,
    catalog: Catalog,
    marts: Sequence[Mart],
    endpoints: Endpoints,
    *,
    env: str,
    environ: Mapping[str, str] = os.environ,
) -> Wanted:
    """Everything that DataHub should know of a database, or of ``MARTS``.

    Raises:
        UnknownTableError: No such database is declared.
        SourceError, LakeError, MartError: What is known could not be read.
    """
    setting = Setting(Names(env), catalog.owners)
    if scope != MARTS:
        database = catalog.database(scope)
        return Wanted(describe_database(setting, observe_database(database, endpoints)))
    project: Path = require_project(environ)
    cache = cache_directory(environ)
    facts = observe_marts(marts, endpoints, environ, project=project, cache=cache)
    errors = tuple(one.error for one in facts.marts if one.error is not None)
    return Wanted(describe_marts(setting, facts), errors)
