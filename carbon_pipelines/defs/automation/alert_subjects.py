"""What is watched for alerts: the code location's assets, and what their steps are called.

What belongs here: assets and steps as alerts name them, and whose they are. What does not: what
became of them (``alert_reading.py``).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import dagster as dg
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from carbon_pipelines.alerts.observed import FailedStep, Watched
from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.catalog.table import TableSpec

MOST_APART = 5
"""Assets of one failed step that are told of one by one; of more the step is told."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """The assets that are watched, the assets of each step, and the jobs."""

    watched: Mapping[str, Watched]
    steps: Mapping[str, tuple[str, ...]]
    jobs: frozenset[str]
    tables: Mapping[str, TableSpec]
    owners: Mapping[str, str]
    hides: Mapping[str, bool]

    def of_step(
        self, job: str, step: str, *, partition: str | None = None, database: str | None = None
    ) -> FailedStep:
        """A step as what it is about: the asset it makes, else itself; still without words."""
        assets = self.steps.get(step, ())
        if len(assets) != 1:
            return self._of_step_itself(job, step, assets, database)
        watched = self.watched[assets[0]]
        labels = dict(watched.labels)
        unit = f"asset:{assets[0]}"
        hides = watched.hides
        if partition is not None:
            unit, labels["partition"] = f"{unit}@{partition}", partition
            if (table := self.tables.get(partition)) is not None:
                labels |= {"team": table.owner, "database": table.database, "table": table.name}
                hides = bool(table.protected_columns)
        return FailedStep(unit, labels, text="", hides=hides)

    def missed(self, step: str, unmade: Collection[str]) -> list[FailedStep]:
        """What a failed step of several assets did not make, if that is few enough to be named."""
        assets = self.steps.get(step, ())
        left = [one for one in assets if one in unmade]
        if len(assets) < 2 or len(left) > MOST_APART:
            return []
        return [
            FailedStep(f"asset:{one}", self.watched[one].labels, "", hides=self.watched[one].hides)
            for one in left
        ]

    def _of_step_itself(
        self, job: str, step: str, assets: Iterable[str], tagged: str | None
    ) -> FailedStep:
        labels = {"job": job, "step": step}
        about = [self.watched[asset] for asset in assets]
        databases = {one.labels.get("database", "") for one in about} or {tagged or ""}
        if len(databases) == 1 and (database := databases.pop()) in self.owners:
            labels |= {"database": database, "team": self.owners[database]}
        teams = {one.team for one in about if one.team is not None}
        if len(teams) == 1:
            labels["team"] = teams.pop()
        stages = {one.labels["stage"] for one in about}
        if len(stages) == 1:
            labels["stage"] = stages.pop()
        hides = any(one.hides for one in about) if about else any(self.hides.values())
        return FailedStep(f"step:{job}:{step}", labels, text="", hides=hides)

    def of_job(self, job: str, database: str | None) -> FailedStep:
        """A run that failed as a whole."""
        labels = {"job": job}
        if database is not None and database in self.owners:
            labels |= {"database": database, "team": self.owners[database]}
        return FailedStep(f"job:{job}", labels, text="", hides=True)


def watch(repository: dg.RepositoryDefinition, catalog: Catalog) -> Subjects:
    """Everything of a code location, with what the catalog declares about it."""
    tables = {table.label: table for table in catalog.tables}
    owners = {database.name: database.owner for database in catalog.databases}
    hides = {
        database.name: any(table.protected_columns for table in database.tables)
        for database in catalog.databases
    }
    graph = repository.asset_graph
    watched: dict[str, Watched] = {}
    steps: dict[str, tuple[str, ...]] = {}
    for definition in graph.assets_defs:
        made = [key for key in definition.keys if graph.get(key).is_materializable]
        if made:
            steps[definition.node_def.name] = tuple(sorted(key.to_user_string() for key in made))
        for key in made:
            node = graph.get(key)
            asset = key.to_user_string()
            policy = node.freshness_policy
            one = Watched(
                asset,
                team=node.owners[0] if len(node.owners) == 1 else None,
                freshness=policy.fail_window.to_timedelta()
                if isinstance(policy, TimeWindowFreshnessPolicy)
                else None,
                checks=tuple(sorted(check.name for check in node.check_keys)),
            )
            watched[asset] = _declared(one, key, tables, hides)
    return Subjects(watched, steps, frozenset(repository.job_names), tables, owners, hides)


def _declared(
    one: Watched, key: dg.AssetKey, tables: Mapping[str, TableSpec], hides: Mapping[str, bool]
) -> Watched:
    """With what its table's declaration says; of something without a table, its database's."""
    stage, *rest = key.path
    table = tables.get("/".join(rest))
    if table is None:
        database = rest[0] if rest else ""
        return replace(one, hides=hides.get(database, any(hides.values())))
    points = table.quality.drop if stage == "quality" else None
    return replace(one, hides=bool(table.protected_columns), points=points)
