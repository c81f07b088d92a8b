"""What several tests of Dagster's side share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from carbon_pipelines_tests.alerts.receivers import recording
from carbon_pipelines_tests.defs.alert_world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with recording() as market, recording() as everybody:
        made = World(tmp_path, market, everybody)
        with made.instance:
            yield made
