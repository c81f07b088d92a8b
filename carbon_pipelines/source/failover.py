"""Whether capture would survive a failover to a standby, as far as the primary can tell.

What belongs here: facts about standbys and the slot, and what to change. None of it stops capture:
without a standby there is nothing to prepare, and a slot that a failover loses is replaced. What
does not: making the slot (``slot.py``) and going on after a failover (``stream/resume.py``).

Source: PostgreSQL manual, "Logical decoding: replication slot synchronization".
"""

from dataclasses import dataclass

from carbon_pipelines.source.connection import SourceConnection

FAILOVER_VERSION = 170_000
"""Failover slots and invalidation_reason came with PostgreSQL 17."""


@dataclass(frozen=True, slots=True)
class FailoverFacts:
    """What a failover depends on.

    Attributes:
        version: Of the server, like 180004.
        slot: Name of our slot.
        failover: Whether standbys may keep a copy of it.
        standbys: Application names of the standbys that stream now.
        standby_slots: Physical slots that standbys read now.
        synchronized: What ``synchronized_standby_slots`` names.
    """

    version: int
    slot: str
    failover: bool
    standbys: tuple[str, ...]
    standby_slots: tuple[str, ...]
    synchronized: tuple[str, ...]


def load_failover_facts(connection: SourceConnection, slot: str) -> FailoverFacts:
    """Read the facts that ``failover_advice`` judges."""
    row = connection.execute(
        """
        SELECT coalesce((SELECT (to_jsonb(s) ->> 'failover')::bool FROM pg_replication_slots s
                          WHERE s.slot_name = %(slot)s), false),
               ARRAY(SELECT r.application_name FROM pg_stat_replication r
                      WHERE r.state IN ('streaming', 'catchup') AND NOT EXISTS (
                        SELECT FROM pg_replication_slots s
                         WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
                      ORDER BY 1),
               ARRAY(SELECT s.slot_name::text FROM pg_replication_slots s
                      WHERE s.slot_type = 'physical' AND s.active ORDER BY 1),
               regexp_split_to_array(
                 coalesce(current_setting('synchronized_standby_slots', true), ''), '[ ,]+')
        """,
        {"slot": slot},
    ).fetchone()
    assert row is not None
    failover, standbys, standby_slots, synchronized = row
    return FailoverFacts(
        connection.info.server_version,
        slot,
        failover,
        tuple(standbys),
        tuple(standby_slots),
        tuple(name for name in synchronized if name),
    )


def failover_advice(facts: FailoverFacts) -> tuple[str, ...]:
    """What to change so that a failover costs no re-copy; nothing if all is well, as far as seen.

    A base backup streams too, so a standby of that name is advised about while it runs.
    """
    if not facts.standbys:
        return ()
    names = ", ".join(facts.standbys)
    if facts.version < FAILOVER_VERSION:
        return (
            f"Slot {facts.slot} does not exist on standby {names}: before PostgreSQL 17 slots are "
            f"not kept there. After a failover the tables are copied anew.",
        )
    advice: list[str] = []
    if not facts.failover:
        advice.append(
            f"Slot {facts.slot} has failover = false, so standby {names} does not keep it. Stop "
            f"capture and send ALTER_REPLICATION_SLOT {facts.slot} (FAILOVER true) on a "
            f"replication connection."
        )
    if not facts.standby_slots:
        advice.append(
            f"Standby {names} streams without a physical slot, which keeping slots there needs: "
            f"set primary_slot_name, hot_standby_feedback = on, sync_replication_slots = on and a "
            f"dbname in primary_conninfo on the standby."
        )
    missing = sorted({*facts.standby_slots} - {*facts.synchronized})
    if missing:
        advice.append(
            f"synchronized_standby_slots does not name {', '.join(missing)}, so Kafka may hold "
            f"changes that the standby lacks at a failover, which only carbon start-over mends. "
            f"Name it there, and see that the standby has sync_replication_slots = on."
        )
    return tuple(advice)
