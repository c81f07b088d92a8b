"""SQL functions in schema carbon that know the leaves of a partitioned table.

What belongs here: their text: which tables hold a table's rows, which of them a DDL filled, and
noting them before a DROP, after which no catalog tells what a table was a partition of. What does
not: recording anything (``ddl_triggers.py``).

All of it reads catalogs by queries, and opens no relation but those that the transaction has locked
itself: pg_partition_tree() would lock every leaf, and make the application's DDL wait for a lock of
somebody else.
"""

LEAF_FUNCTION_NAMES = ("heaps", "filled_leaves", "noted_leaves", "on_ddl_command_start")

LEAF_FUNCTIONS = r"""
CREATE OR REPLACE FUNCTION carbon.heaps(relation oid)
RETURNS SETOF oid LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  WITH RECURSIVE part(oid) AS (
    SELECT $1
    UNION ALL
    SELECT i.inhrelid FROM part JOIN pg_class c ON c.oid = part.oid AND c.relkind = 'p'
      JOIN pg_inherits i ON i.inhparent = part.oid WHERE NOT i.inhdetachpending)
  SELECT c.oid FROM part JOIN pg_class c ON c.oid = part.oid WHERE c.relkind = 'r' $f$;

-- Leaves that the transaction has locked against everybody, as CREATE and ATTACH do, and that have
-- pages. (A table that is empty of rows alone has pages; it is taken for a filled one.)
CREATE OR REPLACE FUNCTION carbon.filled_leaves(leaves jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF leaves IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN (
    SELECT jsonb_agg(own.oid ORDER BY own.oid)
      FROM (SELECT DISTINCT l.relation::bigint AS oid FROM pg_locks l
             WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
               AND l.mode = 'AccessExclusiveLock'
               AND l.database = (SELECT d.oid FROM pg_database d
                                  WHERE d.datname = current_database())) AS own
     WHERE leaves @> to_jsonb(own.oid) AND pg_relation_size(own.oid::oid) > 0);
END $f$;

-- The pairs that on_ddl_command_start noted.
CREATE OR REPLACE FUNCTION carbon.noted_leaves(noted text)
RETURNS TABLE (root oid, leaf oid) LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $f$
  SELECT split_part(pair, ':', 1)::oid, split_part(pair, ':', 2)::oid
    FROM unnest(string_to_array($1, ',')) AS pair WHERE strpos(pair, ':') > 0 $f$;

-- Notes, until the end of a command that may drop tables, the leaves of published tables.
CREATE OR REPLACE FUNCTION carbon.on_ddl_command_start()
RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER{settings} AS $f$
BEGIN
  PERFORM set_config('carbon.leaves', coalesce((
    SELECT string_agg(c.oid || ':' || heap, ',')
      FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
      JOIN pg_class c ON c.oid = r.prrelid AND c.relkind = 'p'
     CROSS JOIN LATERAL carbon.heaps(c.oid) AS heap
     WHERE starts_with(p.pubname, 'carbon_')), 'none'), true);
EXCEPTION WHEN OTHERS THEN
  RAISE LOG 'carbon: leaves were not noted: %', SQLERRM;
END $f$;
"""
