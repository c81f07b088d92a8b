"""What holds the person's rows and is in no snapshot: quarantined files and orphans.

What belongs here: telling which of them, and removing those for good. What does not: snapshots.

A Parquet file that can be read and has no such row stays where it is. Anything else of a
quarantine, and every other orphan, goes: a manifest has bounds, a metadata file reasons, and of a
file that cannot be read nobody can tell. Orphans go by way of quarantine, which looks twice whether
a commit has taken them meanwhile.

An unreferenced object younger than any writer takes from its first file to its commit may be part
of a commit that is under way. It stays: a date is at least that long after the present rows were
clean, so what is as young was written after that. But as long as a Parquet file of any age has such
a row, nothing is at its end: it was brought back from quarantine, or somebody writes the row again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pyiceberg.catalog import Catalog

from carbon_pipelines.errors import ErasureUnfinishedError
from carbon_pipelines.lake.connection import load_lake_table
from carbon_pipelines.maintenance.neighbours import Neighbour
from carbon_pipelines.maintenance.orphans import (
    OrphanPlan,
    OrphanRules,
    plan_orphans,
)
from carbon_pipelines.maintenance.person_files import PersonFiles
from carbon_pipelines.maintenance.quarantine import apply_orphans, apply_removal_of
from carbon_pipelines.maintenance.quarantine_record import (
    Moved,
    Quarantine,
    load_quarantines,
)


@dataclass(frozen=True, slots=True)
class LitterPlan:
    """What goes at the date.

    Attributes:
        orphans: Those that go; ``young`` counts unreferenced objects that may be a writer's.
        quarantined: (run, files of it that go).
    """

    orphans: OrphanPlan
    quarantined: tuple[tuple[Quarantine, tuple[Moved, ...]], ...]

    def __bool__(self) -> bool:
        """Whether anything goes."""
        return bool(self.orphans or self.quarantined)

    @property
    def files(self) -> int:
        """How many objects go."""
        return len(self.orphans.orphans) + sum(len(files) for _, files in self.quarantined)


def plan_litter(
    catalog: Catalog,
    identifier: tuple[str, str],
    files: PersonFiles,
    now: datetime,
    *,
    neighbours: Sequence[Neighbour] | None = None,
) -> LitterPlan:
    """Look at everything that nothing refers to.

    Raises:
        MaintenanceError: As ``plan_orphans``: what is an orphan cannot be told.
    """
    orphans = plan_orphans(catalog, identifier, OrphanRules(), now, neighbours=neighbours)
    paths = {one.path for one in orphans.orphans}
    going = _going(files, paths)
    table = load_lake_table(catalog, identifier)
    runs: list[tuple[Quarantine, tuple[Moved, ...]]] = []
    for quarantine in load_quarantines(table):
        theirs = _going(files, {one.aside for one in quarantine.files})
        if theirs:
            runs.append((quarantine, tuple(x for x in quarantine.files if x.aside in theirs)))
    chosen = tuple(one for one in orphans.orphans if one.path in going)
    return LitterPlan(replace(orphans, orphans=chosen), tuple(runs))


def apply_litter(
    catalog: Catalog, identifier: tuple[str, str], plan: LitterPlan, now: datetime
) -> int:
    """Remove what ``plan`` says for good; how many objects.

    Raises:
        ErasureUnfinishedError: Some have to wait for another run (retryable).
        StoreInterruptedError: Some are gone; run it again for the rest (retryable).
    """
    table = load_lake_table(catalog, identifier)
    for quarantine, files in plan.quarantined:
        apply_removal_of(table, quarantine, files)
    moved = apply_orphans(catalog, identifier, plan.orphans, now)
    for quarantine in load_quarantines(table):
        if quarantine.run == moved.run:
            apply_removal_of(table, quarantine, quarantine.files)
    label = "/".join(identifier)
    if moved.kept:
        why = f"{len(moved.kept)} orphans stay where they are, among them {moved.kept[0]}"
        raise ErasureUnfinishedError(label, f"{why}: taken by a commit, or too large to move")
    if plan.orphans.more:
        why = f"there are {plan.orphans.more:,} more orphans than one run looks at"
        raise ErasureUnfinishedError(label, why)
    return moved.files + sum(len(files) for _, files in plan.quarantined)


def check_no_litter(
    catalog: Catalog,
    identifier: tuple[str, str],
    files: PersonFiles,
    now: datetime,
    *,
    neighbours: Sequence[Neighbour],
) -> None:
    """Refuse to end while an unreferenced Parquet file of any age has such a row.

    Raises:
        ErasureUnfinishedError: One does (retryable).
        CopyUnderWayError: A first copy is writing files that nothing refers to (retryable).
        MaintenanceError: As ``plan_orphans``.
    """
    rules = OrphanRules(timedelta(microseconds=1), may_take_running=True)
    found = plan_orphans(catalog, identifier, rules, now, neighbours=neighbours)
    parquet = [one.path for one in found.orphans if one.path.endswith(".parquet")]
    rows = files.find(parquet)
    having = [path for path in parquet if (held := rows[path]) is not None and len(held)]
    if having:
        why = f"{len(having)} files that nothing refers to have such rows, as {having[0]}"
        raise ErasureUnfinishedError("/".join(identifier), why)


def _going(files: PersonFiles, paths: set[str]) -> set[str]:
    """Those that hold such rows, or of which nobody can tell."""
    parquet = [path for path in sorted(paths) if path.endswith(".parquet")]
    found = files.find(parquet)
    clean = {path for path, rows in found.items() if rows is not None and not len(rows)}
    return paths - clean
