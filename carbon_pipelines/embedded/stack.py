"""The embedded stack: all parts of one home directory, up, down, and as they are.

What belongs here: doing something to all parts at once, under the stack's lock. What does not:
which parts there are (``parts``), how one is brought up (``supervision``) or configured (its own
module).
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil

from carbon_pipelines.embedded.endpoints import EmbeddedAddresses, Endpoints, load_embedded
from carbon_pipelines.embedded.part import Part
from carbon_pipelines.embedded.parts import ALWAYS, NEEDED_BY, assign_ports, make_parts
from carbon_pipelines.embedded.postgres import Postgres
from carbon_pipelines.embedded.process import find, kill_now
from carbon_pipelines.embedded.state import PartName, ProcessRecord, Report, StackHome, StackState
from carbon_pipelines.embedded.status import PartStatus, StackStatus
from carbon_pipelines.embedded.supervision import bring_up, is_up, stop_everything
from carbon_pipelines.errors import EmbeddedError, StackMissingError


class Stack:
    """One embedded stack; two of them in two homes do not touch each other."""

    def __init__(
        self,
        home: Path,
        cache: Path,
        *,
        postgres_bin: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Name a stack; nothing is read or made.

        Args:
            home: its directory (``.carbon``).
            cache: downloads, shared by all stacks.
            postgres_bin: directory of ``initdb`` and ``postgres``; None: CARBON_POSTGRES_BIN, else
                as at the last start, else the wheel's.
            environ: where CARBON_* variables are read from; None: ``os.environ``.
        """
        self._files = StackHome(home.absolute())
        self._cache = cache.absolute()
        self._environ = os.environ if environ is None else environ
        named = self._environ.get("CARBON_POSTGRES_BIN")
        self._postgres_bin = postgres_bin or (Path(named) if named else None)
        self._saving = threading.Lock()

    @property
    def home(self) -> Path:
        """Its directory."""
        return self._files.path

    def up(self, report: Report, *, with_: frozenset[PartName] = frozenset()) -> StackStatus:
        """Have every part running; those that run already are left alone, broken ones repaired.

        Args:
            report: told a line for each download and start, by one thread at a time.
            with_: parts beyond the usual three.

        Raises:
            EmbeddedError: a part could not be brought up; the others are up, and a later call
                goes on from there.
        """
        report = _one_at_a_time(report)
        with self._files.locked(report):
            self._files.ensure_secrets()
            wanted = with_.union(*(NEEDED_BY.get(name, ()) for name in with_))
            also: tuple[PartName, ...] = tuple(sorted(wanted - set(ALWAYS)))
            state = assign_ports(self._files.load_state() or StackState(), (*ALWAYS, *also))
            if self._postgres_bin is not None:
                directory = self._postgres_bin.absolute()
                state = state.model_copy(update={"postgres_bin": directory})
            self._files.save_state(state)
            parts = self._load_parts(report)

            def bring_one(name: PartName) -> None:
                bring_up(
                    parts[name],
                    state.processes.get(name),
                    state_file=self._files.state_file,
                    save=lambda record: self._save_process(name, record),
                    report=report,
                )

            _for_each(ALWAYS, bring_one)
            _for_each(also, bring_one)
        return self.status()

    def down(self, report: Report) -> None:
        """Stop every part, also what a killed `up` left behind; the data stays.

        Raises:
            PartUnstoppableError: a process outlives SIGKILL.
        """
        report = _one_at_a_time(report)
        if self._files.load_state() is None:
            report(f"nothing was started in {self.home}")
            return
        with self._files.locked(report):
            parts = self._load_parts(report)
            state = self._files.load_state() or StackState()

            def stop_one(name: PartName) -> None:
                stopped = stop_everything(parts[name], state.processes.get(name))
                report(f"{name}: {'stopped' if stopped else 'was not running'}")

            _for_each(parts, stop_one)
            self._files.save_state(state.model_copy(update={"processes": {}}))

    def status(self) -> StackStatus:
        """What each part does now; asks each running one whether it answers."""
        state = self._files.load_state()
        if state is None:
            logs = {name: self._files.log(name) for name in ALWAYS}
            stopped = (
                PartStatus(name, "stopped", None, None, 0, 0.0, logs[name]) for name in ALWAYS
            )
            return StackStatus(self.home, tuple(stopped))
        parts = self._load_parts(_silent).values()
        return StackStatus(
            self.home, tuple(_part_status(part, state.processes.get(part.name)) for part in parts)
        )

    def endpoints(self) -> Endpoints:
        """The addresses of this stack's own parts, whatever the environment names.

        Raises:
            StackMissingError: nothing was started in its home yet.
        """
        embedded = self._addresses()
        return Endpoints(embedded.bootstrap, embedded.lake(), embedded=embedded)

    @property
    def admin_dsn(self) -> str:
        """Address of the database `postgres` in the embedded PostgreSQL, as its superuser."""
        return self._addresses().dsn("postgres")

    def create_source_database(self, name: str) -> str:
        """Create a database in the embedded PostgreSQL unless it exists; returns its DSN."""
        postgres = self._load_parts(_silent)["postgres"]
        if not isinstance(postgres, Postgres):
            raise StackMissingError(self.home)
        postgres.create_database(name)
        return postgres.dsn(name)

    def kill(self, part: Literal["postgres", "kafka", "s3", "connect", "superset"]) -> None:
        """End a part's process as a crash would (SIGKILL); `up` repairs it."""
        state = self._files.load_state()
        if state is None:
            raise StackMissingError(self.home)
        process = find(state.processes.get(part))
        if process is not None:
            kill_now(process)

    def _addresses(self) -> EmbeddedAddresses:
        embedded = load_embedded(self.home)
        if embedded is None:
            raise StackMissingError(self.home)
        return embedded

    def _load_parts(self, report: Report) -> dict[PartName, Part]:
        state, secrets = self._files.load_state(), self._files.load_secrets()
        if state is None or secrets is None:
            raise StackMissingError(self.home)
        return make_parts(self._files, self._cache, state, secrets, self._environ, report)

    def _save_process(self, name: PartName, record: ProcessRecord) -> None:
        with self._saving:
            state = self._files.load_state() or StackState()
            processes = {**state.processes, name: record}
            self._files.save_state(state.model_copy(update={"processes": processes}))


def _part_status(part: Part, record: ProcessRecord | None) -> PartStatus:
    port = next(iter(part.ports.values()))
    process = find(record)
    memory_bytes = 0
    uptime_seconds = 0.0
    if process is not None:
        with suppress(psutil.Error):
            family = [process, *process.children(recursive=True)]
            memory_bytes = sum(each.memory_info().rss for each in family)
            uptime_seconds = time.time() - process.create_time()
    state = "stopped" if process is None else "running" if is_up(part, record) else "silent"
    pid = None if process is None else process.pid
    return PartStatus(part.name, state, pid, port, memory_bytes, uptime_seconds, part.log)


def _for_each(names: Iterable[PartName], act: Callable[[PartName], None]) -> None:
    """Act on parts at the same time; every one is tried, then the first failure is raised."""
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="carbon-part") as pool:
        attempts = [pool.submit(act, name) for name in names]
    failures = [failure for attempt in attempts if (failure := attempt.exception()) is not None]
    for failure in failures:
        if not isinstance(failure, EmbeddedError):
            raise failure
    if failures:
        for other in failures[1:]:
            failures[0].add_note(f"Also: {other}")
        raise failures[0]


def _one_at_a_time(report: Report) -> Report:
    speaking = threading.Lock()

    def say(line: str) -> None:
        with speaking:
            report(line)

    return say


def _silent(_line: str) -> None:
    """For questions that start nothing."""
