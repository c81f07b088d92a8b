"""Errors of comparing, and of the demo.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Sequence
from pathlib import Path

from carbon_pipelines.errors.root import CarbonPipelinesError


class QualityError(CarbonPipelinesError):
    """A comparison could not be made."""


class NoConsistentPointError(QualityError):
    """No round found source and lake at the same point, so nothing is known about the table."""

    retryable = True

    def __init__(self, table: str, reasons: Sequence[str]) -> None:
        self.table = table
        self.reasons = tuple(reasons)
        last = self.reasons[-1] if self.reasons else "no round was made"
        super().__init__(
            f"{table}: {len(self.reasons)} rounds found no point at which source and lake could be "
            f"compared; the last one: {last}. Nothing was compared, so nothing is known. Run "
            f'"carbon verify {table}" again when nobody truncates, rewrites or alters the table.'
        )


class LakeUnreadableError(QualityError):
    """DuckDB, which shares no code with our writer, cannot read a table snapshot."""

    def __init__(self, table: str, snapshot_id: int, detail: str) -> None:
        self.table = table
        self.snapshot_id = snapshot_id
        self.detail = detail
        super().__init__(
            f"{table}: DuckDB cannot read table snapshot {snapshot_id}: {detail.splitlines()[0]} "
            f"The table is not verified. If a file is missing or damaged, run "
            f'"carbon recopy {table}".'
        )


class ExpectationsMisfitError(QualityError):
    """Expectations are about columns that a table does not have, or not of such a type.

    ``problems`` has one ``(file, line, reason)`` for each; lines count from 1.
    """

    def __init__(self, table: str, problems: Sequence[tuple[Path, int, str]]) -> None:
        self.table, self.problems = table, tuple(problems)
        lines = "\n".join(f"  {file}:{line}: {reason}" for file, line, reason in self.problems)
        mistakes = "1 expectation" if len(self.problems) == 1 else f"{len(self.problems)} of them"
        super().__init__(
            f"{table} was not scored: {mistakes} cannot be checked against the columns that the "
            f"lake has now. Correct the lines named here and run it again:\n{lines}"
        )


class RunnerMissingError(QualityError):
    """The package that is to count expectations is not installed."""

    def __init__(self, runner: str, detail: str) -> None:
        self.runner = runner
        super().__init__(
            f"Expectations are to be run by {runner}, which cannot be imported ({detail}). Nothing "
            f"was scored. Install what requirements.lock holds, or choose another runner."
        )


class RunnerUnavailableError(QualityError):
    """Who is to count expectations does not answer."""

    retryable = True

    def __init__(self, runner: str, where: str, detail: str) -> None:
        self.runner, self.where, self.detail = runner, where, detail
        super().__init__(
            f"Expectations are to be counted by {runner} at {where}, which does not do so: "
            f"{detail}. Nothing was scored. Run it again when it answers, or choose another runner."
        )


class RepairRefusedError(QualityError):
    """Differences that are not mended key by key."""

    def __init__(self, table: str, reason: str, *, remedy: str | None = None) -> None:
        self.table, self.reason = table, reason
        super().__init__(
            f"{table} cannot be repaired key by key: {reason}. Nothing was changed. "
            + (remedy or f'Run "carbon recopy {table}".')
        )


class StillDifferentError(QualityError):
    """A table that was repaired as often as it made sense, and is not verified."""

    def __init__(self, table: str, found: str) -> None:
        self.table, self.found = table, found
        super().__init__(
            f"{found}. That is after the repair of {table}. Nothing of it is lost or taken back; "
            f'repair it again when its keys move less, or run "carbon recopy {table}".'
        )


class DemoStageError(CarbonPipelinesError):
    """A process that the demo started failed."""

    def __init__(self, stage: str, state: str, log: Path) -> None:
        self.stage = stage
        self.state = state
        self.log = log
        super().__init__(
            f"The demo's {stage} process failed: {state}. The stack is still running and nothing "
            f"is lost. Read {log}, then run the demo again; it goes on from here."
        )
