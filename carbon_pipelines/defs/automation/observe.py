"""Looking at how far a database's assets are behind, for its sensor. Reads, and consumes nothing.

Where the truth is: for ``lake``, the topic's end against the offset in the table's own snapshot;
for ``stream``, the WAL's end against what the slot has acknowledged, which Kafka then holds.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.defs.automation.lag import Lag
from carbon_pipelines.defs.keys import database_key, table_key
from carbon_pipelines.errors import CarbonPipelinesError

if TYPE_CHECKING:
    from carbon_pipelines.embedded.endpoints import Endpoints

# WAL moves by itself: our own marker, checkpoints, vacuum, other databases of the server. Less than
# this is left to the schedule, or the sensor would never rest.
QUIET_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Observation:
    """What one look found, and the errors of what could not be looked at."""

    lags: tuple[Lag, ...]
    errors: tuple[CarbonPipelinesError, ...]


def observe_lag(database: DatabaseSpec, endpoints: "Endpoints") -> Observation:
    """Look at every asset of one database; one that cannot be seen does not hide the others."""
    from carbon_pipelines.lake.answer import may_resume
    from carbon_pipelines.lake.sync import observe_table
    from carbon_pipelines.stream.progress import load_newest_progress

    @cache
    def captured_generation() -> int | None:
        captured = load_newest_progress(endpoints.stream_bootstrap, database.name)
        return None if captured is None else captured.generation

    lags: list[Lag] = []
    errors: list[CarbonPipelinesError] = []
    followed: Collection[str] = ()
    try:
        lags.append(observe_wal(database, endpoints))
        followed = observe_followed(database, endpoints)
    except CarbonPipelinesError as error:
        errors.append(error)
    for table in database.tables:
        asset = table_key("lake", table).to_user_string()
        try:
            state = observe_table(table, endpoints)
            generation = captured_generation() if state is not None else None
        except CarbonPipelinesError as error:
            errors.append(error)
            continue
        if table.name in followed:
            # a run beside it would only take turns with it
            lags.append(Lag(asset, behind=0, end=0 if state is None else state.next_offset))
        elif state is None:
            lags.append(Lag(asset, behind=None, end=0))
        elif state.parked is not None:
            # No run would move it, unless the source has it as declared again; and once it is
            # released it is asked for without a wait.
            waits = not may_resume(state.parked, table, database, endpoints)
            lags.append(Lag(asset, behind=0 if waits else 1, end=state.next_offset))
        else:
            # a gap that was healed moves the end too: no event has to come for it
            gaps = 0 if generation is None else generation - state.generation
            end = state.next_offset + state.lag_offsets + gaps
            lags.append(Lag(asset, behind=state.lag_offsets + gaps, end=end))
    return Observation(tuple(lags), tuple(errors))


def observe_followed(database: DatabaseSpec, endpoints: "Endpoints") -> Collection[str]:
    """Names of the tables that a process merges continuously.

    Raises:
        SourceError: PostgreSQL does not answer, or refuses us.
    """
    from carbon_pipelines.source.connection import session
    from carbon_pipelines.source.followers import find_followers

    with session(endpoints.source_dsn(database.name)) as connection:
        return find_followers(connection, [table.name for table in database.tables])


def observe_wal(database: DatabaseSpec, endpoints: "Endpoints") -> Lag:
    """How many bytes of WAL the slot has not given to Kafka; none while a capture is at it.

    Raises:
        SourceError: PostgreSQL does not answer, or refuses us.
    """
    from carbon_pipelines.source.connection import session
    from carbon_pipelines.source.slot import observe_slot
    from carbon_pipelines.source.visibility import current_insert_lsn

    asset = database_key("stream", database).to_user_string()
    with session(endpoints.source_dsn(database.name)) as connection:
        slot = observe_slot(connection, database.slot_name)
        end = current_insert_lsn(connection)
    if slot is None:
        return Lag(asset, behind=None, end=end)
    quiet = slot.held_by_carbon or slot.lag_bytes < QUIET_BYTES
    if slot.lost is None and quiet:
        return Lag(asset, behind=0, end=end)
    return Lag(asset, behind=max(slot.lag_bytes, 1), end=end)
