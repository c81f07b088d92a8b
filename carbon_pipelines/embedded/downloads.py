"""Java programs from Maven Central, kept in a cache directory that works offline afterwards.

What belongs here: getting artifacts and proving that they are complete. What does not: running
them.

A download goes to a directory of its own and is renamed into place once everything is there, so a
directory with its name in the cache is whole: a killed download leaves nothing that looks finished.
"""

import fcntl
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from carbon_pipelines.embedded.state import Report
from carbon_pipelines.errors import DownloadError

_MEGABYTE = 1_000_000
_TOLD_AGAIN_BYTES = 100 * _MEGABYTE


@dataclass(frozen=True, slots=True)
class JavaProgram:
    """Maven coordinates ``group:artifact:version[:classifier:packaging]``.

    `with_dependencies` are resolved with everything they need. `alone` are taken as they are: a
    logging binding would otherwise bring a bill of materials that overrides the program's versions.
    """

    name: str
    with_dependencies: str | None
    alone: tuple[str, ...] = ()


def ensure_program(cache: Path, program: JavaProgram, report: Report) -> tuple[Path, ...]:
    """Files of a program, from the cache, or downloaded into it with a line for each file.

    Raises:
        DownloadError: it is not in the cache and cannot be had.
    """
    target = cache / "maven" / program.name
    files = _load_files(target)
    if files is not None:
        return files
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent / ".lock"):
        files = _load_files(target)
        if files is None:
            _download(target, program, report)
            files = _load_files(target)
    if files is None:
        raise DownloadError(program.name, target, "its files changed while they were stored")
    return files


def _load_files(target: Path) -> tuple[Path, ...] | None:
    """Files listed in a finished download, or None when one is missing or of another size."""
    try:
        listed: dict[str, int] = json.loads((target / "files.json").read_text(encoding="utf-8"))
        whole = all((target / name).stat().st_size == size for name, size in listed.items())
    except (FileNotFoundError, ValueError):
        return None
    return tuple(target / name for name in listed) if whole else None


def _download(target: Path, program: JavaProgram, report: Report) -> None:
    for abandoned in target.parent.glob(".partial-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    files = _resolve(partial, program, report)
    listed = {str(file.relative_to(partial)): file.stat().st_size for file in files}
    (partial / "files.json").write_text(json.dumps(listed, indent=1), encoding="utf-8")
    partial.chmod(0o755)
    partial.rename(target)
    report(f"{program.name}: {sum(listed.values()) / _MEGABYTE:.0f} MB kept in {target}")


def _resolve(repository: Path, program: JavaProgram, report: Report) -> list[Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jgo asks for a runtime directory it does not need here
        from jgo.maven import Dependency, MavenContext, PythonResolver
        from jgo.parse import Coordinate
        from requests import RequestException

    resolver = PythonResolver(progress_callback=_progress(program.name, report))
    context = MavenContext(resolver=resolver, repo_cache=repository, timeout=60)

    def dependency(coordinate: str) -> Dependency:
        parsed = Coordinate.parse(coordinate)
        return context.create_dependency(replace(parsed, scope="compile"))

    wanted = program.name
    try:
        artifacts = []
        if program.with_dependencies is not None:
            wanted = program.with_dependencies
            report(f"{program.name}: resolves {wanted}")
            roots, needed = context.resolver.resolve([dependency(wanted)])
            needed = [each for each in needed if each.scope in ("compile", "runtime")]
            artifacts = [each.artifact for each in (*roots, *needed)]
        artifacts += [dependency(each).artifact for each in program.alone]
        files: list[Path] = []
        for artifact in artifacts:
            wanted = str(artifact)
            files.append(artifact.resolve())
    except (RequestException, RuntimeError, OSError) as refusal:
        shutil.rmtree(repository, ignore_errors=True)
        raise DownloadError(wanted, repository.parent, _first_line(refusal)) from refusal
    return files


def _progress(
    name: str, report: Report
) -> Callable[[str, int], AbstractContextManager[Callable[[int], None]]]:
    """A line for each program file, and one more for every 100 MB of a large one."""

    @contextmanager
    def follow(filename: str, size_bytes: int) -> Iterator[Callable[[int], None]]:
        if not filename.endswith(".pom"):
            report(f"{name}: downloads {filename} ({size_bytes / _MEGABYTE:.1f} MB)")
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            if done // _TOLD_AGAIN_BYTES != (done + count) // _TOLD_AGAIN_BYTES:
                report(f"{name}: {filename} {100 * (done + count) // size_bytes} %")
            done += count

        yield advance

    return follow


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Two stacks that need the same download wait for one another; ``file`` is made for it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:300] if lines else type(error).__name__
