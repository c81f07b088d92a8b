"""Equality of source and lake as DuckDB alone sees it; none of our code decides.

What belongs here: PostgreSQL attached through DuckDB's postgres extension, the lake through
``iceberg_scan``, and EXCEPT ALL both ways. What does not: hashing, rounds, snapshots (that is
``quality/reconcile.py``, which this is the oracle of). Source and lake must be at rest.

Only facts of representation are normalised (``_source_text``, ``_source_value``):

* types that DuckDB does not read exactly (numeric without a bound, which it takes for DOUBLE; oid;
  domains) or not at all: PostgreSQL is asked for its text, or that of each element of an array. It
  is cast to the type of the lake's column where that is none of text.
* floats: compared as text, which tells -0 from 0.

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

_TEXT_FORM = {
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
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
    """How many rows are in one end and not in the other, both ways together.

    Of a history the versions that are still the row count.
    """
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
        query = ", ".join(_source_text(name, kind, types.get(name)) for name, kind in columns)
        relation = f"{_quoted(table.source_schema)}.{_quoted(table.source_table)}"
        at_source = ", ".join(_source_value(name, kind, types.get(name)) for name, kind in columns)
        in_lake = ", ".join(_lake_value(name, types.get(name)) for name, _ in columns)
        rows = relation if _is_partitioned(dsn, relation) else f"ONLY {relation}"
        inner = f"SELECT {query} FROM {rows}".replace("'", "''")
        source = f"SELECT {at_source} FROM postgres_query('source', '{inner}')"
        still = "WHERE carbon_valid_to_lsn IS NULL" if table.is_history else ""
        lake = f"SELECT {in_lake} FROM {scan} {still}"
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
_FLOATS = frozenset({"FLOAT", "DOUBLE", "FLOAT[]", "DOUBLE[]"})


def _source_columns(dsn: str, table: TableSpec) -> list[tuple[str, str]]:
    """Names, and the type's name: ``numeric(p,s)`` apart from those that DuckDB does not read (no
    bound, or s not in 0 to p), ``!`` behind one that is not PostgreSQL's own.
    """
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            """SELECT a.attname, t.typname || CASE WHEN t.typname IN ('numeric', '_numeric')
                         AND a.atttypmod >= 0 AND (a.atttypmod - 4) & 1024 = 0
                         AND (a.atttypmod - 4) & 1023 <= (a.atttypmod - 4) >> 16
                         THEN '(p,s)' ELSE '' END
                      || CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN '' ELSE '!' END
               FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
               WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
               ORDER BY a.attnum""",
            [f"{_quoted(table.source_schema)}.{_quoted(table.source_table)}"],
        ).fetchall()
    return [(str(name), str(kind)) for name, kind in rows]


def _is_partitioned(dsn: str, relation: str) -> bool:
    """Whether the rows are those of its partitions; another table's children are other tables."""
    with psycopg.connect(dsn) as connection:
        query = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)"
        row = connection.execute(query, [relation]).fetchone()
        return row is not None and bool(row[0])


def _is_exact(kind: str) -> bool:
    return kind.removeprefix("_") in _EXACT and kind != "_bytea"


def _source_text(name: str, kind: str, lake_type: str | None) -> str:
    """What PostgreSQL is asked for: the value where DuckDB reads its type exactly, else text."""
    column = _quoted(name)
    if _is_exact(kind) and not (lake_type == "VARCHAR" and kind not in {"text", "varchar"}):
        return column
    if lake_type is not None and lake_type.endswith("[]"):
        item = f"{column}[i]"
        element = f"encode({item}, 'hex')" if lake_type == "BLOB[]" else _output(item)
        elements = f"ARRAY(SELECT {element} FROM generate_subscripts({column}, 1) i ORDER BY i)"
        return f"CASE WHEN {column} IS NOT NULL THEN {elements} END AS {column}"
    return f"{_output(column)} AS {column}"


def _output(value: str) -> str:
    """What the type's output function writes; a cast to text differs for inet, char(n) and bool.

    Of a composite with nothing but NULLs, IS NOT NULL is false, this is not.
    """
    return f"CASE WHEN {value} IS DISTINCT FROM NULL THEN format('%s', {value}) END"


def _source_value(name: str, kind: str, lake_type: str | None) -> str:
    """The source's value; what came as text is cast to the type that the lake has."""
    column = _quoted(name)
    if lake_type in _FLOATS:
        return f"{column}::{lake_type}::VARCHAR AS {column}"
    texts = {None, "VARCHAR", "VARCHAR[]", "BLOB[]"}
    if not _is_exact(kind) and lake_type not in texts:
        return f"{column}::{lake_type} AS {column}"
    return column


def _lake_value(name: str, lake_type: str | None) -> str:
    """The lake's value; a column that was added and never filled is not there yet.

    Floats are compared as text, for 0 and -0 are equal as numbers, and bytes in arrays as hex.
    """
    column = _quoted(name)
    if lake_type in _FLOATS:
        return f"{column}::VARCHAR AS {column}"
    if lake_type == "BLOB[]":
        return f"list_transform({column}, lambda item: lower(hex(item))) AS {column}"
    return column if lake_type is not None else f"NULL AS {column}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _libpq(dsn: str) -> str:
    """With the settings under which PostgreSQL writes each value in one form."""
    options = " ".join(f"-c {name}={value}" for name, value in _TEXT_FORM.items())
    return psycopg.conninfo.make_conninfo(dsn, options=options).replace("'", "''")
