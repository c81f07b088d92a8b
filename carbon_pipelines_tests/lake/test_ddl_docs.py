import os
from pathlib import Path

from carbon_pipelines_tests.integration.ddl_effects import FOLLOWED, SEEN, describe

DOCS = Path(__file__).parents[2] / "docs" / "ddl.md"


def test_the_docs_list_every_ddl_that_is_tested_and_what_it_does() -> None:
    """CARBON_UPDATE_SNAPSHOT=1 writes them."""
    if os.environ.get("CARBON_UPDATE_SNAPSHOT") == "1":
        DOCS.write_text(describe())

    assert DOCS.read_text() == describe()
    assert FOLLOWED.keys() == SEEN.keys()
