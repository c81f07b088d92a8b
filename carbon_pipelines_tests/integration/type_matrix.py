"""Every type of a stock PostgreSQL with its extremes: the one list that the matrix tests run over.

What belongs here: types and values as SQL, in groups of one table each, and sending each value
through the first copy and through the stream, also as a key. What does not: reading anything back.

A table has a column ``v_<n>`` for each type, which may be NULL, and a column ``k_<n>`` of its key
for each type that can be one. Row ``r`` holds value ``r`` of every type, counted round.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from carbon_pipelines_tests.integration.pipeline import Pipeline

PLANES = "".join(chr(plane << 16 | 0x41) for plane in range(17)) + "\ufeff\u2028\u0301\x7f"
LARGE = Random(1).randbytes(10_000).hex()
"""Out of line in its table, so that an update that leaves it alone does not send it."""
CONTROLS = "".join(map(chr, range(1, 32)))


@dataclass(frozen=True, slots=True)
class Type:
    """A type and values of it as texts that its input function reads.

    Attributes:
        name: SQL, as in a column definition.
        values: Never NULL; a NULL is added to those of ``v_``.
        is_key: Whether it may be part of a key: a primitive Iceberg type but no float, and with a
            btree in PostgreSQL.
    """

    name: str
    values: tuple[str, ...]
    is_key: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """One table; ``setup`` runs before it is made, ``needs`` are extensions, and ``xml``."""

    types: tuple[Type, ...]
    setup: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def key(name: str, *values: str) -> Type:
    """A type that may be part of a key."""
    return Type(name, values, is_key=True)


def plain(name: str, *values: str) -> Type:
    """A type that is never part of a key."""
    return Type(name, values)


GROUPS: dict[str, Group] = {
    "numbers": Group(
        (
            key("int2", "-32768", "32767", "0"),
            key("int4", "-2147483648", "2147483647"),
            key("int8", "-9223372036854775808", "9223372036854775807"),
            key("oid", "0", "4294967295"),
            key("bool", "t", "f"),
            plain("float4", "NaN", "Infinity", "-Infinity", "-0", "3.4028235e+38", "1e-45", "0.1"),
            plain(
                "float8",
                *("-0", "NaN", "Infinity", "-Infinity", "1.7976931348623157e+308", "5e-324", "0.1"),
            ),
            key("numeric(12,2)", "-9999999999.99", "9999999999.99", "0.00"),
            key("numeric(38,0)", "9" * 38, "-" + "9" * 38, "0"),
            key("numeric(38,38)", "0." + "9" * 38, "-0." + "0" * 37 + "1"),
            key("numeric(3,-2)", "99900", "-100", "0"),
            key("numeric(3,5)", "0.00999", "-0.00001"),
            key("numeric(39,1)", "9" * 38 + ".9", "NaN"),
            key("numeric", "NaN", "Infinity", "-Infinity", "1.500", "1.5", "9" * 400, "-1e-400"),
            key("money", "-92233720368547758.08", "92233720368547758.07", "0", "-1234.5"),
            plain("float4[]", "{NaN,-0,1e-45,NULL,Infinity}", "{}", "{3.4028235e+38}"),
            plain("float8[]", "{NaN,-0,-Infinity,NULL}", "{}", "{5e-324}"),
            plain("numeric[]", "{NaN,1.50,NULL}", "{}", "{Infinity}"),
            plain("numeric(9,3)[]", "{-999999.999,NULL}", "{}"),
        )
    ),
    "times": Group(
        (
            key(
                "date",
                *("infinity", "-infinity", "4714-11-24 BC", "0001-12-31 BC", "0001-01-01"),
                *("9999-12-31", "10000-01-01", "5874897-12-31", "1970-01-01", "1582-10-10"),
            ),
            key("time", "00:00:00", "23:59:59.999999", "12:00:00.1"),
            key(
                "timestamp",
                *("infinity", "-infinity", "4714-11-24 00:00:00 BC", "0001-01-01 00:00:00"),
                *("9999-12-31 23:59:59.999999", "294247-01-10 04:00:54.775806"),
                *("1969-12-31 23:59:59.999999", "0044-03-15 12:00:00.5 BC"),
            ),
            key(
                "timestamptz",
                *(
                    "infinity",
                    "-infinity",
                    "4714-11-24 00:00:00+00 BC",
                    "1900-01-01 00:00+01:15:30",
                ),
                *("9999-12-31 23:59:59.999999+00", "294247-01-10 04:00:54.775806+00"),
                "0044-03-15 12:00:00.5+00 BC",
            ),
            key("timestamp(0)", "2024-02-29 23:59:59"),
            key("timetz", "00:00:00+15:59:59", "24:00:00-15:59", "12:30:00.000001+02"),
            key(
                "interval",
                *("178000000 years", "-178000000 years", "1 mon -1 day +02:03:04.5", "0"),
                *("-00:00:00.000001", "-1 year -2 mons +3 days -04:05:06.789"),
            ),
            plain("date[]", '{infinity,NULL,"4714-11-24 BC"}', "{}"),
            plain("timestamptz[]", '{-infinity,"2024-01-31 12:00:00.5+00",NULL}', "{}"),
            plain("time[]", "{23:59:59.999999,NULL}", "{}"),
            plain("interval[]", '{"1 mon","-1 days",NULL}', "{}"),
        )
    ),
    "texts": Group(
        (
            key("text", PLANES, "", "\ufeffbom", "NULL", '\\N\\."', " a ", "é", "e\u0301"),
            key("varchar(40)", PLANES, "", "null", "a,b\r\nc"),
            key("char(5)", "ab", "", "abcde"),
            key('"char"', "a", "", "\\"),
            key("name", "a" * 63, "", "Ünïcode"),
            plain("text", CONTROLS, "\\", "\x1f", "line\nline", "t", "\t", '{"a":1}'),
            plain("text", LARGE),
            plain("bytea", "\\x" + LARGE),
            plain("int[]", "{" + ",".join(map(str, range(30_000, 36_000))) + "}"),
            key("bytea", "\\x", "\\x00ff", "\\xdeadbeef" + "00" * 40),
            key("uuid", "00000000-0000-0000-0000-000000000000", "f" * 32, "8" + "0" * 31),
            plain("json", '{"a":1,"a":2}', '"\\u0000\\ud83d\\ude00"', " [1 , 1.50e1]\n", "null"),
            key("jsonb", '{"a":1,"a":2, "b": "\\u00e9\\n"}', "null", "1.50", '"\\\\"', "[]"),
            plain("jsonpath", '$."a b"[*] ? (@ > 1.5)', "strict $"),
            plain("text[]", '{"a,b","say \\"hi\\"",NULL,"NULL","","\\\\"}', "{}", '{"{a}"," "}'),
            plain("char(3)[]", '{"a  ",NULL,abc}', "{}"),
            plain("bytea[]", '{"\\\\x00ff","\\\\x",NULL}', "{}"),
            plain("uuid[]", "{00000000-0000-0000-0000-000000000001,NULL}", "{}"),
            plain("bool[]", "{t,f,NULL}", "{}"),
            plain("jsonb[]", '{"{\\"a\\": \\"x,y\\"}",NULL}', "{}"),
            plain("name[]", "{a,NULL}", "{}"),
        )
    ),
    "xmls": Group(
        (plain("xml", "<a b='1'>&lt;é</a>", "text", "<!-- c --><r/>"), plain("xml[]", "{<a/>}")),
        needs=("xml",),
    ),
    "networks": Group(
        (
            key("inet", "10.1.2.3/8", "::ffff:1.2.3.4", "255.255.255.255", "::/0"),
            key("cidr", "10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"),
            key("macaddr", "08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"),
            key("macaddr8", "08:00:2b:ff:fe:01:02:03", "00:00:00:00:00:00:00:00"),
            key("bit(5)", "10101", "00000"),
            key("bit varying", "", "1" * 70, "0"),
            key("pg_lsn", "0/0", "FFFFFFFF/FFFFFFFF"),
            plain("xid", "0", "4294967295"),
            key("xid8", "0", "18446744073709551615"),
            plain("cid", "4294967295"),
            key("tid", "(0,0)", "(4294967295,65535)"),
            plain("pg_snapshot", "10:20:10,14,15", "1:1:"),
            plain("txid_snapshot", "10:20:10,14,15"),
            plain("inet[]", "{10.0.0.1,NULL,::1/64}", "{}"),
            plain("bit(3)[]", "{101,NULL}", "{}"),
            plain("pg_lsn[]", "{1/2,NULL}", "{}"),
            plain("xid8[]", "{18446744073709551615,NULL}", "{}"),
            plain("macaddr8[]", "{08:00:2b:ff:fe:01:02:03,NULL}", "{}"),
            plain("pg_snapshot[]", '{"10:20:10,14,15",NULL}', "{}"),
        )
    ),
    "objects": Group(
        (
            key("regclass", "pg_class", "public.seen", 'public."Odd, name"', "0"),
            key("regtype", "int4", "public.mood_of_objects", "timestamptz[]"),
            key("regproc", "now", "pg_catalog.version"),
            key("regprocedure", "abs(int4)", "now()"),
            key("regoper", "||/", "0"),
            key("regoperator", "+(int4,int4)", "-(NONE,int8)"),
            key("regrole", "pg_database_owner", "pg_monitor"),
            key("regnamespace", "public", "pg_catalog"),
            key("regcollation", '"C"', '"POSIX"'),
            key("regconfig", "english", "simple"),
            key("regdictionary", "simple", "english_stem"),
            plain("aclitem", "pg_monitor=r*w/pg_monitor", "=U/pg_monitor"),
            key("oidvector", "1 2 3", ""),
            plain("int2vector", "1 -2", ""),
            plain("refcursor", 'a "b"', ""),
            plain("regclass[]", '{pg_class,"public.\\"Odd, name\\"",NULL}', "{}"),
            plain("aclitem[]", "{pg_monitor=r/pg_monitor}", "{}"),
            plain("oidvector[]", '{"1 2",NULL}', "{}"),
            plain("oid[]", "{0,4294967295,NULL}", "{}"),
        ),
        setup=(
            "CREATE TABLE public.seen ()",
            'CREATE TABLE public."Odd, name" ()',
            "CREATE TYPE public.mood_of_objects AS ENUM ()",
        ),
    ),
    "searches": Group(
        (
            key("tsvector", "'a''b':1A,16383 'c\\\\d':2B,3", "", "'ü x':5"),
            key("tsquery", "'a' & !'b c':*A | ('d' <2> 'e''f')", "", "'\\\\'"),
            plain("tsvector[]", "{\"'a':1 'b'\",NULL}", "{}"),
        )
    ),
    "ranges": Group(
        (
            key("int4range", "empty", "(,)", "[-2147483648,5)", "[1,)"),
            key("int8range", "empty", "[1,9223372036854775807)"),
            key("numrange", "(1.50,NaN]", "[-Infinity,Infinity]", "empty"),
            key("daterange", "[2024-01-01,infinity)", "(,-infinity]", "[4714-11-24 BC,)"),
            key("tsrange", '["2024-01-31 12:00:00.5",infinity]', "(,)"),
            key("tstzrange", '["2024-01-31 12:00:00+02","294247-01-01 00:00:00+00")', "empty"),
            key("int4multirange", "{}", "{[1,3),[5,7)}", "{(,)}"),
            key("nummultirange", "{[1.50,2.5),(3,NaN]}", "{}"),
            key("datemultirange", "{[2024-01-01,2024-02-01)}"),
            key("tstzmultirange", '{["2024-01-31 12:00:00+00",)}', "{}"),
            key("word_range", '["a,b","c\\"d")', '["",)', "empty"),
            key("word_multirange", '{["a,b","c\\"d")}', "{}"),
            plain("int4range[]", '{"[1,3)",empty,NULL}', "{}"),
            plain("int4multirange[]", '{"{[1,3),[5,7)}",NULL}', "{}"),
            plain("word_range[]", '{"[\\"a,b\\",c)",NULL}', "{}"),
        ),
        setup=("CREATE TYPE word_range AS RANGE (subtype = text)",),
    ),
    "geometries": Group(
        (
            plain("point", "(-0,NaN)", "(Infinity,-Infinity)", "(1e-300,0.1)"),
            plain("line", "{1,-1,0.1}"),
            plain("lseg", "[(0,0),(1.5,-1)]"),
            plain("box", "(1,1),(0,0)", "(Infinity,2),(-Infinity,-0)"),
            plain("path", "[(0,0),(1,1)]", "((0,0),(1,1),(2,0))"),
            plain("polygon", "((0,0),(1,1),(2,0))"),
            plain("circle", "<(0.1,-0),5e-324>"),
            plain("point[]", '{"(1,2)",NULL}', "{}"),
            plain("box[]", "{(1,1),(0,0);(2,2),(1,1)}", "{}", "{NULL}"),
        )
    ),
    "own": Group(
        (
            key("mood", "", 'it\'s, "odd" \\', "ünï"),
            key("money_amount", "1.50", "-99999999.99"),
            key("short_word", "a,b", ""),
            plain("pair", '(1,"a,""b"" \\\\")', "(,)", '(,"")'),
            plain(
                "nest", '("(1,x)","{""(2,y)"",NULL}","{1,NULL}","2024-01-31 12:00:00+02")', "(,,,)"
            ),
            plain("few", "{1,NULL}", "{}"),
            plain("some_pair", "(1,)"),
            plain("mood[]", '{"it\'s, \\"odd\\" \\\\",NULL,""}', "{}"),
            plain("money_amount[]", "{1.50,NULL}", "{}"),
            plain("pair[]", '{"(1,\\"a,b\\")",NULL}', "{}"),
            plain("short_word[]", '{"a,b",NULL}', "{}"),
            plain("few[]", '{"{1,2}",NULL}', "{}"),
            # named like built-in types, which says nothing of what they are
            key("inet", "10.0.0.1"),
            key("public.oid", 'a"b\\', "NULL"),
            plain("public.bool", "(t,1)"),
            plain("public.oid[]", '{"a\\"b\\\\",NULL}', "{}"),
            plain("public.box[]", '{"a;b","c,d",NULL}', "{}"),
        ),
        setup=(
            "CREATE TYPE mood AS ENUM ('', 'it''s, \"odd\" \\', 'ünï')",
            "CREATE DOMAIN amount AS numeric(10,2)",
            "CREATE DOMAIN money_amount AS amount CHECK (VALUE < 100000000)",
            "CREATE DOMAIN short_word AS varchar(10)",
            "CREATE TYPE pair AS (n int, word text)",
            "CREATE TYPE nest AS (one pair, several pair[], numbers int[], moment timestamptz)",
            "CREATE DOMAIN few AS int[]",
            "CREATE DOMAIN some_pair AS pair CHECK ((VALUE).n > 0)",
            "CREATE TYPE public.oid AS ENUM ('a\"b\\', 'NULL')",
            "CREATE TYPE public.bool AS (t pg_catalog.bool, n int)",
            "CREATE TYPE public.box AS ENUM ('a;b', 'c,d')",
        ),
    ),
    "vectors": Group(
        (
            key("vector(3)", "[1,-0,3.4028235e+38]", "[0.1,1e-45,2]"),
            plain("halfvec(2)", "[0.5,65504]"),
            plain("sparsevec(5)", "{1:0.5,5:-2}/5"),
            plain("vector[]", '{"[1,2]",NULL}', "{}"),
        ),
        needs=("vector",),
    ),
    "contrib": Group(
        (
            key("hstore", '"a"=>"1", "b,c"=>NULL', "", '"k\\"\\\\"=>"=>"'),
            key("citext", "Abc", "", PLANES),
            key("ltree", "Top.Science.Astronomy", ""),
            plain("lquery", "Top.*{0,2}.sport*@|b.!c"),
            plain("ltxtquery", "Europe & Russia*@ & !Transportation"),
            key("cube", "(1,2),(3,4)", "(-0, 0.1)"),
            key("seg", "1.5 .. 2.50", "<3", "~4"),
            key("isbn13", "978-0-393-04002-9"),
            key("ean13", "4006381333931"),
            plain("query_int", "1&(2|!3)"),
            key("lo", "4294967295", "0"),
            plain("hstore[]", '{"\\"a\\"=>\\"1\\"",NULL}', "{}"),
            plain("citext[]", "{A,NULL}", '{"a,b"}'),
            plain("ltree[]", "{a.b,NULL}"),
            plain("cube[]", '{"(1,2)"}'),
            plain("lo[]", "{1,NULL}"),
        ),
        needs=("hstore", "citext", "ltree", "cube", "seg", "isn", "intarray", "lo"),
    ),
}

OF_THE_WHEEL = {n: group for n, group in GROUPS.items() if group.needs in {(), ("vector",)}}
"""What the wheel's PostgreSQL 18 has."""
OF_DEBIAN = {n: group for n, group in GROUPS.items() if n not in OF_THE_WHEEL}
"""xml and contrib's types, which are in Debian's PostgreSQL 15 only."""


def copy_groups(pipeline: Pipeline, groups: Mapping[str, Group]) -> None:
    """Make and declare a table for each group, fill it, and let the first copy take it."""
    for name, group in groups.items():
        pipeline.execute(
            *(f"CREATE EXTENSION {extension}" for extension in group.needs if extension != "xml"),
            *(*group.setup, create(name, group), *insert(name, group, first_id=0)),
        )
        pipeline.declare(name, key_names(group))
    pipeline.drain()
    for name in groups:
        pipeline.sync(name)


def change_groups(pipeline: Pipeline, groups: Mapping[str, Group]) -> None:
    """Send every value through the stream: inserted, updated to, in changed and deleted keys."""
    for name, group in groups.items():
        pipeline.execute(*insert(name, group, first_id=1000), *change(name, group))
    pipeline.drain()
    for name in groups:
        pipeline.sync(name)


def create(name: str, group: Group) -> str:
    """CREATE TABLE for a group."""
    keys = [(f"k_{i}", t) for i, t in enumerate(group.types) if t.is_key]
    columns = [f"{column} {t.name}" for column, t in keys]
    columns += [f"v_{i} {t.name}" for i, t in enumerate(group.types)]
    names = ", ".join(["id", *(column for column, _ in keys)])
    return f"CREATE TABLE {name} (id int, {', '.join(columns)}, PRIMARY KEY ({names}))"


def key_names(group: Group) -> tuple[str, ...]:
    """The key of a group's table."""
    return ("id", *(f"k_{i}" for i, t in enumerate(group.types) if t.is_key))


def insert(name: str, group: Group, first_id: int) -> Iterator[str]:
    """INSERTs of every value, ids counted from ``first_id``; each its own statement."""
    for row in range(_rows(group)):
        keys = [_value(t, row) for t in group.types if t.is_key]
        values = [*keys, *(_value_or_null(t, row) for t in group.types)]
        yield f"INSERT INTO {name} VALUES ({first_id + row}, {', '.join(values)})"


def change(name: str, group: Group) -> Iterator[str]:
    """Of the rows from id 0: each takes the next row's values; then every second one gets another
    key and no other value, the others one other value, and every third one is deleted by its key.
    """
    rows = _rows(group)
    for row in range(rows):
        values = [f"v_{i} = {_value_or_null(t, row + 1)}" for i, t in enumerate(group.types)]
        yield f"UPDATE {name} SET {', '.join(values)} WHERE id = {row}"
    for row in range(0, rows, 2):
        keys = [f"k_{i} = {_value(t, row + 1)}" for i, t in enumerate(group.types) if t.is_key]
        yield f"UPDATE {name} SET {', '.join([*keys, f'id = {row + 5000}'])} WHERE id = {row}"
    for row in range(1, rows, 2):
        yield f"UPDATE {name} SET v_0 = {_value_or_null(group.types[0], row)} WHERE id = {row}"
    yield f"DELETE FROM {name} WHERE id % 3 = 1 AND id < 5000"


def _rows(group: Group) -> int:
    return max(len(t.values) for t in group.types) + 1


def _value(kind: Type, row: int) -> str:
    return _literal(kind.values[row % len(kind.values)], kind.name)


def _value_or_null(kind: Type, row: int) -> str:
    values = (*kind.values, None)
    value = values[row % len(values)]
    return "NULL" if value is None else _literal(value, kind.name)


def _literal(value: str, kind: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"E'{escaped}'::{kind}"
