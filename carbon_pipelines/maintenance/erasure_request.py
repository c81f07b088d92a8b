"""What is remembered of an erasure until it is done, and afterwards.

What belongs here: the request as a table property, the record that takes its place, and reading
both. What does not: carrying a request out (``erasure.py``).

``carbon.erasure.<id>`` of the table holds until when, why, who asked, the key's salted hash and,
once the table's present rows are clean, since which snapshot. It never holds the key. When all is
done, a line of ``carbon.erasures`` takes its place: dates and counts.
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

from pyiceberg.table.metadata import TableMetadata

from carbon_pipelines.errors import StateFormatError
from carbon_pipelines.maintenance.person_key import PersonKey

REQUEST = "carbon.erasure."
"""Prefix of the table properties that hold a request."""
RECORDS = "carbon.erasures"
"""Table property: what was erased, newest last, as a JSON list."""
KEPT_RECORDS = 500
FORMAT_VERSION = "1"
SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Cleansed:
    """Since when the present rows of a table are without the person's.

    Attributes:
        sequence_number: Of the first snapshot whose files and manifests are.
        at: When it was committed.
        snapshots: Older ones that were found to have some, as far as they were there then.
    """

    sequence_number: int
    at: datetime
    snapshots: frozenset[int]


@dataclass(frozen=True, slots=True)
class ErasureRequest:
    """A person's rows are to be gone by a date.

    Attributes:
        number: Its name, eight hexadecimal digits.
        by: The date.
        asked_at: When it was asked for.
        asked_by: Who did.
        reason: Why, in their words.
        field_ids: Columns of the key.
        salt: Of the hash.
        digest: The key's hash.
        cleansed: By table, for those whose present rows are clean.
        rows: Live rows that were taken away so far.
        files: Data files that were written again without them, so far.
    """

    number: str
    by: date
    asked_at: datetime
    asked_by: str
    reason: str
    field_ids: tuple[int, ...]
    salt: bytes
    digest: bytes
    cleansed: Mapping[str, Cleansed] = field(default_factory=dict[str, Cleansed])
    rows: int = 0
    files: int = 0

    @property
    def name(self) -> str:
        """Of the table property."""
        return f"{REQUEST}{self.number}"

    @property
    def key(self) -> PersonKey:
        """The key, by its hash alone."""
        return PersonKey(self.field_ids, self.salt, self.digest)

    def is_due(self, now: datetime) -> bool:
        """Whether the date has come."""
        return now.astimezone(UTC).date() >= self.by

    def with_cleansed(
        self, table: str, state: Cleansed, *, rows: int, files: int
    ) -> "ErasureRequest":
        """This, with one table's state and what was done to it."""
        return replace(
            self,
            cleansed={**self.cleansed, table: state},
            rows=self.rows + rows,
            files=self.files + files,
        )

    def to_value(self) -> str:
        """The table property's value."""
        fields: dict[str, Any] = {
            **asdict(self),
            "format_version": FORMAT_VERSION,
            "by": self.by.isoformat(),
            "asked_at": self.asked_at.isoformat(timespec="seconds"),
            "salt": self.salt.hex(),
            "digest": self.digest.hex(),
            "cleansed": {
                table: [one.sequence_number, one.at.isoformat(), sorted(one.snapshots)]
                for table, one in self.cleansed.items()
            },
        }
        return json.dumps(fields)


def new_request(
    key: PersonKey, *, by: date, reason: str, asked_by: str, now: datetime
) -> ErasureRequest:
    """A request that nothing was done for yet; ``key`` has a salt of its own."""
    number, asked_at = secrets.token_hex(4), now.astimezone(UTC)
    return ErasureRequest(
        number, by, asked_at, asked_by, reason, key.field_ids, key.salt, key.digest
    )


def new_salt() -> bytes:
    """A salt for one request."""
    return secrets.token_bytes(SALT_BYTES)


def pending_requests(metadata: TableMetadata, table: str) -> list[ErasureRequest]:
    """The requests that a table has, the earliest date first.

    Raises:
        StateFormatError: Written by a program of another format version.
    """
    found = (
        _parse(value, table)
        for name, value in metadata.properties.items()
        if name.startswith(REQUEST)
    )
    return sorted(found, key=lambda one: (one.by, one.number))


def done_erasures(metadata: TableMetadata) -> Iterator[Mapping[str, Any]]:
    """The records of a table, newest last."""
    yield from json.loads(metadata.properties.get(RECORDS, "[]"))


def record_value(
    metadata: TableMetadata, request: ErasureRequest, now: datetime, **counts: int
) -> str:
    """The value of ``RECORDS`` with ``request`` done ``now``; neither key, hash nor reason."""
    record = {
        "id": request.number,
        "asked_at": request.asked_at.isoformat(timespec="seconds"),
        "by": request.by.isoformat(),
        "erased_at": now.astimezone(UTC).isoformat(timespec="seconds"),
        "rows": request.rows,
        "files_rewritten": request.files,
        **counts,
    }
    return json.dumps([*done_erasures(metadata), record][-KEPT_RECORDS:])


def _parse(value: str, table: str) -> ErasureRequest:
    fields: dict[str, Any] = json.loads(value)
    found = str(fields.pop("format_version", "none"))
    if found != FORMAT_VERSION:
        raise StateFormatError(table, found, FORMAT_VERSION)
    cleansed = {
        label: Cleansed(int(number), datetime.fromisoformat(at), frozenset(snapshots))
        for label, (number, at, snapshots) in fields.pop("cleansed").items()
    }
    return ErasureRequest(
        number=fields["number"],
        by=date.fromisoformat(fields["by"]),
        asked_at=datetime.fromisoformat(fields["asked_at"]),
        asked_by=fields["asked_by"],
        reason=fields["reason"],
        field_ids=tuple(fields["field_ids"]),
        salt=bytes.fromhex(fields["salt"]),
        digest=bytes.fromhex(fields["digest"]),
        cleansed=cleansed,
        rows=fields["rows"],
        files=fields["files"],
    )
