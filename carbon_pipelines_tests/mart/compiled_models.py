"""What dbt makes of the sample's models, as a file: starting dbt takes seconds.

What belongs here: reading it. A change below ``dbt/`` makes it stale, which every test that reads
it says; ``CARBON_UPDATE_SNAPSHOT=1 pytest carbon_pipelines_tests/integration/test_marts.py``
writes it anew.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from carbon_pipelines.mart.compiled import project_digest
from carbon_pipelines.mart.project import require_project

FILE = Path(__file__).parent / "compiled_models.json"


def sample_models() -> Mapping[str, str]:
    """SQL of each model by its relation."""
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    assert kept["digest"] == project_digest(require_project({})), f"{FILE.name} is stale"
    return kept["models"]


def write_models(models: Mapping[str, str]) -> None:
    """Keep what dbt made of the sample's models now."""
    kept = {"digest": project_digest(require_project({})), "models": dict(models)}
    FILE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
