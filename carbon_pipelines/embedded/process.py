"""Starting a part's process, knowing it again, and stopping it.

What belongs here: processes as such. What does not: what a part is, its settings, its health.

A process is ours only when pid, start time and command all equal what was recorded: pids are used
again. A process nobody recorded (the command that started it was killed in between) is known by
running a part's program with that part's own directory as its working directory.
"""

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import psutil

from carbon_pipelines.embedded.state import ProcessRecord
from carbon_pipelines.errors import PartUnstoppableError

_CLOCK_STEP_SECONDS = 2.0
"""The start time of one process may be told differently after the machine's clock was set."""

_KILLED_SECONDS = 10.0
"""How long the system may take to end a process after SIGKILL."""

_LOG_ROTATE_BYTES = 16 * 1024 * 1024

_DETACH = '"$@" >&2 </dev/null & echo $!'
"""Shell text: the part's parent ends at once, so it belongs to the system, not to this process.
The shell's standard error is the log, its standard output tells us the pid."""


_HEED_SIGNALS = """\
import os, signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Python text: an ignored signal is inherited and no shell can change that. Whoever starts us in
the background of a script would otherwise get parts that are deaf to SIGTERM."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start: absolute program and arguments, where, as whom, and where its output goes."""

    command: tuple[str, ...]
    directory: Path
    log: Path
    user: pwd.struct_passwd | None = None
    """None: the user of this process."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Added to a bare environment: a part must not see keys and settings of our caller."""


class RunAs(TypedDict, total=False):
    """Arguments of ``subprocess``; none of them: our own user."""

    user: int
    group: int
    extra_groups: tuple[int, ...]


def bare_environment() -> dict[str, str]:
    """PATH and a fixed locale: parts read AWS_*, PG* and KAFKA_* variables if they find them."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C", "LC_ALL": "C", "TZ": "UTC"}


def start(launch: Launch) -> ProcessRecord:
    """Start a process detached from this one, in a session of its own.

    It outlives this process, is no child of it, and inherits none of its files.
    """
    _rotate(launch.log)
    with os.fdopen(os.open(launch.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)) as log:
        shell = subprocess.run(
            [*_heeding(launch), "/bin/sh", "-c", _DETACH, "sh", *launch.command],
            cwd=launch.directory,
            env={**bare_environment(), **launch.environment},
            start_new_session=True,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=log,
            **as_user(launch.user),
        )
    pid = int(shell.stdout)
    return ProcessRecord(pid=pid, started_at=_start_time(pid, launch), command=launch.command)


def _heeding(launch: Launch) -> tuple[str, ...]:
    """What to put before a command so that it heeds signals; another user may not reach our Python.

    PostgreSQL, the part that runs as another user, sets every handler itself.
    """
    return () if launch.user else (sys.executable, "-I", "-S", "-c", _HEED_SIGNALS)


def _start_time(pid: int, launch: Launch) -> float:
    """Start time of a process that has become the program (it is a shell for a moment before)."""
    try:
        process = psutil.Process(pid)
        wait_until(
            lambda: has_ended(process) or tuple(process.cmdline()) == launch.command,
            timeout_seconds=5,
        )
        return process.create_time()
    except psutil.NoSuchProcess:
        return 0.0  # it ended already: the caller finds no process with this record


def as_user(user: pwd.struct_passwd | None) -> RunAs:
    """The arguments of ``subprocess`` that make a child run as an OS user."""
    if user is None:
        return RunAs()
    return RunAs(user=user.pw_uid, group=user.pw_gid, extra_groups=())


def find(record: ProcessRecord | None) -> psutil.Process | None:
    """The living process of a record, or None when it ended or its pid is someone else's now."""
    if record is None:
        return None
    try:
        process = psutil.Process(record.pid)
        same_start = abs(process.create_time() - record.started_at) <= _CLOCK_STEP_SECONDS
        alive = process.status() != psutil.STATUS_ZOMBIE
        if alive and same_start and tuple(process.cmdline()) == record.command:
            return process
    except psutil.Error:
        return None
    return None


def find_leftovers(directory: Path, program: str) -> list[psutil.Process]:
    """Every process that runs `program` (a file name) in `directory` or below.

    Finds what was started and never recorded, and children that outlived their parent.
    """
    found: list[psutil.Process] = []
    home = directory.resolve()
    for process in psutil.process_iter():
        try:
            running = Path(process.exe().removesuffix(" (deleted)")).name == program
            if running and Path(process.cwd()).is_relative_to(home):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # ended meanwhile, or another user's: then it is not ours
    return found


def stop(
    part: str,
    processes: Iterable[psutil.Process],
    *,
    gently: signal.Signals,
    patience_seconds: float,
) -> None:
    """Ask processes and their children to end, then kill what is left; returns once all are gone.

    Raises:
        PartUnstoppableError: some outlive SIGKILL.
    """
    leaders = list(processes)
    family = _with_children(leaders)
    for process in leaders:
        _send(process, gently)
    if _wait_until_gone(family, patience_seconds):
        return
    stubborn = _with_children(family)
    for process in stubborn:
        _send(process, signal.SIGKILL)
    if not _wait_until_gone(stubborn, _KILLED_SECONDS):
        remaining = [process.pid for process in stubborn if not has_ended(process)]
        raise PartUnstoppableError(part, remaining)


def kill_now(process: psutil.Process) -> None:
    """End a process as a crash would (SIGKILL); its children are left to notice."""
    _send(process, signal.SIGKILL)
    _wait_until_gone([process], _KILLED_SECONDS)


def wait_until(
    condition: Callable[[], bool],
    *,
    timeout_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Poll a condition every 30 ms; whether it came true in time."""
    deadline = clock() + timeout_seconds
    while not condition():
        if clock() > deadline:
            return False
        sleep(0.03)
    return True


def has_ended(process: psutil.Process) -> bool:
    """Whether a process has ended, be it that its parent has not asked for its exit status yet.

    A process shows as a zombie as soon as its first thread ended; its ports and files are released
    only by the last.
    """
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a part's log, indented, for an error message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        lines = []
    return "\n".join(f"    {line}" for line in lines) or "    (nothing)"


def _with_children(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    family: dict[int, psutil.Process] = {}
    for process in processes:
        family[process.pid] = process
        try:
            family.update({child.pid: child for child in process.children(recursive=True)})
        except psutil.NoSuchProcess:
            continue
    return [process for process in family.values() if not has_ended(process)]


def _wait_until_gone(processes: list[psutil.Process], timeout_seconds: float) -> bool:
    """A zombie counts as gone: its resources are, and some first processes never reap."""
    return wait_until(
        lambda: all(has_ended(process) for process in processes), timeout_seconds=timeout_seconds
    )


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_ROTATE_BYTES:
        log.replace(log.with_suffix(".log.1"))
