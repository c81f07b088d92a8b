"""``carbon follow``: merging tables all the time.

What belongs here: choosing tables, signals, and a line a minute. What does not: anything that
decides (``lake/follow.py``).
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from carbon_pipelines.cli import surroundings
from carbon_pipelines.cli.group import cli
from carbon_pipelines.cli.pipeline import TABLES, chosen_tables

if TYPE_CHECKING:
    from carbon_pipelines.lake.follow import Turn
    from carbon_pipelines.lake.freshness import Freshness

TELL_SECONDS = 60.0
PATIENCE = timedelta(minutes=1)


@cli.command()
@TABLES
@click.option("--interval", default=2.0, show_default=True, help="Seconds between merges of one.")
@click.option("--workers", default=2, show_default=True, help="Tables merged at once.")
@click.option(
    "--keep-snapshots",
    default=100,
    show_default=True,
    help="So many of a table's stay, and those of five minutes; 0 leaves them to expiry.",
)
def follow(patterns: tuple[str, ...], interval: float, workers: int, keep_snapshots: int) -> None:
    """Merge what Kafka holds into the lake, again and again, until stopped (Ctrl-C or SIGTERM).

    TABLES are <database>/<table>, <database>/* or <database>; without any, everything declared.
    "carbon capture" has to run beside it. One table's error does not stop the others, and a table
    that is parked goes on once it is released. A commit every few seconds makes many snapshots:
    beyond --keep-snapshots the oldest expire at once, except those that "carbon expire" keeps too
    and those of a table with history.expire.max-snapshot-age-ms. A reader that needs one for longer
    takes a lease. With DAGSTER_HOME set, Dagster is told about each
    table once a minute, so that its pages and freshness are true.
    """
    if interval <= 0 or workers < 1 or keep_snapshots < 0:
        message = "--interval is above 0, --workers at least 1, --keep-snapshots at least 0."
        raise click.UsageError(message)
    catalog, endpoints = surroundings.catalog(), surroundings.endpoints()
    chosen = chosen_tables(catalog, patterns)
    from carbon_pipelines.lake.follow import Follower
    from carbon_pipelines.maintenance.thinning import Thinning
    from carbon_pipelines.source.followers import FollowerMark

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    names = sorted({table.database for table in chosen})
    with ExitStack() as opened:
        marks = [
            FollowerMark(
                endpoints.source_dsn(name),
                name,
                [table.name for table in chosen if table.database == name],
                patience=PATIENCE,
                wait=stop.wait,
                clock=time.monotonic,
            )
            for name in names
        ]
        for mark in marks:
            opened.callback(mark.close)
        telling = _Telling()
        listeners = [telling.take, *_dagster()]

        def tell(turn: "Turn") -> None:
            for take in listeners:
                take(turn)

        def keep() -> None:
            for mark in marks:
                mark.keep()

        follower = Follower(
            chosen,
            {name: catalog.database(name) for name in names},
            endpoints,
            interval=timedelta(seconds=interval),
            workers=workers,
            on_turn=tell,
            tend=Thinning(endpoints.lake, keep_snapshots).tend,
            keep=keep,
        )
        click.echo(f"Following {len(chosen)} tables. Ctrl-C stops; nothing is lost by stopping.")
        follower.run(stop)
        telling.tell()
    click.echo("Stopped following.")


def _dagster() -> "list[Callable[[Turn], None]]":
    """What tells Dagster, if this process knows which."""
    if "DAGSTER_HOME" not in os.environ:
        click.echo("DAGSTER_HOME is not set: Dagster is not told.")
        return []
    from carbon_pipelines.defs.lake.following import FollowReporter

    return [FollowReporter.of_environment().take]


class _Telling:
    """Lines for people: errors at once and once each, the rest summed up a minute."""

    def __init__(self) -> None:
        self._tell_at = time.monotonic() + TELL_SECONDS
        self._errors: dict[str, str] = {}
        self._commits: dict[str, int] = {}
        self._fresh: dict[str, Freshness] = {}

    def take(self, turn: "Turn") -> None:
        label = turn.table.label
        if turn.error is not None:
            if self._errors.get(label) != str(turn.error):
                click.echo(f"{label}: {turn.error}", err=True)
            self._errors[label] = str(turn.error)
        elif turn.synced is not None:
            self._errors.pop(label, None)
            if turn.synced.committed:
                self._commits[label] = self._commits.get(label, 0) + 1
                if label in self._fresh:
                    self._fresh[label].merge(turn.synced.freshness)
                else:
                    self._fresh[label] = turn.synced.freshness
        if time.monotonic() >= self._tell_at:
            self.tell()

    def tell(self) -> None:
        for label, commits in sorted(self._commits.items()):
            fresh = self._fresh[label]
            click.echo(
                f"{label}: {fresh.changes:,} changes in {commits} commits, visible after "
                f"{fresh.quantile(0.5):.1f} s (half), {fresh.quantile(0.99):.1f} s (99 of 100), "
                f"{fresh.oldest_seconds:.1f} s (all)"
            )
        self._commits, self._fresh = {}, {}
        self._tell_at = time.monotonic() + TELL_SECONDS
