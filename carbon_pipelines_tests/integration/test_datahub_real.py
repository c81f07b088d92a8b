"""DataHub itself, where there is one: named by CARBON_TEST_DATAHUB_URL, else skipped.

It makes entities called ``carbon_test_...`` in environment TEST, and hides them again.
"""

import os
import secrets
from dataclasses import replace

import pytest

from carbon_pipelines.serving.datahub.describe import describe_database
from carbon_pipelines.serving.datahub.emit import emit, load_plan
from carbon_pipelines.serving.datahub.facts import DatabaseFacts, Setting
from carbon_pipelines.serving.datahub.server import DataHubServer
from carbon_pipelines.serving.datahub.settings import DataHubSettings
from carbon_pipelines.serving.datahub.urns import Names
from carbon_pipelines_tests.serving.datahub.world import market

URL = os.environ.get("CARBON_TEST_DATAHUB_URL", "").rstrip("/")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not URL, reason="CARBON_TEST_DATAHUB_URL names no DataHub"),
]


def renamed(database: str) -> DatabaseFacts:
    """The sample market under another name, so that nobody's is touched."""
    facts = market()
    tables = tuple(
        replace(of, table=of.table.model_copy(update={"database": database})) for of in facts.tables
    )
    spec = facts.database.model_copy(
        update={"name": database, "tables": tuple(of.table for of in tables)}
    )
    return replace(facts, database=spec, source_name=database, tables=tables)


def test_a_real_datahub_takes_everything_once_and_hides_it_again() -> None:
    token = os.environ.get("CARBON_TEST_DATAHUB_TOKEN", "")
    server = DataHubServer(DataHubSettings(URL, token, "TEST"))
    scope = f"carbon_test_{secrets.token_hex(4)}"
    wanted = describe_database(Setting(Names("TEST")), renamed(scope))

    try:
        first = emit(server, scope, wanted)
        again = load_plan(server, scope, wanted)
        assert first.aspects > 0
        assert first.events > 0
        assert [(one.urn, one.aspect) for one in (*again.aspects, *again.events)] == []
    finally:
        gone = emit(server, scope, (), remove=True)
    assert gone.removed > 0
    assert load_plan(server, scope, ()).gone == ()
