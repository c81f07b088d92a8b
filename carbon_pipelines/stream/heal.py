"""Going on behind a gap: a slot that lost changes is replaced by another one.

What belongs here: whether that may be done, what it means, and the steps at the source. What does
not: noticing the loss (``source/slot.py``, ``resume.py``) and copying tables (``lake/sync.py``).

The gap is exact and nothing of it is ever hidden, because
1. the lost slot is removed under the lock of the setup, and only while it is lost and nobody reads
   it: a healthy one is never touched;
2. the setup makes another slot and records every table's shape behind it;
3. a session takes that slot, then the producer, and writes the gap into the progress before the
   first event behind it. So a table of the old generation never takes an event of the new one for
   the next one, and a table that is copied after it has the new generation;
4. every step can be repeated: until the gap is in the progress, the slot is ahead of it, and the
   next run finds that and goes on from there.
The record of the gaps is also the count of the heals: one that was not recorded did not happen.
"""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import SlotHealLimitError
from carbon_pipelines.source.connection import session
from carbon_pipelines.source.position import format_lsn
from carbon_pipelines.source.setup import SourceSetup, ensure_source
from carbon_pipelines.source.setup_lock import alone
from carbon_pipelines.source.setup_state import SetupState, save_state
from carbon_pipelines.source.slot import observe_slot
from carbon_pipelines.stream.progress import GAPS_KEPT, Gap, Progress, load_progress

HEALS = 3
"""Slots of a database that are replaced by themselves"""
WITHIN = timedelta(hours=1)
"""in so long."""

_LOG = logging.getLogger(__name__)
_LOCK_TIMEOUT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class HealPlan:
    """What going on behind a gap means.

    Attributes:
        reason: What became of the slot.
        captured_lsn: What Kafka holds, None if nothing.
        copied: Tables that are copied anew by their next sync.
        stopped: Tables that stop before the gap, because only their owner may copy them anew.
    """

    database: str
    slot: str
    reason: str
    captured_lsn: int | None
    copied: tuple[str, ...]
    stopped: tuple[str, ...]

    def describe(self) -> str:
        """The plan in a sentence or two."""
        held = "nothing" if self.captured_lsn is None else f"up to {format_lsn(self.captured_lsn)}"
        text = (
            f"Slot {self.slot} of database {self.database} has lost changes ({self.reason}); Kafka "
            f"holds {held}. Another slot goes on behind the gap, the topics keep what they have, "
            f"and these tables are copied anew: {', '.join(self.copied) or 'none'}."
        )
        if self.stopped:
            text += f" These stop before the gap: {', '.join(self.stopped)}."
        return text


def plan_heal(
    database: DatabaseSpec, progress: Progress | None, *, reason: str, now: float
) -> HealPlan:
    """What healing ``database`` means; touches nothing.

    Args:
        database: What is declared.
        progress: What Kafka holds.
        reason: What became of the slot.
        now: Epoch seconds.

    Raises:
        SlotHealLimitError: It was healed ``HEALS`` times ``WITHIN`` an hour.
    """
    gaps = progress.gaps if progress is not None else ()
    recent = [gap.healed_at for gap in gaps if gap.healed_at > now - WITHIN.total_seconds()]
    if len(recent) >= HEALS:
        again = datetime.fromtimestamp(recent[-HEALS], UTC) + WITHIN
        raise SlotHealLimitError(
            database.name,
            database.slot_name,
            reason=reason,
            times=len(recent),
            again_at=f"{again:%Y-%m-%d %H:%M:%S} UTC",
        )
    return HealPlan(
        database.name,
        database.slot_name,
        reason,
        progress.end_lsn if progress is not None else None,
        tuple(table.label for table in database.tables if table.mode == "mirror"),
        tuple(table.label for table in database.tables if table.mode != "mirror"),
    )


def behind_gap(progress: Progress, resumes_lsn: int, *, reason: str, now: float) -> Progress:
    """The progress of a capture that goes on at ``resumes_lsn``, behind what is missing."""
    gap = Gap(
        generation=progress.generation + 1,
        after=progress.position,
        captured_lsn=progress.end_lsn,
        resumes_lsn=resumes_lsn,
        reason=reason,
        healed_at=now,
    )
    return replace(progress, end_lsn=resumes_lsn, gaps=(*progress.gaps, gap)[-GAPS_KEPT:])


def replace_slot(
    database: DatabaseSpec, endpoints: Endpoints, *, reason: str, now: float | None = None
) -> SourceSetup:
    """Log the plan, remove a lost slot, and see to one from which capture can go on.

    A slot that can be read stays; the shapes of the tables are recorded behind it, because nobody
    knows what it has missed.

    Raises:
        SlotHealLimitError: Too often within an hour; nothing was touched.
        SourceError: As ``ensure_source``; a later call goes on.
    """
    progress = load_progress(endpoints, database)
    plan = plan_heal(database, progress, reason=reason, now=time.time() if now is None else now)
    _LOG.warning("%s", plan.describe())
    dsn = endpoints.source_dsn(database.name)
    with session(dsn) as connection:
        alone(
            connection,
            database.name,
            timeout=_LOCK_TIMEOUT,
            sleep=time.sleep,
            clock=time.monotonic,
        )
        slot = observe_slot(connection, database.slot_name)
        if slot is None or slot.holder_pid is not None:
            pass  # somebody was faster; the session says who
        elif slot.lost is not None:
            with suppress(psycopg.errors.ObjectInUse):
                connection.execute("SELECT pg_drop_replication_slot(%s)", (database.slot_name,))
        else:
            save_state(connection, database.slot_name, SetupState())
    return ensure_source(dsn, database)
