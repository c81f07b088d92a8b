"""A mart in the lake, and as Trino and Doris show it.

What belongs here: these datasets of a mart. What does not: what its columns are made of
(``mart/lineage.py``), Superset (``bi.py``) and its builds (``runs.py``).
"""

from collections.abc import Iterator

from carbon_pipelines.mart.project import NAMESPACE, Mart
from carbon_pipelines.serving.datahub.datasets import ColumnSource, Dataset
from carbon_pipelines.serving.datahub.facts import MartFacts, Shown
from carbon_pipelines.serving.datahub.schemas import Column
from carbon_pipelines.serving.datahub.tables import lake_urn
from carbon_pipelines.serving.datahub.urns import Names, field_urn


def mart_urn(names: Names, mart: Mart) -> str:
    """The mart in the lake."""
    return lake_urn(names, NAMESPACE, mart.name)


def mart_domain(mart: Mart) -> str | None:
    """The database that a mart is about, if it reads one alone."""
    databases = {database for database, _ in mart.sources}
    return databases.pop() if len(databases) == 1 else None


def mart_datasets(names: Names, facts: MartFacts, shown: Shown) -> Iterator[Dataset]:
    """The mart, and it once more for each place where it is shown."""
    mart = facts.mart
    yield Dataset(
        urn=mart_urn(names, mart),
        kind="Table",
        description=mart.description,
        owner=mart.owner,
        domain=mart_domain(mart),
        columns=_columns(facts),
        properties={"carbon.stage": "mart", "carbon.mart": mart.name},
        made_of=tuple(
            ColumnSource(
                path=column,
                columns=tuple(
                    field_urn(lake_urn(names, database, table), source)
                    for database, table, source in made.columns
                ),
                rows_of=tuple(lake_urn(names, database, table) for database, table in made.rows_of),
            )
            for column, made in facts.columns.items()
            if made.columns or made.rows_of
        ),
    )
    if shown.trino_catalog is not None:
        urn = names.dataset("trino", shown.trino_catalog, NAMESPACE, mart.name)
        yield _copy(names, facts, urn, "Trino")
    if shown.doris_database is not None:
        urn = names.dataset("doris", shown.doris_database, mart.name)
        yield _copy(names, facts, urn, "Doris")


def _copy(names: Names, facts: MartFacts, urn: str, where: str) -> Dataset:
    """The mart where somebody looks at it: the same columns and rows."""
    mart, origin = facts.mart, mart_urn(names, facts.mart)
    return Dataset(
        urn=urn,
        kind="Table",
        description=f"{mart.description} As {where} shows it.",
        owner=mart.owner,
        domain=mart_domain(mart),
        columns=_columns(facts),
        properties={"carbon.stage": "serving", "carbon.mart": mart.name},
        copies=True,
        made_of=tuple(ColumnSource(name, (field_urn(origin, name),)) for name in facts.columns),
    )


def _columns(facts: MartFacts) -> tuple[Column, ...]:
    """Columns of the table, once it is there; until then nobody knows their types."""
    mart = facts.mart
    return tuple(
        Column(
            path=column.name,
            type=column.type,
            nullable=not column.required,
            description=mart.columns.get(column.name),
            classification=mart.column_classes.get(column.name),
        )
        for column in (facts.lake.columns if facts.lake else ())
    )
