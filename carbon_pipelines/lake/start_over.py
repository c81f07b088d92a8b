"""Starting a database over, after its slot, its progress and its topics came apart.

What belongs here: the plan, which can be shown, and its steps in order. What does not: finding out
that it is needed (``stream/resume.py``) and copying (``first_copy.py``).

The order: the source forgets that it wrote the shapes of its tables, for a slot that is still there
would never send them again; the topics go, progress with them, so that capture begins anew; then
each table is copied, and only then replaced. A crash in between leaves tables that refuse to merge
(their topic is another one) until "carbon recopy" or this is run again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import CaptureRunningError, CarbonPipelinesError
from carbon_pipelines.lake.connection import load_table, open_catalog
from carbon_pipelines.lake.mode import check_replaceable
from carbon_pipelines.lake.recopy import recopy_table
from carbon_pipelines.source.connection import session
from carbon_pipelines.source.setup_state import SetupState, save_state
from carbon_pipelines.source.slot import observe_slot
from carbon_pipelines.stream.drain import drain
from carbon_pipelines.stream.topics import delete_topics, topics_of

_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class StartOver:
    """What goes and what is made anew."""

    database: str
    topics: tuple[str, ...]
    tables: tuple[str, ...]

    def describe(self) -> str:
        """The plan in words."""
        lines = [
            f"Deletes these topics, with every event in them, for every reader of {self.database}:"
        ]
        lines += [f"  {topic}" for topic in self.topics]
        lines += ["Copies these tables anew; readers keep the old rows until each copy is whole:"]
        lines += [f"  {table}" for table in self.tables]
        return "\n".join(lines)


def plan_start_over(database: DatabaseSpec) -> StartOver:
    """What starting ``database`` over means; touches nothing."""
    return StartOver(
        database.name, topics_of(database), tuple(table.label for table in database.tables)
    )


def apply_start_over(
    plan: StartOver,
    database: DatabaseSpec,
    endpoints: Endpoints,
    *,
    report: Callable[[str], None],
) -> Iterator[str]:
    """Delete the topics, capture anew and copy every table; yields a sentence for each table.

    Raises:
        CaptureRunningError: A capture is running; stop it first.
        HistoryKeptError: A table keeps a history that goes on from one of the topics; nothing was
            done.
        CarbonPipelinesError: A step failed; run it again. If tables could not be copied, why the
            first of them could not, after all the others were.
    """
    _refuse_histories(database, endpoints)
    _refuse_while_captured(database, endpoints)
    _forget_setup(database, endpoints)
    delete_topics(endpoints.stream_bootstrap, plan.database)
    _forget_setup(database, endpoints)  # another process may have written them to the old topic
    drain(database, endpoints, timeout=_TIMEOUT)
    failed: list[CarbonPipelinesError] = []
    for table in database.tables:
        try:
            copied = recopy_table(table, database, endpoints, report=report)
        except CarbonPipelinesError as error:
            failed.append(error)
            yield f"{table.label}: not copied: {error}"
        else:
            yield f"{table.label}: {copied.rows:,} rows copied at {copied.progress.position}"
    if failed:
        raise failed[0]


def _forget_setup(database: DatabaseSpec, endpoints: Endpoints) -> None:
    """Have the next setup write the shape of every table."""
    with session(endpoints.source_dsn(database.name)) as connection:
        known = connection.execute("SELECT to_regclass('carbon.capture_state')").fetchone()
        if known and known[0] is not None:
            save_state(connection, database.slot_name, SetupState())


def _refuse_histories(database: DatabaseSpec, endpoints: Endpoints) -> None:
    why = f"starting {database.name} over deletes the topic that its history goes on from"
    with open_catalog(endpoints.lake) as catalog:
        for table in database.tables:
            check_replaceable(load_table(catalog, table.identifier), table, why)


def _refuse_while_captured(database: DatabaseSpec, endpoints: Endpoints) -> None:
    with session(endpoints.source_dsn(database.name)) as connection:
        slot = observe_slot(connection, database.slot_name)
    if slot is not None and slot.holder_pid is not None:
        holder = f"process {slot.holder_pid} of the server"
        raise CaptureRunningError(database.name, database.slot_name, holder)
