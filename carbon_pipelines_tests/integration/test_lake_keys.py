"""What identifies a row: keys of every kind, changing and alike, and the identities that send them.

Every test follows the same table through a copy and merges and compares with DuckDB alone.
"""

import pytest

from carbon_pipelines.errors import KeyMismatchError, KeyMissingError
from carbon_pipelines_tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.integration


def in_one_transaction(pipeline: Pipeline, *statements: str) -> None:
    with pipeline.connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_a_composite_key_of_mixed_types_follows_changes_of_each_of_its_columns(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "CREATE TABLE t (v int, a text, b timestamptz, c uuid, d numeric(20,6), doc text,"
        " PRIMARY KEY (d, a, c, b))",
        "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT g, 'k' || g % 3, timestamptz '2024-01-01 00:00+00' + g * interval"
        " '1 microsecond', md5(g::text)::uuid, g % 2 - 0.000001, repeat(md5(g::text), 300)"
        " FROM generate_series(1, 60) g",
        "INSERT INTO t SELECT 1, a, 'infinity', c, -99999999999999.999999, doc FROM t WHERE v < 9",
    )
    pipeline.declare("t", ("d", "a", "c", "b"))
    pipeline.follow("t")
    assert pipeline.differences("t") == 0

    pipeline.execute(
        "UPDATE t SET a = upper(a) WHERE v % 5 = 0",
        "UPDATE t SET b = b - interval '400 years' WHERE v % 5 = 1 AND isfinite(b)",
        "UPDATE t SET c = gen_random_uuid(), v = -v WHERE v % 5 = 2",
        "UPDATE t SET d = d + 0.000001 WHERE v % 5 = 3",
        "UPDATE t SET v = v + 1000 WHERE v % 5 = 4",
        "DELETE FROM t WHERE b = 'infinity' AND a = 'k1'",
    )

    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_rows_that_swap_their_keys_in_one_transaction_keep_their_own_values(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n int, doc text)",
        "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT g, g, repeat(md5(g::text), 300) FROM generate_series(1, 9) g",
    )
    pipeline.declare("t")
    pipeline.follow("t")

    in_one_transaction(
        pipeline,
        "UPDATE t SET id = -1 WHERE id = 1",
        "UPDATE t SET id = 1 WHERE id = 2",
        "UPDATE t SET id = 2 WHERE id = -1",
        # a ring of three, with one of them written in between
        "UPDATE t SET id = -3 WHERE id = 3",
        "UPDATE t SET id = 3, n = 40 WHERE id = 4",
        "UPDATE t SET id = 4 WHERE id = 5",
        "UPDATE t SET id = 5 WHERE id = -3",
        # a key that another row takes right after its own was deleted
        "DELETE FROM t WHERE id = 6",
        "UPDATE t SET id = 6 WHERE id = 7",
        "INSERT INTO t VALUES (7, 70, 'new')",
    )

    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_a_key_that_is_checked_at_the_end_only_is_refused_because_two_rows_may_share_it(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, n int)",
    )
    pipeline.declare("t")
    with pytest.raises(KeyMissingError):
        pipeline.drain()

    pipeline.execute("ALTER TABLE t REPLICA IDENTITY FULL")
    with pytest.raises(KeyMismatchError):
        pipeline.drain()


def test_keys_that_differ_in_case_accents_or_trailing_space_only_are_different_keys(
    pipeline: Pipeline,
) -> None:
    pipeline.execute(
        "CREATE TABLE t (k text PRIMARY KEY, n int)",
        "INSERT INTO t VALUES ('a', 1), ('A', 2), ('a ', 3), ('a  ', 4), (' a', 5), ('', 6),"
        " (' ', 7), (E'a\\t', 8), (E'\\u00e9', 9), (E'e\\u0301', 10), ('NULL', 11), ('null', 12),"
        " (E'a\\nb', 13), ('\"', 14), (E'\\\\', 15)",
    )
    pipeline.declare("t", ("k",))
    pipeline.follow("t")
    assert pipeline.differences("t") == 0

    pipeline.execute(
        "UPDATE t SET n = n + 100 WHERE k IN ('A', 'a ', '', E'e\\u0301', E'\\\\')",
        "DELETE FROM t WHERE k IN ('a', ' ', 'NULL', E'a\\nb')",
        "UPDATE t SET k = k || ' ' WHERE k IN ('a  ', 'null')",
    )

    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_keys_of_padded_characters_are_the_same_by_copy_and_by_stream(pipeline: Pipeline) -> None:
    pipeline.execute(
        "CREATE TABLE t (k char(6), g varchar(3), n int, PRIMARY KEY (k, g))",
        "INSERT INTO t VALUES ('a', 'x', 1), ('A', 'x', 2), ('b  ', 'x ', 3), ('', '', 4)",
    )
    pipeline.declare("t", ("k", "g"))
    pipeline.follow("t")
    assert pipeline.differences("t") == 0

    pipeline.execute(
        "UPDATE t SET n = 10 WHERE k = 'a     '",
        "UPDATE t SET k = 'aa' WHERE k = 'A'",
        "DELETE FROM t WHERE k = 'b'",
        "UPDATE t SET g = 'y' WHERE k = ''",
    )

    pipeline.follow("t")
    assert pipeline.differences("t") == 0


IDENTITIES = {
    "FULL": ("REPLICA IDENTITY FULL", ("id",)),
    "USING INDEX": ("REPLICA IDENTITY USING INDEX t_code", ("code",)),
}


@pytest.mark.parametrize("identity", IDENTITIES)
def test_another_identity_than_the_primary_key_sends_what_the_declared_key_needs(
    pipeline: Pipeline, identity: str
) -> None:
    alter, key = IDENTITIES[identity]
    pipeline.execute(
        "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL, n int, doc text)",
        "CREATE UNIQUE INDEX t_code ON t (code)",
        f"ALTER TABLE t {alter}",
        "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT g, 'c' || g, nullif(g % 3, 0), repeat(md5(g::text), 300)"
        " FROM generate_series(1, 20) g",
    )
    pipeline.declare("t", key)
    pipeline.follow("t")

    pipeline.execute(
        "UPDATE t SET n = NULL WHERE id = 1",
        "UPDATE t SET n = 5 WHERE id = 3",
        "UPDATE t SET id = id + 100 WHERE id < 8",
        "UPDATE t SET code = 'd' || id WHERE id BETWEEN 10 AND 105",
        "UPDATE t SET doc = NULL WHERE id = 106",
        "DELETE FROM t WHERE id IN (9, 107)",
    )

    pipeline.follow("t")
    assert pipeline.differences("t") == 0


def test_a_mirror_whose_identity_is_nothing_is_refused_and_its_application_goes_on(
    pipeline: Pipeline,
) -> None:
    pipeline.execute("CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1)")
    pipeline.execute("ALTER TABLE t REPLICA IDENTITY NOTHING")
    pipeline.declare("t")

    with pytest.raises(KeyMissingError, match="NOTHING"):
        pipeline.drain()

    pipeline.execute("UPDATE t SET n = 2", "DELETE FROM t")


def test_a_log_whose_identity_is_nothing_takes_inserts_and_leaves_its_application_alone(
    pipeline: Pipeline,
) -> None:
    pipeline.execute("CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1)")
    pipeline.execute("ALTER TABLE t REPLICA IDENTITY NOTHING")
    pipeline.declare("t", (), mode="append")
    pipeline.follow("t")

    pipeline.execute("INSERT INTO t VALUES (2, 2), (3, 3)")
    pipeline.follow("t")
    assert pipeline.differences("t") == 0

    # its declaration says so: what is updated and deleted stays as it was inserted
    pipeline.execute("UPDATE t SET n = -n WHERE id = 2", "DELETE FROM t WHERE id = 3")
    pipeline.follow("t")
    assert sorted(pipeline.iceberg("t").scan().to_arrow().column("n").to_pylist()) == [1, 2, 3]

    pipeline.execute("TRUNCATE t", "INSERT INTO t VALUES (2, 7)")
    pipeline.follow("t")
    assert pipeline.differences("t") == 0
