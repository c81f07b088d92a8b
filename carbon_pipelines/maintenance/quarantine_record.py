"""What lies in quarantine, as the manifest of each run says.

What belongs here: the manifest, writing it down and finding all of a table. What does not: moving
files (``quarantine.py``).
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyiceberg.table import Table

from carbon_pipelines.errors import StateFormatError
from carbon_pipelines.maintenance.locations import normalise
from carbon_pipelines.maintenance.orphans import QUARANTINE, OrphanPlan
from carbon_pipelines.maintenance.storage import Storage, StoredObject, open_storage

FORMAT_VERSION = "1"
_MANIFEST = "manifest.json"
_RUN_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Moved:
    """One quarantined file: where it was and where it is."""

    path: str
    aside: str
    size_bytes: int
    modified_at: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What one run moved aside, and why."""

    run: str
    directory: str
    moved_at: datetime
    reason: str
    files: tuple[Moved, ...]

    @property
    def manifest(self) -> str:
        """Path of the manifest."""
        return f"{self.directory}/{_MANIFEST}"

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(one.size_bytes for one in self.files)

    def sentence(self) -> str:
        """The run as one line."""
        return (
            f"{self.run}: {len(self.files):,} files, {self.size_bytes:,} bytes, moved "
            f"{self.moved_at:%Y-%m-%d %H:%M:%S} UTC: {self.reason}"
        )

    def to_json(self) -> bytes:
        """The manifest."""
        fields = {
            "format_version": FORMAT_VERSION,
            "moved_at": self.moved_at.isoformat(timespec="seconds"),
            "reason": self.reason,
            "files": [[f.path, f.aside, f.size_bytes, f.modified_at] for f in self.files],
        }
        return json.dumps(fields, indent=0).encode()


def new_quarantine(
    table: Table, orphans: Sequence[StoredObject], plan: OrphanPlan, now: datetime
) -> Quarantine:
    """Where ``orphans`` go; writes nothing."""
    run = f"{now.astimezone(UTC):{_RUN_TIME}}-{secrets.token_hex(4)}"
    directory = f"{_directory(table)}/{run}"
    return Quarantine(
        run,
        directory,
        now.astimezone(UTC),
        f"nothing refers to them, and they are older than {plan.rules.min_age}",
        tuple(
            Moved(
                one.path,
                f"{directory}/{number:06d}-{one.path.rpartition('/')[2]}",
                one.size_bytes,
                one.modified_at.astimezone(UTC).isoformat(timespec="seconds"),
            )
            for number, one in enumerate(orphans)
        ),
    )


def load_quarantines(table: Table) -> tuple[Quarantine, ...]:
    """What lies in a table's quarantine, the oldest run first.

    Raises:
        StateFormatError: Written by a program of another format version.
        StoreInterruptedError: The store stopped answering (retryable).
    """
    storage = open_storage(table.location(), table.io.properties)
    runs = {
        one.path.rpartition("/")[0]
        for page in storage.pages(_directory(table))
        for one in page
        if one.path.endswith(f"/{_MANIFEST}")
    }
    label = "/".join(table.name())
    loaded = (_load_quarantine(run, storage, label) for run in sorted(runs))
    return tuple(one for one in loaded if one is not None)


def _directory(table: Table) -> str:
    return f"{normalise(table.location())}/{QUARANTINE}"


def _load_quarantine(directory: str, storage: Storage, table: str) -> Quarantine | None:
    content = storage.read(f"{directory}/{_MANIFEST}")
    if content is None:  # removed at this moment
        return None
    fields = json.loads(content)
    found = str(fields.get("format_version"))
    if found != FORMAT_VERSION:
        raise StateFormatError(table, found, FORMAT_VERSION)
    return Quarantine(
        directory.rpartition("/")[2],
        directory,
        datetime.fromisoformat(fields["moved_at"]),
        fields["reason"],
        tuple(Moved(*one) for one in fields["files"]),
    )
