"""Copying a table anew by itself, where a DDL has no effect in place.

What belongs here: which errors that answers, how often it may, and counting. What does not: the
copy (``recopy.py``) and what happens once it may no more (``parking.py``).

The count is the table property ``carbon.recopies``, written before a copy begins, so that one that
never ends counts too. A copy that is begun again for the same cause, after a crash or an error that
passes, is the same copy. Readers keep the old rows until the new ones are whole.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    LakeColumnsChangedError,
    LakeError,
    PartitionTruncatedError,
    RecopyLimitError,
    SourceTableReplacedError,
    UnkeyedChangeError,
    UnrecordedShapeError,
    UnsupportedSchemaChangeError,
)
from carbon_pipelines.lake.connection import lake_errors

RECOPIES = "carbon.recopies"
"""Table property: a JSON list of {at, cause, reason}, newest last."""
KEPT = 20
"""Entries that the property keeps."""
WINDOW = timedelta(hours=1)
ANSWERED = (
    UnsupportedSchemaChangeError,
    SourceTableReplacedError,
    UnrecordedShapeError,
    PartitionTruncatedError,
    UnkeyedChangeError,
    LakeColumnsChangedError,
)
"""Errors that a copy anew answers: the source is well and the table's rows cannot be followed."""


@dataclass(frozen=True, slots=True)
class Recopy:
    """One copy that was begun by itself."""

    at: datetime
    cause: str
    reason: str


def load_recopies(table: Table) -> list[Recopy]:
    """The newest copies that were begun by themselves, oldest first."""
    return [
        Recopy(datetime.fromisoformat(entry["at"]), entry["cause"], entry["reason"])
        for entry in json.loads(table.properties.get(RECOPIES, "[]"))
    ]


def count_recopy(
    table: Table,
    spec: TableSpec,
    error: LakeError,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Write down that ``error`` is answered by a copy anew.

    Raises:
        RecopyLimitError: So many were begun within the last hour already.
    """
    begun, cause, moment = load_recopies(table), _cause(error), now()
    if begun and begun[-1].cause == cause:
        return
    recent = [one for one in begun if one.at > moment - WINDOW]
    if len(recent) >= spec.recopies_per_hour:
        raise RecopyLimitError(spec.label, spec.recopies_per_hour, str(error))
    entries = [*begun, Recopy(moment, cause, str(error))][-KEPT:]
    text = json.dumps(
        [
            {"at": one.at.isoformat(timespec="seconds"), "cause": one.cause, "reason": one.reason}
            for one in entries
        ]
    )
    with lake_errors(f"Iceberg table {spec.label}"), table.transaction() as transaction:
        transaction.set_properties({RECOPIES: text})


def _cause(error: LakeError) -> str:
    """What tells one cause from the next; each comes once in a table's history."""
    match error:
        case UnsupportedSchemaChangeError():
            return f"schema version {error.version}"
        case SourceTableReplacedError():
            return f"oid {error.found_oid}"
        case UnrecordedShapeError() | PartitionTruncatedError() | UnkeyedChangeError():
            return f"position {error.position}"
        case _:
            return type(error).__name__
