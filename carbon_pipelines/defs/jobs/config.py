"""The run config that jobs which people start have in common."""

import dagster as dg
from pydantic import Field


class TablesConfig(dg.Config):
    """Which tables, why, and whether to do it."""

    tables: list[str] = Field(
        min_length=1, description='<database>/<table>, as "carbon" spells them; * is allowed.'
    )
    reason: str = Field(
        min_length=1, description="Why; it is written down in the history of what is changed."
    )
    dry_run: bool = Field(default=True, description="Only show the plan. Set false to do it.")
