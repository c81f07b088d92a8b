"""One view or mart in Trino, from what the lake has to the moment Trino itself shows it.

What belongs here: making the view where it is not as wanted, and reading back. What does not:
statements (``trino_view.py``), running them (``trino_sql.py``) and the expected sum
(``snapshot_sum.py``).

What is shown counts, not what was answered: Trino counts and sums the rows that it shows, and
DuckDB, which shares no code with it, those of the snapshot. The branch may move meanwhile; then the
snapshot that it came to is the one to be shown.
"""

import json
from dataclasses import dataclass, field

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from carbon_pipelines.embedded.endpoints import LakeEndpoint
from carbon_pipelines.embedded.trino_endpoint import TrinoEndpoint
from carbon_pipelines.errors import (
    NotCertifiedError,
    NotVisibleError,
    ServedMartMissingError,
    StatementRefusedError,
)
from carbon_pipelines.lake.connection import load_table
from carbon_pipelines.lake.reached import VISIBLE, Reached, read_reached
from carbon_pipelines.serving import trino_view as statements
from carbon_pipelines.serving.clock import Clock, Deadline
from carbon_pipelines.serving.row_sum import RowSum
from carbon_pipelines.serving.snapshot_sum import SnapshotSum, sum_snapshot
from carbon_pipelines.serving.trino_sql import QueryCost, StaleViewError, TrinoSql, open_sql
from carbon_pipelines.serving.trino_view import Relation, shown_name
from carbon_pipelines.serving.visible import record_visible

SYSTEM = "trino"
VISIBLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ServedRelation:
    """A view or mart that Trino shows.

    Attributes:
        name: What people query.
        changed: Whether this run made or replaced the view.
        summed: Columns that the check sum is of; ``left_out`` those that Trino cannot read.
        visible: When what is shown was first seen, and where it stands in its source.
        cost: Of all statements, in Trino.
    """

    relation: Relation
    name: str
    snapshot_id: int
    rows: RowSum
    changed: bool
    summed: tuple[str, ...]
    left_out: tuple[str, ...]
    visible: Reached
    cost: QueryCost
    seconds: float

    def sentence(self) -> str:
        """What is shown, as one line."""
        made = ", and its view was made anew" if self.changed else ""
        left = f"; without {', '.join(self.left_out)}, which Trino cannot read"
        return (
            f"serving/trino/{self.relation.label}: {self.name} shows table snapshot "
            f"{self.snapshot_id}, {self.rows.rows:,} rows{made}{left if self.left_out else ''}"
        )


@dataclass(frozen=True, slots=True)
class TrinoServing:
    """A Trino to serve from, over one lake."""

    trino: TrinoEndpoint
    lake: LakeEndpoint
    clock: Clock = field(default_factory=Clock)

    def serve(self, catalog: Catalog, relation: Relation, *, full: bool = False) -> ServedRelation:
        """Have Trino show what is certified of a table, or the newest of a mart, and read it back.

        What Trino was seen to show before is not summed again while Trino finds the same snapshot,
        the same text of the view and the same number of rows, unless ``full`` is asked for.

        Raises:
            NotCertifiedError, ServedMartMissingError: There is nothing to show.
            NotVisibleError: Trino shows other rows (retryable).
            LakeUnreadableError: DuckDB cannot read the snapshot.
            ServiceUnavailableError, TrinoAccessError, StatementRefusedError: As for `TrinoSql.run`.
        """
        began = self.clock.now()
        table, snapshot_id = _load(catalog, relation)
        known = read_reached(table.metadata, VISIBLE + SYSTEM, relation.label)
        proof = _Proof.read(known) if known and known.snapshot_id == snapshot_id else None
        with open_sql(self.trino) as sql:
            changed = False
            if full or proof is None or not self._still_shows(sql, relation, snapshot_id, proof):
                wanted = self._sum(table, snapshot_id, relation)
                changed = relation.branch is not None and self._ensure_view(sql, relation, wanted)
                wanted, again = self._wait(sql, catalog, relation, wanted)
                changed, snapshot_id = changed or again, wanted.snapshot_id
                proof = _Proof(
                    wanted.rows, wanted.summed, wanted.left_out, self._text(sql, relation)
                )
            cost = sql.cost
        visible = record_visible(catalog, relation.identifier, SYSTEM, snapshot_id, proof.encode())
        return ServedRelation(
            relation=relation,
            name=".".join((self.trino.catalog, *relation.shown)),
            snapshot_id=snapshot_id,
            rows=proof.rows,
            changed=changed,
            summed=proof.summed,
            left_out=proof.left_out,
            visible=visible,
            cost=cost,
            seconds=self.clock.now() - began,
        )

    def _still_shows(
        self, sql: TrinoSql, relation: Relation, snapshot_id: int, proof: "_Proof"
    ) -> bool:
        """Whether what was seen to be shown is there still, told without reading the rows."""
        if self._text(sql, relation) != proof.text:
            return False
        refs = sql.run(statements.find_refs(self.trino, relation))
        if [row[0] for row in refs] != [snapshot_id]:
            return False
        try:
            [(count,)] = sql.run(f"SELECT count(*) FROM {shown_name(self.trino, relation)}")
        except StaleViewError:
            return False
        return count == proof.rows.rows

    def _text(self, sql: TrinoSql, relation: Relation) -> str:
        """The view's text; nothing for a mart."""
        if relation.branch is None:
            return ""
        known = sql.run(statements.find_view(self.trino, relation))
        return statements.plain_text(str(known[0][0])) if known else ""

    def _sum(self, table: Table, snapshot_id: int, relation: Relation) -> SnapshotSum:
        return sum_snapshot(self.lake, table, snapshot_id, relation.key, label=relation.label)

    def _ensure_view(self, sql: TrinoSql, relation: Relation, wanted: SnapshotSum) -> bool:
        """Make the view unless it is as wanted; whether it was made."""
        text = statements.selected(self.trino, relation, list(wanted.columns))
        if self._text(sql, relation) == statements.plain_text(text):
            return False
        self._make_view(sql, relation, wanted)
        return True

    def _make_view(self, sql: TrinoSql, relation: Relation, wanted: SnapshotSum) -> None:
        sql.run(statements.create_schema(self.trino, relation))
        sql.run(statements.create_view(self.trino, relation, list(wanted.columns)))

    def _wait(
        self, sql: TrinoSql, catalog: Catalog, relation: Relation, wanted: SnapshotSum
    ) -> tuple[SnapshotSum, bool]:
        """Until Trino shows it; what it shows then, and whether the view was made again."""
        deadline = self.clock.deadline(VISIBLE_SECONDS)
        turn, again = 0, False
        while (difference := self._difference(sql, relation, wanted)) is not None:
            table, snapshot_id = _load(catalog, relation)
            if snapshot_id != wanted.snapshot_id:
                wanted = self._sum(table, snapshot_id, relation)
                again = self._remake(sql, relation, wanted) or again
            elif isinstance(difference, StaleViewError):
                self._make_view(sql, relation, wanted)
                again = True
            self._require_time(deadline, relation, wanted, str(difference))
            deadline.pause(turn)
            turn += 1
        return wanted, again

    def _remake(self, sql: TrinoSql, relation: Relation, wanted: SnapshotSum) -> bool:
        return relation.branch is not None and self._ensure_view(sql, relation, wanted)

    def _require_time(
        self, deadline: Deadline, relation: Relation, wanted: SnapshotSum, difference: str
    ) -> None:
        if deadline.passed:
            where = ".".join((self.trino.catalog, *relation.shown))
            raise NotVisibleError(where, wanted.snapshot_id, difference)

    def _difference(
        self, sql: TrinoSql, relation: Relation, wanted: SnapshotSum
    ) -> str | StaleViewError | None:
        """What is shown that should not be; None if it is the snapshot."""
        shown = shown_name(self.trino, relation)
        try:
            [(count, total)] = sql.run(f"SELECT {wanted.select()} FROM {shown}")
        except StaleViewError as stale:
            if relation.branch is None:
                raise StatementRefusedError(
                    self.trino.label, f"SELECT FROM {shown}", str(stale)
                ) from stale
            return stale
        found = RowSum(int(count), int(total))
        if found == wanted.rows:
            return None
        [(there,)] = sql.run(statements.find_refs(self.trino, relation)) or [(None,)]
        at = f", and Trino finds the branch at table snapshot {there}"
        if found.rows != wanted.rows.rows:
            return f"it has {found.rows:,} rows, and the snapshot {wanted.rows.rows:,}{at}"
        return f"the check sum of its {found.rows:,} rows is another{at}"


@dataclass(frozen=True, slots=True)
class _Proof:
    """What Trino was seen by to show a snapshot."""

    rows: RowSum
    summed: tuple[str, ...]
    left_out: tuple[str, ...]
    text: str

    @classmethod
    def read(cls, reached: Reached) -> "_Proof | None":
        told = reached.proof
        if not told:
            return None
        rows = RowSum(int(told["rows"]), int(told["total"]))
        summed, left_out = (tuple(json.loads(told[name])) for name in ("summed", "left_out"))
        return cls(rows, summed, left_out, told["text"])

    def encode(self) -> dict[str, str]:
        return {
            "rows": str(self.rows.rows),
            "total": str(self.rows.total),
            "summed": json.dumps(self.summed),
            "left_out": json.dumps(self.left_out),
            "text": self.text,
        }


def _load(catalog: Catalog, relation: Relation) -> tuple[Table, int]:
    """The table, and the snapshot of it that is to be shown."""
    table = load_table(catalog, relation.identifier)
    snapshot = None
    if table is not None:
        snapshot = (
            table.current_snapshot()
            if relation.branch is None
            else table.snapshot_by_name(relation.branch)
        )
    if table is None or snapshot is None:
        if relation.branch is None:
            raise ServedMartMissingError(relation.identifier[1])
        raise NotCertifiedError(relation.label)
    return table, snapshot.snapshot_id
