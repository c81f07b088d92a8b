"""What people query in Trino: a view of each certified table, and marts as they are.

What belongs here: names and statements. What does not: running them (``trino_sql.py``) and reading
back (``trino_serving.py``).

A view reads the branch, so it follows it at once and is never the reason that an old snapshot is
seen: Trino 476 loads a table's metadata anew for each query. It names its columns: one that comes
is not shown before the view is made again, one that goes makes the view fail until then. It gives
nobody a right that they lack on the table (SECURITY INVOKER).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.embedded.trino_endpoint import TrinoEndpoint
from carbon_pipelines.lake.certificate import CERTIFIED
from carbon_pipelines.lake.trino import quoted, table_name
from carbon_pipelines.mart.project import NAMESPACE, Mart

SCHEMA_PREFIX = "certified_"
"""Before a database's name: the schema of the views of its tables."""


@dataclass(frozen=True, slots=True)
class Relation:
    """Something that people query in Trino.

    Attributes:
        identifier: Namespace and name of the lake's table that is read.
        branch: Of that; None: the newest snapshot.
        key: Columns that tell rows apart, if any are declared.
        description: Of the view.
    """

    identifier: tuple[str, str]
    branch: str | None
    key: tuple[str, ...] = ()
    description: str = ""

    @property
    def label(self) -> str:
        """How messages and assets name it."""
        return "/".join(self.identifier)

    @property
    def shown(self) -> tuple[str, str]:
        """Schema and name of what people query."""
        namespace, name = self.identifier
        return (namespace if self.branch is None else f"{SCHEMA_PREFIX}{namespace}", name)


def view_of(table: TableSpec) -> Relation:
    """A declared table at what is certified of it."""
    return Relation(table.identifier, CERTIFIED, table.key, table.description)


def mart_as_it_is(mart: Mart) -> Relation:
    """A mart, which is made of certified snapshots already."""
    return Relation((NAMESPACE, mart.name), None)


def shown_name(trino: TrinoEndpoint, relation: Relation) -> str:
    """What people query, in SQL."""
    return table_name(trino, relation.shown)


def create_schema(trino: TrinoEndpoint, relation: Relation) -> str:
    """The schema that the view is in."""
    schema = ".".join(map(quoted, (trino.catalog, relation.shown[0])))
    return f"CREATE SCHEMA IF NOT EXISTS {schema}"


def create_view(trino: TrinoEndpoint, relation: Relation, columns: Sequence[str]) -> str:
    """The view, in the place of one of before; who queries it sees the one or the other."""
    comment = relation.description.replace("'", "''")
    return (
        f"CREATE OR REPLACE VIEW {shown_name(trino, relation)} COMMENT '{comment}' "
        f"SECURITY INVOKER AS {selected(trino, relation, columns)}"
    )


def selected(trino: TrinoEndpoint, relation: Relation, columns: Sequence[str]) -> str:
    """What the view is of."""
    listed = ", ".join(map(quoted, columns))
    return (
        f"SELECT {listed} FROM {table_name(trino, relation.identifier)} "
        f"FOR VERSION AS OF '{relation.branch}'"
    )


def find_view(trino: TrinoEndpoint, relation: Relation) -> str:
    """The text of the view as Trino keeps it, if there is one."""
    schema, name = relation.shown
    return (
        f"SELECT view_definition FROM {quoted(trino.catalog)}.information_schema.views "
        f"WHERE table_schema = '{schema}' AND table_name = '{name}'"
    )


def plain_text(text: str) -> str:
    """The text of a view without what Trino's formatter changes."""
    return re.sub(r'[\s"]', "", text).lower()


def find_refs(trino: TrinoEndpoint, relation: Relation) -> str:
    """The snapshot of the branch, as Trino knows it."""
    namespace, name = relation.identifier
    refs = table_name(trino, (namespace, f"{name}$refs"))
    return f"SELECT snapshot_id FROM {refs} WHERE name = '{relation.branch or 'main'}'"
