"""Where a change stands in the order of commits.

What belongs here: the position value and the text forms of LSNs. What does not: who stores a
position (the Iceberg snapshot and the progress topic) and who counts ordinals (``stream``).
"""

import re
from dataclasses import dataclass
from typing import Self

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


def parse_lsn(text: str) -> int:
    """Read PostgreSQL's form of an LSN, like ``0/16B3748``, as a byte position in the WAL.

    Raises:
        ValueError: The text is not an LSN.
    """
    found = _LSN.fullmatch(text)
    if found is None:
        reason = f"{text!r} is not an LSN like 0/16B3748"
        raise ValueError(reason)
    return int(found[1], 16) << 32 | int(found[2], 16)


def format_lsn(lsn: int) -> str:
    """Write an LSN as PostgreSQL does: ``format_lsn(23803720) == "0/16B3748"``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """A change's place: its transaction's commit LSN, then its ordinal in it, from 1.

    The LSNs of single records do not grow along the stream (transactions interleave in the WAL);
    the pair does, and it is the same on every reading. Positions compare in stream order.
    """

    commit_lsn: int
    ordinal: int

    def __str__(self) -> str:
        return f"{format_lsn(self.commit_lsn)}-{self.ordinal}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` wrote, like ``0/16B3748-3``.

        Raises:
            ValueError: The text is not a position.
        """
        lsn, dash, ordinal = text.rpartition("-")
        if not dash or not re.fullmatch(r"[0-9]+", ordinal):
            reason = f"{text!r} is not a position like 0/16B3748-3"
            raise ValueError(reason)
        return cls(parse_lsn(lsn), int(ordinal))
