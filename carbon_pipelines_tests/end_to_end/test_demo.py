"""The demo as a person runs it: it ends well, it can be repeated, and it cleans up when asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carbon_pipelines.catalog.load import load_catalog
from carbon_pipelines_tests.conftest import make_stack
from carbon_pipelines_tests.oracle import differences

pytestmark = pytest.mark.end_to_end

_DEMO = (sys.executable, "-m", "carbon_pipelines.cli", "demo", "--scale", "0.05", "--seconds", "4")
TABLES = load_catalog().database("market").tables


def _demo(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``carbon demo``, misled by an environment that points at other services."""
    elsewhere = {"CARBON_STREAM_BOOTSTRAP": "127.0.0.1:1", "CARBON_CATALOG_DIR": "/nowhere"}
    return subprocess.run(
        [*_DEMO, *options],
        env={**os.environ, **elsewhere, "CARBON_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_the_demo_verifies_every_table_twice_in_a_row_and_stops_when_asked(
    stack_directory: Path,
) -> None:
    home = stack_directory / "demo"
    stack = make_stack(home)
    everything = f"{len(TABLES)} of {len(TABLES)}"
    try:
        first = _demo(home)
        assert (first.returncode, everything in first.stdout) == (0, True), (
            first.stdout + first.stderr
        )
        assert stack.status().running
        assert {t.name: differences(stack.endpoints(), t) for t in TABLES} == {
            table.name: 0 for table in TABLES
        }

        second = _demo(home, "--stop")
        assert (second.returncode, everything in second.stdout) == (0, True), second.stdout
        assert "transfer.memo_2" in second.stdout
        assert not stack.status().running
    finally:
        stack.down(lambda _: None)
