"""Traces that a DDL leaves in the catalogs, for a look that comes after it.

What belongs here: what a look keeps of a table besides its shape, and whether rows may have changed
without events between two looks. What does not: when one looks, and recording what was found
(``ddl_history.py``).

A rewrite that keeps the shape is told from what leaves the rows alone by two facts together. It
gives the table another file, as VACUUM FULL, CLUSTER and TRUNCATE do, and it writes rows of
pg_attribute, which those three leave as they are: every rewrite of rows comes from a column that is
added or altered, and a column that is dropped leaves its row there. The transaction that wrote a
catalog row (xmin) stays with it for ever, frozen or not. So an alarm may be false (SET STATISTICS
and VACUUM FULL between two looks; VACUUM FULL that writes out a column's constant default), and a
silence never is.

What was changed and changed back leaves traces of its own: a key that was dropped and added again
is another constraint, a partition that was detached and attached again another row of pg_inherits,
and an enum's label that was renamed a row of pg_enum that another transaction wrote. Events of a
partition are matched with a shape whatever the order of its columns, so two columns that swap names
and swap back are told by pg_attribute alone.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from carbon_pipelines.source.connection import SourceConnection
from carbon_pipelines.source.ddl_triggers import TRIGGER_NAMES

# Of relation o.oid with description d. A constraint keeps its oid in REINDEX CONCURRENTLY, which
# gives it another index.
TRACES = """
SELECT jsonb_build_object(
  'heaps', (
    SELECT coalesce(jsonb_object_agg(h.oid::text, jsonb_build_object(
             'file', h.relfilenode::bigint,
             'columns', (SELECT hashtextextended(string_agg(
                                  a.attnum || ':' || a.xmin::text, ',' ORDER BY a.attnum), 0)
                           FROM pg_attribute a WHERE a.attrelid = h.oid AND a.attnum > 0),
             'keys', ARRAY(SELECT coalesce(u.oid, k.indexrelid)::bigint AS key
                             FROM pg_index k
                             LEFT JOIN pg_constraint u
                               ON u.conindid = k.indexrelid AND u.contype IN ('p', 'u')
                            WHERE k.indrelid = h.oid AND k.indisvalid AND k.indisunique
                              AND CASE h.relreplident WHEN 'd' THEN k.indisprimary
                                  WHEN 'i' THEN k.indisreplident ELSE true END
                            ORDER BY key))), '{}')
      FROM carbon.heaps(o.oid) AS heap JOIN pg_class h ON h.oid = heap),
  'tree', (
    WITH RECURSIVE part(oid, written_by) AS (
      SELECT i.inhrelid, i.xmin FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
       WHERE i.inhparent = o.oid AND p.relkind = 'p'
      UNION ALL
      SELECT i.inhrelid, i.xmin FROM part JOIN pg_inherits i ON i.inhparent = part.oid)
    SELECT hashtextextended(string_agg(
             part.oid || ':' || part.written_by::text, ',' ORDER BY part.oid), 0) FROM part),
  'root', (SELECT hashtextextended(string_agg(
                    a.attnum || ':' || a.xmin::text, ',' ORDER BY a.attnum), 0)
             FROM pg_attribute a JOIN pg_class p ON p.oid = a.attrelid
            WHERE p.oid = o.oid AND p.relkind = 'p' AND a.attnum > 0),
  'labels', (
    SELECT coalesce(jsonb_object_agg(e.oid::text, e.xmin::text), '{}') FROM pg_enum e
     WHERE e.enumtypid IN (
       SELECT kind::text::oid
         FROM jsonb_path_query(d -> 'columns', '$[*].type[*] ? (@.kind == "e").oid') AS kind)))
"""

_TRIGGERS = """
SELECT string_agg(t.oid || ':' || t.xmin::text, ',' ORDER BY t.oid) FROM pg_event_trigger t
 WHERE t.evtname = ANY (%s) AND t.evtenabled = 'A'
HAVING count(*) = %s
"""

Traces = Mapping[str, Any]
"""What ``TRACES`` selects."""


def load_triggers(connection: SourceConnection) -> str | None:
    """Which event triggers fire and since when; None unless all of ours do.

    Two looks that find the same had them on all the time in between: switching one off and on again
    writes its row anew.
    """
    names = list(TRIGGER_NAMES)
    row = connection.execute(_TRIGGERS, (names, len(names))).fetchone()
    return row[0] if row else None


def save_traces(
    connection: SourceConnection, found: Sequence[tuple[int, Traces]], triggers: str | None
) -> None:
    """Keep what was found of relations, by oid, for the next look; in the caller's transaction."""
    connection.cursor().executemany(
        "INSERT INTO carbon.table_traces (oid, traces, triggers)"
        " VALUES (%s::bigint::oid, %s::jsonb, %s)"
        " ON CONFLICT (oid) DO UPDATE SET traces = EXCLUDED.traces, triggers = EXCLUDED.triggers",
        [(oid, json.dumps(traces), triggers) for oid, traces in found],
    )


def rows_may_have_changed(before: Traces | None, now: Traces) -> bool:
    """Whether a DDL between two looks may have changed rows, or hidden changes of them.

    Args:
        before: What the look before kept; None if it kept nothing.
        now: What this look found.
    """
    if before is None:
        return True
    if (before["tree"], before["root"]) != (now["tree"], now["root"]):
        return True
    labels: Mapping[str, str] = now["labels"]
    if any(labels.get(label, writer) != writer for label, writer in before["labels"].items()):
        return True
    heaps: Mapping[str, Traces] = now["heaps"]
    return any(
        oid not in heaps or _heap_may_have_changed(heap, heaps[oid])
        for oid, heap in before["heaps"].items()
    )


def _heap_may_have_changed(before: Traces, now: Traces) -> bool:
    rewritten = before["file"] != now["file"] and before["columns"] != now["columns"]
    return rewritten or not set(before["keys"]) <= set(now["keys"])
