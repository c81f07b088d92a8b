"""A list of DDL on the partitions of a table, and what each does: part of docs/ddl.md.

What belongs here: the statements, the table they are about, and what is promised of them. What does
not: running them (``test_partitioned.py`` holds every promise).
"""

PARTITIONED_TABLE = (
    "CREATE TYPE mood AS ENUM ('calm', 'busy')",
    "CREATE TABLE t (id bigint, day date, n int, doc text, m mood, PRIMARY KEY (id, day))"
    " PARTITION BY RANGE (day)",
    "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')",
    "CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')"
    " PARTITION BY HASH (id)",
    "CREATE TABLE t_2a PARTITION OF t_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE t_2b PARTITION OF t_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "CREATE TABLE t_3 (m mood, gone int, doc text, day date NOT NULL, n int, id bigint NOT NULL)",
    "ALTER TABLE t_3 DROP gone",
    "ALTER TABLE t ATTACH PARTITION t_3 FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')",
    "INSERT INTO t SELECT g, date '2024-01-01' + g % 90, g, repeat(md5(g::text), 90), 'calm'"
    " FROM generate_series(100, 399) g",
)
"""Leaves of two depths; ``t_3`` has its columns in another order, and once had one more."""

KEY = ("id", "day")

FOLLOWED_PARTITIONS = {
    "rows of any partition, which may move to another": (
        "UPDATE t SET n = n + 1 WHERE id % 3 = 0",
        "UPDATE t SET day = day + 31 WHERE id % 7 = 0 AND day < '2024-03-01'",
        "UPDATE t SET id = id + 1000 WHERE id % 11 = 0",
        "DELETE FROM t WHERE id % 13 = 0",
    ),
    "the rows that are inserted from then on": (
        "INSERT INTO t VALUES (9001, '2024-03-31', 1, 'before', 'calm')",
        "CREATE TABLE t_4 PARTITION OF t FOR VALUES FROM ('2024-04-01') TO ('2024-05-01')",
        "INSERT INTO t VALUES (9002, '2024-04-01', 2, 'same transaction', 'busy')",
        "UPDATE t SET day = '2024-04-03' WHERE id = 9001",
    ),
    "those that are inserted from then on; an empty one brings none": (
        "CREATE TABLE t_5 (LIKE t INCLUDING ALL)",
        "ALTER TABLE t ATTACH PARTITION t_5 DEFAULT",
        "INSERT INTO t (id, day, doc) VALUES (4, '2030-01-01', 'default')",
    ),
    "as for any table": (
        "ALTER TABLE t ADD c int DEFAULT 7",
        "INSERT INTO t (id, day) VALUES (9003, '2024-01-02')",
        "ALTER TABLE t RENAME doc TO paper",
        "UPDATE t SET n = 0, paper = 'new' WHERE id < 60",
        "ALTER TABLE t DROP m",
    ),
    "nothing": (
        "ALTER TABLE t_4 RENAME TO april",
        "ALTER TABLE t_3 SET (fillfactor = 50)",
        "UPDATE t SET n = n + 1 WHERE day > '2024-03-20'",
    ),
    "the rows before it go, at its place among the changes": (
        "TRUNCATE t",
        "INSERT INTO t SELECT g, date '2024-01-01' + g % 90, g FROM generate_series(1, 40) g",
    ),
}
"""Followed in place, in this order; by what readers see."""

RECOPIED_PARTITIONS = {
    "attaches partitions that hold rows already": (
        "CREATE TABLE t_6 (LIKE t INCLUDING ALL)",
        "INSERT INTO t_6 VALUES (1, '2024-06-01', 1, 'came with it', 'busy')",
        "ALTER TABLE t ATTACH PARTITION t_6 FOR VALUES FROM ('2024-06-01') TO ('2024-07-01')",
    ),
    "some of its partitions were truncated": ("TRUNCATE t_1",),
    "some of its partitions were truncated: several": ("TRUNCATE t_2a, t_3",),
    "takes partitions away": (
        "ALTER TABLE t DETACH PARTITION t_6",
        "UPDATE t_6 SET n = 3",
    ),
    "takes partitions away: concurrently": ("ALTER TABLE t DETACH PARTITION t_3 CONCURRENTLY",),
    "takes partitions away: with all below it": ("DROP TABLE t_2",),
    "rewrites the table": ("ALTER TABLE t ALTER n TYPE bigint USING n * 2",),
}
"""Answered by a copy anew, in this order; by the reason that is told, up to a colon."""
