"""A small database under load, and an account of every change that it committed.

What belongs here: tables with a single key, a composite key and a TOAST column, random transactions
on them, and triggers that write one audit row for each change in the same transaction. What does
not: capture, merging and comparing. A connection that breaks is opened again; whether its
transaction was committed is the audit's to tell.
"""

import random

import psycopg

from carbon_pipelines_tests.integration.writers import Writers

SCHEMA = """
CREATE TABLE credit (id bigint PRIMARY KEY, state text, amount numeric(12, 2), at timestamptz);
CREATE TABLE reading (meter int, hour int, value double precision, PRIMARY KEY (meter, hour));
CREATE TABLE party (id bigint PRIMARY KEY, n int, doc text);
INSERT INTO credit SELECT g, 'issued', g, now() FROM generate_series(1, 3000) g;
INSERT INTO reading SELECT m, h, m * h FROM generate_series(1, 30) m, generate_series(1, 100) h;
INSERT INTO party
  SELECT g, 0, (SELECT string_agg(md5(g::text || i), '') FROM generate_series(1, 120) i)
    FROM generate_series(1, 400) g;
CREATE TABLE audit (number bigserial, relation text, op text, key text, xid bigint);
CREATE FUNCTION key_of(relation text, r jsonb) RETURNS text LANGUAGE sql AS $$
  SELECT CASE relation WHEN 'reading' THEN concat(r->>'meter', ' ', r->>'hour') ELSE r->>'id' END
$$;
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  xid bigint := pg_current_xact_id()::text::numeric % 4294967296;
  old_key text := CASE WHEN TG_OP <> 'INSERT' THEN key_of(TG_TABLE_NAME, to_jsonb(OLD)) END;
  new_key text := CASE WHEN TG_OP <> 'DELETE' THEN key_of(TG_TABLE_NAME, to_jsonb(NEW)) END;
BEGIN
  IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND old_key <> new_key) THEN
    INSERT INTO audit (relation, op, key, xid) VALUES (TG_TABLE_NAME, 'd', old_key, xid);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO audit (relation, op, key, xid)
    VALUES (TG_TABLE_NAME, CASE TG_OP WHEN 'INSERT' THEN 'c' ELSE 'u' END, new_key, xid);
  END IF;
  RETURN NULL;
END $$;
"""
TRIGGER = """
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION audit()
"""
KEYS = {"credit": ("id",), "reading": ("meter", "hour"), "party": ("id",)}


SETUP = (SCHEMA, *(TRIGGER.format(name) for name in KEYS))
"""Statements that make the database, each for one call."""


class Load(Writers):
    """Writers that run until stopped; used as a context manager."""

    def __init__(self, dsn: str, *, writers: int = 2, seed: int = 1) -> None:
        works = [(self._transaction, random.Random(seed + i)) for i in range(writers)]
        super().__init__(dsn, works)
        self.transactions = 0

    def _transaction(self, connection: psycopg.Connection, chance: random.Random) -> None:
        try:
            for _ in range(chance.randint(1, 12)):
                connection.execute(_statement(chance))
            if chance.random() < 0.1:
                connection.rollback()
            else:
                connection.commit()
            self.transactions += 1
        except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
            connection.rollback()
        self.rest(0.002)


def _statement(chance: random.Random) -> str:
    key, meter, hour = chance.randint(1, 3500), chance.randint(1, 32), chance.randint(1, 100)
    party = chance.randint(1, 450)
    return chance.choice(
        [
            f"UPDATE credit SET state = 'retired', amount = amount + 1.25 WHERE id = {key}",
            f"UPDATE credit SET at = 'infinity' WHERE id BETWEEN {key} AND {key + 5}",
            f"INSERT INTO credit VALUES ({key + 3000}, 'new', 1, now()) ON CONFLICT DO NOTHING",
            f"DELETE FROM credit WHERE id = {key}",
            f"UPDATE credit SET id = {-key} WHERE id = {key}",
            f"UPDATE reading SET value = value + 0.1 WHERE meter = {meter} AND hour = {hour}",
            f"UPDATE reading SET hour = hour + 1000 WHERE meter = {meter} AND hour = {hour}",
            f"INSERT INTO reading VALUES ({meter}, {hour}, 1) ON CONFLICT DO NOTHING",
            f"DELETE FROM reading WHERE meter = {meter} AND hour = {hour}",
            f"UPDATE party SET n = n + 1 WHERE id = {party}",
            f"UPDATE party SET id = id + 100000 WHERE id = {party}",
            f"UPDATE party SET doc = doc || '{key}' WHERE id = {party}",
            f"INSERT INTO party VALUES ({party}, 1, 'small') ON CONFLICT DO NOTHING",
        ]
    )
