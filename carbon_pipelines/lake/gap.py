"""Whether the events of a topic may be merged into a table: are they of its source and generation?

What belongs here: that comparison, made before anything of a topic is merged. What does not: what
is done about a gap (``sync.py``) and how one comes about (``stream/heal.py``).

The topic's end has to be read first, the progress of the capture after it. A gap is in the progress
before the first event behind it is in the topic; so if no gap is found, all that lies before that
end belongs to the table's generation.
"""

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import StreamGapError, WrongSourceError
from carbon_pipelines.lake.state import TableProgress
from carbon_pipelines.source.position import format_lsn
from carbon_pipelines.stream.progress import Progress, load_newest_progress

_MIRROR = 'Run "carbon sync {table}" (or "carbon recopy {table}"): it copies the table anew.'
_APPEND = (
    "A copy holds the rows that the source has now, and rows that were deleted there since they "
    'were appended would go, so it is not made unasked: run "carbon recopy {table}" if that is '
    "right."
)
_HISTORY = (
    "What happened in it is in no version of a row, so nothing may be merged behind it: run "
    '"carbon sync {table}", which parks the table and says what can be done.'
)
_REMEDIES = {"mirror": _MIRROR, "append": _APPEND, "history": _HISTORY}


def check_generation(table: TableSpec, bootstrap: str, progress: TableProgress) -> None:
    """Refuse to merge events that are not the ones after those the table holds.

    Args:
        table: Its declaration.
        bootstrap: Kafka's bootstrap servers.
        progress: What the table carries.

    Raises:
        WrongSourceError: The events come from another PostgreSQL than the table's rows.
        StreamGapError: Changes are missing between the table and the topic's end.
    """
    capture = load_newest_progress(bootstrap, table.database)
    if capture is None:
        return
    if capture.system_identifier != progress.system_identifier:
        raise WrongSourceError(table.label, progress.system_identifier, capture.system_identifier)
    if capture.generation != progress.generation:
        remedy = _REMEDIES[table.mode]
        raise StreamGapError(
            table.label,
            held=progress.generation,
            found=capture.generation,
            missing=_missing(capture, progress.generation),
            remedy=remedy.format(table=table.label),
        )


def _missing(capture: Progress, held: int) -> str:
    """What is missing first, in words."""
    gap = next((gap for gap in capture.gaps if gap.generation > held), None)
    if gap is None:
        return "the capture's progress is older than the table's"
    return (
        f"the changes from {format_lsn(gap.captured_lsn)} to {format_lsn(gap.resumes_lsn)} never "
        f"reached Kafka, because the slot was lost ({gap.reason})"
    )
