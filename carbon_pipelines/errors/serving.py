"""Errors of bringing what is certified in front of the people who look.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Sequence

from carbon_pipelines.errors.root import CarbonPipelinesError


class ServingError(CarbonPipelinesError):
    """What people look at could not be brought up to date."""


class ServiceUnavailableError(ServingError):
    """A service does not answer, or asks us to come later."""

    retryable = True

    def __init__(self, service: str, reason: str) -> None:
        self.service, self.reason = service, reason
        super().__init__(
            f"{service} does not answer: {reason.rstrip('.')}. It shows what it showed before. "
            "Nothing is lost; run the same again when it answers."
        )


class ServiceAuthenticationError(ServingError):
    """A service refuses our user or password, or grants the user too little."""

    def __init__(self, service: str, user: str, reason: str) -> None:
        self.service, self.user, self.reason = service, user, reason
        super().__init__(
            f'{service} refuses the user "{user}": {reason.rstrip(".")}. It shows what it showed '
            "before. Correct CARBON_DORIS_USER and CARBON_DORIS_PASSWORD, or grant the user what "
            "docs/serving.md lists."
        )


class StatementRefusedError(ServingError):
    """A service refused a statement."""

    def __init__(self, service: str, statement: str, reason: str) -> None:
        self.service, self.statement, self.reason = service, statement, reason
        super().__init__(
            f'{service} refused "{statement}": {reason.rstrip(".")}. It shows what it showed '
            "before. See whether somebody changed the object by hand, then run the same again."
        )


class RedirectRefusedError(ServingError):
    """A service sent us to where our password and rows must not go."""

    def __init__(self, service: str, place: str, reason: str) -> None:
        self.service, self.place, self.reason = service, place, reason
        super().__init__(
            f"{service} redirects to {place}, {reason}. Neither the password nor a row was sent "
            "there. If that is one of its backends, name the host in CARBON_DORIS_BACKENDS."
        )


class LoadRefusedError(ServingError):
    """Doris did not take the rows of a load."""

    def __init__(self, label: str, reason: str, rows: Sequence[str] = ()) -> None:
        self.label, self.reason, self.rows = label, reason, tuple(rows)
        told = f" It says of the rows: {' | '.join(self.rows)}." if self.rows else ""
        super().__init__(
            f"Doris did not take the load {label}: {reason.rstrip('.')}.{told} None of its rows "
            "is shown. Correct what it says, and run the same again."
        )


class LoadUnfinishedError(ServingError):
    """What became of a load is not known yet."""

    retryable = True

    def __init__(self, label: str, state: str, seconds: float) -> None:
        self.label, self.state, self.seconds = label, state, seconds
        super().__init__(
            f"The load {label} is {state} in Doris after {seconds:.0f} s, so nobody can say that "
            "its rows are there. Readers see what they saw before. Run the same again: a load "
            "that was applied is not applied twice."
        )


class NotVisibleError(ServingError):
    """A service shows other rows than those of the snapshot that it is to show."""

    retryable = True

    def __init__(self, where: str, snapshot_id: int, difference: str) -> None:
        self.where, self.snapshot_id, self.difference = where, snapshot_id, difference
        super().__init__(
            f"{where} does not show table snapshot {snapshot_id}: {difference}. Run the same "
            "again; if it stays so, somebody else writes there, or a cache is not refreshed."
        )


class ViewRefreshError(ServingError):
    """A materialized view could not be refreshed."""

    def __init__(self, view: str, reason: str) -> None:
        self.view, self.reason = view, reason
        super().__init__(
            f"The materialized view {view} was not refreshed: {reason.rstrip('.')}. It shows what "
            "it showed before. Correct the view, or what it reads, and refresh it again."
        )


class ViewUnfinishedError(ServingError):
    """A materialized view was not fresh in time."""

    retryable = True

    def __init__(self, view: str, state: str, seconds: float) -> None:
        self.view, self.state, self.seconds = view, state, seconds
        super().__init__(
            f"The materialized view {view} is not fresh after {seconds:.0f} s: {state}. The "
            "refresh may still come to its end. Run the same again."
        )


class ServedValueError(ServingError):
    """A mart holds a value or type that the service cannot hold exactly."""

    def __init__(self, mart: str, column: str, reason: str) -> None:
        self.mart, self.column, self.reason = mart, column, reason
        super().__init__(
            f"mart/{mart}: column {column} {reason}. Nothing was sent. Cast or bound it in the "
            "model, and build the mart again."
        )


class ServedMartMissingError(ServingError):
    """A mart was never published, so there is nothing to serve."""

    def __init__(self, mart: str) -> None:
        self.mart = mart
        super().__init__(
            f"mart/{mart} was never published, so there is nothing to serve. "
            f'"carbon marts build {mart}" makes it.'
        )


class ServedCatalogError(ServingError):
    """The lake's catalog is of a kind that Doris does not read."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(
            f'The lake has a catalog of the kind "{kind}", and Doris is told of "rest" catalogs '
            "alone. Nothing was changed. Serve marts by Stream Load, which needs no catalog, or "
            "put a REST catalog before the lake (CARBON_LAKE_CATALOG_TYPE)."
        )
