"""Trino as a local process, on request: an SQL engine that reads the lake as others will.

What belongs here: getting it, its settings, its one catalog. What does not: queries.

It is a second reader beside DuckDB, and sees the same tables through its own code: the SQL catalog
as Iceberg's JDBC catalog, and the object store through its own S3 client.
"""

import json
import shutil
import signal
import tarfile
import tempfile
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from trino.dbapi import connect
from trino.exceptions import Error as TrinoError

from carbon_pipelines.embedded.downloads import JavaProgram, ensure_program, locked
from carbon_pipelines.embedded.endpoints import EmbeddedAddresses
from carbon_pipelines.embedded.java import find_java
from carbon_pipelines.embedded.names import (
    ICEBERG_CATALOG,
    ICEBERG_DATABASE,
    LOOPBACK,
    POSTGRES_SUPERUSER,
    TRINO_CATALOG,
)
from carbon_pipelines.embedded.process import Launch
from carbon_pipelines.embedded.state import PartName, Report, write_atomically

VERSION = "476"

TRINO = JavaProgram(
    name=f"trino-server-{VERSION}",
    with_dependencies=None,
    alone=(f"io.trino:trino-server:{VERSION}::tar.gz",),
)

_PLUGINS = frozenset({"iceberg", "postgresql", "geospatial"})
"""What is kept of 60 plugins; the server itself needs the types of `geospatial`."""

_CONFIG = """\
# Written by `carbon up --with trino` on every start.
coordinator=true
catalog.management=dynamic
catalog.store=file
node-scheduler.include-coordinator=true
http-server.http.port={port}
discovery.uri=http://{host}:{port}
query.max-memory-per-node=750MB
"""

# Catalogs that are loaded on demand are on every node there is. Those that are loaded at the start
# are announced after the node itself, and until then a query finds no node that has its catalog.
_CATALOG_STORE = """\
catalog.config-dir={directory}/catalog
catalog.read-only=true
"""

_CATALOG = """\
connector.name=iceberg
iceberg.catalog.type=jdbc
iceberg.jdbc-catalog.catalog-name={catalog}
iceberg.jdbc-catalog.driver-class=org.postgresql.Driver
iceberg.jdbc-catalog.connection-url=jdbc:postgresql://{host}:{postgres_port}/{database}
iceberg.jdbc-catalog.connection-user={user}
iceberg.jdbc-catalog.connection-password={password}
iceberg.jdbc-catalog.default-warehouse-dir={warehouse}
fs.native-s3.enabled=true
s3.endpoint={endpoint}
s3.region={region}
s3.path-style-access=true
s3.aws-access-key={access_key}
s3.aws-secret-key={secret_key}
"""


@dataclass(frozen=True, slots=True)
class Trino:
    """The part `trino`; the passwords it is given show in no repr, argument or log."""

    directory: Path
    log: Path
    cache: Path
    port: int
    addresses: EmbeddedAddresses

    name: PartName = field(default="trino", init=False)
    program: str = field(default="java", init=False)
    gently: signal.Signals = field(default=signal.SIGTERM, init=False)
    start_seconds: float = field(default=180.0, init=False)

    @property
    def ports(self) -> Mapping[str, int]:
        """One."""
        return {"http": self.port}

    def prepare(self, report: Report) -> None:
        """Download and unpack Trino once, and write its settings.

        Raises:
            DownloadError: it is neither in the cache nor to be had.
        """
        ensure_server(self.cache, report)
        (self.directory / "catalog").mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.directory / "tmp").mkdir(exist_ok=True)
        lake = self.addresses.lake()
        config = _CONFIG.format(host=LOOPBACK, port=self.port, directory=self.directory)
        catalog = _CATALOG.format(
            catalog=ICEBERG_CATALOG,
            host=LOOPBACK,
            postgres_port=self.addresses.postgres_port,
            database=ICEBERG_DATABASE,
            user=POSTGRES_SUPERUSER,
            password=self.addresses.postgres_password,
            warehouse=lake.warehouse,
            endpoint=lake.s3_endpoint,
            region=lake.s3_region,
            access_key=lake.s3_access_key,
            secret_key=lake.s3_secret_key,
        )
        write_atomically(self.directory / "config.properties", config, mode=0o600)
        store = _CATALOG_STORE.format(directory=self.directory)
        (self.directory / "etc").mkdir(exist_ok=True)
        write_atomically(self.directory / "etc" / "catalog-store.properties", store, mode=0o600)
        write_atomically(self.directory / "log.properties", "io.trino=WARN\n", mode=0o600)
        write_atomically(
            self.directory / "catalog" / f"{TRINO_CATALOG}.properties", catalog, mode=0o600
        )

    def launch(self) -> Launch:
        """Java directly: Trino's own launcher would be one more process to know."""
        server = _server_directory(self.cache)
        return Launch(
            (
                str(find_java()),
                "-Xmx1500M",
                "-XX:+UseG1GC",
                "-XX:G1HeapRegionSize=32M",
                "-XX:ReservedCodeCacheSize=256M",
                "-XX:+ExitOnOutOfMemoryError",
                "-XX:-UsePerfData",
                "-Djdk.attach.allowAttachSelf=true",
                "-Dfile.encoding=UTF-8",
                "--enable-native-access=ALL-UNNAMED",
                "--sun-misc-unsafe-memory-access=allow",
                f"-Djava.io.tmpdir={self.directory / 'tmp'}",
                f"-Dconfig={self.directory / 'config.properties'}",
                f"-Dlog.levels-file={self.directory / 'log.properties'}",
                "-Dlog.enable-console=true",
                "-Dnode.environment=carbon",
                "-Dnode.id=carbon",
                f"-Dnode.data-dir={self.directory / 'data'}",
                f"-Dnode.bind-ip={LOOPBACK}",
                f"-Dnode.internal-address={LOOPBACK}",
                f"-Dplugin.dir={server / 'plugin'}",
                "-cp",
                f"{server / 'lib'}/*",
                "io.trino.server.TrinoServer",
            ),
            directory=self.directory,
            log=self.log,
        )

    def answers(self) -> bool:
        """Whether it says that it has started, and counts itself among those that run queries.

        It says the first some time before the second, and meanwhile refuses to read a table.
        """
        address = f"http://{LOOPBACK}:{self.port}/v1/info"
        try:
            with urllib.request.urlopen(address, timeout=2) as response:
                return json.load(response)["starting"] is False and self._has_nodes()
        except (OSError, HTTPException, ValueError, KeyError, TrinoError):
            return False

    def _has_nodes(self) -> bool:
        connection = connect(
            host=LOOPBACK, port=self.port, user="carbon", request_timeout=5, max_attempts=1
        )
        with closing(connection):
            cursor = connection.cursor()
            cursor.execute("SELECT count(*) FROM system.runtime.nodes WHERE state = 'active'")
            return cursor.fetchall() != [[0]]

    def finish(self) -> None:
        """Nothing: its catalog reads what others make."""

    def sweep(self) -> None:
        """Nothing: its temporary files are in its directory."""


def ensure_server(cache: Path, report: Report) -> Path:
    """Directory of the unpacked server, from the cache, or downloaded and unpacked into it.

    Raises:
        DownloadError: it is neither in the cache nor to be had.
    """
    target = _server_directory(cache)
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / ".trino.lock"):
        if not target.exists():
            (archive,) = ensure_program(cache, TRINO, report)
            report(f"trino: unpacks {archive.name}, keeps {', '.join(sorted(_PLUGINS))}")
            _unpack(archive, target)
            shutil.rmtree(cache / "maven" / TRINO.name)
    return target


def _unpack(archive: Path, target: Path) -> None:
    """Unpack all of it, as most files are hard links to other plugins' files, then drop plugins."""
    for abandoned in target.parent.glob(".trino-partial-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=".trino-partial-", dir=target.parent))
    with tarfile.open(archive) as tar:
        tar.extractall(partial, filter="data")
    (unpacked,) = partial.iterdir()
    for plugin in (unpacked / "plugin").iterdir():
        if plugin.name not in _PLUGINS:
            shutil.rmtree(plugin)
    shutil.rmtree(unpacked / "secrets-plugin", ignore_errors=True)
    unpacked.rename(target)
    partial.rmdir()


def _server_directory(cache: Path) -> Path:
    return cache / f"trino-server-{VERSION}"
