"""Errors of the PostgreSQL server, its slot and our session.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Sequence

from carbon_pipelines.errors.root import CarbonPipelinesError


class SourceError(CarbonPipelinesError):
    """PostgreSQL cannot be captured as declared."""


class SourceUnreachableError(SourceError):
    """No connection to ``location``, or it broke; ``reason`` is PostgreSQL's or the network's."""

    retryable = True

    def __init__(self, location: str, *, reason: str) -> None:
        self.location, self.reason = location, reason
        super().__init__(
            f"PostgreSQL at {location} does not answer: {reason}. Nothing was read or changed. "
            "Check that the server runs and can be reached from here; the same call may then work."
        )


class SourceAuthenticationError(SourceError):
    """The server at ``location`` refuses our role or password."""

    def __init__(self, location: str, *, reason: str) -> None:
        self.location, self.reason = location, reason
        super().__init__(
            f"PostgreSQL at {location} refuses to let us in: {reason}. Nothing was read or "
            "changed. Correct the role or the password in CARBON_SOURCE_<DATABASE>_DSN, or the "
            "server's pg_hba.conf."
        )


class SourceDatabaseMissingError(SourceError):
    """The server at ``location`` answers, but has no such database."""

    def __init__(self, location: str) -> None:
        self.location = location
        super().__init__(
            f"The server answers, but the database of {location} does not exist. Nothing was "
            "changed. Correct CARBON_SOURCE_<DATABASE>_DSN or create the database."
        )


class SourcePrivilegeError(SourceError):
    """Role ``role`` may not do ``what``; ``remedy`` is the statement or the step that helps."""

    def __init__(self, role: str, *, what: str, remedy: str) -> None:
        self.role, self.what, self.remedy = role, what, remedy
        super().__init__(f'Role "{role}" may not {what}. What needed it was not done. {remedy}')


class SourceServerError(SourceError):
    """The server ``fact`` rules capture out; ``remedy`` is the next step."""

    def __init__(self, location: str, *, fact: str, remedy: str) -> None:
        self.location, self.fact, self.remedy = location, fact, remedy
        super().__init__(
            f"The server at {location} cannot be captured: {fact}. Nothing was changed. {remedy}"
        )


class WalLevelError(SourceError):
    """``wal_level`` is ``found`` and has to be logical."""

    def __init__(self, location: str, *, found: str) -> None:
        self.location, self.found = location, found
        super().__init__(
            f"The server at {location} runs with wal_level = {found}, which holds too little to "
            "read changes from. Nothing was changed. Run ALTER SYSTEM SET wal_level = 'logical' "
            "and restart the server."
        )


class NoFreeSlotError(SourceError):
    """Slot ``slot`` is to be created, and all ``limit`` slots are taken by ``taken``."""

    def __init__(self, slot: str, *, limit: int, taken: Sequence[str]) -> None:
        self.slot, self.limit, self.taken = slot, limit, tuple(taken)
        super().__init__(
            f'Slot "{slot}" cannot be created: max_replication_slots = {limit}, and these exist: '
            f"{', '.join(self.taken) or 'none'}. Nothing was changed. Drop one that nobody reads "
            "(SELECT pg_drop_replication_slot(...)), or raise max_replication_slots and restart "
            "the server."
        )


class NoFreeSenderError(SourceError):
    """All ``limit`` WAL senders are ``used``."""

    retryable = True

    def __init__(self, location: str, *, limit: int, used: int) -> None:
        self.location, self.limit, self.used = location, limit, used
        super().__init__(
            f"The server at {location} has no free WAL sender: max_wal_senders = {limit}, {used} "
            "are in use. Nothing was changed. End one (see pg_stat_replication), or raise "
            "max_wal_senders and restart the server."
        )


class SourceIdentityError(SourceError):
    """Another database than the remembered one answers; ``fact`` is what differs."""

    def __init__(self, *, fact: str, remembered: str, found: str) -> None:
        self.fact, self.remembered, self.found = fact, remembered, found
        super().__init__(
            f"This is not the database that was captured so far: its {fact} was {remembered} and "
            f"is {found}. Nothing was read or changed. Correct CARBON_SOURCE_<DATABASE>_DSN; if "
            "the database was restored or failed over on purpose, its tables need a re-copy "
            '("carbon recopy").'
        )
