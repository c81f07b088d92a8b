"""The services that a benchmark runs on: those of CARBON_HOME, else a temporary stack."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from carbon_pipelines.embedded.endpoints import Endpoints, cache_directory
from carbon_pipelines.embedded.stack import Stack


@contextmanager
def running_stack() -> Generator[Stack]:
    """A running stack; a temporary one is stopped at the end.

    Legs in other processes find the temporary one by CARBON_HOME.
    """
    home = os.environ.get("CARBON_HOME")
    if home:
        yield Stack(Path(home), cache_directory(os.environ))
        return
    with tempfile.TemporaryDirectory(prefix="carbon-benchmark-") as temporary:
        os.environ["CARBON_HOME"] = temporary
        stack = Stack(Path(temporary), cache_directory(os.environ))
        try:
            stack.up(lambda _: None)
            yield stack
        finally:
            stack.down(lambda _: None)
            del os.environ["CARBON_HOME"]


@contextmanager
def benchmark_endpoints() -> Generator[Endpoints]:
    """Where the services of ``running_stack`` are."""
    with running_stack() as stack:
        yield stack.endpoints()
