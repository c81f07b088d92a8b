"""Capture starts again after errors that may be retried, and only after those."""

import threading

import pytest

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.embedded.endpoints import Endpoints, LakeEndpoint
from carbon_pipelines.errors import (
    CaptureFencedError,
    CarbonPipelinesError,
    StreamUnavailableError,
)
from carbon_pipelines.stream.capture import Capture

DATABASE = DatabaseSpec(name="market", owner="team:market")
NOWHERE = Endpoints("", LakeEndpoint("sql", "", "", "", "", "", ""))


class Failing(Capture):
    """Fails with each of ``errors`` after its run took so many seconds, then stops."""

    def __init__(self, stop: threading.Event, *errors: tuple[float, CarbonPipelinesError]) -> None:
        self.now, self.stop, self.errors = 0.0, stop, list(errors)
        super().__init__(DATABASE, NOWHERE, clock=lambda: self.now)

    def run(self, stop, *, until_lsn=None, prepared=False):
        if not self.errors:
            self.stop.set()
            return
        seconds, error = self.errors.pop(0)
        self.now += seconds
        raise error


def test_pauses_double_up_to_a_limit_and_begin_anew_after_a_good_while():
    stop, pauses = threading.Event(), []
    away = StreamUnavailableError("kafka:9092", "no broker answers")
    capture = Failing(stop, *[(1.0, away)] * 5, (100.0, away), (1.0, away))
    capture.run_forever(stop, sleep=pauses.append, longest_pause=4.0)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 4.0, 0.5, 1.0]


def test_an_error_that_may_not_be_retried_ends_it():
    stop, pauses = threading.Event(), []
    capture = Failing(stop, (1.0, CaptureFencedError("kafka:9092", "carbon-market")))
    with pytest.raises(CaptureFencedError, match="carbon-market"):
        capture.run_forever(stop, sleep=pauses.append)
    assert pauses == []
