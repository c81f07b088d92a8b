"""Processes of a pipeline that are started again whenever they end, and ways to end them.

What belongs here: a capture and a merging process over a pipeline's declarations, and killing any
part of the whole. What does not: load on the source, what has to be true afterwards, and a
connector that captures instead (``connecting.py``).
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import yaml

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines_tests.integration import merging
from carbon_pipelines_tests.integration.pipeline import Pipeline

MOMENTS = ("before_write", "after_write", "after_commit")
_DEATH_SECONDS = 900.0
"""How long a process that is to die while it merges may find nothing to merge."""
_STILL_SECONDS = 300.0
"""How long, of that, what captures may stand still: a copy waits until it has come to its end."""
_LOOK_SECONDS = 2.0
VICTIMS = ("capture", *MOMENTS, "kafka", "postgres", "s3")


class Kept(Protocol):
    """A part that somebody starts again."""

    def keep(self) -> None:
        """Start it again if it has ended."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...

    def tail(self) -> str:
        """What it said last."""
        ...


class Supervised:
    """A process that is started again whenever it has ended, as a Deployment would."""

    def __init__(self, command: list[str], environ: dict[str, str], log: Path) -> None:
        self._command, self._environ, self._log = command, environ, log
        self.process = self._start(())

    def _start(self, more: tuple[str, ...]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*self._command, *more], env=self._environ, stdout=log, stderr=log
            )

    def restart(self, *more: str) -> None:
        """Kill it and start it anew, with more arguments."""
        self.kill()
        self.process = self._start(more)

    def keep(self) -> None:
        """Start it again if it has ended; an end that it calls fatal fails the test."""
        if self.process.poll() is not None:
            assert self.process.returncode != merging.FATAL, self.tail()
            self.process = self._start(())

    def tail(self) -> str:
        """What it said last."""
        return self._log.read_text()[-3000:]

    def kill(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def pipeline_processes(
    stack: Stack, pipeline: Pipeline, directory: Path, *, connector: Kept | None = None
) -> Iterator[tuple[Kept, Supervised]]:
    """What captures and a merging process, found by their environment as in production.

    Without a ``connector``, which is left running, the capture is a process of our own.
    """
    environ = {
        **os.environ,
        "CARBON_HOME": str(stack.home),
        "CARBON_CATALOG_DIR": str(write_catalog(pipeline, directory)),
    }

    def start(name: str, module: str, *arguments: str) -> Supervised:
        command = [sys.executable, "-m", module, *arguments, pipeline.name]
        return Supervised(command, environ, directory / f"{name}.log")

    started = [start("merge", merging.__name__)]
    if connector is None:
        started.append(start("capture", "carbon_pipelines.cli", "capture"))
    try:
        yield connector or started[-1], started[0]
    finally:
        for process in started:
            process.kill()


def write_catalog(pipeline: Pipeline, directory: Path) -> Path:
    """The pipeline's declarations as files."""
    tables = directory / "catalog" / pipeline.name
    tables.mkdir(parents=True)
    told = pipeline.database.model_dump(include={"owner", "capture"})
    (tables / "_database.yaml").write_text(yaml.safe_dump(told))
    for name, table in pipeline.tables.items():
        (tables / f"{name}.yaml").write_text(yaml.safe_dump(_document(table)))
    return tables.parent


def _document(table: TableSpec) -> dict[str, object]:
    return {
        "source_table": table.source_table,
        **({"identity": table.identity} if table.identity else {"key": list(table.key)}),
        "freshness": "15m",
        "description": table.description,
        "mode": table.mode,
        "engine": table.engine,
        **({} if table.is_history else {"recopies_per_hour": table.recopies_per_hour}),
        **(
            {"partitioning": [field.model_dump() for field in table.partitioning]}
            if table.partitioning
            else {}
        ),
    }


def strike(
    victim: str, pipeline: Pipeline, capture: Kept, merge: Supervised, chance: random.Random
) -> None:
    """Kill one part at a random moment, and repair what does not start by itself."""
    if victim in MOMENTS:
        merge.restart(f"--die={victim}", f"--at={chance.randint(1, 4)}")
        _await_death(victim, pipeline, capture, merge)
        return
    time.sleep(chance.uniform(0.3, 1.5))
    if victim == "capture":
        capture.kill()
        return
    pipeline.stack.kill(victim)
    time.sleep(chance.uniform(0.0, 0.5))
    pipeline.stack.up(lambda _: None)


def _await_death(victim: str, pipeline: Pipeline, capture: Kept, merge: Supervised) -> None:
    """Wait until merging has died, as long as what captures comes nearer to it."""
    began = moved_at = looked_at = time.monotonic()
    reached, behind = pipeline.captured()
    while merge.process.poll() is None:
        now = time.monotonic()
        if now > looked_at + _LOOK_SECONDS:
            before, looked_at = reached, now
            reached, behind = pipeline.captured()
            if reached != before:
                moved_at = now
        assert now < min(began + _DEATH_SECONDS, moved_at + _STILL_SECONDS), (
            f"nothing died {victim}; Kafka holds {reached}, and lacks {behind:,} bytes of WAL\n"
            f"{merge.tail()}\n{capture.tail()}"
        )
        capture.keep()
        time.sleep(0.1)
