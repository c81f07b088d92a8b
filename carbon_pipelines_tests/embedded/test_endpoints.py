from pathlib import Path

import pytest

from carbon_pipelines.embedded.endpoints import (
    Endpoints,
    LakeEndpoint,
    cache_directory,
    catalog_directory,
    home_directory,
    resolve_endpoints,
)
from carbon_pipelines.embedded.lake_cache import LakeCache
from carbon_pipelines.embedded.state import StackHome, StackState
from carbon_pipelines.errors import SettingMissingError, SettingUnknownError

LAKE = {
    "CARBON_LAKE_CATALOG_TYPE": "rest",
    "CARBON_LAKE_CATALOG_URI": "http://catalog:8181",
    "CARBON_LAKE_WAREHOUSE": "s3://lake/warehouse",
    "CARBON_LAKE_S3_ENDPOINT": "http://store:9000",
    "CARBON_LAKE_S3_ACCESS_KEY": "access-of-the-store",
    "CARBON_LAKE_S3_SECRET_KEY": "secret-of-the-store",
    "CARBON_LAKE_S3_REGION": "eu-central-1",
}
STREAM = {"CARBON_STREAM_BOOTSTRAP": "kafka-1:9092,kafka-2:9092"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose stack was started once; nothing runs."""
    files = StackHome(tmp_path / "home")
    files.create()
    files.ensure_secrets()
    files.save_state(
        StackState(
            ports={
                "postgres": {"sql": 20001},
                "kafka": {"broker": 20002, "controller": 20003},
                "s3": {"s3": 20004},
            }
        )
    )
    return files.path


def test_every_address_comes_from_the_environment_when_it_names_them_all(tmp_path: Path) -> None:
    endpoints = resolve_endpoints(
        {**STREAM, **LAKE, "CARBON_SOURCE_MARKET_DSN": "postgresql://elsewhere/market"},
        home=tmp_path / "nothing",
    )
    assert endpoints == Endpoints(
        stream_bootstrap="kafka-1:9092,kafka-2:9092",
        lake=LakeEndpoint(
            catalog_type="rest",
            catalog_uri="http://catalog:8181",
            warehouse="s3://lake/warehouse",
            s3_endpoint="http://store:9000",
            s3_access_key="access-of-the-store",
            s3_secret_key="secret-of-the-store",
            s3_region="eu-central-1",
        ),
        source_dsns={"CARBON_SOURCE_MARKET_DSN": "postgresql://elsewhere/market"},
    )
    assert endpoints.source_dsn("market") == "postgresql://elsewhere/market"


def test_the_embedded_stack_stands_in_for_what_the_environment_leaves_out(home: Path) -> None:
    secrets = StackHome(home).load_secrets()
    assert secrets is not None
    endpoints = resolve_endpoints({"CARBON_HOME": str(home)})
    sql = f"carbon_admin:{secrets.postgres_password}@127.0.0.1:20001"
    assert endpoints.stream_bootstrap == "127.0.0.1:20002"
    assert endpoints.source_dsn("market") == f"postgresql://{sql}/market"
    assert endpoints.lake == LakeEndpoint(
        catalog_type="sql",
        catalog_uri=f"postgresql+psycopg://{sql}/iceberg_catalog",
        warehouse="s3://lake/warehouse",
        s3_endpoint="http://127.0.0.1:20004",
        s3_access_key=secrets.s3_access_key,
        s3_secret_key=secrets.s3_secret_key,
        s3_region="us-east-1",
    )


def test_a_variable_wins_over_the_stack_for_its_own_service_only(home: Path) -> None:
    endpoints = resolve_endpoints(
        {**STREAM, "CARBON_SOURCE_CRM_DSN": "postgresql://crm"}, home=home
    )
    assert endpoints.stream_bootstrap == "kafka-1:9092,kafka-2:9092"
    assert endpoints.lake.s3_endpoint == "http://127.0.0.1:20004"
    assert endpoints.source_dsn("crm") == "postgresql://crm"
    assert endpoints.source_dsn("market").endswith("@127.0.0.1:20001/market")


@pytest.mark.parametrize("left_out", sorted(LAKE))
def test_half_a_lake_in_the_environment_names_the_missing_variable(
    left_out: str, home: Path
) -> None:
    environ = {**STREAM, **{name: value for name, value in LAKE.items() if name != left_out}}
    with pytest.raises(SettingMissingError, match=left_out) as caught:
        resolve_endpoints(environ, home=home)
    assert caught.value.variable == left_out


def test_an_unknown_catalog_type_is_an_error_and_no_default() -> None:
    environ = {**STREAM, **LAKE, "CARBON_LAKE_CATALOG_TYPE": "hive"}
    with pytest.raises(SettingUnknownError, match=r"'hive'; it must be one of sql, rest\."):
        resolve_endpoints(environ, home=Path("nothing"))


def test_without_a_stack_the_missing_source_is_named_with_the_next_step(tmp_path: Path) -> None:
    endpoints = resolve_endpoints({**STREAM, **LAKE}, home=tmp_path)
    with pytest.raises(SettingMissingError, match=r"CARBON_SOURCE_MARKET_DSN .*`carbon up`"):
        endpoints.source_dsn("market")


def test_without_a_stack_the_missing_stream_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingMissingError, match="CARBON_STREAM_BOOTSTRAP is not set"):
        resolve_endpoints(LAKE, home=tmp_path)


def test_no_password_or_key_shows_in_a_repr(home: Path) -> None:
    secrets = StackHome(home).load_secrets()
    assert secrets is not None
    shown = repr(resolve_endpoints({"CARBON_SOURCE_CRM_DSN": "postgresql://u:pw@h/crm"}, home=home))
    hidden = (secrets.postgres_password, secrets.s3_access_key, secrets.s3_secret_key, "u:pw")
    assert [secret for secret in hidden if secret in shown or secret in repr(secrets)] == []


def test_directories_come_from_their_variables_or_the_usual_places() -> None:
    named = {"CARBON_HOME": "/a", "CARBON_CACHE_DIR": "/b", "CARBON_CATALOG_DIR": "/c"}
    assert [home_directory(named), cache_directory(named), catalog_directory(named)] == [
        Path("/a"),
        Path("/b"),
        Path("/c"),
    ]
    assert home_directory({}) == Path.cwd() / ".carbon"
    assert cache_directory({"XDG_CACHE_HOME": "/x"}) == Path("/x/carbon_pipelines")
    assert catalog_directory({}) is None


def test_trino_comes_from_its_variable_or_from_a_stack_that_had_one(home: Path) -> None:
    named = {"CARBON_TRINO_URI": "https://ann:p%40ss@trino.example:8443/lake"}
    trino = resolve_endpoints(named, home=home).trino
    assert (trino.scheme, trino.host, trino.port) == ("https", "trino.example", 8443)
    assert (trino.catalog, trino.user, trino.password) == ("lake", "ann", "p@ss")
    assert "p@ss" not in repr(trino)
    with pytest.raises(SettingMissingError, match=r"CARBON_TRINO_URI.*--with trino"):
        _ = resolve_endpoints({}, home=home).trino


@pytest.mark.parametrize(
    "uri",
    ["trino.example/lake", "https://trino.example/lake", "http://ann@trino.example",
     "http://ann@trino.example:port/lake", "http://ann:secret@trino.example/lake"],
)  # fmt: skip
def test_an_address_of_trino_that_is_none_is_refused_without_its_password(
    home: Path, uri: str
) -> None:
    with pytest.raises(SettingUnknownError, match="CARBON_TRINO_URI") as refused:
        resolve_endpoints({"CARBON_TRINO_URI": uri}, home=home)
    assert "secret" not in str(refused.value)


def test_a_cache_of_metadata_is_used_only_where_a_directory_is_named(tmp_path: Path) -> None:
    named = {**STREAM, **LAKE, "CARBON_LAKE_CACHE_DIRECTORY": str(tmp_path)}

    assert resolve_endpoints({**STREAM, **LAKE}, home=tmp_path).lake.cache is None
    assert resolve_endpoints(named, home=tmp_path).lake.cache == LakeCache(tmp_path, 268_435_456)
    small = {**named, "CARBON_LAKE_CACHE_BYTES": "2000000"}
    assert resolve_endpoints(small, home=tmp_path).lake.cache == LakeCache(tmp_path, 2_000_000)
    for wrong in ("0", "1000", "many"):
        with pytest.raises(SettingUnknownError, match="CARBON_LAKE_CACHE_BYTES"):
            resolve_endpoints({**named, "CARBON_LAKE_CACHE_BYTES": wrong}, home=tmp_path)


def test_a_catalog_is_asked_for_the_scope_that_it_wants() -> None:
    told = {**LAKE, **STREAM, "CARBON_LAKE_CATALOG_SCOPE": "PRINCIPAL_ROLE:ALL"}
    assert resolve_endpoints(told, home=Path("/nowhere")).lake.catalog_scope == "PRINCIPAL_ROLE:ALL"
    assert resolve_endpoints({**LAKE, **STREAM}, home=Path("/nowhere")).lake.catalog_scope == ""
