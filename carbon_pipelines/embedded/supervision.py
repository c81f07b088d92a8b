"""Bringing one part up or down, and proving that what answers is our own process.

What belongs here: the order of steps for any part. What does not: which parts there are.

The order of `bring_up`: a living process that is ours, holds every port and answers is left alone.
Otherwise everything of the part that is still there is stopped, the ports are proven free, the part
is prepared and started, the process is recorded, and only then waited for. It counts as up when the
recorded process itself (not just somebody) listens on every port and the service accepts our keys.
"""

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from carbon_pipelines.embedded.part import Part
from carbon_pipelines.embedded.ports import describe_occupant, is_free, listens
from carbon_pipelines.embedded.process import (
    find,
    find_leftovers,
    has_ended,
    last_lines,
    start,
    stop,
    wait_until,
)
from carbon_pipelines.embedded.state import ProcessRecord, Report
from carbon_pipelines.errors import (
    PartEndedError,
    PartRefusedError,
    PartSilentError,
    PortOccupiedError,
)

_PATIENCE_SECONDS = 30.0
"""SeaweedFS alone takes 4 s to end; PostgreSQL first sends its followers what they lack."""

_STILL_STARTING_SECONDS = 10.0


def bring_up(
    part: Part,
    record: ProcessRecord | None,
    *,
    state_file: Path,
    save: Callable[[ProcessRecord], None],
    report: Report,
) -> None:
    """Have a part running and answering; see the module for the order.

    Args:
        part: what to bring up.
        record: its process as remembered.
        state_file: where its ports are remembered, named in errors.
        save: remembers the new process.
        report: told each step.

    Raises:
        PortOccupiedError: somebody else holds one of its ports.
        PartEndedError: its process ended while starting.
        PartSilentError: its process does not answer in time.
        PartRefusedError: its data was made with other secrets.
    """
    began = time.monotonic()
    process = find(record)
    if process is not None and _keeps_up(part, process):
        report(f"{part.name}: already runs on {_address(part)} (pid {process.pid})")
        return
    if stop_everything(part, record):
        report(f"{part.name}: stopped what was left of an earlier start")
    for port in part.ports.values():
        if not is_free(port):
            raise PortOccupiedError(part.name, port, describe_occupant(port), state_file)
    part.prepare(report)
    started = start(part.launch())
    save(started)
    _wait_until_up(part, started)
    part.finish()
    seconds = time.monotonic() - began
    report(f"{part.name}: ready on {_address(part)} in {seconds:.1f} s (pid {started.pid})")


def stop_everything(part: Part, record: ProcessRecord | None) -> bool:
    """Stop the recorded process and every other one of the part; whether there was any.

    Raises:
        PartUnstoppableError: some outlive SIGKILL.
    """
    process = find(record)
    leaders = [] if process is None else [process]
    if leaders:
        stop(part.name, leaders, gently=part.gently, patience_seconds=_PATIENCE_SECONDS)
    orphans = find_leftovers(part.directory, part.program)
    if orphans:
        stop(part.name, orphans, gently=part.gently, patience_seconds=_PATIENCE_SECONDS)
    part.sweep()
    return bool(leaders or orphans)


def is_up(part: Part, record: ProcessRecord | None) -> bool:
    """Whether the recorded process lives, listens on every port itself, and answers."""
    process = find(record)
    try:
        return process is not None and _is_up(part, process)
    except PartRefusedError:
        return False


def _keeps_up(part: Part, process: psutil.Process) -> bool:
    """Whether a living process answers; it gets a moment, as it may have been started just now."""
    ended_or_up = wait_until(
        lambda: has_ended(process) or _is_up(part, process),
        timeout_seconds=_STILL_STARTING_SECONDS,
    )
    return ended_or_up and not has_ended(process)


def _is_up(part: Part, process: psutil.Process) -> bool:
    try:
        return all(listens(process, port) for port in part.ports.values()) and part.answers()
    except psutil.Error:
        return False


def _wait_until_up(part: Part, record: ProcessRecord) -> None:
    ended = False

    def up_or_ended() -> bool:
        nonlocal ended
        process = find(record)
        ended = process is None
        return ended or (process is not None and _is_up(part, process))

    answered = wait_until(up_or_ended, timeout_seconds=part.start_seconds)
    if ended:
        raise PartEndedError(part.name, part.log, last_lines(part.log))
    if not answered:
        raise PartSilentError(part.name, part.start_seconds, part.log, last_lines(part.log))


def _address(part: Part) -> str:
    return f"127.0.0.1:{next(iter(part.ports.values()))}"
