"""Which steps of a setup are unfinished, remembered in the source itself.

What belongs here: the row of carbon.capture_state. What does not: the steps (``setup.py``).
"""

from dataclasses import dataclass

from carbon_pipelines.source.connection import SourceConnection


@dataclass(frozen=True, slots=True)
class SetupState:
    """What has been done since the slot was made.

    Attributes:
        described: A row of DDL history for every table was written after the slot was made.
        settled: The transactions that ran before the last change of the slot or of a publication
            have ended: a source snapshot taken now misses nothing.
    """

    described: bool = False
    settled: bool = False


def load_state(connection: SourceConnection, slot_name: str) -> SetupState:
    """Read what was done; nothing, if nothing is remembered."""
    row = connection.execute(
        "SELECT described, settled FROM carbon.capture_state WHERE slot_name = %s", (slot_name,)
    ).fetchone()
    return SetupState(*row) if row else SetupState()


def save_state(connection: SourceConnection, slot_name: str, state: SetupState) -> None:
    """Remember what was done, in the caller's transaction."""
    connection.execute(
        "INSERT INTO carbon.capture_state (slot_name, described, settled) VALUES (%s, %s, %s)"
        " ON CONFLICT (slot_name) DO UPDATE SET described = EXCLUDED.described,"
        " settled = EXCLUDED.settled",
        (slot_name, state.described, state.settled),
    )
