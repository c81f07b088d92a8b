"""What a stack remembers on disk, and the lock that keeps two commands from writing it at once.

What belongs here: the layout of a stack's home (``.carbon/``), ``state.json`` (ports, processes),
``secrets.json`` (0600), both written atomically, and the lock. What does not: what the ports and
processes mean.

Order that keeps a stack recoverable after ``kill -9`` of ``carbon up`` at any point: secrets and
ports are on disk before the first process starts, and a process is recorded before it is waited
for. A process that was started and not yet recorded is still found by its working directory
(``process.find_leftovers``).
"""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from carbon_pipelines.errors import StackBusyError, StateDamagedError

PartName = Literal["postgres", "kafka", "s3", "connect", "trino", "superset"]
Report = Callable[[str], None]

_LOCK_POLL_SECONDS = 0.1


class ProcessRecord(BaseModel):
    """Identity of a process we started: a pid alone may belong to someone else by now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started_at: float
    """Seconds since the epoch, as the operating system tells it for the pid."""
    command: tuple[str, ...]


class StackState(BaseModel):
    """Everything remembered that is not secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    ports: Mapping[PartName, Mapping[str, int]] = {}
    processes: Mapping[PartName, ProcessRecord] = {}
    postgres_bin: Path | None = None
    """Directory of the server binaries the data directory was made with; None: the wheel's."""


@dataclass(frozen=True, slots=True)
class StackSecrets:
    """Passwords and keys generated for one stack; none of them shows in a repr."""

    postgres_password: str = field(repr=False)
    s3_access_key: str = field(repr=False)
    s3_secret_key: str = field(repr=False)
    superset_password: str = field(default="", repr=False)
    """Empty in the file of an older version, until the next start."""
    superset_secret_key: str = field(default="", repr=False)

    @classmethod
    def generate(cls) -> "StackSecrets":
        """Draw new ones: letters and digits only, so they stand in a DSN or a file unquoted."""
        return cls(
            postgres_password=secrets.token_hex(24),
            s3_access_key=secrets.token_hex(10).upper(),
            s3_secret_key=secrets.token_hex(20),
            superset_password=secrets.token_hex(24),
            superset_secret_key=secrets.token_hex(32),
        )

    def completed(self, drawn: "StackSecrets") -> "StackSecrets":
        """These, and what they lack from ``drawn``."""
        return replace(
            self,
            superset_password=self.superset_password or drawn.superset_password,
            superset_secret_key=self.superset_secret_key or drawn.superset_secret_key,
        )


@dataclass(frozen=True, slots=True)
class StackHome:
    """Paths under a stack's home directory; creating one touches nothing."""

    path: Path

    @property
    def state_file(self) -> Path:
        """Ports and processes."""
        return self.path / "state.json"

    @property
    def secrets_file(self) -> Path:
        """Passwords and keys, readable by the owner only."""
        return self.path / "secrets.json"

    def part(self, name: PartName) -> Path:
        """Directory of one part: its data, its settings, and the working directory it runs in."""
        return self.path / name

    def log(self, name: PartName) -> Path:
        """Where a part's output goes."""
        return self.path / "logs" / f"{name}.log"

    def create(self) -> None:
        """Make the directories. Others may pass through to a part's own directory, not look."""
        self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
        (self.path / "logs").mkdir(mode=0o700, exist_ok=True)

    def load_state(self) -> StackState | None:
        """Read ``state.json``; None when there is none.

        Raises:
            StateDamagedError: the file is there and cannot be understood.
        """
        text = _read(self.state_file)
        if text is None:
            return None
        try:
            return StackState.model_validate_json(text)
        except ValidationError as damage:
            raise StateDamagedError(self.state_file, str(damage)) from damage

    def save_state(self, state: StackState) -> None:
        """Replace ``state.json`` as one step."""
        write_atomically(self.state_file, state.model_dump_json(indent=2) + "\n", mode=0o644)

    def load_secrets(self) -> StackSecrets | None:
        """Read ``secrets.json``; None when there is none.

        Raises:
            StateDamagedError: the file is there and cannot be understood; its content is not shown.
        """
        text = _read(self.secrets_file)
        if text is None:
            return None
        try:
            return StackSecrets(**json.loads(text))
        except (ValueError, TypeError):
            raise StateDamagedError(self.secrets_file, "not the secrets of a stack") from None

    def ensure_secrets(self) -> StackSecrets:
        """Read the secrets, or draw and store them; the file's mode is 0600 either way."""
        known, drawn = self.load_secrets(), StackSecrets.generate()
        if known is None or not known.superset_secret_key:
            known = drawn if known is None else known.completed(drawn)
            document = {name: getattr(known, name) for name in StackSecrets.__slots__}
            write_atomically(self.secrets_file, json.dumps(document, indent=2) + "\n", mode=0o600)
        self.secrets_file.chmod(0o600)
        return known

    @contextmanager
    def locked(
        self,
        report: Report,
        *,
        timeout_seconds: float = 300.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[None]:
        """Hold the stack's lock; the system releases it when this process ends, however it ends.

        Raises:
            StackBusyError: another command held it for the whole timeout.
        """
        self.create()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = clock() + timeout_seconds
            told = False
            while not _try_lock(descriptor):
                if not told:
                    report(f"another command is working on {self.path}: waiting for it")
                    told = True
                if clock() > deadline:
                    raise StackBusyError(self.path, timeout_seconds)
                sleep(_LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)


def write_atomically(path: Path, text: str, *, mode: int) -> None:
    """Write a file so that a reader sees the old or the new content, with `mode` from the start."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
