"""``carbon``: the commands for people and scripts, each a thin call into a domain package.

What belongs here: commands, one module per kind, and what they print. What does not: decisions.
Heavy imports stay inside the commands, so that ``carbon --help`` answers at once.
"""

from carbon_pipelines.cli import (
    alerts,
    certification,
    compaction,
    debezium,
    doctor,
    erasure,
    expiry,
    follow,
    leases,
    marts,
    orphans,
    pipeline,
    quality,
    repairs,
    stack,
    tables,
)
from carbon_pipelines.cli.group import cli

__all__ = [
    "alerts",
    "certification",
    "cli",
    "compaction",
    "debezium",
    "doctor",
    "erasure",
    "expiry",
    "follow",
    "leases",
    "marts",
    "orphans",
    "pipeline",
    "quality",
    "repairs",
    "stack",
    "tables",
]
