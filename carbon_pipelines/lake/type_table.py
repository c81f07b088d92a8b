"""The documented types, and every difference between a source's value and the lake's.

What belongs here: the rows of both tables in docs/lake.md, as data; a test holds the page, the code
(``types.py``) and real servers to them. What does not: doing anything with a type.
"""

from dataclasses import dataclass
from typing import Literal

_KINDS = frozenset({"range", "multirange", "enum", "composite", "array", "domain"})


@dataclass(frozen=True, slots=True)
class TypeRow:
    """PostgreSQL types (pg_type.typname, or a kind in words) that become one Iceberg type."""

    postgres: tuple[str, ...]
    iceberg: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """A value that the lake does not hold as PostgreSQL does.

    Attributes:
        types: The types it is about, in words.
        what: Which values.
        then: What happens.
        example: SQL of such a value, cast to its type; empty where it is no value that differs.
        outcome: ``refused``: the table stops before it with UnrepresentableValueError, and a column
            that is declared a string holds it. ``listed``: as ``then`` says.
    """

    types: str
    what: str
    then: str
    example: str = ""
    outcome: Literal["refused", "listed"] = "listed"


TYPE_ROWS = (
    TypeRow(("int2", "int4"), "int"),
    TypeRow(("int8", "oid"), "long"),
    TypeRow(("bool",), "boolean"),
    TypeRow(("float4",), "float", "NaN, infinities and -0 included"),
    TypeRow(("float8",), "double", "likewise"),
    TypeRow(("numeric(p,s)",), "decimal(p,s)", "p up to 38; `numeric(3,-2)` is `decimal(5,0)`"),
    TypeRow(
        ("numeric",),
        "string",
        "also `numeric(p,s)` with p above 38; `decimal(p,s)` if so declared",
    ),
    TypeRow(("date",), "date", "infinities and BC included"),
    TypeRow(("time",), "time"),
    TypeRow(("timestamp",), "timestamp", "infinities and BC included"),
    TypeRow(("timestamptz",), "timestamptz", "likewise"),
    TypeRow(("uuid",), "uuid"),
    TypeRow(("bytea",), "binary"),
    TypeRow(("text", "varchar", "name", "char"), "string", '`char` here is the type `"char"`'),
    TypeRow(("bpchar",), "string", "`char(n)`, with its padding"),
    TypeRow(
        ("json", "jsonb", "jsonpath", "xml"), "string", "`json` to the byte, duplicate keys too"
    ),
    TypeRow(("interval",), "string", "`intervalstyle = postgres`: `1 mon -1 days +02:03:04.5`"),
    TypeRow(("timetz",), "string"),
    TypeRow(("money",), "string", "`lc_monetary = C`: `-$1,234.50`"),
    TypeRow(("bit", "varbit"), "string"),
    TypeRow(("inet", "cidr", "macaddr", "macaddr8"), "string"),
    TypeRow(("tsvector", "tsquery"), "string"),
    TypeRow(("point", "line", "lseg", "box", "path", "polygon", "circle"), "string"),
    TypeRow(("xid", "xid8", "cid", "tid", "pg_lsn", "pg_snapshot", "txid_snapshot"), "string"),
    TypeRow(
        (
            *("regclass", "regtype", "regproc", "regprocedure", "regoper", "regoperator"),
            *("regrole", "regnamespace", "regcollation", "regconfig", "regdictionary"),
        ),
        "string",
        "with the schema, unless it is `pg_catalog`",
    ),
    TypeRow(("int2vector", "oidvector", "aclitem", "refcursor"), "string"),
    TypeRow(("range", "multirange", "enum", "composite"), "string", "built-in or your own"),
    TypeRow(
        ("base type of an extension",),
        "string",
        "`hstore`, `citext`, `ltree`, `cube`, pgvector's `vector`, PostGIS's `geometry`, …",
    ),
    TypeRow(("array",), "list", "of any type above but the two below"),
    TypeRow(("array of box", "array of a base type of an extension"), "string", "the whole array"),
    TypeRow(("domain",), "as its base type", "also a domain over a domain, an array, a composite"),
)

DIFFERENCES = (
    Difference("`numeric(p,s)`", "`NaN`", "refused", "'NaN'::numeric(9,2)", "refused"),
    Difference(
        "`numeric` declared `decimal(p,s)`",
        "`NaN`, infinities, more digits than p or s allow",
        "refused; zeros after the declared scale are not kept (`1.500` is `1.50`)",
    ),
    Difference("`time`", "`24:00:00`", "refused", "'24:00:00'::time", "refused"),
    Difference(
        "`timestamp`, `timestamptz`",
        "from 294247-01-10 04:00:54.775807 to the end of 294276",
        "refused: microseconds from 1970 have no more bits",
        "'294247-01-10 04:00:54.775807'::timestamp",
        "refused",
    ),
    Difference(
        "arrays",
        "more than one dimension",
        "refused",
        "'{{1,2},{3,4}}'::int[]",
        "refused",
    ),
    Difference(
        "arrays",
        "a lower bound that is not 1",
        "refused",
        "'[0:1]={a,b}'::text[]",
        "refused",
    ),
    Difference(
        "`date`, `timestamp`, `timestamptz`",
        "`infinity`, `-infinity`",
        "the largest integer and its negative, which DuckDB also reads as infinite; to other"
        " engines they are far dates",
    ),
    Difference(
        "`timestamptz`",
        "years past 73326, infinities among them",
        "held exactly; Trino fails on reading such a row",
    ),
    Difference(
        "`float4`, `float8`",
        "the bits of a `NaN`",
        "one NaN; PostgreSQL shows and compares them all as one too",
    ),
    Difference(
        "`enum`, `reg…`, `aclitem`",
        "`ALTER TYPE … RENAME VALUE`, a renamed or dropped object or role",
        "PostgreSQL sends no event: rows keep the name they were written with; re-copy the table",
    ),
    Difference(
        "`composite`",
        "`ALTER TYPE … ADD`, `DROP` or `ALTER ATTRIBUTE`",
        "PostgreSQL sends no event: rows keep the text they were written with; re-copy the table",
    ),
    Difference(
        "pseudo-types",
        "`record`, `anyelement`, …",
        "refused before the copy begins; no table of PostgreSQL has such a column",
    ),
)


def render_types() -> str:
    """The table of types for docs/lake.md."""
    rows = [
        f"| {', '.join(_spelled(name) for name in row.postgres)} | {_spelled(row.iceberg)} |"
        f" {row.note} |"
        for row in TYPE_ROWS
    ]
    return "\n".join(["| PostgreSQL | Iceberg | |", "|---|---|---|", *rows])


def render_differences() -> str:
    """The table of differences for docs/lake.md."""
    rows = [f"| {d.types} | {d.what} | {d.then} |" for d in DIFFERENCES]
    return "\n".join(["| type | value | then |", "|---|---|---|", *rows])


def _spelled(name: str) -> str:
    """Names of types as code; kinds of types are words."""
    return name if " " in name or name in _KINDS else f"`{name}`"
