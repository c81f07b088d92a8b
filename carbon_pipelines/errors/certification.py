"""Errors of certifying table snapshots.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from carbon_pipelines.errors.root import CarbonPipelinesError


class CertificationError(CarbonPipelinesError):
    """What audited readers see could not be changed."""


class CertifiedMovedError(CertificationError):
    """Somebody else moved ``certified`` while a snapshot was looked at."""

    retryable = True

    def __init__(self, table: str, expected: int | None, found: int | None) -> None:
        self.table, self.expected, self.found = table, expected, found
        was, now = (f"snapshot {one}" if one else "nowhere" for one in (expected, found))
        super().__init__(
            f"{table}: the branch certified was at {was} when its next snapshot was looked at, and "
            f"is at {now} now: somebody else moved it. It stays where it is. Run "
            f'"carbon certify {table}" again.'
        )


class CertifiedRefusedError(CertificationError):
    """The branch ``certified`` cannot be moved to a snapshot."""

    def __init__(self, table: str, reason: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(
            f"{table} was not certified: {reason}. Readers see what they saw before. Then run "
            f'"carbon certify {table}" again.'
        )


class NotCertifiedError(CertificationError):
    """A table has no certified snapshot."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(
            f"{table} has no certified snapshot, so audited readers see nothing of it. "
            f'"carbon certify {table}" compares it with its source, scores it, and certifies it if '
            "both are good."
        )


class RollbackRefusedError(CertificationError):
    """``certified`` cannot be set back as asked."""

    def __init__(self, table: str, reason: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(
            f"{table}: certified was not set back: {reason}. Readers see what they saw before. "
            f'"carbon certified {table}" shows where it was and may go back to.'
        )
