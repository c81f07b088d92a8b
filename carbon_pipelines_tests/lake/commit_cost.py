"""What one commit costs: seconds, and the bytes it reads and writes by kind of file.

What belongs here: counting, and the workload of many small commits in a row. What does not: what is
too much (``integration/test_commit_cost.py``), and the long run (``benchmarks/commits.py``).
"""

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyiceberg.io import InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from carbon_pipelines.lake.file_io import (
    KeptFileIO,
    _KeptFile,  # pyright: ignore[reportPrivateUsage]
)
from carbon_pipelines_tests.lake.local_lake import LocalLake

KINDS = ("metadata.json", "manifest list", "manifest", "data", "deletes")
_read, _written = Counter[str](), Counter[str]()


def kind_of(path: str) -> str:
    """Which of ``KINDS`` a file is, by the names that PyIceberg and we give."""
    name = path.rsplit("/", 1)[-1]
    if name.endswith(".json"):
        return "metadata.json"
    if name.endswith(".avro"):
        return "manifest list" if name.startswith("snap-") else "manifest"
    return "deletes" if "deletes" in name else "data"


class _CountedStream:
    """A stream that adds what passes to a counter."""

    def __init__(self, stream: Any, counter: Counter[str], kind: str) -> None:
        self._stream, self._counter, self._kind = stream, counter, kind

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(None if size < 0 else size)
        self._counter[self._kind] += len(data)
        return data

    def read_buffer(self, size: int) -> Any:
        data = self._stream.read_buffer(size)
        self._counter[self._kind] += data.size
        return data

    def write(self, data: Any) -> int:
        self._counter[self._kind] += memoryview(data).nbytes
        return self._stream.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> "_CountedStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


class _CountedFile(PyArrowFile):
    def open(self, seekable: bool = True) -> InputStream:  # noqa: FBT001, FBT002
        return _CountedStream(super().open(seekable), _read, kind_of(self.location))  # pyright: ignore[reportReturnType]

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: FBT001, FBT002
        stream = super().create(overwrite)
        return _CountedStream(stream, _written, kind_of(self.location))  # pyright: ignore[reportReturnType]


class _CountedKeptFile(_KeptFile, _CountedFile):
    """What is answered from memory is not counted: nobody asks the store for it."""


class CountingKeptIO(KeptFileIO):
    """As merges reach files; what passes to and from the store is counted."""

    def new_input(self, location: str) -> PyArrowFile:
        """A file to read."""
        return _counted_kept(super().new_input(location))

    def new_output(self, location: str) -> PyArrowFile:
        """A file to write."""
        return _counted_kept(super().new_output(location))


def _counted_kept(file: PyArrowFile) -> PyArrowFile:
    file.__class__ = _CountedKeptFile if isinstance(file, _KeptFile) else _CountedFile
    return file


class CountingIO(PyArrowFileIO):
    """Files whose bytes are counted as they pass."""

    def new_input(self, location: str) -> InputFile:
        """A file to read."""
        return _counted(super().new_input(location))

    def new_output(self, location: str) -> OutputFile:
        """A file to write."""
        return _counted(super().new_output(location))


def _counted(file: PyArrowFile) -> _CountedFile:
    file.__class__ = _CountedFile
    assert isinstance(file, _CountedFile)
    return file


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one commit, or the mean of several; bytes by ``KINDS``."""

    seconds: float
    cpu_seconds: float
    read: Mapping[str, int]
    written: Mapping[str, int]


def mean_cost(costs: Sequence[Cost]) -> Cost:
    """What one of ``costs`` is on average."""
    return Cost(
        sum(cost.seconds for cost in costs) / len(costs),
        sum(cost.cpu_seconds for cost in costs) / len(costs),
        {kind: sum(cost.read[kind] for cost in costs) // len(costs) for kind in KINDS},
        {kind: sum(cost.written[kind] for cost in costs) // len(costs) for kind in KINDS},
    )


class Commits:
    """Small commits in a row on one table of ``rows`` rows.

    Each updates or replaces ``changes`` of the ``hot`` newest rows, a tenth of them by a new row.

    Args:
        keeping: Files are kept in memory, as merges do; else each is read again.

    Attributes:
        expected: What the table has to hold: value by key.
    """

    def __init__(
        self,
        path: Path,
        *,
        rows: int,
        hot: int,
        changes: int,
        seed: int = 7,
        keeping: bool = False,
    ) -> None:
        kind = CountingKeptIO if keeping else CountingIO
        counting = f"{kind.__module__}.{kind.__name__}"
        columns = {"id": "int8", "n": "int4", "doc": "text"}
        self.lake = LocalLake(path, columns, ["id"], catalog={"py-io-impl": counting})
        self.expected = {key: (0, f"row {key}") for key in range(rows)}
        self.lake.load([{"id": k, "n": n, "doc": d} for k, (n, d) in self.expected.items()])
        self._random, self._next = random.Random(seed), rows
        self._hot, self._changes = hot, changes

    def run(self, commits: int) -> Iterator[Cost]:
        """Make ``commits`` commits; yields what each cost."""
        for number in range(commits):
            events = self._events(number)
            _read.clear()
            _written.clear()
            started, cpu = time.perf_counter(), time.process_time()
            self.lake.merge(events)
            used, cpu = time.perf_counter() - started, time.process_time() - cpu
            yield Cost(used, cpu, Counter(_read), Counter(_written))

    def rows(self) -> list[tuple[int, int, str]]:
        """What the table has to hold, as ``LocalLake.rows`` gives what it does."""
        return sorted(((key, *values) for key, values in self.expected.items()), key=repr)

    def _events(self, number: int) -> list[dict[str, Any]]:
        keys = self._random.sample(sorted(self.expected)[-self._hot :], self._changes)
        events: list[dict[str, Any]] = []
        for place, key in enumerate(keys):
            if place % 10 == 0:
                del self.expected[key]
                events.append({"op": "d", "before": {"id": key}})
                key, self._next = self._next, self._next + 1
            self.expected[key] = (number + 1, f"row {key}")
            row = {"id": key, "n": number + 1, "doc": f"row {key}"}
            events.append({"op": "u", "before": None, "after": row})
        return events
