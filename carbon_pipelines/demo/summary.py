"""The table that ends the demo.

What belongs here: turning what the demo found into text, pure. What does not: finding it
(``run.py``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from carbon_pipelines.demo.workload import Worked
from carbon_pipelines.quality.verification import Verification


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage took: wall time, and CPU time of our own processes (not of the services)."""

    name: str
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class DemoDone:
    """Everything the demo found."""

    stages: tuple[Stage, ...]
    worked: Worked
    verifications: tuple[Verification, ...]
    stopped: bool

    @property
    def verified(self) -> bool:
        """Whether every table is equal to its source."""
        return bool(self.verifications) and all(v.verified for v in self.verifications)


def describe(done: DemoDone) -> str:
    """The closing summary, lines of at most 78 characters."""
    return "\n".join(
        [
            "",
            "  The energy and carbon market, from PostgreSQL to Iceberg",
            "",
            *_indented(_tables(done.verifications)),
            "",
            *_indented(_stages(done.stages)),
            "",
            f"  The market moved meanwhile: {done.worked.committed:,} transactions committed,"
            f" {done.worked.rolled_back:,} rolled back,",
            f"  and column {done.worked.added_column} was added while data flowed.",
            "",
            *_indented(_next_steps(stopped=done.stopped)),
            "",
        ]
    )


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}".rstrip() for line in lines)


def _tables(verifications: Sequence[Verification]) -> Iterator[str]:
    total = f"{len(verifications)} tables"
    width = max(len(name) for name in (total, *(v.table.name for v in verifications)))
    yield f"{'table':<{width}}  {'rows in source':>14}  {'rows in lake':>12}  verified"
    yield "─" * (width + 44)
    for v in sorted(verifications, key=lambda found: (-found.source_rows, found.table.name)):
        state = "✓ yes" if v.verified else "✗ NO"
        yield f"{v.table.name:<{width}}  {v.source_rows:>14,}  {v.lake_rows:>12,}  {state}"
    yield "─" * (width + 44)
    source, lake = (
        sum(v.source_rows for v in verifications),
        sum(v.lake_rows for v in verifications),
    )
    good = sum(v.verified for v in verifications)
    yield f"{total:<{width}}  {source:>14,}  {lake:>12,}  {good} of {len(verifications)}"
    for v in verifications:
        if not v.verified:
            yield ""
            yield v.sentence()


def _stages(stages: Sequence[Stage]) -> Iterator[str]:
    everything = Stage(
        "in all", sum(stage.seconds for stage in stages), sum(stage.cpu_seconds for stage in stages)
    )
    width = max(len(stage.name) for stage in (*stages, everything))
    yield f"{'stage':<{width}}  {'seconds':>8}  {'CPU-seconds':>11}"
    yield "─" * (width + 23)
    for stage in stages:
        yield _stage(stage, width)
    yield "─" * (width + 23)
    yield _stage(everything, width)


def _stage(stage: Stage, width: int) -> str:
    return f"{stage.name:<{width}}  {stage.seconds:>8.1f}  {stage.cpu_seconds:>11.1f}"


def _next_steps(*, stopped: bool) -> Iterator[str]:
    if stopped:
        yield "The stack is stopped; its data stays. carbon up starts it again."
        return
    yield "The stack is still running."
    yield "  make ui            open the Dagster UI with these assets and runs"
    yield "  carbon verify      compare every table with its source once more"
    yield "  carbon alerts test show who is told when something is wrong, if anybody is"
    yield "  make demo          let the market move on and do it all again"
    yield "  make down          stop everything; the data stays"
