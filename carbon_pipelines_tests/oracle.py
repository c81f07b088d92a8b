"""Equality of source and lake as DuckDB alone sees it; none of our code decides.

What belongs here: PostgreSQL attached through DuckDB's postgres extension, the lake through
``iceberg_scan``, and EXCEPT ALL both ways. What does not: hashing, rounds, snapshots (that is
``quality/reconcile.py``, which this is the oracle of). Source and lake must be at rest.

Only facts of representation are normalised (``_source_text``, ``_source_value``):

* numeric without a bound: DuckDB reads it as DOUBLE, so PostgreSQL is asked for its text; where a
  decimal is declared, that text is cast to it.
* char(n): DuckDB's reader cuts the padding that PostgreSQL sends; it is asked for all of it.
* oid: 64 bits, as the lake has it.
* enum, json, jsonb and types that DuckDB does not know: PostgreSQL's text, which the lake keeps.

Infinite dates and timestamps need nothing: both of DuckDB's readers give ``infinity``.
"""

import atexit
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import duckdb
import duckdb_extension_avro
import duckdb_extension_iceberg
import duckdb_extension_postgres
import psycopg
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import S3FileSystem
from pyiceberg.catalog import load_catalog

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints, LakeEndpoint

_EXTENSIONS = {
    "avro": duckdb_extension_avro,
    "iceberg": duckdb_extension_iceberg,
    "postgres_scanner": duckdb_extension_postgres,
}


class _S3(ArrowFSWrapper):
    protocol = "s3"


@contextmanager
def oracle(endpoints: Endpoints) -> Generator[duckdb.DuckDBPyConnection]:
    """A DuckDB that reads both ends."""
    lake = endpoints.lake
    with TemporaryDirectory(prefix="carbon-oracle-") as spill:
        engine = duckdb.connect(
            config={
                "extension_directory": _extensions(),
                "threads": 2,
                "memory_limit": "1GB",
                "temp_directory": spill,
            }
        )
        try:
            for name in _EXTENSIONS:
                engine.execute(f"LOAD {name}")
            engine.execute("SET TimeZone = 'UTC'")
            store = S3FileSystem(
                endpoint_override=lake.s3_endpoint,
                access_key=lake.s3_access_key,
                secret_key=lake.s3_secret_key,
                region=lake.s3_region,
            )
            engine.register_filesystem(_S3(store))
            yield engine
        finally:
            engine.close()


@cache
def _extensions() -> str:
    """A directory with DuckDB's extensions from their wheels, made once a process."""
    directory = mkdtemp(prefix="carbon-oracle-extensions-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    with duckdb.connect(config={"extension_directory": directory}) as engine:
        for package in _EXTENSIONS.values():
            (file,) = Path(package.__file__).parent.rglob("*.duckdb_extension")
            engine.execute(f"INSTALL '{file}'")
    return directory


def lake_rows(
    engine: duckdb.DuckDBPyConnection, endpoints: Endpoints, identifier: tuple[str, str]
) -> str:
    """SQL that names the current rows of an Iceberg table."""
    lake = endpoints.lake
    with load_catalog(
        "carbon",
        **{
            "type": lake.catalog_type,
            "uri": lake.catalog_uri,
            "warehouse": lake.warehouse,
            "s3.endpoint": lake.s3_endpoint,
            "s3.access-key-id": lake.s3_access_key,
            "s3.secret-access-key": lake.s3_secret_key,
            "s3.region": lake.s3_region,
            **_rest_credential(lake),
        },
    ) as catalog:
        return f"iceberg_scan('{catalog.load_table(identifier).metadata_location}')"


def _rest_credential(lake: LakeEndpoint) -> dict[str, str]:
    if not lake.catalog_credential:
        return {}
    token_uri = f"{lake.catalog_uri}/v1/oauth/tokens"
    return {"credential": lake.catalog_credential, "oauth2-server-uri": token_uri}


def differences(endpoints: Endpoints, table: TableSpec, *, database: str | None = None) -> int:
    """How many rows are in one end and not in the other, both ways together."""
    dsn = endpoints.source_dsn(database or table.database)
    with oracle(endpoints) as engine:
        scan = lake_rows(engine, endpoints, table.identifier)
        types = {
            name: kind
            for name, kind, *_ in engine.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
        }
        columns = [
            (name, kind)
            for name, kind in _source_columns(dsn, table)
            if name not in table.dropped_columns
        ]
        engine.execute(f"ATTACH '{_libpq(dsn)}' AS source (TYPE postgres, READ_ONLY)")
        query = ", ".join(_source_text(name, kind) for name, kind in columns)
        relation = f"{_quoted(table.source_schema)}.{_quoted(table.source_table)}"
        at_source = ", ".join(_source_value(name, kind, types.get(name)) for name, kind in columns)
        in_lake = ", ".join(_lake_value(name, types.get(name)) for name, _ in columns)
        inner = f"SELECT {query} FROM ONLY {relation}".replace("'", "''")
        source = f"SELECT {at_source} FROM postgres_query('source', '{inner}')"
        lake = f"SELECT {in_lake} FROM {scan}"
        counts = engine.execute(
            f"SELECT (SELECT count(*) FROM (({source}) EXCEPT ALL ({lake}))),"
            f" (SELECT count(*) FROM (({lake}) EXCEPT ALL ({source})))"
        ).fetchone()
        assert counts is not None
        return int(counts[0]) + int(counts[1])


_EXACT = frozenset(
    [
        *("int2", "int4", "int8", "float4", "float8", "numeric(p,s)", "bool", "text", "varchar"),
        *("date", "time", "timestamp", "timestamptz", "uuid", "bytea"),
    ]
)


def _source_columns(dsn: str, table: TableSpec) -> list[tuple[str, str]]:
    """Names, and the type's name with ``numeric`` apart from ``numeric(p,s)``."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            """SELECT a.attname, t.typname || CASE WHEN t.typname IN ('numeric', '_numeric')
                                                     AND a.atttypmod >= 0 THEN '(p,s)' ELSE '' END
               FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
               WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
               ORDER BY a.attnum""",
            [f"{_quoted(table.source_schema)}.{_quoted(table.source_table)}"],
        ).fetchall()
    return [(str(name), str(kind)) for name, kind in rows]


def _source_text(name: str, kind: str) -> str:
    """What PostgreSQL is asked for: the value where DuckDB reads its type exactly, else text."""
    column = _quoted(name)
    if kind in _EXACT or (kind.startswith("_") and kind[1:] in _EXACT):
        return column
    if kind == "bpchar":
        return f"convert_from(bpcharsend({column}), 'UTF8') AS {column}"
    return f"{column}::{'bigint' if kind == 'oid' else 'text'} AS {column}"


def _source_value(name: str, kind: str, lake_type: str | None) -> str:
    """The source's value; only an unbounded numeric is cast, and only to its declared decimal."""
    column = _quoted(name)
    if kind == "numeric" and lake_type is not None and lake_type.startswith("DECIMAL"):
        return f"{column}::{lake_type} AS {column}"
    return column


def _lake_value(name: str, lake_type: str | None) -> str:
    """The lake's value; a column that was added and never filled is not there yet."""
    return _quoted(name) if lake_type is not None else f"NULL AS {_quoted(name)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _libpq(dsn: str) -> str:
    return psycopg.conninfo.make_conninfo(dsn).replace("'", "''")
