"""Where the services are: the environment first, else the embedded stack.

What belongs here: addresses, keys, and the CARBON_* variables that name them. What does not:
connecting to anything.

    CARBON_HOME                       directory of the embedded stack (default ./.carbon)
    CARBON_CACHE_DIR                  directory of its downloads
    CARBON_CATALOG_DIR                declarations outside the package
    CARBON_STREAM_BOOTSTRAP           Kafka, "host:port[,host:port]"
    CARBON_STREAM_USER, ...           who we are there, see stream/client.py
    CARBON_SOURCE_<DATABASE>_DSN      PostgreSQL of a declared database
    CARBON_LAKE_CATALOG_TYPE          "sql" or "rest"; with it, all the others of the lake:
    CARBON_LAKE_CATALOG_URI, CARBON_LAKE_WAREHOUSE, CARBON_LAKE_S3_ENDPOINT,
    CARBON_LAKE_S3_ACCESS_KEY, CARBON_LAKE_S3_SECRET_KEY, CARBON_LAKE_S3_REGION
    CARBON_LAKE_CATALOG_CREDENTIAL    "id:secret" for a REST catalog that asks for one
    CARBON_LAKE_CATALOG_SCOPE         what to ask it for, like "PRINCIPAL_ROLE:ALL" of Polaris
    CARBON_ALERTS_...                 of alerts, see alerts/routing.py and alerts/pages.py
    CARBON_LAKE_CACHE_DIRECTORY       a local directory that keeps small metadata files of tables
                                      for merges of other processes; unset: none does
    CARBON_LAKE_CACHE_BYTES           how much of them (default 268435456)
    CARBON_TRINO_...                  of Trino, see embedded/trino_endpoint.py; only for what Trino
                                      is to do
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from carbon_pipelines.embedded.lake_cache import LakeCache, resolve_cache
from carbon_pipelines.embedded.names import (
    ICEBERG_DATABASE,
    LOOPBACK,
    POSTGRES_SUPERUSER,
    S3_REGION,
    TRINO_CATALOG,
    WAREHOUSE,
)
from carbon_pipelines.embedded.state import StackHome, StackSecrets, StackState
from carbon_pipelines.embedded.trino_endpoint import TRINO_VARIABLE, TrinoEndpoint, load_trino
from carbon_pipelines.errors import SettingMissingError, SettingUnknownError

_LAKE_FIELDS = (
    "CATALOG_TYPE",
    "CATALOG_URI",
    "WAREHOUSE",
    "S3_ENDPOINT",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "S3_REGION",
)


@dataclass(frozen=True, slots=True)
class LakeEndpoint:
    """An Iceberg catalog and the object store its tables lie in."""

    catalog_type: Literal["sql", "rest"]
    catalog_uri: str = field(repr=False)
    """May hold a password."""
    warehouse: str
    """Where new tables go, ``s3://bucket/path``."""
    s3_endpoint: str
    s3_access_key: str = field(repr=False)
    s3_secret_key: str = field(repr=False)
    s3_region: str
    catalog_credential: str = field(default="", repr=False)
    """``id:secret`` of an OAuth client of a REST catalog; empty: none is needed."""
    catalog_scope: str = ""
    """The OAuth scope to ask for; empty: the client's own default, ``catalog``."""
    cache: LakeCache | None = None


@dataclass(frozen=True, slots=True)
class EmbeddedAddresses:
    """What a stack's home says about its parts; they need not be running."""

    postgres_port: int
    kafka_port: int
    s3_port: int
    postgres_password: str = field(repr=False)
    s3_access_key: str = field(repr=False)
    s3_secret_key: str = field(repr=False)
    trino_port: int | None = None
    """None where the stack never had a Trino."""
    superset_port: int | None = None
    superset_password: str = field(default="", repr=False)

    def dsn(self, database: str, *, scheme: str = "postgresql") -> str:
        """Address of a database in the embedded PostgreSQL, with the password."""
        secret = quote(self.postgres_password, safe="")
        return (
            f"{scheme}://{POSTGRES_SUPERUSER}:{secret}@{LOOPBACK}:{self.postgres_port}"
            f"/{quote(database, safe='')}"
        )

    @property
    def bootstrap(self) -> str:
        """Address of the embedded Kafka."""
        return f"{LOOPBACK}:{self.kafka_port}"

    def lake(self) -> LakeEndpoint:
        """The SQL catalog in the embedded PostgreSQL, over the embedded object store."""
        return LakeEndpoint(
            catalog_type="sql",
            catalog_uri=self.dsn(ICEBERG_DATABASE, scheme="postgresql+psycopg"),
            warehouse=WAREHOUSE,
            s3_endpoint=f"http://{LOOPBACK}:{self.s3_port}",
            s3_access_key=self.s3_access_key,
            s3_secret_key=self.s3_secret_key,
            s3_region=S3_REGION,
        )


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Every address a pipeline needs; made by `resolve_endpoints`."""

    stream_bootstrap: str
    lake: LakeEndpoint
    source_dsns: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Variable name (CARBON_SOURCE_<DATABASE>_DSN) to DSN."""
    embedded: EmbeddedAddresses | None = None
    named_trino: TrinoEndpoint | None = None
    """What CARBON_TRINO_URI says."""

    @property
    def trino(self) -> TrinoEndpoint:
        """The Trino over the lake: the variable's, else the embedded one.

        Raises:
            SettingMissingError: neither is there; names the variable.
        """
        if self.named_trino is not None:
            return self.named_trino
        if self.embedded is None or self.embedded.trino_port is None:
            what = 'the address of Trino (embedded: "carbon up --with trino")'
            raise SettingMissingError(TRINO_VARIABLE, what)
        return TrinoEndpoint("http", LOOPBACK, self.embedded.trino_port, TRINO_CATALOG, "carbon")

    @property
    def has_trino(self) -> bool:
        """Whether a Trino is named, or the embedded stack has one."""
        return self.named_trino is not None or (
            self.embedded is not None and self.embedded.trino_port is not None
        )

    def names_source(self, database: str) -> bool:
        """Whether a variable names the database's address, and not the embedded stack."""
        return source_variable(database) in self.source_dsns

    def source_dsn(self, database: str) -> str:
        """Address of a declared database: its variable, else the embedded PostgreSQL's.

        Raises:
            SettingMissingError: neither is there; names the variable.
        """
        variable = source_variable(database)
        named = self.source_dsns.get(variable)
        if named is not None:
            return named
        if self.embedded is None:
            raise SettingMissingError(variable, f"the DSN of source database {database}")
        return self.embedded.dsn(database)


def resolve_endpoints(environ: Mapping[str, str], *, home: Path | None = None) -> Endpoints:
    """Read the addresses: each from the environment, or all of what it leaves out from the stack.

    Args:
        environ: usually ``os.environ``.
        home: the stack's directory; None: CARBON_HOME, else ``./.carbon``.

    Raises:
        SettingMissingError: a variable is missing and there is no stack in `home`.
        SettingUnknownError: a variable has a value without meaning.
    """
    embedded = load_embedded(home_directory(environ) if home is None else home)
    bootstrap = environ.get("CARBON_STREAM_BOOTSTRAP")
    if not bootstrap:
        if embedded is None:
            raise SettingMissingError("CARBON_STREAM_BOOTSTRAP", "the address of Kafka")
        bootstrap = embedded.bootstrap
    return Endpoints(
        stream_bootstrap=bootstrap,
        lake=replace(_resolve_lake(environ, embedded), cache=resolve_cache(environ)),
        source_dsns={
            name: value
            for name, value in environ.items()
            if name.startswith("CARBON_SOURCE_") and name.endswith("_DSN") and value
        },
        embedded=embedded,
        named_trino=load_trino(environ),
    )


def load_embedded(home: Path) -> EmbeddedAddresses | None:
    """Addresses of the stack in a home directory, or None when none was started there."""
    files = StackHome(home)
    state, secrets = files.load_state(), files.load_secrets()
    if state is None or secrets is None or not {"postgres", "kafka", "s3"} <= set(state.ports):
        return None
    return make_addresses(state, secrets)


def make_addresses(state: StackState, secrets: StackSecrets) -> EmbeddedAddresses:
    """Addresses of a stack whose usual parts have their ports."""
    return EmbeddedAddresses(
        postgres_port=state.ports["postgres"]["sql"],
        kafka_port=state.ports["kafka"]["broker"],
        s3_port=state.ports["s3"]["s3"],
        postgres_password=secrets.postgres_password,
        s3_access_key=secrets.s3_access_key,
        s3_secret_key=secrets.s3_secret_key,
        trino_port=state.ports.get("trino", {}).get("http"),
        superset_port=state.ports.get("superset", {}).get("http"),
        superset_password=secrets.superset_password,
    )


def source_variable(database: str) -> str:
    """Name of the variable that holds a database's DSN."""
    return f"CARBON_SOURCE_{database.upper()}_DSN"


def catalog_directory(environ: Mapping[str, str]) -> Path | None:
    """Directory of declarations outside the package (CARBON_CATALOG_DIR), or None."""
    named = environ.get("CARBON_CATALOG_DIR")
    return Path(named) if named else None


def home_directory(environ: Mapping[str, str]) -> Path:
    """Directory of the embedded stack: CARBON_HOME, else ``.carbon`` where we are."""
    return Path(environ.get("CARBON_HOME") or ".carbon").absolute()


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Directory of downloads: CARBON_CACHE_DIR, else ours in the user's cache (XDG)."""
    named = environ.get("CARBON_CACHE_DIR")
    if named:
        return Path(named).absolute()
    caches = environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "carbon_pipelines"


def _resolve_lake(environ: Mapping[str, str], embedded: EmbeddedAddresses | None) -> LakeEndpoint:
    """All from the environment or all from the stack: half of each would be some third lake."""
    given = {name: environ.get(f"CARBON_LAKE_{name}") for name in _LAKE_FIELDS}
    if not any(given.values()) and embedded is not None:
        return embedded.lake()
    for name, value in given.items():
        if not value:
            raise SettingMissingError(f"CARBON_LAKE_{name}", "part of the lake's address")
    catalog_type = given["CATALOG_TYPE"]
    if catalog_type not in ("sql", "rest"):
        raise SettingUnknownError("CARBON_LAKE_CATALOG_TYPE", str(catalog_type), ("sql", "rest"))
    return LakeEndpoint(
        catalog_type=catalog_type,
        catalog_uri=str(given["CATALOG_URI"]),
        warehouse=str(given["WAREHOUSE"]),
        s3_endpoint=str(given["S3_ENDPOINT"]),
        s3_access_key=str(given["S3_ACCESS_KEY"]),
        s3_secret_key=str(given["S3_SECRET_KEY"]),
        s3_region=str(given["S3_REGION"]),
        catalog_credential=environ.get("CARBON_LAKE_CATALOG_CREDENTIAL", ""),
        catalog_scope=environ.get("CARBON_LAKE_CATALOG_SCOPE", ""),
    )
