"""The tables of schema carbon in a source database.

What belongs here: their text. What does not: the functions and triggers that write them
(``ddl_triggers.py``) and installing them (``ddl_history.py``).
"""

# The version numbers of a history that was dropped and made again must not repeat those that
# topics and table snapshots hold: the sequence starts at the time in milliseconds.
TABLES = """
CREATE SCHEMA IF NOT EXISTS carbon;
CREATE TABLE IF NOT EXISTS carbon.capture_state (
  slot_name text PRIMARY KEY,
  described boolean NOT NULL,  -- the slot has been sent a row for every table
  settled boolean NOT NULL     -- what ran before the last change of slot or list has ended
);
CREATE TABLE IF NOT EXISTS carbon.table_traces (  -- of the newest look at each table
  oid oid PRIMARY KEY,
  traces jsonb NOT NULL,
  triggers text  -- the event triggers that fired then, null if one did not
);
DO $do$ BEGIN
  IF to_regclass('carbon.ddl_history') IS NULL THEN
    DROP SEQUENCE IF EXISTS carbon.schema_version;
    EXECUTE format('CREATE SEQUENCE carbon.schema_version START %s',
                   (extract(epoch FROM clock_timestamp()) * 1000)::bigint);
    CREATE TABLE carbon.ddl_history (
      id bigint PRIMARY KEY DEFAULT nextval('carbon.schema_version'),
      format_version integer NOT NULL,
      oid oid NOT NULL,
      schema text NOT NULL,
      name text NOT NULL,
      kind text NOT NULL,
      replica_identity text NOT NULL,
      partition_parent oid,
      columns jsonb NOT NULL,
      rewritten boolean NOT NULL,
      command_tag text NOT NULL,
      recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX ddl_history_oid ON carbon.ddl_history (oid, id);
    UPDATE carbon.capture_state SET described = false;
  END IF;
  ALTER TABLE carbon.ddl_history
    ADD COLUMN IF NOT EXISTS cast_only boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS comment text,
    ADD COLUMN IF NOT EXISTS leaves jsonb,  -- oids of a partitioned table's leaves
    ADD COLUMN IF NOT EXISTS filled_leaves jsonb;
END $do$;
"""
