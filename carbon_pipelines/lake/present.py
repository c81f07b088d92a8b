"""A table's declaration under the names that its columns have now.

What belongs here: finding, by ``attnum``, what the source calls a declared column after a rename.
What does not: the Iceberg schema (``schema_change.py``) and events (``normalise.py``).

A declaration spells columns as they were called when somebody wrote it. A name that a present
column has is that column. One that no column has any more is the column that had it, as long as
the history knows only one that ever did; otherwise it stays as it is, and whoever needs the column
says that it is missing.
"""

from collections.abc import Iterable, Mapping

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.source.relation import SourceRelation


def present_spec(
    spec: TableSpec, relation: SourceRelation, versions: Iterable[SourceRelation]
) -> TableSpec:
    """The declaration with every column under its present name.

    Args:
        spec: As declared.
        relation: The table's shape now.
        versions: Every recorded shape of the same table.
    """
    renamed = renamed_columns(spec, relation, versions)
    if not renamed:
        return spec
    return spec.model_copy(
        update={
            "key": tuple(renamed.get(name, name) for name in spec.key),
            "partitioning": tuple(
                field.model_copy(update={"column": renamed.get(field.column, field.column)})
                for field in spec.partitioning
            ),
            "sort_order": tuple(
                field.model_copy(update={"column": renamed.get(field.column, field.column)})
                for field in spec.sort_order
            ),
            "columns": {renamed.get(name, name): column for name, column in spec.columns.items()},
        }
    )


def renamed_columns(
    spec: TableSpec, relation: SourceRelation, versions: Iterable[SourceRelation]
) -> Mapping[str, str]:
    """Declared name -> present name, of the columns that are called otherwise now.

    A column that must not leave the source is not among them: under another name it is another
    column until the declaration says so, and capture sends nothing of the table until then.
    """
    fields = (*spec.partitioning, *spec.sort_order)
    declared = {*spec.key, *(field.column for field in fields), *spec.columns}
    now = {column.attnum: column.name for column in relation.columns}
    missing = declared - set(now.values()) - spec.dropped_columns
    if not missing:
        return {}
    bearers: dict[str, set[int]] = {name: set() for name in missing}
    for version in versions:
        if version.oid == relation.oid:
            for column in version.columns:
                if column.name in bearers:
                    bearers[column.name].add(column.attnum)
    found = {name: attnums.pop() for name, attnums in bearers.items() if len(attnums) == 1}
    return {name: now[attnum] for name, attnum in found.items() if attnum in now}
