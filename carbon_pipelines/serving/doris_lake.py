"""The lake as a catalog of Doris: there, as we want it, and not older than the lake.

What belongs here: making and changing the catalog, and refreshing what Doris caches of it. What
does not: whether it then shows a snapshot (``doris_mart.py``).
Sources, by the names of Doris' manual pages: Iceberg Catalog, Iceberg Rest Catalog API, CREATE
CATALOG, SHOW CATALOG, REFRESH.

Doris caches the lake's metadata for minutes: without a refresh it shows an old snapshot.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from carbon_pipelines.embedded.endpoints import LakeEndpoint
from carbon_pipelines.errors import ServedCatalogError
from carbon_pipelines.serving import doris_statements as statements
from carbon_pipelines.serving.doris_sql import Sql


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """What was done to a catalog.

    Attributes:
        created: It was not there.
        altered: Names of properties that were other than wanted.
    """

    created: bool
    altered: tuple[str, ...]


def lake_properties(lake: LakeEndpoint) -> dict[str, str]:
    """What Doris has to know of the lake; holds secrets.

    Properties have the names that every version since 2.1 knows.

    Raises:
        ServedCatalogError: The lake's catalog is none that Doris is told of.
    """
    if lake.catalog_type != "rest":
        raise ServedCatalogError(lake.catalog_type)
    properties = {
        "type": "iceberg",
        "iceberg.catalog.type": "rest",
        "uri": lake.catalog_uri,
        "warehouse": lake.warehouse,
        "s3.endpoint": lake.s3_endpoint,
        "s3.region": lake.s3_region,
        "s3.access_key": lake.s3_access_key,
        "s3.secret_key": lake.s3_secret_key,
        "use_path_style": "true",
    }
    if lake.catalog_credential:
        properties |= {
            "iceberg.rest.security.type": "oauth2",
            "iceberg.rest.oauth2.credential": lake.catalog_credential,
            "iceberg.rest.oauth2.server-uri": f"{lake.catalog_uri.rstrip('/')}/v1/oauth/tokens",
        }
        if lake.catalog_scope:
            properties["iceberg.rest.oauth2.scope"] = lake.catalog_scope
    return properties


def ensure_catalog(sql: Sql, name: str, properties: Mapping[str, str]) -> CatalogChange:
    """Make the catalog, or change what of it is not as wanted.

    Doris masks secrets, so whether one was changed cannot be seen: those are set anew each time.
    What a catalog is of cannot be changed; another type is refused by Doris.

    Raises:
        ServiceUnavailableError, ServiceAuthenticationError, StatementRefusedError: As for SQL.
    """
    known = {str(row["CatalogName"]) for row in sql.run(statements.list_catalogs())}
    if name not in known:
        sql.run(statements.create_catalog(name, properties))
        return CatalogChange(created=True, altered=())
    shown = {str(row["Key"]): str(row["Value"]) for row in sql.run(statements.show_catalog(name))}
    plan = plan_properties(shown, properties)
    if plan:
        sql.run(statements.alter_catalog(name, plan))
    told = tuple(key for key in plan if not _masked(shown.get(key, "")))
    return CatalogChange(created=False, altered=told)


def plan_properties(shown: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Wanted properties that are not there, are others, or are masked."""
    return {
        key: value
        for key, value in wanted.items()
        if shown.get(key) != value or _masked(shown.get(key, ""))
    }


def refresh_lake(
    sql: Sql, catalog: str, namespace: str | None = None, table: str | None = None
) -> None:
    """Have Doris forget what it knows of the lake, of one namespace, or of one table."""
    if namespace is None:
        sql.run(statements.refresh_catalog(catalog))
    elif table is None:
        sql.run(statements.refresh_database(catalog, namespace))
    else:
        sql.run(statements.refresh_table(catalog, namespace, table))


def _masked(value: str) -> bool:
    return value.startswith("*")
