import json
from pathlib import Path

import pytest

from carbon_pipelines.embedded import downloads
from carbon_pipelines.embedded.downloads import JavaProgram, ensure_program
from carbon_pipelines.embedded.state import Report
from carbon_pipelines.errors import DownloadError

PROGRAM = JavaProgram(name="program-1.0", with_dependencies="org.example:program:1.0")


class Repository:
    """Stands for Maven Central: hands out one jar, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.reachable = True

    def resolve(self, directory: Path, program: JavaProgram, report: Report) -> list[Path]:
        self.asked += 1
        jar = directory / "org" / "program.jar"
        jar.parent.mkdir()
        jar.write_bytes(b"jar" if self.reachable else b"j")
        if not self.reachable:
            raise DownloadError(program.name, directory.parent, "connection reset")
        report(f"{program.name}: downloads program.jar")
        return [jar]


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Repository:
    stand_in = Repository()
    monkeypatch.setattr(downloads, "_resolve", stand_in.resolve)
    return stand_in


def test_a_second_run_needs_no_network(tmp_path: Path, repository: Repository) -> None:
    told: list[str] = []
    first = ensure_program(tmp_path, PROGRAM, told.append)
    repository.reachable = False
    assert ensure_program(tmp_path, PROGRAM, told.append) == first
    assert first == (tmp_path / "maven" / "program-1.0" / "org" / "program.jar",)
    assert told == [
        "program-1.0: downloads program.jar",
        f"program-1.0: 0 MB kept in {tmp_path / 'maven' / 'program-1.0'}",
    ]


def test_an_interrupted_download_leaves_nothing_that_looks_finished(
    tmp_path: Path, repository: Repository
) -> None:
    repository.reachable = False
    with pytest.raises(DownloadError, match=r"connection reset\. Check the network"):
        ensure_program(tmp_path, PROGRAM, lambda _line: None)
    assert not (tmp_path / "maven" / "program-1.0").exists()
    repository.reachable = True
    assert ensure_program(tmp_path, PROGRAM, lambda _line: None)[0].read_bytes() == b"jar"
    assert [path.name for path in (tmp_path / "maven").glob(".partial-*")] == []


def test_a_file_cut_short_in_the_cache_is_downloaded_again(
    tmp_path: Path, repository: Repository
) -> None:
    (jar,) = ensure_program(tmp_path, PROGRAM, lambda _line: None)
    jar.write_bytes(b"j")
    assert ensure_program(tmp_path, PROGRAM, lambda _line: None) == (jar,)
    assert jar.read_bytes() == b"jar"
    assert repository.asked == 2


def test_the_list_of_files_is_relative_so_a_cache_can_be_moved(
    tmp_path: Path, repository: Repository
) -> None:
    ensure_program(tmp_path / "one", PROGRAM, lambda _line: None)
    (tmp_path / "one").rename(tmp_path / "two")
    files = ensure_program(tmp_path / "two", PROGRAM, lambda _line: None)
    listed = tmp_path / "two" / "maven" / "program-1.0" / "files.json"
    assert json.loads(listed.read_text()) == {"org/program.jar": 3}
    assert [file.exists() for file in files] == [True]
    assert repository.asked == 1
