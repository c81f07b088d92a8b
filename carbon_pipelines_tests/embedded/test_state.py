import json
import os
import stat
from pathlib import Path

import pytest

from carbon_pipelines.embedded.state import (
    ProcessRecord,
    StackHome,
    StackState,
    write_atomically,
)
from carbon_pipelines.errors import StackBusyError, StateDamagedError


@pytest.fixture
def files(tmp_path: Path) -> StackHome:
    home = StackHome(tmp_path / "home")
    home.create()
    return home


def test_what_is_saved_is_loaded_again(files: StackHome) -> None:
    state = StackState(
        ports={"postgres": {"sql": 20001}},
        processes={"postgres": ProcessRecord(pid=7, started_at=1.5, command=("postgres", "-D"))},
        postgres_bin=Path("/usr/lib/postgresql/15/bin"),
    )
    files.save_state(state)
    assert files.load_state() == state


def test_a_home_without_a_stack_has_no_state_and_no_secrets(files: StackHome) -> None:
    assert (files.load_state(), files.load_secrets()) == (None, None)


def test_secrets_are_drawn_once_and_only_their_owner_reads_them(files: StackHome) -> None:
    before = os.umask(0)
    try:
        drawn = files.ensure_secrets()
    finally:
        os.umask(before)
    assert stat.S_IMODE(files.secrets_file.stat().st_mode) == 0o600
    assert files.ensure_secrets() == files.load_secrets() == drawn


def test_secrets_of_an_older_version_get_what_they_lack_and_keep_the_rest(
    files: StackHome,
) -> None:
    old = {"postgres_password": "a", "s3_access_key": "b", "s3_secret_key": "c"}
    files.secrets_file.write_text(json.dumps(old))

    completed = files.ensure_secrets()

    assert (completed.postgres_password, completed.s3_access_key) == ("a", "b")
    assert completed.superset_password
    assert completed.superset_secret_key
    assert files.ensure_secrets() == files.load_secrets() == completed


def test_secrets_opened_to_others_by_mistake_are_closed_again(files: StackHome) -> None:
    files.ensure_secrets()
    files.secrets_file.chmod(0o644)
    files.ensure_secrets()
    assert stat.S_IMODE(files.secrets_file.stat().st_mode) == 0o600


def test_two_stacks_draw_different_secrets(tmp_path: Path) -> None:
    homes = [StackHome(tmp_path / name) for name in ("one", "two")]
    for home in homes:
        home.create()
    first, second = (home.ensure_secrets() for home in homes)
    assert first.postgres_password != second.postgres_password


@pytest.mark.parametrize("text", ["", "{", '{"format_version": 2}', '{"surprise": 1}'])
def test_a_damaged_state_file_is_named_and_left_alone(files: StackHome, text: str) -> None:
    files.state_file.write_text(text)
    with pytest.raises(StateDamagedError, match=r"state\.json cannot be understood"):
        files.load_state()
    assert files.state_file.read_text() == text


def test_a_damaged_secrets_file_is_named_and_its_content_is_not_shown(files: StackHome) -> None:
    files.secrets_file.write_text('{"postgres_password": "do-not-show"}')
    with pytest.raises(StateDamagedError) as caught:
        files.load_secrets()
    assert "secrets.json" in str(caught.value)
    assert "do-not-show" not in str(caught.value)


def test_a_failed_write_keeps_the_old_content_and_leaves_no_draft(tmp_path: Path) -> None:
    target = tmp_path / "state.json"
    write_atomically(target, "old", mode=0o600)
    with pytest.raises(UnicodeEncodeError):
        write_atomically(target, "new \ud800", mode=0o600)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_second_command_waits_and_then_says_who_is_in_the_way(files: StackHome) -> None:
    now = 0.0
    told: list[str] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    with (
        files.locked(told.append),
        pytest.raises(StackBusyError, match=r"has held .*/lock for 5 s"),
        files.locked(told.append, timeout_seconds=5, sleep=sleep, clock=lambda: now),
    ):
        pass
    assert told == [f"another command is working on {files.path}: waiting for it"]
    with files.locked(told.append, timeout_seconds=0):
        pass
