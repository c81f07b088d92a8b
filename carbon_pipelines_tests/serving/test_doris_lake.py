"""The lake as a catalog of Doris."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from carbon_pipelines.embedded.endpoints import LakeEndpoint
from carbon_pipelines.errors import ServedCatalogError
from carbon_pipelines.serving.doris_lake import (
    CatalogChange,
    ensure_catalog,
    lake_properties,
    refresh_lake,
)


class Catalogs:
    """Catalogs as Doris shows them: secrets masked."""

    def __init__(self, **known: str) -> None:
        self.known, self.run_before = known, []

    def run(self, statement: str) -> list[Mapping[str, Any]]:
        self.run_before.append(statement)
        if statement == "SHOW CATALOGS":
            names = ["internal", *(["lake"] if self.known else [])]
            return [{"CatalogName": name} for name in names]
        if statement.startswith("SHOW CATALOG "):
            return [{"Key": key, "Value": value} for key, value in self.known.items()]
        return []


def lake(kind: Any = "rest", credential: str = "") -> LakeEndpoint:
    return LakeEndpoint(kind, "http://rest/", "s3://w", "http://s3", "k", "s", "r", credential)


def test_a_catalog_that_is_not_there_is_made() -> None:
    sql = Catalogs()

    assert ensure_catalog(sql, "lake", {"uri": "a"}) == CatalogChange(created=True, altered=())
    assert sql.run_before[-1] == "CREATE CATALOG IF NOT EXISTS `lake` PROPERTIES ('uri' = 'a')"


def test_a_catalog_that_is_as_wanted_is_left_alone() -> None:
    sql = Catalogs(uri="a", more="b")

    assert ensure_catalog(sql, "lake", {"uri": "a"}) == CatalogChange(created=False, altered=())
    assert not any(statement.startswith("ALTER") for statement in sql.run_before)


def test_what_is_other_is_altered_and_what_is_masked_set_anew() -> None:
    sql = Catalogs(uri="a", secret="*XXX", region="r")

    change = ensure_catalog(sql, "lake", {"uri": "b", "secret": "s", "region": "r", "new": "n"})

    assert change == CatalogChange(created=False, altered=("uri", "new"))
    altered = "ALTER CATALOG `lake` SET PROPERTIES ('uri' = 'b', 'secret' = 's', 'new' = 'n')"
    assert sql.run_before[-1] == altered


def test_a_rest_catalog_is_told_with_its_credential_if_it_needs_one() -> None:
    plain, guarded = lake_properties(lake()), lake_properties(lake(credential="id:secret"))

    assert plain["iceberg.catalog.type"] == "rest"
    assert {key: value for key, value in guarded.items() if key not in plain} == {
        "iceberg.rest.security.type": "oauth2",
        "iceberg.rest.oauth2.credential": "id:secret",
        "iceberg.rest.oauth2.server-uri": "http://rest/v1/oauth/tokens",
    }


def test_another_kind_of_catalog_says_what_to_do() -> None:
    with pytest.raises(ServedCatalogError, match="Stream Load, which needs no catalog"):
        lake_properties(lake("sql"))


def test_all_a_namespace_or_a_table_is_refreshed() -> None:
    sql = Catalogs()
    refresh_lake(sql, "lake")
    refresh_lake(sql, "lake", "mart")
    refresh_lake(sql, "lake", "mart", "prices")

    assert sql.run_before == [
        "REFRESH CATALOG `lake`",
        "REFRESH DATABASE `lake`.`mart`",
        "REFRESH TABLE `lake`.`mart`.`prices`",
    ]


def test_a_rest_catalog_is_told_the_scope_it_is_asked_with() -> None:
    scoped = replace(lake(credential="id:secret"), catalog_scope="PRINCIPAL_ROLE:ALL")
    more = {"iceberg.rest.oauth2.scope": "PRINCIPAL_ROLE:ALL"}
    assert lake_properties(scoped) == lake_properties(lake(credential="id:secret")) | more
