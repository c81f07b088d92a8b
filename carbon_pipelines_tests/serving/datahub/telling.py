"""Finding what is told of one thing, for tests.

What belongs here: names, and picking aspects out of proposals. What does not: assertions.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from carbon_pipelines.serving.datahub.describe import describe_database
from carbon_pipelines.serving.datahub.facts import TableFacts
from carbon_pipelines.serving.datahub.proposal import Proposal
from carbon_pipelines_tests.serving.datahub.world import SETTING, market


def dataset(platform: str, name: str) -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:{platform},{name},PROD)"


def column(platform: str, name: str, path: str) -> str:
    return f"urn:li:schemaField:({dataset(platform, name)},{path})"


def aspect(told: Sequence[Proposal], urn: str, name: str) -> Any:
    [found] = [one.value for one in told if (one.urn, one.aspect) == (urn, name)]
    return found


def events(told: Sequence[Proposal], name: str) -> list[Any]:
    return [one.value for one in told if one.aspect == name]


CREDIT = dataset("iceberg", "market.credit")


def only(table: TableFacts) -> tuple[Proposal, ...]:
    return describe_database(SETTING, replace(market(), tables=(table,)))


def credit(**changes: Any) -> TableFacts:
    [found] = [one for one in market().tables if one.table.name == "credit"]
    return replace(found, **changes)
