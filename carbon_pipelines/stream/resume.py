"""Whether slot, progress and topics belong together, and from where capture goes on.

What belongs here: everything that is compared before the first message of a slot is taken. What
does not: taking it (``capture.py``).

The slot has to be ours already and acknowledged nothing yet, and the producer has to have taken
over: only then is the newest progress the last word.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    CaptureOptionsChangedError,
    ProgressLostError,
    SlotLostError,
    TimelineDivergedError,
    WalGapError,
    WrongDatabaseError,
)
from carbon_pipelines.source.connection import SourceConnection, SourceIdentity, load_identity
from carbon_pipelines.source.position import format_lsn, parse_lsn
from carbon_pipelines.source.slot import observe_slot
from carbon_pipelines.stream.heal import behind_gap, plan_heal
from carbon_pipelines.stream.pgoutput import OPTIONS
from carbon_pipelines.stream.progress import NOTHING, Progress, load_progress
from carbon_pipelines.stream.replication import ReplicationStream
from carbon_pipelines.stream.topic_state import load_topic_state
from carbon_pipelines.stream.topics import ddl_topic, progress_topic, topics_with_events

_LOG = logging.getLogger(__name__)


def load_resume_point(
    connection: SourceConnection,
    endpoints: Endpoints,
    database: DatabaseSpec,
    *,
    healing: str | None = None,
) -> Progress:
    """The progress to go on from, as one of today's source; a beginning if there is none.

    Args:
        connection: To the source.
        endpoints: Where the services are.
        database: What is declared.
        healing: What became of the slot before this one, if the setup has just replaced it: a gap
            is then gone behind, and is part of the result, which has to be committed first.

    Raises:
        SlotHealLimitError: There is a gap again, too soon.
        WrongDatabaseError: Another database answers behind the same name.
        TimelineDivergedError: A failover undid changes that Kafka holds.
        WalGapError: The slot starts past what Kafka holds.
        CaptureOptionsChangedError: The slot was read with other options.
        ProgressLostError: The progress or the DDL topic was emptied or created again.
    """
    identity = load_identity(connection)
    slot = observe_slot(connection, database.slot_name)
    if slot is None:
        raise SlotLostError(database.slot_name, reason="it does not exist")
    progress = load_progress(endpoints, database)
    ddl_topic_id = _ddl_topic_id(endpoints, database)
    today = Progress(
        position=NOTHING,
        end_lsn=slot.confirmed_flush_lsn,
        system_identifier=identity.system_identifier,
        timeline=identity.timeline,
        database_oid=identity.database_oid,
        options=replication_options(database),
        ddl_topic_id=ddl_topic_id,
    )
    if progress is None:
        if with_events := topics_with_events(endpoints.stream_bootstrap, database):
            raise ProgressLostError(database.name, progress_topic(database.name), with_events)
        return today
    check_same_source(database.name, progress, identity)
    if dict(progress.options) != dict(today.options):
        raise CaptureOptionsChangedError(database.name, progress.options, today.options)
    if progress.ddl_topic_id != ddl_topic_id:
        with_events = topics_with_events(endpoints.stream_bootstrap, database)
        raise ProgressLostError(database.name, ddl_topic(database.name), with_events)
    end_lsn = progress.end_lsn
    if progress.timeline != identity.timeline:
        end_lsn = min(end_lsn, _timeline_switch(endpoints, database, progress, identity.timeline))
    found = replace(today, position=progress.position, end_lsn=end_lsn, gaps=progress.gaps)
    if slot.confirmed_flush_lsn <= end_lsn:
        return found
    if healing is None:
        raise WalGapError(
            database.name,
            database.slot_name,
            confirmed=format_lsn(slot.confirmed_flush_lsn),
            captured=format_lsn(end_lsn),
        )
    now = time.time()
    _LOG.warning("%s", plan_heal(database, found, reason=healing, now=now).describe())
    return behind_gap(found, slot.confirmed_flush_lsn, reason=healing, now=now)


def replication_options(database: DatabaseSpec) -> Mapping[str, str]:
    """The options of START_REPLICATION that positions depend on."""
    names = f"{database.publication_name},{database.keyless_publication_name}"
    return {**OPTIONS, "publication_names": names}


def check_same_source(database: str, progress: Progress, found: SourceIdentity) -> None:
    """Whether positions of ``progress`` are from the database that ``found`` describes.

    Raises:
        WrongDatabaseError: They are from another one.
    """
    facts = (
        ("system identifier", progress.system_identifier, found.system_identifier),
        ("database oid", str(progress.database_oid), str(found.database_oid)),
    )
    for fact, before, now in facts:
        if before != now:
            raise WrongDatabaseError(database, fact=fact, before=before, now=now)


def plan_timeline_change(history: str, *, before: int) -> int | None:
    """Where the timeline with this history left timeline ``before``.

    Args:
        history: A history file: lines of parent timeline, LSN of the switch, reason.
        before: The timeline to look for.

    Returns:
        An LSN; None if ``before`` is none of its ancestors.
    """
    for line in history.splitlines():
        fields = line.split("#", 1)[0].split()
        if len(fields) > 1 and fields[0] == str(before):
            return parse_lsn(fields[1])
    return None


def _timeline_switch(
    endpoints: Endpoints, database: DatabaseSpec, progress: Progress, now: int
) -> int:
    """A failover is followed if the slot survived and no captured change was undone by it."""
    dsn = endpoints.source_dsn(database.name)
    stream = ReplicationStream(dsn, database=database.name, slot=database.slot_name)
    with closing(stream):
        history = stream.load_timeline_history(now)
    switched_at = plan_timeline_change(history, before=progress.timeline)
    if switched_at is None or progress.position.commit_lsn >= switched_at:
        raise TimelineDivergedError(
            database.name,
            before=progress.timeline,
            now=now,
            switched_at="no point" if switched_at is None else format_lsn(switched_at),
            position=str(progress.position),
        )
    return switched_at


def _ddl_topic_id(endpoints: Endpoints, database: DatabaseSpec) -> str:
    return load_topic_state(endpoints.stream_bootstrap, ddl_topic(database.name)).topic_id
