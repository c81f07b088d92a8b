import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from carbon_pipelines.embedded.process import (
    Launch,
    find,
    find_leftovers,
    has_ended,
    last_lines,
    start,
    stop,
    wait_until,
)
from carbon_pipelines.embedded.state import ProcessRecord

SLEEPS = (sys.executable, "-c", "import time; time.sleep(60)")
DEAF = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('deaf', flush=True); time.sleep(60)",
)


def launch(directory: Path, command: tuple[str, ...]) -> Launch:
    return Launch(command, directory=directory, log=directory / "part.log")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[ProcessRecord]:
    record = start(launch(tmp_path, SLEEPS))
    yield record
    process = find(record)
    if process is not None:
        process.kill()


def test_a_started_process_is_no_child_of_ours_and_has_a_session_of_its_own(
    sleeper: ProcessRecord,
) -> None:
    process = find(sleeper)
    assert process is not None
    assert process.ppid() != os.getpid()
    assert os.getsid(process.pid) != os.getsid(0)


def test_a_pid_that_was_used_again_is_not_our_process(sleeper: ProcessRecord) -> None:
    earlier = sleeper.model_copy(update={"started_at": sleeper.started_at - 60})
    other = sleeper.model_copy(update={"command": ("postgres", "-D", "data")})
    assert [find(earlier), find(other)] == [None, None]


def test_a_process_that_ends_at_once_is_not_found(tmp_path: Path) -> None:
    record = start(launch(tmp_path, (sys.executable, "-c", "print('no memory')")))
    assert wait_until(lambda: find(record) is None, timeout_seconds=5)
    assert last_lines(tmp_path / "part.log") == "    no memory"


def test_a_part_sees_none_of_our_callers_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "CARBON_LAKE_S3_SECRET_KEY"):
        monkeypatch.setenv(name, "secret-of-the-caller")
    record = start(launch(tmp_path, (sys.executable, "-c", "import os; print(dict(os.environ))")))
    assert wait_until(lambda: find(record) is None, timeout_seconds=5)
    told = (tmp_path / "part.log").read_text()
    assert "PATH" in told
    assert "secret-of-the-caller" not in told


def test_a_process_that_nobody_recorded_is_found_by_its_program_and_directory(
    sleeper: ProcessRecord, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    program = Path(psutil.Process(sleeper.pid).exe()).name
    assert [each.pid for each in find_leftovers(tmp_path, program)] == [sleeper.pid]
    assert find_leftovers(elsewhere, program) == []
    assert find_leftovers(tmp_path, "postgres") == []


def test_a_process_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    record = start(launch(tmp_path, DEAF))
    process = find(record)
    assert process is not None
    assert wait_until(lambda: "deaf" in last_lines(tmp_path / "part.log"), timeout_seconds=5)
    stop("deaf", [process], gently=signal.SIGTERM, patience_seconds=0.2)
    assert has_ended(process)
    assert find(record) is None


def test_waiting_gives_up_after_the_time_it_was_given() -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    assert not wait_until(lambda: False, timeout_seconds=3, sleep=sleep, clock=lambda: now)
    assert 3 <= now < 3.1


def test_a_process_started_by_one_that_ignores_sigterm_heeds_it(tmp_path: Path) -> None:
    code = (
        "import signal, sys; from pathlib import Path;"
        "from carbon_pipelines.embedded.process import Launch, start;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "home = Path(sys.argv[1]);"
        "print(start(Launch((sys.executable, '-c', 'import time; time.sleep(60)'),"
        " home, home / 'log')).pid)"
    )
    started = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    process = psutil.Process(int(started.stdout))

    process.terminate()

    assert wait_until(lambda: has_ended(process), timeout_seconds=5)
