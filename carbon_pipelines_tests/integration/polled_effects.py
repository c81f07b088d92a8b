"""A list of DDL, and what each does where the catalogs are polled: part of docs/ddl.md.

What belongs here: the statements that differ from those under event triggers, the table they are
about, and what is promised of them. What does not: running them (``test_ddl_polled.py`` holds every
promise).
"""

from collections.abc import Callable

POLLED_TABLE = (
    "CREATE TYPE t_mood AS ENUM ('calm', 'cross')",
    "CREATE TYPE t_size AS (width int)",
    "CREATE TYPE t_box AS (sizes t_size[])",
    "CREATE TABLE t (id int PRIMARY KEY, n int, doc text, mood t_mood, box t_box, last int)",
    "INSERT INTO t SELECT g, g % 10, 'row ' || g, 'calm', ROW(ARRAY[ROW(g)::t_size])::t_box, g"
    " FROM generate_series(1, 60) g",
)
"""The table ``t`` of the lists below."""

UNHARMED = {
    "another file of the table": ("VACUUM FULL t",),
    "another order of the rows": ("CLUSTER t USING t_pkey",),
    "the rows before it go, at its place among the changes": (
        "TRUNCATE t RESTART IDENTITY CASCADE",
        "INSERT INTO t SELECT g, g FROM generate_series(1, 30) g",
    ),
    "an index made anew": ("REINDEX TABLE CONCURRENTLY t",),
    "constraints": (
        "ALTER TABLE t ALTER doc SET NOT NULL, ALTER n SET DEFAULT 5",
        "INSERT INTO t (id, doc) VALUES (901, 'x')",
        "ALTER TABLE t ALTER doc DROP NOT NULL, ADD CHECK (id > 0)",
    ),
    "storage": ("ALTER TABLE t SET (fillfactor = 50), ALTER doc SET STORAGE EXTERNAL",),
    "a description": ("COMMENT ON COLUMN t.n IS 'Lots'", "ALTER TABLE t ALTER n SET STATISTICS 9"),
    "a new enum label": (
        "ALTER TYPE t_mood ADD VALUE 'glad'",
        "UPDATE t SET mood = 'glad' WHERE id = 9",
    ),
    "a column that comes and goes": ("ALTER TABLE t ADD c int DEFAULT 7", "ALTER TABLE t DROP c"),
    "a table that is renamed and renamed back": (
        "ALTER TABLE t RENAME TO t_away",
        "UPDATE t_away SET doc = 'away' WHERE id = 9",
        "ALTER TABLE t_away RENAME TO t",
    ),
}
"""Followed in place between two looks; by what happens."""

TOUCHED = {
    "a new column": ("ALTER TABLE t ADD c int", "UPDATE t SET c = 8 WHERE id = 9"),
    "a new column and no row": ("ALTER TABLE t ADD c int",),
    "a column with a constant default": (
        "ALTER TABLE t ADD c int DEFAULT 7",
        "UPDATE t SET c = 8 WHERE id = 9",
    ),
    "a column with a volatile default": ("ALTER TABLE t ADD c float8 DEFAULT random()",),
    "a dropped column": ("ALTER TABLE t DROP n", "UPDATE t SET doc = 'x' WHERE id = 9"),
    "a renamed column": ("ALTER TABLE t RENAME n TO z", "UPDATE t SET z = -1 WHERE id = 9"),
    "a last column dropped and added again": (
        "ALTER TABLE t DROP last",
        "ALTER TABLE t ADD last int",
        "UPDATE t SET last = -1 WHERE id = 9",
    ),
    "columns that swap names": (
        "ALTER TABLE t RENAME n TO x",
        "ALTER TABLE t RENAME last TO n",
        "ALTER TABLE t RENAME x TO last",
        "UPDATE t SET last = -1 WHERE id = 9",
    ),
    "columns that swap names, rows that change, and names back": (
        "ALTER TABLE t RENAME n TO x",
        "ALTER TABLE t RENAME last TO n",
        "ALTER TABLE t RENAME x TO last",
        "UPDATE t SET last = -1 WHERE id = 9",
        "ALTER TABLE t RENAME last TO x",
        "ALTER TABLE t RENAME n TO last",
        "ALTER TABLE t RENAME x TO n",
    ),
    "a wider type": ("ALTER TABLE t ALTER n TYPE bigint", "UPDATE t SET n = 5000000000"),
    "another type": ("ALTER TABLE t ALTER n TYPE text USING 'n' || n",),
    "a rewrite that keeps the shape": ("ALTER TABLE t ALTER doc TYPE text USING upper(doc)",),
    "a rewrite there and back": (
        "ALTER TABLE t ALTER n TYPE bigint USING n * 2",
        "ALTER TABLE t ALTER n TYPE int",
    ),
    "a rewrite and a new file": (
        "ALTER TABLE t ALTER doc TYPE text USING upper(doc)",
        "VACUUM FULL t",
    ),
    "a rewrite of what is emptied": (
        "ALTER TABLE t ALTER doc TYPE text USING upper(doc)",
        "TRUNCATE t",
        "INSERT INTO t SELECT g, g FROM generate_series(1, 30) g",
    ),
    "a volatile default that is dropped again": (
        "ALTER TABLE t ADD c float8 DEFAULT random()",
        "ALTER TABLE t DROP c",
    ),
    "a label renamed, rows that change, and the label back": (
        "ALTER TYPE t_mood RENAME VALUE 'calm' TO 'quiet'",
        "UPDATE t SET mood = 'quiet' WHERE id = 9",
        "ALTER TYPE t_mood RENAME VALUE 'quiet' TO 'calm'",
    ),
    "an attribute of a composite type in another": ("ALTER TYPE t_size ADD ATTRIBUTE depth int",),
    "a renamed label": ("ALTER TYPE t_mood RENAME VALUE 'calm' TO 'quiet'",),
    "a key dropped, rows that change, and the key again": (
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "INSERT INTO t (id, n, doc, mood) VALUES (9, 900, 'twice', 'calm')",
        "DELETE FROM t WHERE n = 900",
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        "ALTER TABLE t REPLICA IDENTITY DEFAULT",
    ),
    "tables that swap names": (
        "CREATE TABLE t_new (LIKE t INCLUDING ALL)",
        "INSERT INTO t_new SELECT id, n + 1, doc, mood, box, last FROM t",
        "BEGIN; ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t; COMMIT",
        "UPDATE t SET n = 0 WHERE id = 9",
    ),
    "dropped and created again": (
        "DROP TABLE t",
        "CREATE TABLE t (id int PRIMARY KEY, n int, doc text, mood t_mood, last int)",
        "INSERT INTO t VALUES (1, 1, 'another'), (2, 2, 'table')",
    ),
}
"""Answered by a copy anew; by what happens."""

UNHARMED_PARTITIONS = {
    "another file of a partition": ("VACUUM FULL t_1", "CLUSTER t_3 USING t_3_pkey"),
    "the rows before it go, at its place among the changes": (
        "TRUNCATE t",
        "INSERT INTO t SELECT g, date '2024-01-01' + g % 90, g FROM generate_series(1, 40) g",
    ),
}
"""Followed in place between two looks, in this order; by what happens."""

TOUCHED_PARTITIONS = {
    "a new partition": (
        "CREATE TABLE t_4 PARTITION OF t FOR VALUES FROM ('2024-04-01') TO ('2024-05-01')",
        "INSERT INTO t VALUES (9002, '2024-04-01', 2, 'same look', 'busy')",
    ),
    "a new column": ("ALTER TABLE t ADD more int",),
    "a partition detached, changed and attached again": (
        "ALTER TABLE t DETACH PARTITION t_1",
        "UPDATE t_1 SET n = -1",
        "ALTER TABLE t ATTACH PARTITION t_1 FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')",
    ),
    "a partition dropped": ("DROP TABLE t_4",),
    "a partition truncated": ("TRUNCATE t_1",),
    "a rewrite that keeps the shape": ("ALTER TABLE t ALTER doc TYPE text USING upper(doc)",),
    "columns that swap names, rows that change, and names back": (
        "ALTER TABLE t RENAME n TO x",
        "ALTER TABLE t RENAME more TO n",
        "ALTER TABLE t RENAME x TO more",
        "UPDATE t SET more = -1 WHERE id % 3 = 0",
        "ALTER TABLE t RENAME more TO x",
        "ALTER TABLE t RENAME n TO more",
        "ALTER TABLE t RENAME x TO n",
    ),
    "statistics": ("ALTER TABLE t ALTER n SET STATISTICS 9",),
}
"""Answered by a copy anew, in this order; by what happens."""

_TEXT = """
## Without event triggers

Where our role may not create event triggers, or somebody switched them off, every drain looks at
the catalogs and compares the shape, file, rows of `pg_attribute`, key, partitions and labels of
each table with what the look before kept. A look comes after the DDL, so a change of columns is not
followed in place: the table is copied anew, and readers keep the old rows until the copy is whole.
Rows that come in another shape before that look stop their table right before them.

* Looks come with each `carbon sync`, and with each run of `stream/<database>`, which the schedule
  asks for twice within the freshness. Until then the lake is what it was.
* A rewrite is told from `VACUUM FULL`, `CLUSTER` and `TRUNCATE`, which give a table another file as
  well, because those write no row of `pg_attribute`. It may be a false alarm: `SET STATISTICS` and
  `VACUUM FULL` between two looks, or a `VACUUM FULL` that writes out a column's constant default.
  The price is one copy. Of a partitioned table any new row of `pg_attribute` is taken for a change.
* A table whose key is dropped stays published for updates until the next look, and PostgreSQL
  refuses the application's `UPDATE` and `DELETE` of it until then.
* A table that is renamed, moved, dropped or without a key is parked as above.
"""


def describe_polled(shown: Callable[[tuple[str, ...]], str]) -> list[str]:
    """Lines of docs/ddl.md; ``shown`` gives the DDL among statements."""
    lines = _TEXT.rstrip().split("\n")
    for table, followed, copied in (
        ("`t`", UNHARMED, TOUCHED),
        ("a partitioned `t`", UNHARMED_PARTITIONS, TOUCHED_PARTITIONS),
    ):
        lines += ["", f"| between two looks at {table} | what it is | effect |", "|---|---|---|"]
        lines += [
            f"| {shown(statements)} | {name} | followed in place |"
            for name, statements in followed.items()
        ]
        lines += [
            f"| {shown(statements)} | {name} | copied anew, or parked with `on_rewrite: park` |"
            for name, statements in copied.items()
        ]
    return lines
