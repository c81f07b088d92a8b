"""The one query that describes a relation.

What belongs here: its text. What does not: what its answer means (``relation.py``) and who asks it
(``ddl_triggers.py``, ``relation.py``).
"""

FORMAT_VERSION = 1

# The one description of a relation. The DDL triggers, the polling cross-check and load_relation all
# evaluate this text, so that their answers can be compared. %(relation)s is replaced by an
# expression of type oid.
#
# It only reads catalogs: pg_get_replica_identity_index() would open the relation, and so make the
# application's DDL wait for a lock of somebody else; the identity's index is found by the same
# conditions in pg_index. pg_get_expr() does open it, under the caller's lock_timeout.
#
# A type is a chain, from the declared type over its domains' bases and its arrays' elements to the
# innermost one: each link has at most one next. An enum's link has its labels by oid, which rows
# hold: renaming a label changes the text of rows without an event for them.
#
# A partitioned table has no rows of its own: what rows have and how they are identified is said of
# its leaves. One of them without an identity takes it from the whole, and a column's missing value
# is that of the oldest leaf that has one.
DESCRIBE = """
SELECT jsonb_build_object(
  'format_version', 1, 'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname,
  'kind', c.relkind, 'replica_identity', identity.kind,
  'partition_parent', (SELECT i.inhparent::bigint FROM pg_catalog.pg_inherits i
                        WHERE i.inhrelid = c.oid AND c.relispartition),
  'comment', obj_description(c.oid, 'pg_class'),
  'columns', coalesce((
    SELECT jsonb_agg(jsonb_build_object(
      'attnum', a.attnum, 'name', a.attname, 'nullable', NOT a.attnotnull,
      'comment', col_description(c.oid, a.attnum),
      'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
      'missing_value', CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1]
                            WHEN c.relkind = 'p' THEN (
        SELECT (l.attmissingval::text::text[])[1]
          FROM unnest(tree.leaves) AS leaf(oid)
          JOIN pg_catalog.pg_attribute l ON l.attrelid = leaf.oid AND l.attname = a.attname
         WHERE l.atthasmissing ORDER BY leaf.oid LIMIT 1) END,
      'key_position', (SELECT p.key_position  -- an int2vector counts from 0
                         FROM array_position(k.indkey::int2[], a.attnum) AS p(key_position)
                        WHERE p.key_position < k.indnkeyatts),
      'generated', a.attgenerated,
      'published', a.attgenerated = '' OR (a.attgenerated = 's'
                   AND current_setting('server_version_num')::int >= 180000),
      'type', (
        WITH RECURSIVE chain(depth, oid, typmod) AS (
          SELECT 0, a.atttypid, a.atttypmod
          UNION ALL
          SELECT chain.depth + 1,
                 CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END,
                 CASE WHEN t.typtype = 'd' AND t.typtypmod >= 0 THEN t.typtypmod
                      ELSE chain.typmod END
            FROM chain JOIN pg_catalog.pg_type t ON t.oid = chain.oid
           WHERE t.typtype = 'd'
              OR EXISTS (SELECT 1 FROM pg_catalog.pg_type e
                          WHERE e.oid = t.typelem AND e.typarray = t.oid))
        SELECT jsonb_agg(jsonb_build_object(
                 'oid', chain.oid::bigint, 'typmod', chain.typmod,
                 'name', format_type(chain.oid, chain.typmod),
                 'kind', t.typtype, 'base_name', t.typname) ||
                 CASE WHEN t.typtype = 'e' THEN jsonb_build_object('labels', (
                   SELECT jsonb_agg(jsonb_build_array(e.oid::bigint, e.enumlabel) ORDER BY e.oid)
                     FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)) ELSE '{}' END
                 ORDER BY chain.depth)
          FROM chain JOIN pg_catalog.pg_type t ON t.oid = chain.oid)
      ) ORDER BY a.attnum)
      FROM pg_catalog.pg_attribute a
      LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]'))
  || CASE c.relkind WHEN 'p' THEN jsonb_build_object('leaves', tree.leaves) ELSE '{}' END
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT ARRAY(
         WITH RECURSIVE part(oid) AS (
           SELECT i.inhrelid FROM pg_catalog.pg_inherits i
            WHERE i.inhparent = c.oid AND c.relkind = 'p' AND NOT i.inhdetachpending
           UNION ALL
           SELECT i.inhrelid FROM part JOIN pg_catalog.pg_inherits i ON i.inhparent = part.oid
            WHERE NOT i.inhdetachpending)
         SELECT l.oid::bigint FROM part JOIN pg_catalog.pg_class l ON l.oid = part.oid
          WHERE l.relkind = 'r' ORDER BY l.oid) AS leaves) AS tree
 CROSS JOIN LATERAL (SELECT CASE WHEN EXISTS (
         SELECT FROM unnest(tree.leaves) AS leaf(oid)
           JOIN pg_catalog.pg_class l ON l.oid = leaf.oid
          WHERE l.relreplident <> 'f' AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_index k
             WHERE k.indrelid = l.oid AND k.indisvalid AND k.indisunique AND k.indimmediate
               AND k.indpred IS NULL
               AND CASE l.relreplident WHEN 'd' THEN k.indisprimary WHEN 'i' THEN k.indisreplident
                   ELSE false END))
       THEN 'n' ELSE c.relreplident END AS kind) AS identity
  LEFT JOIN pg_catalog.pg_index k
    ON k.indrelid = c.oid AND k.indisvalid AND k.indisunique AND k.indimmediate
   AND k.indpred IS NULL
   AND CASE identity.kind WHEN 'd' THEN k.indisprimary WHEN 'i' THEN k.indisreplident
       ELSE false END
 WHERE c.oid = %(relation)s
"""
