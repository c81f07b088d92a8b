"""Scoring tables of a lake by its address, and keeping what came of it.

What belongs here: the engine that scores, with its bounds, and the order of scoring and keeping.
What does not: either of the two (``scoring.py``, ``history.py``).
"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.endpoints import LakeEndpoint, TrinoEndpoint
from carbon_pipelines.lake.connection import open_catalog
from carbon_pipelines.quality.history import load_sums, record_score
from carbon_pipelines.quality.lake_scan import open_engine
from carbon_pipelines.quality.scoring import (
    Runner,
    ScoredTable,
    expectations_version,
    score_table,
)

ENGINE_BYTES = 300_000_000
"""What DuckDB holds while it scores; past it, it spills to disk."""
ENGINE_THREADS = 2
FULL_EVERY = timedelta(days=1)
"""Everything is read again so often, whatever is known."""


class LakeScores:
    """Scores tables of one lake; made by ``open_scores``."""

    def __init__(
        self, lake: LakeEndpoint, stack: ExitStack, trino: TrinoEndpoint | None = None
    ) -> None:
        self._trino = trino
        self.catalog = stack.enter_context(open_catalog(lake))
        self._engine = stack.enter_context(
            open_engine(lake, memory_bytes=ENGINE_BYTES, threads=ENGINE_THREADS)
        )

    def score(
        self,
        database: DatabaseSpec,
        table: TableSpec,
        *,
        now: datetime,
        runner: Runner = "pass",
        keep: bool = False,
        full: bool = False,
        snapshot_id: int | None = None,
    ) -> ScoredTable:
        """Score ``snapshot_id``, or a table's newest; ``keep`` the score in the lake.

        What the score kept before knows is not read again, unless that is older than
        ``FULL_EVERY`` or ``full`` is asked for.

        Raises:
            TableNotCopiedError: There is nothing to score.
            ExpectationsMisfitError: Expectations do not fit the table's columns.
            LakeUnreadableError: DuckDB cannot read the snapshot.
            CommitConflictError: Others kept scores again and again (retryable).
        """
        sums = None
        if not full and runner == "pass":
            sums = load_sums(self.catalog, table.label, expectations_version(table))
        if sums is not None and now - sums.full_at > FULL_EVERY:
            sums = None
        scored = score_table(
            self.catalog,
            self._engine,
            database,
            table,
            now=now,
            snapshot_id=snapshot_id,
            runner=runner,
            sums=sums,
            trino=self._trino,
        )
        if keep:
            record_score(self.catalog, scored)
        return scored


@contextmanager
def open_scores(lake: LakeEndpoint, trino: TrinoEndpoint | None = None) -> Generator[LakeScores]:
    """The catalog and the engine for as many tables as need be: opening them takes longest.

    ``trino`` is needed by the runner of that name alone.
    """
    with ExitStack() as stack:
        yield LakeScores(lake, stack, trino)
