"""``carbon``: the commands for people and scripts, each a thin call into a domain package.

What belongs here: commands, one module per kind, and what they print. What does not: decisions.
Heavy imports stay inside the commands, so that ``carbon --help`` answers at once.
"""

from carbon_pipelines.cli import (
    alerts,
    certification,
    cluster,
    compaction,
    datahub,
    debezium,
    doctor,
    erasure,
    expiry,
    follow,
    freshness,
    leases,
    marts,
    orphans,
    pipeline,
    portal,
    quality,
    repairs,
    stack,
    superset,
    tables,
)
from carbon_pipelines.cli.group import cli

__all__ = [
    "alerts",
    "certification",
    "cli",
    "cluster",
    "compaction",
    "datahub",
    "debezium",
    "doctor",
    "erasure",
    "expiry",
    "follow",
    "freshness",
    "leases",
    "marts",
    "orphans",
    "pipeline",
    "portal",
    "quality",
    "repairs",
    "stack",
    "superset",
    "tables",
]
