"""The mode that a table's rows were written with, and what may not be done to a history.

What belongs here: comparing the mode with the declared one, and refusing what would drop a history.
What does not: where that is asked (``sync.py``, ``first_copy.py``, ``staging.py``,
``start_over.py``) and what a version is (``history.py``).

The mode is the table property ``carbon.mode``. It is there from the table's first copy on, and a
copy anew sets it in the commit that publishes its rows. A history is one from the moment on that a
first copy is published: a copy that is not may begin again.
"""

from pyiceberg.table import Table

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import (
    HistoryKeptError,
    LakeError,
    ModeChangedError,
    PartitionTruncatedError,
    SourceTableReplacedError,
    StreamGapError,
    UnkeyedChangeError,
    UnrecordedShapeError,
    UnsupportedSchemaChangeError,
)
from carbon_pipelines.lake.evolution import MODE
from carbon_pipelines.lake.state import CREATED


def is_published(table: Table) -> bool:
    """Whether readers see anything but the empty snapshot that a new table begins with."""
    head = table.current_snapshot()
    summary = head.summary if head is not None else None
    return head is not None and (summary is None or CREATED not in summary.additional_properties)


def keeps_history(table: Table) -> bool:
    """Whether the table holds versions that its source does not have any more."""
    return table.properties.get(MODE) == "history" and is_published(table)


def check_mode(table: Table, spec: TableSpec) -> None:
    """Refuse to merge into rows that were written with another mode.

    Tables from before the property have none: they are no histories.

    Raises:
        ModeChangedError: The declaration has changed.
    """
    held = table.properties.get(MODE)
    if held is None:
        held = spec.mode if not spec.is_history else "mirror"
    if held != spec.mode and is_published(table):
        raise ModeChangedError(spec.label, held=held, declared=spec.mode)


def check_replaceable(table: Table | None, spec: TableSpec, why: str) -> None:
    """Refuse to replace the rows of a table that keeps a history.

    Args:
        table: As loaded; None for one that is not there.
        spec: Its declaration, which may say another mode by now.
        why: What a copy anew was to be made for.

    Raises:
        HistoryKeptError: It does.
    """
    if table is not None and keeps_history(table):
        raise HistoryKeptError(spec.label, why)


def why_a_copy(error: LakeError) -> str:
    """What a copy anew would answer, in words that advise none."""
    match error:
        case UnsupportedSchemaChangeError():
            return f"schema version {error.version} {error.change}, which no event tells row by row"
        case SourceTableReplacedError():
            return (
                "the source table was dropped and created again under the same name (oid "
                f"{error.copied_oid} before, {error.found_oid} now)"
            )
        case UnrecordedShapeError():
            return (
                f"events from position {error.position} on have columns that no row of "
                "carbon.ddl_history describes"
            )
        case PartitionTruncatedError():
            return (
                f"at position {error.position} some of its partitions were truncated, and which "
                "rows that removed only the source knows"
            )
        case UnkeyedChangeError():
            return (
                f"the update or delete behind position {error.position} does not carry the "
                "declared key, because the table's replica identity was another one"
            )
        case StreamGapError():
            return f"it stands before a gap in its topic: {error.missing}"
        case _:
            return str(error).rstrip(".")
