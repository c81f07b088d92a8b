"""A list of DDL, and what each does to a table that is captured: docs/ddl.md is made of it.

What belongs here: the statements, the table they are about, and what is promised of them. What does
not: running them (``test_ddl_followed.py`` and ``test_ddl_recopied.py`` hold every promise).
"""

import re

from carbon_pipelines_tests.integration.partition_effects import (
    FOLLOWED_PARTITIONS,
    RECOPIED_PARTITIONS,
)
from carbon_pipelines_tests.integration.polled_effects import describe_polled

FOLLOWED_TABLE = (
    "CREATE TABLE t (id int PRIMARY KEY, a int, b text, r real, d numeric(8, 2), v varchar(9),"
    " doc text)",
    "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
    "INSERT INTO t SELECT g, g % 10, 'b' || g, g / 7.0, g + 0.25, 'v' || g,"
    " repeat(md5(g::text), 90) FROM generate_series(1, 60) g",
)
"""The table ``t`` of ``FOLLOWED``."""

FOLLOWED = {
    "a renamed column": (
        "ALTER TABLE t RENAME a TO z",
        "UPDATE t SET z = -1 WHERE id = 3",
    ),
    "two columns that swap names": (
        "ALTER TABLE t RENAME b TO x",
        "ALTER TABLE t RENAME v TO b",
        "ALTER TABLE t RENAME x TO v",
        "UPDATE t SET b = 'was v', v = 'was b' WHERE id = 3",
    ),
    "a dropped column": (
        "ALTER TABLE t DROP a",
        "UPDATE t SET b = 'x' WHERE id = 3",
    ),
    "a column dropped and added again with another type": (
        "ALTER TABLE t DROP a",
        "UPDATE t SET b = 'between' WHERE id = 3",
        "ALTER TABLE t ADD a text",
        "UPDATE t SET a = 'new' WHERE id = 4",
    ),
    "a column dropped and added in one statement": (
        "ALTER TABLE t DROP a, ADD a timestamptz",
        "UPDATE t SET a = now() WHERE id = 4",
    ),
    "a name that moves on to a new column": (
        "ALTER TABLE t RENAME a TO old_a",
        "ALTER TABLE t ADD a text",
        "UPDATE t SET a = 'new', old_a = 9 WHERE id = 4",
    ),
    "an integer key and column that become bigint": (
        "ALTER TABLE t ALTER id TYPE bigint",
        "ALTER TABLE t ALTER a TYPE bigint",
        "UPDATE t SET a = 5000000000 WHERE id = 3",
        "INSERT INTO t (id) VALUES (6000000000)",
        "DELETE FROM t WHERE id = 7",
    ),
    "real that becomes double precision": (
        "ALTER TABLE t ALTER r TYPE double precision",
        "UPDATE t SET r = 0.1 WHERE id = 3",
    ),
    "numeric and varchar that become longer": (
        "ALTER TABLE t ALTER d TYPE numeric(20, 2), ALTER v TYPE varchar(30)",
        "UPDATE t SET d = 123456789012.25, v = 'longer than nine' WHERE id = 3",
        "ALTER TABLE t ALTER v TYPE text",
        "UPDATE t SET v = 'as long as it likes to be, or longer' WHERE id = 4",
    ),
    "constraints": (
        "ALTER TABLE t ALTER b SET NOT NULL, ALTER a SET DEFAULT 5",
        "INSERT INTO t (id, b) VALUES (900, 'x')",
        "ALTER TABLE t ALTER b DROP NOT NULL, ALTER a DROP DEFAULT",
        "INSERT INTO t (id) VALUES (901)",
    ),
    "a large value left unchanged by an update after its column was renamed": (
        "UPDATE t SET doc = repeat(md5(id::text || 'x'), 90) WHERE id IN (3, 4)",
        "ALTER TABLE t RENAME doc TO paper",
        "UPDATE t SET b = 'touched' WHERE id IN (3, 5)",
    ),
    "a column with a constant default": (
        "ALTER TABLE t ADD c int DEFAULT 7",
        "UPDATE t SET c = 8 WHERE id = 3",
        "INSERT INTO t (id) VALUES (902)",
        "INSERT INTO t (id, c) VALUES (903, NULL)",
    ),
    "columns with constants of every form": (
        "ALTER TABLE t ADD c text NOT NULL DEFAULT E'it''s\\n', ADD e numeric(9, 3) DEFAULT -1.5,"
        " ADD f boolean DEFAULT true, ADD g timestamptz DEFAULT '2024-01-02 03:04:05.123456+02',"
        " ADD h date DEFAULT 'infinity', ADD i int[] DEFAULT '{1,NULL,3}', ADD j uuid DEFAULT"
        " '00000000-0000-0000-0000-00000000002a', ADD k bytea DEFAULT '\\x00ff', ADD l float8"
        " DEFAULT 'NaN', ADD m text[] DEFAULT ARRAY['a,b', NULL], ADD n time DEFAULT '12:30'",
        "UPDATE t SET c = 'own', i = NULL WHERE id = 3",
    ),
    "a default that changes after it filled the column": (
        "ALTER TABLE t ADD c int DEFAULT 7",
        "ALTER TABLE t ALTER c SET DEFAULT 9",
        "INSERT INTO t (id) VALUES (904)",
    ),
    "a filled column that is dropped again": (
        "ALTER TABLE t ADD c int DEFAULT 7",
        "UPDATE t SET c = 8 WHERE id = 3",
        "ALTER TABLE t DROP c",
    ),
    "a table that is emptied between": (
        "ALTER TABLE t RENAME a TO z",
        "TRUNCATE t RESTART IDENTITY CASCADE",
        "INSERT INTO t (id, z) VALUES (1, 1), (2, 2)",
        "ALTER TABLE t ADD c int DEFAULT 7",
        "UPDATE t SET z = 3 WHERE id = 1",
    ),
    "a new enum label": (
        "CREATE TYPE mood AS ENUM ('calm')",
        "ALTER TABLE t ADD m mood",
        "UPDATE t SET m = 'calm' WHERE id = 3",
        "ALTER TYPE mood ADD VALUE 'busy' BEFORE 'calm'",
    ),
    "a table that is renamed and renamed back": (
        "ALTER TABLE t RENAME TO t_away",
        "UPDATE t_away SET b = 'away' WHERE id = 3",
        "ALTER TABLE t_away ADD c int",
        "DELETE FROM t_away WHERE id = 4",
        "ALTER TABLE t_away RENAME TO t",
    ),
}
"""Followed in place, with the DML between them; by what they do."""

RECOPIED_TABLE = (
    "CREATE TYPE t_mood AS ENUM ('calm', 'cross')",
    "CREATE TYPE t_size AS (width int, height int)",
    "CREATE TYPE t_box AS (size t_size, weight int)",
    "CREATE TABLE t (id bigint PRIMARY KEY, n int, doc varchar(20), o oid, mood t_mood,"
    " price numeric(8, 2), at timestamptz DEFAULT '2024-01-02 03:04:05.678912', size t_size,"
    " boxes t_box[])",
    "INSERT INTO t (id, n, doc, o, mood, price, size, boxes)"
    " SELECT g, g % 10, 'row ' || g || '       ', 3000000000, 'cross', g, ROW(g, 2)::t_size,"
    " ARRAY[ROW(ROW(g, 3), 4)::t_box] FROM generate_series(1, 60) g",
)
"""The table ``t`` of ``RECOPIED``."""

RECOPIED = {
    "rewrites the table": ("ALTER TABLE t ALTER n TYPE bigint USING n * 2",),
    "rewrites the table: USING in a function": (
        "DO $$ BEGIN ALTER TABLE t ALTER n TYPE bigint USING n * 2; END $$",
    ),
    "rewrites the table: several statements at once": (
        "ALTER TABLE t ALTER n TYPE bigint; ALTER TABLE t ALTER n TYPE bigint USING n + 1",
    ),
    "changes n from integer to smallint": ("ALTER TABLE t ALTER n TYPE smallint",),
    "changes n from integer to text": ("ALTER TABLE t ALTER n TYPE text",),
    "changes doc from character varying(20) to character(9)": (
        "ALTER TABLE t ALTER doc TYPE char(9)",
    ),
    "changes doc from character varying(20) to character varying(9)": (
        "ALTER TABLE t ALTER doc TYPE varchar(9)",
    ),
    "changes at from timestamp with time zone to timestamp(3) with time zone": (
        "ALTER TABLE t ALTER at TYPE timestamptz(3)",
    ),
    "changes price from numeric(8,2) to numeric(6,1): fewer digits": (
        "ALTER TABLE t ALTER price TYPE numeric(6, 1)",
    ),
    "changes price from decimal(8, 2) to string": ("ALTER TABLE t ALTER price TYPE numeric",),
    "changes o from oid to integer": ("ALTER TABLE t ALTER o TYPE int",),
    "renames cross to angry of an enum": ("ALTER TYPE t_mood RENAME VALUE 'cross' TO 'angry'",),
    "rewrites the table: a composite type": ("ALTER TYPE t_size ADD ATTRIBUTE depth int",),
    "rewrites the table: a composite type in another": (
        "ALTER TABLE t DROP size",
        "ALTER TYPE t_size DROP ATTRIBUTE height",
    ),
    "rewrites the table: a volatile default": ("ALTER TABLE t ADD r float8 DEFAULT random()",),
    "rewrites the table: an identity": (
        "ALTER TABLE t ADD number int GENERATED ALWAYS AS IDENTITY",
    ),
    "adds m with a value for existing rows": (
        "ALTER TABLE t ADD m int DEFAULT 5, ALTER n TYPE bigint",
    ),
    "takes id out of the replica identity": (
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "UPDATE t SET n = 70 WHERE id = 7",
        "ALTER TABLE t ADD PRIMARY KEY (id)",
    ),
    "dropped and created again": (
        "DROP TABLE t",
        "CREATE TABLE t (id bigint PRIMARY KEY, n text)",
        "INSERT INTO t VALUES (1, 'another'), (2, 'table')",
    ),
}
"""Answered by a copy anew; by the reason that is told, up to a colon."""

PARKED = {
    "a table renamed": (
        ("ALTER TABLE t RENAME TO t_old", "UPDATE t_old SET n = -1 WHERE id = 3"),
        ("DELETE FROM t_old WHERE id = 5", "ALTER TABLE t_old RENAME TO t"),
    ),
    "a table moved to another schema": (
        ("ALTER TABLE t SET SCHEMA s", "UPDATE s.t SET n = -1 WHERE id = 3"),
        ("ALTER TABLE s.t SET SCHEMA public",),
    ),
    "a table dropped": (
        ("DROP TABLE t",),
        (
            "CREATE TABLE t (id int PRIMARY KEY, n int, more text)",
            "INSERT INTO t SELECT g, -g, 'new' FROM generate_series(11, 40) g",
        ),
    ),
    "a view in the place of a table": (
        ("ALTER TABLE t RENAME TO t_rows", "CREATE VIEW t AS SELECT * FROM t_rows"),
        ("DROP VIEW t", "UPDATE t_rows SET n = -2 WHERE id = 9", "ALTER TABLE t_rows RENAME TO t"),
    ),
    "another key": (
        (
            "ALTER TABLE t REPLICA IDENTITY USING INDEX t_uid_key",
            "UPDATE t SET id = 103 WHERE uid = 3",
            "UPDATE t SET uid = 104 WHERE id = 4",
            "DELETE FROM t WHERE id = 5",
        ),
        ("UPDATE t SET id = 106 WHERE uid = 6", "ALTER TABLE t REPLICA IDENTITY DEFAULT"),
    ),
    "no key": (
        ("ALTER TABLE t DROP CONSTRAINT t_pkey",),
        ("DELETE FROM t WHERE id = 5", "ALTER TABLE t ADD PRIMARY KEY (id)"),
    ),
    "a key that is unique no more": (
        (
            "ALTER TABLE t REPLICA IDENTITY FULL",
            "ALTER TABLE t DROP CONSTRAINT t_pkey",
            "INSERT INTO t VALUES (3, 300, 0)",
        ),
        ("DELETE FROM t WHERE uid = 3", "ALTER TABLE t ADD PRIMARY KEY (id)"),
    ),
}
"""What parks the table, and what lets it go on; by what it is then (``test_table_trouble.py``)."""

SEEN = {
    "a renamed column": "the new name over the same values",
    "two columns that swap names": "each value under its column's new name",
    "a dropped column": "the column is gone; earlier snapshots have it",
    "a column dropped and added again with another type": "a new column: NULL in rows from before",
    "a column dropped and added in one statement": "a new column: NULL in rows from before",
    "a name that moves on to a new column": "the values under the old column's new name",
    "an integer key and column that become bigint": "a wider type over the same values",
    "real that becomes double precision": "a wider type over the same values",
    "numeric and varchar that become longer": "a wider decimal; text as it was",
    "constraints": "nothing: only key columns are required in the lake",
    "a large value left unchanged by an update after its column was renamed": (
        "the value under the new name"
    ),
    "a column with a constant default": "the constant in every row, in one snapshot",
    "columns with constants of every form": "the constants in every row, in one snapshot",
    "a default that changes after it filled the column": (
        "the first constant in rows from before, the second in new ones"
    ),
    "a filled column that is dropped again": "the column comes and goes",
    "a table that is emptied between": "the rows before it go, at its place among the changes",
    "a new enum label": "nothing: an enum is text",
    "a table that is renamed and renamed back": "every change, those of meanwhile included",
}
"""What readers of the lake see of ``FOLLOWED``."""


def describe() -> str:
    """docs/ddl.md."""
    lines = [
        "# DDL, and what becomes of it",
        "",
        "Every statement here is run against a real table by the tests, between changes of rows",
        "and in one transaction with them, and the lake is compared with its source afterwards.",
        "",
        "| statement on a captured table `t` | effect | what readers see |",
        "|---|---|---|",
    ]
    for name, statements in FOLLOWED.items():
        filled = any(
            word in name for word in ("constant d", "constants of", "default that", "filled")
        )
        effect = "filled" if filled else "followed"
        lines.append(f"| {_shown(statements)} | {effect} in place | {SEEN[name]} |")
    old_rows = "the old rows until the copy is whole, then the new ones"
    copied = "copied anew, or parked with `on_rewrite: park`"
    lines += [
        f"| {_shown(statements)} | {copied} | {old_rows} |" for statements in RECOPIED.values()
    ]
    lines += [
        f"| {_shown(cause)} | parked at that place until {_shown(cure)} | the rows from before it |"
        for cause, cure in PARKED.values()
    ]
    lines += [
        "",
        "## Partitions",
        "",
        "A partitioned table `t` is one table of the lake ([source](source.md)).",
        "",
        "| statement | effect | what readers see |",
        "|---|---|---|",
        *(
            f"| {shown} | followed in place | {seen} |"
            for seen, statements in FOLLOWED_PARTITIONS.items()
            if (shown := _shown(statements))
        ),
        *(
            f"| {_shown(statements)} | {copied} | {old_rows} |"
            for statements in RECOPIED_PARTITIONS.values()
        ),
        *describe_polled(_shown),
    ]
    return "\n".join(lines) + "\n"


def _shown(statements: tuple[str, ...]) -> str:
    """The DDL among the statements."""
    ddl = [s for s in statements if not re.match("INSERT|UPDATE|DELETE", s)]
    return "; ".join(f"`{statement}`" for statement in ddl).replace("|", "\\|")
