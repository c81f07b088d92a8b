"""Errors of capture: from the slot to Kafka.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Mapping, Sequence

from carbon_pipelines.errors.root import CarbonPipelinesError


class StreamError(CarbonPipelinesError):
    """A topic cannot be written or read as the catalog promises."""


class StreamUnavailableError(StreamError):
    """Kafka at ``bootstrap`` does not answer, or not with what it must; ``state`` says which."""

    retryable = True

    def __init__(self, bootstrap: str, state: str) -> None:
        self.bootstrap, self.state = bootstrap, state
        super().__init__(
            f"Kafka at {bootstrap} is not usable: {state}. Nothing that was not committed counts, "
            f'so a retry is safe; see that the broker runs ("carbon status").'
        )


class StreamForbiddenError(StreamError):
    """Kafka at ``bootstrap`` does not let us do something; ``state`` says what."""

    def __init__(self, bootstrap: str, state: str) -> None:
        self.bootstrap, self.state = bootstrap, state
        super().__init__(
            f"Kafka at {bootstrap} refuses us: {state}. Nothing was written. Give the user of "
            f"CARBON_STREAM_USER that right, or name one that has it; a retry is of no use."
        )


class CaptureRunningError(StreamError):
    """Another process reads slot ``slot``; ``detail`` is what PostgreSQL says about it."""

    retryable = True

    def __init__(self, database: str, slot: str, detail: str) -> None:
        self.database, self.slot, self.detail = database, slot, detail
        super().__init__(
            f"Slot {slot} of database {database} is being read by another process ({detail}), and "
            f"two captures of one database cannot run at once. Leave this one to the other, or "
            f"stop the other first."
        )


class CaptureFencedError(StreamError):
    """Another producer with ``transactional_id`` has started; what we had open was aborted."""

    def __init__(self, bootstrap: str, transactional_id: str) -> None:
        self.bootstrap, self.transactional_id = bootstrap, transactional_id
        super().__init__(
            f"Another producer has taken over {transactional_id} on Kafka at {bootstrap}; the open "
            f"transaction was aborted and nothing is lost or doubled. See which capture of this "
            f"database should run, stop the other one, and start it again."
        )


class DrainTimeoutError(StreamError):
    """Capture reached ``reached`` but not ``wanted`` (LSN text) within ``seconds``."""

    retryable = True

    def __init__(
        self, database: str, *, wanted: str, reached: str, seconds: float, holder: str
    ) -> None:
        self.database, self.wanted, self.reached = database, wanted, reached
        self.seconds, self.holder = seconds, holder
        super().__init__(
            f"Kafka holds database {database} up to {reached}, but {wanted} was not reached within "
            f"{seconds:.0f} s ({holder}). Run it again to go on from there; if {reached} does not "
            f"move, look at the log of the process that captures."
        )


class EventTooLargeError(StreamError):
    """One event of ``table`` at ``lsn`` has ``size_bytes``; Kafka refuses it.

    ``size_bytes`` counts key and value before compression; ``limit`` says whose limit it broke.
    """

    def __init__(self, table: str, *, lsn: str, size_bytes: int, limit: str) -> None:
        self.table, self.lsn, self.size_bytes, self.limit = table, lsn, size_bytes, limit
        super().__init__(
            f"An event of {table} at LSN {lsn} has {size_bytes:,} bytes, more than {limit}. "
            f"Capture stands before it and loses nothing. Raise max.message.bytes of the table's "
            f'topic, or declare the large column "protect: drop", then start capture again.'
        )


class UndecodableChangeError(StreamError):
    """A message of the slot at ``lsn`` is not what pgoutput's protocol promises."""

    def __init__(self, slot: str, *, lsn: str, kind: str, reason: str) -> None:
        self.slot, self.lsn, self.kind, self.reason = slot, lsn, kind, reason
        super().__init__(
            f'Message "{kind}" of slot {slot} at LSN {lsn} cannot be decoded: {reason}. Capture '
            f"stands before it and loses nothing. This is a fault in carbon_pipelines or an "
            f"unsupported server version: report it with this message."
        )


class ProgressFormatError(StreamError):
    """The progress in ``topic`` is not of a format version this release reads."""

    def __init__(self, topic: str, found: str) -> None:
        self.topic, self.found = topic, found
        super().__init__(
            f"The progress in {topic} has {found}, which this release cannot read. Nothing was "
            f"captured. Use the release that wrote it, or a newer one."
        )


class ProgressLostError(StreamError):
    """``topic`` was emptied or created again although ``with_events`` hold events."""

    def __init__(self, database: str, topic: str, with_events: Sequence[str]) -> None:
        self.database, self.topic, self.with_events = database, topic, tuple(with_events)
        super().__init__(
            f"{topic} was emptied or created again, but the events in "
            f"{', '.join(self.with_events[:5])} rely on what it held: what Kafka has of database "
            f"{database} can no longer be told. Nothing was captured. Run "
            f'"carbon start-over {database}": it shows what it deletes and copies anew.'
        )


class CaptureOutdatedError(StreamError):
    """``table`` is not declared here, but it is published and has ``topic``."""

    def __init__(self, database: str, table: str, topic: str) -> None:
        self.database, self.table, self.topic = database, table, topic
        super().__init__(
            f"Changes of {table} arrive, which this process finds no declaration of in database "
            f"{database}, although topic {topic} exists: skipping them would leave a gap in it. "
            f"Capture stands before them and loses nothing. If the table was declared meanwhile, "
            f'start "carbon capture" again; if its declaration was removed on purpose, delete the '
            f"topic."
        )


class ReplicationRefusedError(StreamError):
    """PostgreSQL refuses to go on with slot ``slot``; ``reason`` is its answer."""

    def __init__(self, slot: str, *, sqlstate: str, reason: str) -> None:
        self.slot, self.sqlstate, self.reason = slot, sqlstate, reason
        super().__init__(
            f"PostgreSQL refuses to send changes from slot {slot}: {reason} (SQLSTATE {sqlstate}). "
            f"Nothing was acknowledged that Kafka does not hold. Correct what it names; "
            f"materializing the stream asset sets up publications and slot again."
        )


class CaptureOptionsChangedError(StreamError):
    """The slot was read with options ``before`` and would now be read with ``now``."""

    def __init__(self, database: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        self.database, self.before, self.now = database, dict(before), dict(now)
        changed = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
        pairs = "; ".join(f"{k}: {before.get(k)!r} -> {now.get(k)!r}" for k in changed)
        super().__init__(
            f"Capture of database {database} would read its slot with other options than before "
            f"({pairs}). Positions inside a transaction are only comparable under the same "
            f"options, so nothing was captured. Use the options that it was started with."
        )


class WrongDatabaseError(StreamError):
    """Another database answers behind the name; ``fact`` is what differs."""

    def __init__(self, database: str, *, fact: str, before: str, now: str) -> None:
        self.database, self.fact, self.before, self.now = database, fact, before, now
        super().__init__(
            f"The database behind the name {database} is not the one that was captured so far: its "
            f"{fact} was {before} and is {now}. Nothing was captured. Correct "
            f"CARBON_SOURCE_{database.upper()}_DSN, or declare the new database under a name of "
            f"its own."
        )


class TimelineDivergedError(StreamError):
    """Timeline ``now`` left ``before`` at ``switched_at``, before the captured ``position``."""

    def __init__(
        self, database: str, *, before: int, now: int, switched_at: str, position: str
    ) -> None:
        self.database, self.before, self.now = database, before, now
        self.switched_at, self.position = switched_at, position
        super().__init__(
            f"Database {database} runs on timeline {now}; the captured position {position} is on "
            f"timeline {before}, which {now} left at {switched_at}. Kafka holds changes that this "
            f"server does not have, so nothing was captured. Run "
            f'"carbon start-over {database}": it shows what it deletes and copies anew.'
        )


class WalGapError(StreamError):
    """Slot ``slot`` starts at ``confirmed``, but Kafka only holds what is before ``captured``."""

    def __init__(self, database: str, slot: str, *, confirmed: str, captured: str) -> None:
        self.database, self.slot = database, slot
        self.confirmed, self.captured = confirmed, captured
        super().__init__(
            f"Slot {slot} starts at {confirmed}, but Kafka holds database {database} only up to "
            f"{captured}: the slot was created again or moved by someone else, and the changes "
            f"between never reached Kafka. Nothing was captured. Take heal_slots: false out of the "
            f"database's declaration, and the next run goes on behind them and copies the "
            f'tables anew; or run "carbon start-over {database}": it shows what it deletes.'
        )


class SlotHealLimitError(StreamError):
    """Slot ``slot`` lost changes (``reason``) and was replaced ``times`` times within an hour."""

    def __init__(self, database: str, slot: str, *, reason: str, times: int, again_at: str) -> None:
        self.database, self.slot, self.reason = database, slot, reason
        self.times, self.again_at = times, again_at
        super().__init__(
            f"Slot {slot} of database {database} has lost changes again ({reason}), after it was "
            f"replaced {times} times within an hour, so it is not replaced now. Topics and tables "
            f"stand before the changes that are missing, and nothing more is captured. Find out "
            f"what takes the slot away (max_slot_wal_keep_size, idle_replication_slot_timeout, "
            f"somebody who drops it) and mend that. From {again_at} on a run replaces it again and "
            f"copies the tables anew."
        )
