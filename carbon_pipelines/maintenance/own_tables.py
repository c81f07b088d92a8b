"""Upkeep of the tables that mirror no source: dead letters, scores, violations and marts.

What belongs here: all that one of them needs, as one plan. What does not: which there are (the
caller says), and the actions themselves.

They get a commit now and then and nobody follows them, so what a lake table gets by its health they
get once a week. Only dead letters are compacted: scores put their own files together, and a mart is
written whole.
"""

from dataclasses import dataclass
from datetime import datetime

from pyiceberg.catalog import Catalog

from carbon_pipelines.lake import dead_letters
from carbon_pipelines.lake.connection import lake_errors, load_lake_table, load_table
from carbon_pipelines.maintenance.compact import Compacted, apply_compaction
from carbon_pipelines.maintenance.compaction import plan_compaction
from carbon_pipelines.maintenance.compaction_plan import CompactionPlan
from carbon_pipelines.maintenance.expiry import ExpiryPlan
from carbon_pipelines.maintenance.expiry_commit import Expired
from carbon_pipelines.maintenance.expiry_run import expire_table, load_expiry_plan
from carbon_pipelines.maintenance.orphans import OrphanPlan, OrphanRules, plan_orphans
from carbon_pipelines.maintenance.quarantine import (
    RETENTION,
    Quarantined,
    apply_orphans,
    apply_removal,
    plan_removal,
)
from carbon_pipelines.maintenance.quarantine_record import Quarantine, load_quarantines
from carbon_pipelines.maintenance.retention import Retention
from carbon_pipelines.maintenance.table_facts import load_facts


@dataclass(frozen=True, slots=True)
class OwnTablePlan:
    """What upkeep of one such table would do."""

    identifier: tuple[str, str]
    compaction: CompactionPlan | None
    expiry: ExpiryPlan
    orphans: OrphanPlan
    removals: tuple[Quarantine, ...]

    def describe(self) -> str:
        """Every action's plan."""
        plans = (self.compaction, self.expiry, self.orphans)
        told = [plan.describe() for plan in plans if plan is not None]
        told += [f"  to be removed for good: {one.sentence()}" for one in self.removals]
        return "\n".join(told)


@dataclass(frozen=True, slots=True)
class OwnTableTended:
    """What upkeep of one such table did."""

    compacted: Compacted | None
    expired: Expired
    quarantined: Quarantined

    def sentence(self) -> str:
        """What each action has to say."""
        done = (self.compacted, self.expired, self.quarantined)
        return "\n".join(one.sentence() for one in done if one is not None)


def plan_own_table(
    catalog: Catalog, identifier: tuple[str, str], now: datetime
) -> OwnTablePlan | None:
    """What there is to do for a table of ours; None while it does not exist.

    Raises:
        LakeError: It cannot be read, or its files are not its own.
    """
    label = ".".join(identifier)
    table = load_table(catalog, identifier)
    if table is None:
        return None
    with lake_errors(f"Iceberg table {label}"):
        letters = identifier[1] == dead_letters.NAME
        return OwnTablePlan(
            identifier=identifier,
            compaction=plan_compaction(load_facts(table)) if letters else None,
            expiry=load_expiry_plan(catalog, identifier, Retention(), now)[1],
            orphans=plan_orphans(catalog, identifier, OrphanRules(), now),
            removals=plan_removal(load_quarantines(table), RETENTION, now),
        )


def apply_own_table(catalog: Catalog, plan: OwnTablePlan, now: datetime) -> OwnTableTended:
    """Carry ``plan`` out; each action stands by itself and is planned anew where others committed.

    Raises:
        MaintenanceError: As the actions raise; what is done by then stays done.
    """
    compacted = apply_compaction(plan.compaction, catalog) if plan.compaction else None
    expired = expire_table(catalog, plan.identifier, Retention(), now)
    quarantined = apply_orphans(catalog, plan.identifier, plan.orphans, now)
    apply_removal(load_lake_table(catalog, plan.identifier), plan.removals)
    return OwnTableTended(compacted, expired, quarantined)
