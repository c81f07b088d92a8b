"""The SQL behind the DDL history that acts: functions and event triggers in schema carbon.

What belongs here: their text, and nothing that runs it. What does not: the tables that they write
(``history_tables.py``), what they know of partitions (``leaf_functions.py``), installing them and
reading the history (``ddl_history.py``).

Invariant: the application's DDL and DML never fail because of us. Each trigger body catches every
error (a cancelled statement stays cancelled), waits half a second at most for a lock, reads no
table of ours (a read would take part in the conflict checks of SERIALIZABLE transactions), and
first does what DML depends on: a table that lost its replica identity leaves the publication of
updates in the same transaction. That has a handler of its own, because an error undoes everything
inside the handler that catches it: a row that cannot be written must not put the table back.

Everything runs as its owner with a fixed search_path, so that no role can put an object of its own
in the place of ours, and with our text settings, so that defaults read the same in any session.
"""

from carbon_pipelines.source.description import DESCRIBE, FORMAT_VERSION
from carbon_pipelines.source.leaf_functions import LEAF_FUNCTION_NAMES, LEAF_FUNCTIONS

FUNCTION_NAMES = (
    *LEAF_FUNCTION_NAMES,
    "describe_relation",
    "record_relation",
    "demote_keyless_tables",
    "on_ddl_command_end",
    "on_sql_drop",
    "on_table_rewrite",
)
TRIGGER_NAMES = (
    "carbon_ddl_command_start",
    "carbon_ddl_command_end",
    "carbon_sql_drop",
    "carbon_table_rewrite",
)

_SETTINGS = """
  SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO,YMD' SET intervalstyle = 'postgres'
  SET timezone = 'UTC' SET extra_float_digits = 3 SET bytea_output = 'hex' SET lc_monetary = 'C'
  SET xmlbinary = 'base64' SET lock_timeout = '500ms'"""

_DESCRIBE_FUNCTION = (
    "CREATE OR REPLACE FUNCTION carbon.describe_relation(relation oid) RETURNS jsonb LANGUAGE sql"
    f" STABLE SET search_path = pg_catalog, pg_temp AS $f$ {DESCRIBE % {'relation': '$1'}} $f$;"
)

_TRIGGER_FUNCTIONS = r"""
-- Rows of one partitioned table are recorded by one transaction at a time, so that their order is
-- that of the commits. One that comes in between waits for nobody: it says "rewritten", because a
-- copy made from then on has seen both transactions, in whatever order they are sent.
DROP FUNCTION IF EXISTS carbon.record_relation(oid, text, boolean);
CREATE OR REPLACE FUNCTION carbon.record_relation(
  relation oid, tag text, rewritten boolean, cast_only boolean DEFAULT false)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  in_between boolean := EXISTS (SELECT FROM pg_class c WHERE c.oid = $1 AND c.relkind = 'p')
                        AND NOT pg_try_advisory_xact_lock(
                              hashtextextended('carbon partitions of ' || $1, 0));
  recorded bigint;
BEGIN
  INSERT INTO carbon.ddl_history (format_version, oid, schema, name, kind, replica_identity,
                                  partition_parent, columns, comment, rewritten, cast_only,
                                  command_tag, leaves, filled_leaves)
  SELECT (d ->> 'format_version')::int, $1, d ->> 'schema', d ->> 'name', d ->> 'kind',
         d ->> 'replica_identity', (d ->> 'partition_parent')::oid, d -> 'columns',
         d ->> 'comment', $3 OR in_between, $4, $2, d -> 'leaves',
         carbon.filled_leaves(d -> 'leaves')
    FROM carbon.describe_relation($1) AS d WHERE d IS NOT NULL
  RETURNING id INTO recorded;
  RETURN recorded;
END $f$;

-- Takes tables that have lost their replica identity out of the publications of updates, so that
-- the application's UPDATE goes on working, and returns them. A partitioned table has lost it with
-- the first of its leaves that has.
CREATE OR REPLACE FUNCTION carbon.demote_keyless_tables()
RETURNS SETOF oid LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  lost record;
BEGIN
  FOR lost IN
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS label, p.pubname
      FROM pg_publication p
      JOIN pg_publication_rel r ON r.prpubid = p.oid
      JOIN pg_class c ON c.oid = r.prrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE starts_with(p.pubname, 'carbon_') AND (p.pubupdate OR p.pubdelete)
       AND EXISTS (
         SELECT FROM carbon.heaps(c.oid) AS heap JOIN pg_class h ON h.oid = heap
          WHERE h.relreplident <> 'f' AND NOT EXISTS (
            SELECT FROM pg_index k
             WHERE k.indrelid = h.oid AND k.indisvalid AND k.indisunique AND k.indimmediate
               AND k.indpred IS NULL
               AND CASE h.relreplident WHEN 'd' THEN k.indisprimary WHEN 'i' THEN k.indisreplident
                   ELSE false END))
  LOOP
    EXECUTE format('ALTER PUBLICATION %I DROP TABLE ONLY %s', lost.pubname, lost.label);
    BEGIN
      EXECUTE format('ALTER PUBLICATION %I ADD TABLE ONLY %s', lost.pubname || '_keyless',
                     lost.label);
    EXCEPTION WHEN OTHERS THEN
      RAISE LOG 'carbon: % was not added to %_keyless: %', lost.label, lost.pubname, SQLERRM;
    END;
    RETURN NEXT lost.oid;
  END LOOP;
END $f$;

CREATE OR REPLACE FUNCTION carbon.on_ddl_command_end()
RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER{settings} AS $f$
DECLARE
  demoted oid[];
  rewritten text[];
  casts text[];
BEGIN
  -- Of what is created, only a partition changes a table that is there.
  IF tg_tag IN ('CREATE TABLE', 'CREATE SCHEMA') AND NOT EXISTS (
    SELECT FROM pg_event_trigger_ddl_commands() c JOIN pg_class r ON r.oid = c.objid
     WHERE c.classid = 'pg_class'::regclass AND r.relispartition AND r.relkind IN ('r', 'p'))
  THEN
    RETURN;
  END IF;
  BEGIN
    demoted := ARRAY(SELECT carbon.demote_keyless_tables());
  EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'carbon: replica identities were not checked: %', SQLERRM;
  END;
  BEGIN
    rewritten := string_to_array(current_setting('carbon.rewritten', true), ',');
    casts := string_to_array(current_setting('carbon.casts', true), ',');
    PERFORM set_config('carbon.rewritten', '', true), set_config('carbon.casts', '', true);
    -- An ALTER on a parent reports the parent alone, one on a schema or a type those alone. A
    -- partition that comes or is divided anew, or is rewritten, changes the published table above.
    PERFORM carbon.record_relation(published.oid, tg_tag, published.anew, published.by_cast)
       FROM (
      WITH RECURSIVE command AS (SELECT c.classid, c.objid FROM pg_event_trigger_ddl_commands() c),
      type(oid) AS (
        SELECT t.oid FROM command JOIN pg_type t
            ON (classid = 'pg_type'::regclass AND t.oid = objid)
            OR (classid = 'pg_class'::regclass AND t.typrelid = objid)
         WHERE tg_tag IN ('ALTER TYPE', 'ALTER DOMAIN')
        UNION
        SELECT t.oid FROM type JOIN pg_type t
            ON t.typbasetype = type.oid OR (t.typelem = type.oid AND t.typlen = -1)
            OR t.typrelid IN (SELECT a.attrelid FROM pg_attribute a WHERE a.atttypid = type.oid)),
      -- Values of a composite type read otherwise once it has other attributes.
      composite(oid) AS (SELECT type.oid FROM type WHERE EXISTS (
        SELECT FROM command WHERE classid = 'pg_class'::regclass AND tg_tag = 'ALTER TYPE')),
      relation(oid) AS (
        (SELECT objid FROM command WHERE classid = 'pg_class'::regclass
         UNION SELECT unnest(demoted)
         UNION SELECT c.oid FROM command JOIN pg_class c ON c.relnamespace = objid
                WHERE classid = 'pg_namespace'::regclass
         UNION SELECT a.attrelid FROM type JOIN pg_attribute a ON a.atttypid = type.oid
         UNION SELECT unnest(rewritten)::oid)
        UNION
        SELECT i.inhrelid FROM relation JOIN pg_inherits i ON i.inhparent = relation.oid)
      SELECT r.prrelid AS oid,
             bool_or(coalesce(relation.oid::text = ANY (rewritten), false)
                     OR relation.oid IN (SELECT a.attrelid FROM composite JOIN pg_attribute a
                                             ON a.atttypid = composite.oid)) AS anew,
             bool_or(coalesce(relation.oid::text = ANY (casts), false)) AS by_cast
        FROM relation JOIN pg_class c ON c.oid = relation.oid
       CROSS JOIN LATERAL (
         SELECT relation.oid
         UNION SELECT a.relid::oid FROM pg_partition_ancestors(relation.oid) AS a
                WHERE c.relkind = 'p' OR starts_with(tg_tag, 'CREATE')
                   OR relation.oid::text = ANY (rewritten)) AS owner(oid)
        JOIN pg_publication_rel r ON r.prrelid = owner.oid
        JOIN pg_publication p ON p.oid = r.prpubid
       WHERE starts_with(p.pubname, 'carbon_')
       GROUP BY r.prrelid) AS published;
  EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'carbon: % was not recorded: %', tg_tag, SQLERRM;
  END;
END $f$;

-- An ALTER TABLE that drops something is recorded by the function above.
CREATE OR REPLACE FUNCTION carbon.on_sql_drop()
RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER{settings} AS $f$
DECLARE
  demoted oid[];
  leaves text := coalesce(current_setting('carbon.leaves', true), '');
BEGIN
  IF tg_tag = 'ALTER TABLE' THEN
    RETURN;
  END IF;
  PERFORM set_config('carbon.leaves', '', true);
  BEGIN
    IF NOT EXISTS (
      SELECT 1 FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary
         AND object_type IN ('table', 'index', 'table constraint', 'table column'))
    THEN
      RETURN;
    END IF;
    demoted := ARRAY(SELECT carbon.demote_keyless_tables());
  EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'carbon: replica identities were not checked: %', SQLERRM;
  END;
  BEGIN
    INSERT INTO carbon.ddl_history (format_version, oid, schema, name, kind, replica_identity,
                                    columns, rewritten, command_tag)
    SELECT DISTINCT {format_version}, t.objid, t.schema_name, t.object_name, 'r', 'n',
           '[]'::jsonb, false, tg_tag
      FROM pg_event_trigger_dropped_objects() t
      JOIN pg_event_trigger_dropped_objects() p
        ON p.object_type = 'publication relation' AND starts_with(p.address_args[1], 'carbon_')
       AND p.address_names = ARRAY[t.schema_name, t.object_name]
     WHERE t.object_type = 'table'
     UNION
    SELECT {format_version}, t.objid, t.schema_name, t.object_name, 'r', 'n', '[]'::jsonb, false,
           tg_tag
      FROM pg_event_trigger_dropped_objects() t
      JOIN carbon.noted_leaves(leaves) AS noted ON noted.leaf = t.objid
     WHERE t.object_type = 'table';
    PERFORM carbon.record_relation(altered.oid, tg_tag, false)
       FROM (SELECT unnest(demoted) AS oid
             UNION SELECT noted.root
                     FROM pg_event_trigger_dropped_objects() t
                     JOIN carbon.noted_leaves(leaves) AS noted ON noted.leaf = t.objid
                    WHERE t.object_type = 'table'
             -- leaves that an old snapshot does not show were not noted
             UNION SELECT r.prrelid
                     FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
                     JOIN pg_class c ON c.oid = r.prrelid AND c.relkind = 'p'
                    WHERE starts_with(p.pubname, 'carbon_')
                      AND (leaves = '' OR current_setting('transaction_isolation')
                                          <> 'read committed')
                      AND EXISTS (SELECT FROM pg_event_trigger_dropped_objects() t
                                   WHERE t.object_type = 'table' AND NOT t.is_temporary)
             UNION SELECT d.objid FROM pg_event_trigger_dropped_objects() d
                     JOIN pg_publication_rel r ON r.prrelid = d.objid
                     JOIN pg_publication p ON p.oid = r.prpubid
                    WHERE d.object_type = 'table column'
                      AND starts_with(p.pubname, 'carbon_')) AS altered;
  EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'carbon: % was not recorded: %', tg_tag, SQLERRM;
  END;
END $f$;

-- Notes, until the end of the command, which tables' rows change without events: reasons are bits,
-- 2 a default and 4 a type; 1 persistence and 8 access method leave the rows as they are. Whether a
-- type was changed by PostgreSQL's own cast is told by the statement, if it is all that the client
-- sent and no function runs it.
CREATE OR REPLACE FUNCTION carbon.on_table_rewrite()
RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER{settings} AS $f$
DECLARE
  reason int := pg_event_trigger_table_rewrite_reason();
  stack text;
BEGIN
  IF reason & 6 <> 0 THEN
    PERFORM set_config('carbon.rewritten',
      concat_ws(',', nullif(current_setting('carbon.rewritten', true), ''),
                pg_event_trigger_table_rewrite_oid()::text), true);
  END IF;
  GET DIAGNOSTICS stack = PG_CONTEXT;
  IF reason & 6 = 4 AND strpos(stack, chr(10)) = 0
     AND current_query() ~* '^\s*ALTER\s+TABLE\s[^;]*;?\s*$' AND current_query() !~* 'using' THEN
    PERFORM set_config('carbon.casts',
      concat_ws(',', nullif(current_setting('carbon.casts', true), ''),
                pg_event_trigger_table_rewrite_oid()::text), true);
  END IF;
EXCEPTION WHEN OTHERS THEN
  RAISE LOG 'carbon: a rewrite was not noted: %', SQLERRM;
END $f$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA carbon FROM PUBLIC;
"""

TRIGGERS = """
DROP EVENT TRIGGER IF EXISTS carbon_ddl_command_start;
CREATE EVENT TRIGGER carbon_ddl_command_start ON ddl_command_start
  WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED')
  EXECUTE FUNCTION carbon.on_ddl_command_start();
DROP EVENT TRIGGER IF EXISTS carbon_ddl_command_end;
CREATE EVENT TRIGGER carbon_ddl_command_end ON ddl_command_end
  WHEN TAG IN ('ALTER TABLE', 'ALTER SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN', 'COMMENT',
               'CREATE TABLE', 'CREATE SCHEMA')
  EXECUTE FUNCTION carbon.on_ddl_command_end();
DROP EVENT TRIGGER IF EXISTS carbon_sql_drop;
CREATE EVENT TRIGGER carbon_sql_drop ON sql_drop EXECUTE FUNCTION carbon.on_sql_drop();
DROP EVENT TRIGGER IF EXISTS carbon_table_rewrite;
CREATE EVENT TRIGGER carbon_table_rewrite ON table_rewrite
  EXECUTE FUNCTION carbon.on_table_rewrite();
ALTER EVENT TRIGGER carbon_ddl_command_start ENABLE ALWAYS;
ALTER EVENT TRIGGER carbon_ddl_command_end ENABLE ALWAYS;
ALTER EVENT TRIGGER carbon_sql_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER carbon_table_rewrite ENABLE ALWAYS;
"""

FUNCTIONS = _DESCRIBE_FUNCTION + (LEAF_FUNCTIONS + _TRIGGER_FUNCTIONS).replace(
    "{settings}", _SETTINGS
).replace("{format_version}", str(FORMAT_VERSION))
