"""What things are called in DataHub.

What belongs here: names alone, as DataHub's own sources give them, so that what they tell of the
same table is told of the same entity. What does not: what is said of it.

    postgres   <dbname>.<schema>.<table>
    kafka      <topic>
    iceberg    <namespace>.<table>
    trino      <catalog>.<schema>.<table>
    doris      <database>.<table>
    superset   <database's name in Superset>.<schema>.<table>; charts and dashboards by their number
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

FLOW = "carbon_pipelines"
ORCHESTRATOR = "dagster"
_RESERVED = {",": "%2C", "(": "%28", ")": "%29", "\u241f": "%E2%90%9F"}
"""What may not stand in a part of an urn (datahub.utilities.urn_encoder)."""


@dataclass(frozen=True, slots=True)
class Names:
    """Urns in one environment of DataHub, like PROD."""

    env: str = "PROD"

    def dataset(self, platform: str, *parts: str) -> str:
        """A dataset whose name is made of parts."""
        name = encoded(".".join(part for part in parts if part))
        return f"urn:li:dataset:({platform_urn(platform)},{name},{self.env})"

    def flow(self) -> str:
        """Everything that runs here, as one flow."""
        return f"urn:li:dataFlow:({ORCHESTRATOR},{FLOW},{self.env})"

    def job(self, key: str) -> str:
        """One asset of it, by its key ``stage/...``."""
        return f"urn:li:dataJob:({self.flow()},{encoded(key)})"


def platform_urn(platform: str) -> str:
    """A platform that DataHub knows by itself."""
    return f"urn:li:dataPlatform:{platform}"


def field_urn(dataset: str, path: str) -> str:
    """A column of a dataset."""
    return f"urn:li:schemaField:({dataset},{encoded(path)})"


def dataset_of(field: str) -> tuple[str, str]:
    """Dataset and path of a column's urn."""
    found = re.fullmatch(r"urn:li:schemaField:\((urn:li:dataset:\(.*\)),(.*)\)", field)
    assert found is not None, field
    return found[1], decoded(found[2])


def dataset_parts(urn: str) -> tuple[str, str]:
    """Platform and name of a dataset's urn."""
    found = re.fullmatch(r"urn:li:dataset:\(urn:li:dataPlatform:([^,]+),([^,]+),([^,]+)\)", urn)
    assert found is not None, urn
    return found[1], decoded(found[2])


def chart_urn(number: int) -> str:
    """A chart of Superset."""
    return f"urn:li:chart:(superset,{number})"


def dashboard_urn(number: int) -> str:
    """A dashboard of Superset."""
    return f"urn:li:dashboard:(superset,{number})"


def group_urn(owner: str) -> str:
    """The group of people that ``team:<name>`` is."""
    return f"urn:li:corpGroup:{encoded(owner.removeprefix('team:'))}"


def classification_urn(classification: str) -> str:
    """The tag of a classification."""
    return f"urn:li:tag:classification.{classification}"


def domain_urn(database: str) -> str:
    """The domain of what a database holds, and of what is made of that."""
    return f"urn:li:domain:{database}"


def assertion_urn(dataset: str, name: str) -> str:
    """Something that is expected of a dataset, by its name there."""
    return f"urn:li:assertion:{guid({'dataset': dataset, 'name': name})}"


def run_urn(job: str, run: str) -> str:
    """One run of a job."""
    return f"urn:li:dataProcessInstance:{guid({'job': job, 'run': run})}"


def guid(of: Mapping[str, str]) -> str:
    """A name made of facts; MD5, as DataHub's own guids are."""
    text = json.dumps(dict(of), separators=(",", ":"), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def encoded(part: str) -> str:
    """A part of an urn; a percent sign stays what it is, as with DataHub."""
    return "".join(_RESERVED.get(letter, letter) for letter in part)


def decoded(part: str) -> str:
    """What ``encoded`` was given."""
    for letter, code in _RESERVED.items():
        part = part.replace(code, letter)
    return part
