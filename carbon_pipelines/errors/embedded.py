"""Errors of local services.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Iterable
from pathlib import Path

from carbon_pipelines.errors.root import CarbonPipelinesError


class EmbeddedError(CarbonPipelinesError):
    """A local service does not start, answer or stop as it must."""


class StackBusyError(EmbeddedError):
    """Another command holds the stack's lock."""

    retryable = True

    def __init__(self, home: Path, waited_seconds: float) -> None:
        self.home = home
        self.waited_seconds = waited_seconds
        super().__init__(
            f"another command has held {home}/lock for {waited_seconds:.0f} s: nothing was "
            "changed. Wait until that up or down has ended, then run the command again."
        )


class StackMissingError(EmbeddedError):
    """A home without a stack."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(f"no stack was started in {home} yet: run `carbon up` there first.")


class StateDamagedError(EmbeddedError):
    """A file of the stack's home is not what this version wrote."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"{path} cannot be understood: {reason}. The data beside it is untouched. Restore that "
            "file, or move the whole directory away and run `carbon up` for a new stack."
        )


class PortOccupiedError(EmbeddedError):
    """A port that belongs to a part is held by a process that is not ours."""

    def __init__(self, part: str, port: int, occupant: str, state_file: Path) -> None:
        self.part = part
        self.port = port
        self.occupant = occupant
        super().__init__(
            f"{part} needs 127.0.0.1:{port}, which {occupant} holds: {part} was not started. Stop "
            f'that process, or remove the ports of "{part}" from {state_file} so that the next '
            "`carbon up` picks free ones."
        )


class PartEndedError(EmbeddedError):
    """A part's process ended while it was starting."""

    def __init__(self, part: str, log: Path, last_lines: str) -> None:
        self.part = part
        self.log = log
        self.last_lines = last_lines
        super().__init__(
            f"{part} ended while it was starting; {log} ends with:\n{last_lines}\n"
            "Its data is kept. Correct the cause and run `carbon up` again."
        )


class PartSilentError(EmbeddedError):
    """A part's process runs, and its port does not answer as our service."""

    def __init__(self, part: str, waited_seconds: float, log: Path, last_lines: str) -> None:
        self.part = part
        self.waited_seconds = waited_seconds
        self.log = log
        super().__init__(
            f"{part} runs and has not answered for {waited_seconds:.0f} s; {log} ends with:\n"
            f"{last_lines}\nRun `carbon down`, then `carbon up`."
        )


class PartRefusedError(EmbeddedError):
    """A part runs on data that was made with other secrets."""

    def __init__(self, part: str, directory: Path, reason: str) -> None:
        self.part = part
        self.directory = directory
        super().__init__(
            f"{part} runs and refuses the stack's own user ({reason}): {directory} was made with "
            "other secrets than those in secrets.json beside it. Restore that file, or move both "
            "away and run `carbon up` for a new, empty stack."
        )


class PartUnstoppableError(EmbeddedError):
    """Processes of a part are still there after SIGKILL."""

    def __init__(self, part: str, pids: Iterable[int]) -> None:
        self.part = part
        self.pids = tuple(pids)
        super().__init__(
            f"processes {', '.join(map(str, self.pids))} of {part} outlive SIGKILL (blocked in the "
            "kernel, or another user's): end them by hand, then run `carbon down` again."
        )


class DownloadError(EmbeddedError):
    """An artifact is neither in the cache nor to be had."""

    retryable = True

    def __init__(self, coordinate: str, cache: Path, reason: str) -> None:
        self.coordinate = coordinate
        self.cache = cache
        super().__init__(
            f"{coordinate} is not in {cache} and could not be downloaded: {reason}. Check the "
            "network and its proxy, or point CARBON_CACHE_DIR at a directory filled elsewhere."
        )


class PostgresBinariesError(EmbeddedError):
    """The server binaries are missing, or another major version made the data directory."""

    def __init__(self, directory: Path, problem: str, next_step: str) -> None:
        self.directory = directory
        self.problem = problem
        super().__init__(f"PostgreSQL of {directory}: {problem}. {next_step}")


class OsUserError(EmbeddedError):
    """PostgreSQL refuses to run as root and no other OS user can be used."""

    def __init__(self, user: str, problem: str) -> None:
        self.user = user
        self.problem = problem
        super().__init__(
            f"PostgreSQL does not run as root, and OS user {user} cannot run it: {problem}. Create "
            "a user for it and name it in CARBON_POSTGRES_OS_USER, or run carbon as another user."
        )
