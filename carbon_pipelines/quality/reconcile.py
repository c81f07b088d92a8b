"""Whether a table of the lake equals its source: both compared at one consistent point.

What belongs here: the rounds of a comparison, and what they say together. What does not: a round
(``rounds.py``) and repair.

A key that a round leaves out is compared in the next one. Differences at other keys are real.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import Endpoints
from carbon_pipelines.errors import (
    NoConsistentPointError,
)
from carbon_pipelines.quality.comparison import Comparison
from carbon_pipelines.quality.lake_scan import open_engine
from carbon_pipelines.quality.rounds import Round, Rounds, Voided
from carbon_pipelines.quality.verification import Verification, VerifyLimits


def verify_table(
    table: TableSpec,
    database: DatabaseSpec,
    endpoints: Endpoints,
    *,
    limits: VerifyLimits | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    proven: int | None = None,
    pin: Callable[[int], None] = lambda _: None,
) -> Verification:
    """Compare ``table`` with its source, row by row, at one consistent point.

    The lake is brought up to that point first; nothing else is written. Memory does not grow with
    the table.

    Args:
        table: With its source.
        database: That of ``table``.
        endpoints: Where the services are.
        limits: How far the comparison goes.
        now: The clock.
        proven: A table snapshot that was found equal: if merges alone came since, the keys that
            they changed are compared, and no others.
        pin: Told the table snapshot of the result before it is read, to keep it from expiry.

    Raises:
        NoConsistentPointError: No round was complete (retryable).
        LakeUnreadableError: The independent reader cannot read the table.
        SourceError, StreamError, LakeError: A service failed or refused.
    """
    bounds = limits or VerifyLimits()
    started, cpu_started = time.monotonic(), time.process_time()
    found: list[Round] = []
    voided: list[Voided] = []
    with open_engine(
        endpoints.lake, memory_bytes=bounds.memory_bytes, threads=bounds.threads
    ) as engine:
        rounds = Rounds(
            table,
            database,
            endpoints,
            bounds,
            now,
            engine,
            Comparison(engine, table.label, bounds),
            proven,
            pin,
        )
        while len(found) + len(voided) < bounds.rounds:
            outcome = rounds.make_one()
            if isinstance(outcome, Voided):
                voided.append(outcome)
                continue
            found.append(outcome)
            if not outcome.pending:
                break
    if not found:
        raise NoConsistentPointError(table.label, [round_.reason for round_ in voided])
    return _summed(
        table,
        found,
        rounds=len(found) + len(voided),
        changed=rounds.changed,
        seconds=time.monotonic() - started,
        cpu_seconds=time.process_time() - cpu_started,
    )


def _summed(
    table: TableSpec,
    found: Sequence[Round],
    *,
    rounds: int,
    changed: int | None,
    seconds: float,
    cpu_seconds: float,
) -> Verification:
    first, pending = found[0], found[-1].pending
    differing = sum(round_.compared.differing_keys for round_ in found)
    return Verification(
        table=table,
        verified=not (differing or pending or first.schema_differences),
        source_rows=sum(round_.compared.source_rows for round_ in found),
        lake_rows=sum(round_.compared.lake_rows for round_ in found),
        differing_keys=tuple(d for round_ in found for d in round_.compared.differences),
        differing_count=differing,
        schema_differences=first.schema_differences,
        unsettled_keys=pending,
        rounds=rounds,
        position=first.synced.position,
        snapshot_id=first.synced.snapshot_id,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        as_of=first.taken_at,
        changed_keys=changed,
        at_least=any(round_.compared.at_least for round_ in found),
        rows=tuple(round_.rows for round_ in found if round_.rows is not None),
    )
