"""Small files of tables on local disk, for processes that come later.

What belongs here: keeping a file under the path that it has in the lake, for a bounded time and in
bounded bytes, whichever processes use the directory. What does not: which files are kept
(``file_io.py``); whoever has to know whether a file is *there* does not ask here.

What makes it safe:
* an entry has its path, its length and a checksum of all of it; one that is cut off, damaged or of
  another path is removed and never served;
* an entry appears under its name whole, by a rename, so processes see all of it or nothing;
* manifests have bounds of columns, which are values of rows. An entry is served for ``MAX_AGE`` and
  then removed by the next process that looks, and ``forget`` removes those of a table at once;
* a disk that is full or not to be written to costs the cache and nothing else.
"""

import hashlib
import logging
import os
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAX_AGE_SECONDS = 24 * 3600.0
"""An entry is served for so long after it was written."""
SWEEP_SECONDS = 15 * 60.0
"""How often a process looks for entries that are too old."""
LITTER_SECONDS = 3600.0
"""A file of a writer that died is removed after so long."""
SLACK = 16
"""A process counts anew what is there once it has written this part of the bound, and makes room
for as much again; an entry is at most that large."""

_MAGIC = b"carbon-kept-1\n"
_HEAD = struct.Struct("<II32s")
"""Length of the path, of the content, and the checksum of both."""
_SUFFIX, _UNFINISHED = ".kept", ".unfinished"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    file: Path
    size_bytes: int
    written: float
    used: float


class DiskCache:
    """The entries in one directory.

    Args:
        directory: Made if it is not there, for this user alone.
        most_bytes: Of all entries together; those that were not asked for longest go first.
        max_age_seconds: For how long an entry is served.
        clock: The time, as of the file system.
    """

    def __init__(
        self,
        directory: Path,
        most_bytes: int,
        *,
        max_age_seconds: float = MAX_AGE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory, self._most_bytes = directory, most_bytes
        self._max_age, self._clock = max_age_seconds, clock
        self._lock = threading.Lock()
        self._written_bytes: int | None = None
        self._sweep_at = 0.0
        self._complained = False

    def get(self, location: str) -> bytes | None:
        """The file, if it is kept, whole and young enough."""
        file = self._file(location)
        try:
            facts = file.stat()
            content = _content(file.read_bytes(), location)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain(error)
            return None
        age = self._clock() - facts.st_mtime
        if content is None or not 0 <= age + 1 < self._max_age:
            with suppress(OSError):
                file.unlink()
            return None
        with suppress(OSError):  # gone meanwhile, or read-only: it was read all the same
            os.utime(file, (self._clock(), facts.st_mtime))
        return content

    def put(self, location: str, content: bytes) -> None:
        """Keep it, unless it is too large or the disk refuses."""
        if len(content) > self._most_bytes // SLACK:
            return
        file = self._file(location)
        unfinished = file.with_name(f"{uuid.uuid4().hex}{_UNFINISHED}")
        try:
            self._make_room(len(content))
            with open(unfinished, "xb", opener=_private) as stream:
                stream.write(_framed(location, content))
            now = self._clock()
            os.utime(unfinished, (now, now))
            unfinished.replace(file)
        except OSError as error:
            self._complain(error)
            with suppress(OSError):
                unfinished.unlink()

    def drop(self, location: str) -> None:
        """Keep it no longer."""
        with suppress(OSError):
            self._file(location).unlink()

    def forget(self, lies_there: Callable[[str], bool]) -> int:
        """Remove every entry whose path ``lies_there`` says yes of; how many there were.

        An entry whose path cannot be read is removed too.

        Raises:
            OSError: An entry could not be removed.
        """
        count = 0
        for entry in self._entries():
            location = _location(entry.file)
            if location is None or lies_there(location):
                entry.file.unlink(missing_ok=True)
                count += location is not None
        return count

    def _file(self, location: str) -> Path:
        return self._directory / f"{hashlib.sha256(location.encode()).hexdigest()}{_SUFFIX}"

    def _make_room(self, size_bytes: int) -> None:
        """Take away what is too old or too much, now and then."""
        with self._lock:
            if self._written_bytes is None:
                self._sweep_at = self._clock()
            self._written_bytes = (self._written_bytes or 0) + size_bytes
            full = self._written_bytes > self._most_bytes // SLACK
            if not (full or self._clock() >= self._sweep_at):
                return
            self._written_bytes = size_bytes
            self._sweep_at = self._clock() + SWEEP_SECONDS
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.sweep()

    def sweep(self) -> None:
        """Remove entries that are too old, then those not used longest until there is room."""
        now, kept = self._clock(), list[_Entry]()
        for entry in self._entries(litter=True):
            if entry.file.suffix == _UNFINISHED:
                stays = now - entry.written < LITTER_SECONDS
            else:
                stays = 0 <= now - entry.written + 1 < self._max_age
                if stays:
                    kept.append(entry)
            if not stays:
                entry.file.unlink(missing_ok=True)
        total = sum(entry.size_bytes for entry in kept)
        room = self._most_bytes - 2 * self._most_bytes // SLACK
        for entry in sorted(kept, key=lambda one: one.used):
            if total <= room:
                return
            entry.file.unlink(missing_ok=True)
            total -= entry.size_bytes

    def _entries(self, *, litter: bool = False) -> Iterator[_Entry]:
        suffixes = (_SUFFIX, _UNFINISHED) if litter else (_SUFFIX,)
        try:
            with os.scandir(self._directory) as found:
                for one in found:
                    if one.name.endswith(suffixes):
                        with suppress(FileNotFoundError):  # another process was faster
                            facts = one.stat(follow_symlinks=False)
                            yield _Entry(
                                Path(one.path), facts.st_size, facts.st_mtime, facts.st_atime
                            )
        except FileNotFoundError:
            return

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            _LOG.warning(
                "The cache of table metadata in %s is of no use: %s. Everything goes on without "
                "it; give it a directory that can be written to, or unset its variable.",
                self._directory,
                error.strerror or error,
            )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _framed(location: str, content: bytes) -> bytes:
    name = location.encode()
    checksum = hashlib.sha256(name + content).digest()
    return b"".join((_MAGIC, _HEAD.pack(len(name), len(content), checksum), name, content))


def _content(framed: bytes, location: str) -> bytes | None:
    """What is in an entry, if it is whole and of ``location``."""
    name = location.encode()
    start = len(_MAGIC) + _HEAD.size
    content = framed[start + len(name) :]
    return content if framed == _framed(location, content) else None


def _location(file: Path) -> str | None:
    """The path that an entry is of, if it can be read."""
    with suppress(OSError, struct.error, UnicodeDecodeError), file.open("rb") as stream:
        if stream.read(len(_MAGIC)) == _MAGIC:
            length, _, _ = _HEAD.unpack(stream.read(_HEAD.size))
            name = stream.read(length)
            return name.decode() if len(name) == length else None
    return None
