"""The services that a benchmark runs on: those of CARBON_HOME, else a temporary stack."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from carbon_pipelines.embedded.endpoints import Endpoints, resolve_endpoints
from carbon_pipelines.embedded.stack import Stack


@contextmanager
def benchmark_endpoints() -> Generator[Endpoints]:
    """Endpoints of a running stack; a temporary one is stopped at the end.

    Legs in other processes find the temporary one by CARBON_HOME.
    """
    if "CARBON_HOME" in os.environ:
        yield resolve_endpoints(os.environ)
        return
    with tempfile.TemporaryDirectory() as home:
        stack = Stack(Path(home), Path(os.environ.get("CARBON_CACHE_DIR", ".cache")))
        os.environ["CARBON_HOME"] = home
        try:
            stack.up(lambda _: None)
            yield stack.endpoints()
        finally:
            stack.down(lambda _: None)
            del os.environ["CARBON_HOME"]
