"""What a table's rows have been, as a trigger in PostgreSQL wrote it down.

What belongs here: the trigger, the versions that follow from what it wrote, and the versions that
the lake has, read by DuckDB. What does not: what a test does to the table. The sessions that write
follow one another, so transactions are in the order of their ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.oracle import lake_rows, oracle

AUDIT = (
    """CREATE TABLE audit (seq bigserial PRIMARY KEY, xid bigint, at timestamptz, op text,
                            old_id bigint, new_id bigint, fields jsonb)""",
    """CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN
         INSERT INTO audit (xid, at, op, old_id, new_id, fields) VALUES
           (pg_current_xact_id()::text::bigint, clock_timestamp(), TG_OP,
            CASE WHEN TG_OP IN ('UPDATE', 'DELETE') THEN OLD.id END,
            CASE WHEN TG_OP IN ('UPDATE', 'INSERT') THEN NEW.id END,
            CASE WHEN TG_OP IN ('UPDATE', 'INSERT') THEN to_jsonb(NEW) END);
         RETURN NULL;
       END $$""",
    """CREATE TRIGGER audit_rows AFTER INSERT OR UPDATE OR DELETE ON t
         FOR EACH ROW EXECUTE FUNCTION audit()""",
    """CREATE FUNCTION audit_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN
         INSERT INTO audit (xid, at, op) VALUES
           (pg_current_xact_id()::text::bigint, clock_timestamp(), 'TRUNCATE');
         RETURN NULL;
       END $$""",
    "CREATE TRIGGER audit_all AFTER TRUNCATE ON t EXECUTE FUNCTION audit_truncate()",
)
COPIED = 0
"""Stands for the transaction of the copy."""
Fields = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A version of a row: from which transaction until which one, in order; -1 is not yet."""

    id: int
    since: int
    until: int
    fields: Fields


def rows_of(pipeline: Pipeline) -> dict[int, dict[str, Any]]:
    """The table's rows now, by key."""
    with pipeline.connect() as connection:
        return dict(connection.execute("SELECT id, to_jsonb(t) FROM t").fetchall())


def audited(
    pipeline: Pipeline,
    copied: Mapping[int, dict[str, Any]],
    *,
    after: int = 0,
    renamed: Mapping[str, str] | None = None,
    added: Mapping[str, Any] | None = None,
    dropped: str = "",
) -> list[Version]:
    """The versions that the trigger saw, one for each row and transaction.

    Args:
        pipeline: Whose table ``t`` it is.
        copied: The rows that were there at first.
        after: The newest entry from before that.
        renamed: Names that columns have now.
        added: What rows from before a column was added show there.
        dropped: A column that never leaves the source.
    """
    open_: dict[int, tuple[int, dict[str, Any]]] = {k: (COPIED, row) for k, row in copied.items()}
    ended: list[tuple[int, int, int, dict[str, Any]]] = []

    def close(key: int, xid: int) -> None:
        since, fields = open_.pop(key)
        if since != xid:
            ended.append((key, since, xid, fields))

    with pipeline.connect() as connection:
        entries = connection.execute(
            b"SELECT xid, op, old_id, new_id, fields FROM audit WHERE seq > %d ORDER BY seq" % after
        ).fetchall()
    for xid, op, old, new, fields in entries:
        for key in list(open_) if op == "TRUNCATE" else [key for key in (old,) if key is not None]:
            close(key, xid)
        if new is not None:
            open_[new] = (xid, fields)
    every = [*ended, *((key, since, -1, fields) for key, (since, fields) in open_.items())]
    numbers = _numbers(every)

    def now(fields: Mapping[str, Any]) -> Fields:
        names = {name: (renamed or {}).get(name, name) for name in fields if name != dropped}
        return _fields({**(added or {}), **{now: fields[then] for then, now in names.items()}})

    return sorted(
        Version(key, numbers[since], numbers[until], now(fields))
        for key, since, until, fields in every
    )


def in_the_lake(pipeline: Pipeline, columns: str) -> list[Version]:
    """The versions that DuckDB reads, with ``columns`` in their fields."""
    with oracle(pipeline.endpoints) as engine:
        scan = lake_rows(engine, pipeline.endpoints, pipeline.tables["t"].identifier)
        found = engine.execute(
            f"SELECT id, carbon_valid_from_lsn, coalesce(carbon_valid_to_lsn, -1), {columns},"
            f" carbon_valid_from_ordinal, carbon_valid_to_ordinal FROM {scan}"
        )
        names = [one[0] for one in found.description][3:-2]
        rows = found.fetchall()
    for row in rows:
        since, until = (row[1], row[-2]), (row[2], row[-1])
        assert until == (-1, None) or since < until
    numbers = _numbers([row[:3] for row in rows])
    return sorted(
        Version(
            row[0],
            numbers[row[1]],
            numbers[row[2]],
            _fields(dict(zip(names, row[3:-2], strict=True))),
        )
        for row in rows
    )


def check_times(pipeline: Pipeline) -> None:
    """Each version is valid from a moment at or after the trigger ran, and ends where one begins.

    The lake has milliseconds.
    """
    with pipeline.connect() as connection:
        audits = connection.execute("SELECT new_id, at FROM audit WHERE new_id > 0").fetchall()
    last: dict[int, datetime] = {}
    for key, at in audits:
        last[key] = max(at, last.get(key, at))
    with oracle(pipeline.endpoints) as engine:
        scan = lake_rows(engine, pipeline.endpoints, pipeline.tables["t"].identifier)
        rows = engine.execute(
            f"SELECT id, carbon_valid_from, carbon_valid_to FROM {scan}"
        ).fetchall()
    now = datetime.now(tz=rows[0][1].tzinfo)
    for key, since, until in rows:
        assert until is None or since <= until <= now
        if until is None and key in last:
            assert since >= last[key] - timedelta(milliseconds=1)


def _numbers(versions: list[tuple[Any, ...]]) -> dict[int, int]:
    """Transactions by their order; -1 stays."""
    places = sorted({place for _, *both in versions for place in both[:2]} - {-1})
    return {-1: -1, **{place: number for number, place in enumerate(places)}}


def _fields(fields: Mapping[str, Any]) -> Fields:
    return tuple(sorted(fields.items()))
