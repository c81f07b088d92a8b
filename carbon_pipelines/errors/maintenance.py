"""Errors of upkeep.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Sequence

from carbon_pipelines.errors.root import CarbonPipelinesError


class MaintenanceError(CarbonPipelinesError):
    """Upkeep of a table was refused or did not come to its end."""


class RetentionZeroError(MaintenanceError):
    """A retention that would keep nothing."""

    def __init__(self, setting: str, value: object) -> None:
        self.setting, self.value = setting, value
        super().__init__(
            f"{setting} is {value}: that keeps nothing, not even what readers are reading now. "
            "Nothing was removed. Set it to more than zero."
        )


class RemovalForbiddenError(MaintenanceError):
    """A table whose files nobody may remove."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(
            f"{table} has the property gc.enabled = false: other tables may use its files. Nothing "
            "was removed. Set it to true if no other table does."
        )


class MetadataFileMissingError(MaintenanceError):
    """A file that says what a table snapshot is made of is not there."""

    def __init__(self, table: str, path: str, snapshot_id: int) -> None:
        self.table, self.path, self.snapshot_id = table, path, snapshot_id
        super().__init__(
            f"{table}: {path}, which table snapshot {snapshot_id} is read by, is missing. What the "
            "snapshot needs cannot be told, so nothing was removed. If it was quarantined, "
            f'"carbon orphans restore {table}" brings it back; else, if the snapshot is the '
            f'newest, "carbon recopy {table}", or drop the branch or tag that keeps it.'
        )


class TableFilesMissingError(MaintenanceError):
    """Files that a table's snapshots need are not in the object store."""

    def __init__(self, table: str, missing: Sequence[tuple[str, int]], more: int) -> None:
        self.table, self.missing, self.more = table, tuple(missing), more
        named = "; ".join(f"{path} (table snapshot {snapshot})" for path, snapshot in self.missing)
        rest = f"; and {more} more" if more else ""
        super().__init__(
            f"{table}: files that its snapshots need are missing: {named}{rest}. Nothing was moved "
            f'or removed. If one was quarantined, "carbon orphans restore {table}" brings it back; '
            f'else "carbon recopy {table}".'
        )


class TableOverlapError(MaintenanceError):
    """Files of two tables lie under one prefix, so that nobody can tell whose a file is."""

    def __init__(self, table: str, location: str, other: str, other_location: str) -> None:
        self.table, self.location = table, location
        self.other, self.other_location = other, other_location
        super().__init__(
            f"{table} lies at {location}, and {other} at {other_location}: one is inside the "
            "other, so files of one table look like orphans of the other. Nothing was listed or "
            "moved. Move one of the tables to a location of its own, or leave its orphans alone."
        )


class StalePointerError(MaintenanceError):
    """There is newer metadata than the catalog's."""

    retryable = True

    def __init__(self, table: str, pointer: str, found: str, age_seconds: int) -> None:
        self.table, self.pointer, self.found = table, pointer, found
        self.age_seconds = age_seconds
        super().__init__(
            f"{table}: the catalog names {pointer}, but {found} is newer, by {age_seconds} "
            "seconds before now: a commit is under way, or the catalog is behind or was restored, "
            "or another catalog writes this table. Nothing was moved: what the newer metadata "
            "refers to would look like orphans. Find out which; if it is what a killed writer "
            "left, the table's next commit settles it. Then run again."
        )


class SecondCatalogError(MaintenanceError):
    """Metadata that the catalog does not know was built on other such metadata."""

    def __init__(self, table: str, pointer: str, found: str, base: str) -> None:
        self.table, self.pointer, self.found, self.base = table, pointer, found, base
        super().__init__(
            f"{table}: {found} was committed on {base}, and the catalog, which names {pointer}, "
            "knows neither: another catalog writes the same table, or this one was set back. "
            "Nothing was moved: what was committed there would look like orphans. Find out which "
            "catalog owns the table and register the newest metadata there, or remove those "
            "metadata files by hand."
        )


class YoungOrphansError(MaintenanceError):
    """Files that a running writer may be about to commit would be taken for orphans."""

    def __init__(self, age_seconds: int, floor_seconds: int) -> None:
        self.age_seconds, self.floor_seconds = age_seconds, floor_seconds
        super().__init__(
            f"Unreferenced files of {age_seconds} seconds of age may belong to a commit that is "
            f"under way; the floor is {floor_seconds} seconds. Nothing was listed or moved. If no "
            "writer of any engine is running, or none that takes as long, say so with "
            "--may-take-files-of-running-writers."
        )


class CopyUnderWayError(MaintenanceError):
    """A first copy is writing files that nothing refers to yet."""

    retryable = True

    def __init__(self, table: str, branch: str) -> None:
        self.table, self.branch = table, branch
        super().__init__(
            f"{table}: a copy is under way (branch {branch}) and writes files that nothing refers "
            "to until a range is done. Nothing was moved. Run again when the copy is published, or "
            "with the usual age floor."
        )


class QuarantineMissingError(MaintenanceError):
    """A table has no such quarantined files."""

    def __init__(self, table: str, run: str, runs: Sequence[str]) -> None:
        self.table, self.run, self.runs = table, run, tuple(runs)
        known = ", ".join(runs) if runs else "none"
        what = f'no quarantine "{run}"' if run else "nothing in quarantine"
        super().__init__(f"{table} has {what}; there are: {known}. Nothing was changed.")


class LeaseRefusedError(MaintenanceError):
    """A lease that cannot be taken."""

    def __init__(self, table: str, reason: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(f"{table}: no lease was taken: {reason}.")


class LeaseMissingError(MaintenanceError):
    """A table has no lease of that name."""

    def __init__(self, table: str, name: str, names: Sequence[str]) -> None:
        self.table, self.name, self.names = table, name, tuple(names)
        known = ", ".join(names) if names else "none"
        super().__init__(
            f"{table} has no lease {name}; it has: {known}. Nothing was dropped. It may have "
            "expired, which needs nothing more."
        )


class StoreInterruptedError(MaintenanceError):
    """The object store stopped answering midway."""

    retryable = True

    def __init__(self, doing: str, reason: str) -> None:
        self.doing, self.reason = doing, reason
        super().__init__(
            f"The object store stopped answering while {doing}: {reason}. No table has changed; "
            "what was done so far is written down. Run it again: it goes on from there."
        )


class StoreRefusedError(MaintenanceError):
    """The object store refuses what upkeep has to do."""

    def __init__(self, doing: str, reason: str) -> None:
        self.doing, self.reason = doing, reason
        super().__init__(
            f"The object store refuses our keys while {doing}: {reason}. No table has changed. "
            "Upkeep lists, reads, copies and deletes objects under a table's location: grant that "
            "to the key in CARBON_LAKE_S3_ACCESS_KEY, then run it again: it goes on from there."
        )


class StoreUnknownError(MaintenanceError):
    """A location in a kind of store that upkeep cannot list."""

    def __init__(self, location: str) -> None:
        self.location = location
        super().__init__(
            f"{location} is neither in an S3 bucket nor on a local disk, so it cannot be listed. "
            "Nothing was done."
        )
