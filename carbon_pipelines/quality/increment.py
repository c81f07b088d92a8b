"""Which files of a table have to be read again to score it, given what the last score knew.

What belongs here: the sums that a score leaves for the next one, and comparing the files of two
table snapshots; pure but for reading manifests. What does not: counting (``engine_pass.py``).

A data file never changes, and rows of it only ever go. So what single rows tell is a sum over data
files; and where no row of a file fails, none does whatever is deleted from it. To be read are the
files that came, and those with failing rows whose deletes changed. That no two rows are equal, and
that every row refers to one that is there, held for the rows of before: what can break it is a row
of a file that came, or another state of the table that is referred to.

What is not known is counted in full; sums are never needed for a right score.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from pyiceberg.table import Table
from pyiceberg.table.snapshots import ancestors_of

from carbon_pipelines.lake.table_files import TableFiles, load_table_files

MOST_FILES = 200
"""A score keeps the sums of no expectation that fails in more files."""
MOST_ADDED = 500
"""With more files that came, all is counted in full."""
_FORMAT = 1

FileCounts = Mapping[str, int]
"""Failing rows by data file; files without any are not in it."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What a score leaves for the next one against the same expectations.

    Attributes:
        snapshot_id: The table snapshot that was scored.
        full_at: When everything was read.
        counts: By label of an expectation about single rows.
        holding: Labels that held of other rows or tables: that no two rows are equal (None), or the
            table snapshot of the table that is referred to.
    """

    snapshot_id: int
    full_at: datetime
    counts: Mapping[str, FileCounts] = field(default_factory=dict[str, FileCounts])
    holding: Mapping[str, int | None] = field(default_factory=dict[str, "int | None"])

    def to_json(self) -> str:
        """As a column of a table."""
        kept = {label: dict(one) for label, one in self.counts.items() if len(one) <= MOST_FILES}
        return json.dumps(
            {
                "format": _FORMAT,
                "snapshot_id": self.snapshot_id,
                "full_at": self.full_at.isoformat(),
                "counts": kept,
                "holding": dict(self.holding),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Sums | None":
        """What ``to_json`` wrote; None if another release did."""
        found = json.loads(text)
        if found.get("format") != _FORMAT:
            return None
        full_at = datetime.fromisoformat(found["full_at"])
        return cls(found["snapshot_id"], full_at, found["counts"], found["holding"])


@dataclass(frozen=True, slots=True)
class Increment:
    """What is left to be read.

    Attributes:
        added: Data files that came since.
        again: Those with failing rows from which rows went since.
        before: The sums, of the files that are still there and are not read again.
    """

    added: tuple[str, ...]
    again: tuple[str, ...]
    before: Sums

    @property
    def read(self) -> tuple[str, ...]:
        """All files whose rows are looked at."""
        return (*self.added, *self.again)


def load_increment(table: Table, snapshot_id: int, sums: Sums | None) -> Increment | None:
    """What came between two snapshots of a table; None: everything has to be read."""
    now = table.snapshot_by_id(snapshot_id)
    before = table.snapshot_by_id(sums.snapshot_id) if sums else None
    if sums is None or now is None or before is None:
        return None
    if sums.snapshot_id not in {one.snapshot_id for one in ancestors_of(now, table.metadata)}:
        return None
    if sums.snapshot_id == snapshot_id:
        return Increment((), (), sums)
    return plan_increment(load_table_files(before, table.io), load_table_files(now, table.io), sums)


def plan_increment(before: TableFiles, now: TableFiles, sums: Sums) -> Increment | None:
    """What of ``now`` has to be read if ``sums`` are those of ``before``."""
    if before.equality_deletes or now.equality_deletes:
        return None
    known = {live.file.file_path for live in before.data}
    there = {live.file.file_path for live in now.data}
    added = sorted(there - known)
    if len(added) > MOST_ADDED:
        return None
    failing = {path for counts in sums.counts.values() for path in counts} & there
    then, today = _deletes(before, failing), _deletes(now, failing)
    again = sorted(path for path in failing if then.get(path) != today.get(path))
    kept = there - set(again)
    counts = {
        label: {path: count for path, count in found.items() if path in kept}
        for label, found in sums.counts.items()
    }
    return Increment(tuple(added), tuple(again), replace(sums, counts=counts))


def _deletes(files: TableFiles, paths: Collection[str]) -> dict[str, frozenset[str]]:
    """The delete files of some data files."""
    return {
        live.file.file_path: frozenset(
            one.file.file_path for several in files.deletes_for(live) for one in several
        )
        for live in files.data
        if live.file.file_path in paths
    }
