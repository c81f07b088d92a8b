"""Names of objects and prefixes, so that one place has one name.

What belongs here: what makes two paths the same, and whether one lies under another. What does not:
reading anything.

Engines write the same object as ``s3://``, ``s3a://`` or ``s3n://``, and with a slash too many
where a location ends with one. All of these are taken for one: for a removal, to take two objects
for one only keeps more.
"""

import re
from collections.abc import Iterable, Mapping

_SEVERAL = re.compile("/{2,}")
_S3 = frozenset({"s3", "s3a", "s3n"})
ELSEWHERE = ("write.data.path", "write.metadata.path", "write.object-storage.path")
"""Table properties that put files outside the table's location."""


def normalise(path: str) -> str:
    """The one name of a path or prefix: ``s3`` as scheme, single slashes, none at the end."""
    scheme, found, rest = path.partition("://")
    if not found:
        return "file:" + _single(path.removeprefix("file:"))
    scheme = scheme.lower()
    if scheme in _S3:
        return "s3://" + _single(rest)
    if scheme == "file":
        return "file:" + _single(rest)
    return f"{scheme}://{_single(rest)}"


def lies_in(path: str, root: str) -> bool:
    """Whether ``path`` is ``root`` or lies under it; both are normalised."""
    return path == root or path.startswith(f"{root}/")


def table_roots(location: str, properties: Mapping[str, str]) -> tuple[str, ...]:
    """Every prefix that a table's files are written under, normalised, none under another."""
    named = {normalise(location), *(normalise(properties[n]) for n in ELSEWHERE if n in properties)}
    return tuple(
        sorted(one for one in named if not any(one != o and lies_in(one, o) for o in named))
    )


def overlap(ours: Iterable[str], theirs: Iterable[str]) -> tuple[str, str] | None:
    """The first pair of prefixes of which one lies under the other; all are normalised."""
    others = tuple(theirs)
    for one in ours:
        for other in others:
            if lies_in(one, other) or lies_in(other, one):
                return one, other
    return None


def _single(rest: str) -> str:
    return (_SEVERAL.sub("/", rest) if "//" in rest else rest).rstrip("/")
