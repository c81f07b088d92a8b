"""Who compacts a table: this program, or Trino.

What belongs here: handing one table to the engine that is chosen for it, wherever it is compacted
as a whole. What does not: what either does (``compact.py``, ``trino_optimize.py``), and rewriting
that others must not do, such as an erasure's (``cleansing.py``).
"""

from dataclasses import dataclass

from pyiceberg.catalog import Catalog

from carbon_pipelines.catalog.table import Engine, TableSpec
from carbon_pipelines.embedded.endpoints import TRINO_VARIABLE, Endpoints
from carbon_pipelines.errors import EngineMissingError, SettingMissingError
from carbon_pipelines.maintenance.compact import Compacted, apply_compaction
from carbon_pipelines.maintenance.compaction_plan import CompactionPlan
from carbon_pipelines.maintenance.trino_optimize import Optimized, optimize_table


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine for one table, and who chose it.

    Attributes:
        engine: That compacts it.
        chosen_by: For messages.
    """

    engine: Engine
    chosen_by: str

    def sentence(self) -> str:
        """What a plan has to say beside itself; empty where the plan is what will be done."""
        if self.engine == "native":
            return ""
        return (
            f"  {self.chosen_by}: Trino compacts this table. Its optimize goes by sizes and "
            "deletes alone, so this plan is only near to what it does."
        )


def choose_engine(table: TableSpec, override: Engine | None) -> EngineChoice:
    """The one that was asked for, else the declared one."""
    if override is None:
        return EngineChoice(table.engine, "its declaration")
    return EngineChoice(override, "this run")


def compact_table(
    table: TableSpec,
    choice: EngineChoice,
    plan: CompactionPlan,
    catalog: Catalog,
    endpoints: Endpoints,
) -> Compacted | Optimized:
    """Have the engine compact ``table``; ``plan`` is what the native one does.

    Raises:
        EngineMissingError: It is Trino, and nothing says where that is; nothing was changed.
        CompactionError: As ``apply_compaction`` and ``optimize_table``.
    """
    if choice.engine == "native":
        return apply_compaction(plan, catalog)
    try:
        trino = endpoints.trino
    except SettingMissingError as missing:
        raise EngineMissingError(table.label, TRINO_VARIABLE, choice.chosen_by) from missing
    return optimize_table(trino, catalog, table.identifier)
