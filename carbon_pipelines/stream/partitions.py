"""Which relations of a stream are leaves of which partitioned table.

What belongs here: what the rows of the DDL history say of that, in stream order, and asking the
source where they do not. What does not: what becomes of a leaf's events (``translate.py``).

A leaf that a later row does not list is kept until it is dropped: a row may come from a transaction
whose snapshot did not show it yet, and PostgreSQL sends nothing of one that was detached.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from carbon_pipelines.source.relation import SourceRelation
from carbon_pipelines.stream.envelope import Target
from carbon_pipelines.stream.routing import Routing

Ancestors: TypeAlias = Sequence[tuple[int, str, str]]
"""Oid, schema and name of what a relation is a partition of, from its parent to the root."""


@dataclass(frozen=True, slots=True)
class Root:
    """The table whose rows a leaf holds, as it is declared; its shape if that lists the leaf."""

    name: tuple[str, str]
    target: Target
    known: SourceRelation | None


class Partitions:
    """The leaves of partitioned tables, by oid.

    Args:
        routing: The newest known row of each relation, and whose its events are; kept up to date
            by others.
        load_ancestors: What a relation is a partition of now.
    """

    def __init__(self, routing: Routing, load_ancestors: Callable[[int], Ancestors]) -> None:
        self._routing, self._load_ancestors = routing, load_ancestors
        self._roots: dict[int, int] = {}
        for relation in routing.relations():
            self.learn(relation)

    def learn(self, relation: SourceRelation) -> Iterable[int]:
        """Take a newer row; returns the leaves that it lists."""
        if relation.dropped:
            self._roots.pop(relation.oid, None)
        self._roots.update(dict.fromkeys(relation.leaves, relation.oid))
        return relation.leaves

    def find(self, oid: int) -> Root | None:
        """The captured table that a relation is a leaf of.

        Where only the source tells, nobody knows what rows the leaf came with: then the shape is
        not given, so that its events name none.
        """
        known = self._routing.newest(self._roots.get(oid, 0))
        if known is not None and oid in known.leaves:
            found = self._routing.target(known.oid, (known.schema, known.name))
            return Root(*found, known) if found is not None else None
        for ancestor, schema, name in self._load_ancestors(oid):
            found = self._routing.target(ancestor, (schema, name))
            if found is not None:
                self._roots[oid] = ancestor
                return Root(*found, None)
        return None

    def empties(self, leaf: int, truncated: Iterable[int]) -> bool:
        """Whether nothing is left of the table that ``leaf`` is of once these are empty."""
        root = self._roots[leaf]
        left = {each for each, its_root in self._roots.items() if its_root == root}
        return self._routing.newest(root) is not None and left.issubset(truncated)
