"""Which columns may be a table's key, its partitions' source or its order.

What belongs here: the check of a declaration against the Iceberg types of its columns, pure. What
does not: which type a column has (``types.py``), and what the source's key is.
Sources: Iceberg spec, "Identifier Field IDs" (no floats, nothing nested), "Partition Transforms".
"""

from collections.abc import Iterator

from pyiceberg.transforms import parse_transform
from pyiceberg.types import DoubleType, FloatType, IcebergType, PrimitiveType

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.errors import ColumnRoleError
from carbon_pipelines.lake.evolution import captured_columns, column_type
from carbon_pipelines.source.relation import SourceRelation


def check_roles(relation: SourceRelation, table: TableSpec) -> None:
    """Refuse a column in a place that its type cannot have; columns that are not there pass.

    Raises:
        ColumnRoleError: Names the column, its type and the place.
        UnsupportedTypeError: A column has no type in the lake.
    """
    types = {c.name: column_type(c, table) for c in captured_columns(relation, table)}
    for name, role, why in _refusals(table, types):
        raise ColumnRoleError(table.label, name, str(types[name]), role=role, why=why)


def _refusals(table: TableSpec, types: dict[str, IcebergType]) -> Iterator[tuple[str, str, str]]:
    for name in table.key:
        kind = types.get(name)
        if isinstance(kind, FloatType | DoubleType):
            yield (
                name,
                "the key",
                "Iceberg has no float in a key, for NaN and -0 equal no one value",
            )
        elif kind is not None and not isinstance(kind, PrimitiveType):
            yield name, "the key", "Iceberg has nothing nested in a key"
    for field in table.partitioning:
        kind = types.get(field.column)
        if kind is not None and not parse_transform(field.transform).can_transform(kind):
            role = f"the partitioning by {field.transform}"
            yield field.column, role, "Iceberg has no such transform of this type"
    for field in table.sort_order:
        kind = types.get(field.column)
        if kind is not None and not isinstance(kind, PrimitiveType):
            yield field.column, "the sort order", "nothing nested has an order"
