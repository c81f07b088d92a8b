"""Which table's events the changes of a relation are.

What belongs here: following a relation by its oid through the rows of the DDL history. What does
not: what an event looks like (``envelope.py``) and which tables may be captured (``source/``).

A relation belongs to the name under which it joined its publication: the setup records it then as
rewritten, and so does a DDL that only a copy anew answers. Until another relation takes that name
in the same way, its changes are that table's, whatever it is called meanwhile: a table that is
renamed and renamed back has lost nothing. What a relation that never joined is called decides for
itself. All of it follows from rows at their places in the stream, so a restart decides as the run
before it did.
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.stream.envelope import Target

Name: TypeAlias = tuple[str, str]


class Routing:
    """The targets of relations as of one place in the stream.

    Args:
        targets: By (schema, table): where events go.
        rows: Of the DDL history up to that place, in stream order.
    """

    def __init__(self, targets: Mapping[Name, Target], rows: Iterable[SourceRelation]) -> None:
        self._targets = targets
        self._newest: dict[int, SourceRelation] = {}
        self._homes: dict[int, Name] = {}
        self._owners: dict[Name, int] = {}
        for row in rows:
            self.learn(row)

    def learn(self, row: SourceRelation) -> bool:
        """Take the next row; whether another relation's target may have changed by it."""
        self._newest[row.oid] = row
        if not row.rewritten or row.cast_only or row.dropped:
            return False
        name = (row.schema, row.name)
        moved = self._owners.get(name) != row.oid or self._homes.get(row.oid) != name
        self._homes[row.oid], self._owners[name] = name, row.oid
        return moved

    def newest(self, oid: int) -> SourceRelation | None:
        """The newest row of a relation."""
        return self._newest.get(oid)

    def relations(self) -> Iterable[SourceRelation]:
        """The newest row of every relation."""
        return self._newest.values()

    def names(self, oid: int, present: Name) -> tuple[Name, ...]:
        """The names that changes of a relation may belong to, which is called ``present`` now."""
        home = self._homes.get(oid)
        if home is None or home == present or self._owners.get(home) != oid:
            return (present,)
        return (home, present)

    def target(self, oid: int, present: Name) -> tuple[Name, Target] | None:
        """Whose events its changes are, and where they go; None if they are nobody's."""
        for name in self.names(oid, present):
            if name in self._targets:
                return name, self._targets[name]
        return None
