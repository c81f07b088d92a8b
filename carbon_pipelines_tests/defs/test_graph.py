"""The graph as people see it, as a file that a review shows the change of.

A wanted change is written with ``CARBON_UPDATE_SNAPSHOT=1 pytest carbon_pipelines_tests/defs``.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from carbon_pipelines.defs.build import build_definitions

SNAPSHOT = Path(__file__).parent / "graph_snapshot.json"


def graph() -> Mapping[str, object]:
    definitions = build_definitions({"CARBON_HOME": "/nonexistent"})
    repository = definitions.get_repository_def()
    assets = {
        spec.key.to_user_string(): {
            "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            "kinds": sorted(spec.kinds),
            "owners": list(spec.owners),
            "tags": {name: value for name, value in spec.tags.items() if "kind/" not in name},
        }
        for spec in sorted(definitions.resolve_all_asset_specs(), key=lambda spec: spec.key)
    }
    graph = definitions.resolve_asset_graph()
    checks = sorted(
        f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys
    )
    return {
        "assets": assets,
        "checks": checks,
        "jobs": sorted(name for name in repository.job_names if not name.startswith("__")),
        "schedules": {one.name: one.cron_schedule for one in repository.schedule_defs},
        "sensors": sorted(one.name for one in repository.sensor_defs),
    }


def test_the_graph_is_the_one_that_was_reviewed() -> None:
    now = graph()
    if os.environ.get("CARBON_UPDATE_SNAPSHOT") == "1":
        SNAPSHOT.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")

    assert now == json.loads(SNAPSHOT.read_text(encoding="utf-8"))
