"""One byte among many rows: found, named and mended in one commit, in bounded memory.

The same at 5,000,000 rows is ``benchmarks/verify.py``.
"""

import pytest

from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines_tests.benchmarks.verify import change_one_byte, declared, prepare, run_leg
from carbon_pipelines_tests.conftest import SourceDatabase
from carbon_pipelines_tests.oracle import differences

pytestmark = pytest.mark.integration

ROWS = 200_000
MEMORY_MB = 500


@pytest.mark.filterwarnings("ignore:Merge on read is not yet supported:UserWarning")
def test_one_changed_byte_is_named_and_mended_in_one_commit(
    stack: Stack, source: SourceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBON_HOME", str(stack.home))
    prepare(source.dsn, stack.endpoints(), source.name, ROWS)
    change_one_byte(stack.endpoints(), source.name, ROWS // 3)

    leg = run_leg(source.name, repair=True)

    assert (leg.verified, leg.differences) == (False, [f"({ROWS // 3}): changed in name"])
    assert (leg.rows, leg.snapshots_made) == (ROWS, 1)
    assert leg.peak_mb <= MEMORY_MB
    assert leg.cpu_seconds > 0
    assert differences(stack.endpoints(), declared(source.name).tables[0]) == 0
