"""What a look at the source finds of tables that is not as the look before left it.

What belongs here: the shape and the traces of each table against its newest row of the DDL history
and what was kept, and whether copies from before are stale. What does not: locking and recording
(``ddl_history.py``), what a trace is (``traces.py``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from carbon_pipelines.source.connection import SourceConnection
from carbon_pipelines.source.traces import TRACES, Traces, rows_may_have_changed

# The shape and the traces of a relation, now and before, where they differ.
_DIFFERING = """
SELECT o.oid::bigint, format('%%I.%%I', d ->> 'schema', d ->> 'name'), d -> 'columns', h.columns,
       h.leaves IS DISTINCT FROM d -> 'leaves', shape.differs, kept.traces, kept.triggers,
       found.traces
  FROM unnest(%(oids)s::oid[]) AS o(oid)
 CROSS JOIN LATERAL carbon.describe_relation(o.oid) AS d
  LEFT JOIN LATERAL (SELECT * FROM carbon.ddl_history r
                      WHERE r.oid = o.oid ORDER BY r.id DESC LIMIT 1) AS h ON true
 CROSS JOIN LATERAL (SELECT h.id IS NULL
        OR (h.schema, h.name, h.kind, h.replica_identity, h.partition_parent, h.columns, h.comment,
            h.leaves)
           IS DISTINCT FROM (d ->> 'schema', d ->> 'name', d ->> 'kind', d ->> 'replica_identity',
                             (d ->> 'partition_parent')::oid, d -> 'columns', d ->> 'comment',
                             d -> 'leaves') AS differs) AS shape
 CROSS JOIN LATERAL ({traces} OFFSET 0) AS found(traces)  -- once for each relation
  LEFT JOIN carbon.table_traces kept ON kept.oid = o.oid
 WHERE d IS NOT NULL
   AND (o.oid = ANY (%(unseen)s::oid[]) OR shape.differs
        OR (kept.traces, kept.triggers) IS DISTINCT FROM (found.traces, %(triggers)s::text))
 ORDER BY o.oid
""".replace("{traces}", TRACES)


@dataclass(frozen=True, slots=True)
class Found:
    """A table whose shape or traces are not those of the look before.

    Attributes:
        label: Schema and name, quoted.
        columns: Its description now; ``before`` that of its newest row, None without one.
        other_leaves: Whether that row lists other leaves; ``other_shape`` whether it differs.
        kept: Its traces at the look before, and ``triggers`` those that fired then.
        traces: Its traces now.
        unseen: Whether changes of it may be missing in the stream.
        told: Whether event triggers recorded every DDL between the two looks.
    """

    oid: int
    label: LiteralString
    columns: list[Mapping[str, Any]]
    before: list[Mapping[str, Any]] | None
    other_leaves: bool
    other_shape: bool
    kept: Traces | None
    triggers: str | None
    traces: Traces
    unseen: bool
    told: bool

    @property
    def has_news(self) -> bool:
        """Whether a row has to be recorded; else its traces differ and mean nothing."""
        return self.unseen or self.other_shape or self._changed_unseen

    @property
    def may_be_stale(self) -> bool:
        """Whether a copy from before this look may be."""
        return (
            self.unseen
            # leaves that came or went unseen may have brought rows or taken some
            or self.other_leaves
            or self.before is None
            or may_have_rewritten(self.before, self.columns)
            or self._changed_unseen
        )

    @property
    def _changed_unseen(self) -> bool:
        return not self.told and rows_may_have_changed(self.kept, self.traces)


def load_found(
    connection: SourceConnection,
    oids: Sequence[int],
    *,
    unseen: Sequence[int],
    triggers: str | None,
) -> list[Found]:
    """Look at relations; those that are as the look before left them are left out.

    Args:
        connection: Inside the caller's transaction.
        oids: Relations.
        unseen: Those that are found in any case.
        triggers: What ``load_triggers`` says now.
    """
    # compiling the query would take longer than running it
    connection.execute("SELECT set_config('jit', 'off', true)")
    arguments = {"oids": list(oids), "unseen": list(unseen), "triggers": triggers}
    rows = connection.execute(_DIFFERING.encode(), arguments).fetchall()
    return [
        Found(*row, unseen=row[0] in unseen, told=triggers is not None and row[7] == triggers)
        for row in rows
    ]


def may_have_rewritten(
    before: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]]
) -> bool:
    """Whether rows may have changed without readable events between two recorded shapes of a table.

    The triggers know; the cross-check comes at another place in the stream than the DDL, so rows in
    between were sent under the older shape, and it cannot see how a new column was filled. It errs
    on the side of a re-copy for any change but those of facts that no row that exists depends on: a
    default, a constraint, a new enum label, and a missing value that VACUUM FULL has written out.
    """
    shape, labels = _lasting(before)
    shape_now, labels_now = _lasting(now)
    return shape != shape_now or any(
        labels_now.get(oid, label) != label for oid, label in labels.items()
    )


def _lasting(columns: Iterable[Mapping[str, Any]]) -> tuple[list[list[Any]], dict[int, str]]:
    """What rows that exist depend on: facts of the columns, and labels of enums by their oid."""
    facts = ("attnum", "name", "key_position", "generated", "published")
    shape: list[list[Any]] = []
    labels: dict[int, str] = {}
    for column in columns:
        links = [dict(link) for link in column["type"]]
        for link in links:
            labels.update(link.pop("labels", None) or ())
        shape.append([*(column[fact] for fact in facts), links])
    return shape, labels
