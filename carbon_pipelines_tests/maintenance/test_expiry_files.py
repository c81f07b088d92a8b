"""Whatever happens to a table: the disk holds what it reaches, and snapshots read as before."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_pipelines.maintenance.expiry_commit import ExpiryHooks
from carbon_pipelines.maintenance.expiry_run import expire_table
from carbon_pipelines.maintenance.leases import LeaseRequest, list_leases, take_lease
from carbon_pipelines.maintenance.locations import normalise
from carbon_pipelines.maintenance.orphans import OrphanRules, plan_orphans
from carbon_pipelines.maintenance.reachable import Kind, reachable_files
from carbon_pipelines.maintenance.retention import Retention
from carbon_pipelines_tests.lake.local_lake import LocalLake, duckdb_rows

LATER = datetime.now(UTC) + timedelta(days=4)
KEEP_ONE = Retention(timedelta(minutes=1), at_least=1)


class Killed(BaseException):
    """The process ends here."""


class History:
    """One table on a local disk, and the rows that every snapshot had when it was made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lake = LocalLake(path, {"id": "int8", "n": "int4"}, ("id",))
        self.lake.load([{"id": number, "n": 0} for number in range(20)])
        self.rows: dict[int, list[tuple[Any, ...]]] = {}
        self._turn = 0
        self.remember()

    def remember(self) -> None:
        head = self.lake.fresh().current_snapshot()
        assert head is not None
        self.rows[head.snapshot_id] = self.lake.rows()

    def merge(self, which: int) -> None:
        """Change every ``which``-th row, and delete one."""
        self._turn += 1
        changed = [{"id": number, "n": self._turn} for number in range(0, 20, which)]
        gone = {"id": 100 - self._turn, "n": 0}
        self.lake.merge(
            [*({"op": "u", "after": row} for row in changed), {"op": "d", "before": gone}]
        )
        self.remember()

    def keep(self, number: int) -> None:
        """Tag, branch from or lease one of the snapshots."""
        table = self.lake.fresh()
        snapshots = table.metadata.snapshots
        chosen = snapshots[number % len(snapshots)].snapshot_id
        if number % 3 == 0:
            table.manage_snapshots().create_tag(chosen, f"tag{len(table.refs())}").commit()
        elif number % 3 == 1:
            table.manage_snapshots().create_branch(chosen, f"branch{len(table.refs())}").commit()
        else:
            request = LeaseRequest("test", timedelta(days=9), chosen)
            take_lease(self.lake.catalog, self.lake.spec.identifier, request, datetime.now(UTC))

    def expire(self, moment: int) -> None:
        """Expire all but the newest; 1 to 5: and die at that moment."""

        def before_kind(kind: Kind) -> None:
            if moment == 1 + list(Kind).index(kind):
                raise Killed

        def die() -> None:
            raise Killed

        hooks = ExpiryHooks(before_kind=before_kind)
        if moment == 5:
            hooks = ExpiryHooks(after_commit=die)
        try:
            expire_table(self.lake.catalog, self.lake.spec.identifier, KEEP_ONE, LATER, hooks=hooks)
        except Killed:
            return

    def check_snapshots(self) -> None:
        table = self.lake.fresh()
        for snapshot in table.metadata.snapshots:
            if (rows := self.rows.get(snapshot.snapshot_id)) is not None:
                scanned = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().to_pylist()
                assert sorted((tuple(row.values()) for row in scanned), key=repr) == rows
        assert sorted(duckdb_rows(table), key=repr) == list(self.rows.values())[-1]

    def check_disk(self) -> None:
        table = self.lake.fresh()
        reached = reachable_files(table.io, table.metadata, table.metadata_location, "t")
        on_disk = {f"file:{one}" for one in self.path.rglob("*") if one.is_file()}
        assert {normalise(one.path) for one in reached} == on_disk


steps = st.one_of(
    st.tuples(st.just("merge"), st.integers(1, 4)),
    st.tuples(st.just("keep"), st.integers(0, 20)),
    st.tuples(st.just("expire"), st.integers(0, 6)),
)


@pytest.mark.integration
@settings(max_examples=12)
@given(st.lists(steps, min_size=3, max_size=9))
def test_expiries_that_die_at_any_moment_leave_exactly_what_is_reached(
    history: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        table = History(Path(directory))
        for step, number in history:
            getattr(table, step)(number)
            table.check_snapshots()
        leases = list_leases(table.lake.fresh().metadata)
        planned = plan_orphans(table.lake.catalog, table.lake.spec.identifier, OrphanRules(), LATER)
        assert planned.orphans == ()

        table.expire(0)

        table.check_disk()
        table.check_snapshots()
        assert list_leases(table.lake.fresh().metadata) == leases
