"""What a snapshot of ours has to carry on from the one before.

What belongs here: the summary properties that a commit of upkeep repeats. What does not: what they
mean (``lake/state.py``, ``lake/dead_letters.py``).
"""

from pyiceberg.table import Table

from carbon_pipelines.errors import StateMissingError
from carbon_pipelines.lake import dead_letters
from carbon_pipelines.lake.state import load_progress


def carried_state(table: Table, label: str) -> dict[str, str]:
    """The properties of a snapshot that leaves ``table`` where it stands.

    Raises:
        StateMissingError: It carries no progress of ours.
    """
    if table.name()[-1] == dead_letters.NAME:
        return {dead_letters.FORMAT: dead_letters.FORMAT_VERSION}
    progress = load_progress(table.metadata, label)
    if progress is None:
        raise StateMissingError(label)
    return progress.to_properties()
