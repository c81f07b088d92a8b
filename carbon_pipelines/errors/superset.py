"""Errors of Superset, embedded or served.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Sequence

from carbon_pipelines.errors.embedded import EmbeddedError
from carbon_pipelines.errors.serving import ServingError


class SupersetInstallError(EmbeddedError):
    """Superset's own environment could not be made."""

    retryable = True

    def __init__(self, program: str, reason: str) -> None:
        self.program, self.reason = program, reason
        super().__init__(
            f"superset was not installed: {program} ended with: {reason.rstrip('.')}. Check the "
            "network, its proxy and the package index (pip's settings are used), or point "
            "CARBON_CACHE_DIR at a directory filled elsewhere; then run `carbon up` again."
        )


class SupersetLoginError(ServingError):
    """Superset refuses our user or password, or grants the user too little."""

    def __init__(self, service: str, user: str, reason: str) -> None:
        self.service, self.user, self.reason = service, user, reason
        super().__init__(
            f'{service} refuses the user "{user}": {reason.rstrip(".")}. It shows what it showed '
            "before. Correct CARBON_SUPERSET_USER and CARBON_SUPERSET_PASSWORD, or give the user "
            "the role that docs/serving.md names."
        )


class SupersetRefusedError(ServingError):
    """Superset refused a request."""

    def __init__(self, service: str, request: str, status: int, reason: str) -> None:
        self.service, self.request, self.status, self.reason = service, request, status, reason
        super().__init__(
            f"{service} refused {request}: {reason.rstrip('.')}. It shows what it showed before. "
            "See whether somebody changed the object by hand, then run the same again."
        )


class DashboardImportError(ServingError):
    """Superset did not take a dashboard."""

    def __init__(self, dashboard: str, service: str, reason: str) -> None:
        self.dashboard, self.service, self.reason = dashboard, service, reason
        super().__init__(
            f'{service} did not take the dashboard "{dashboard}": {reason.rstrip(".")}. Nothing of '
            "it was changed. Its files must be those of an export of that version of Superset, "
            "whose own log tells more."
        )


class DashboardFilesError(ServingError):
    """The files of a dashboard cannot be understood."""

    def __init__(self, place: object, reason: str) -> None:
        self.place, self.reason = place, reason
        super().__init__(
            f"{place}: {reason.rstrip('.')}. Nothing was sent. Correct the files, or export the "
            "dashboard from Superset again."
        )


class DashboardUnknownError(ServingError):
    """There is no dashboard of that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(f'There is no dashboard "{name}": there are {", ".join(known) or "none"}.')


class ChartFailedError(ServingError):
    """A chart has no data to compare."""

    retryable = True

    def __init__(self, chart: str, reason: str) -> None:
        self.chart, self.reason = chart, reason
        super().__init__(
            f'The chart "{chart}" shows no data: {reason.rstrip(".")}. See whether Trino answers '
            "and has its columns, then run the same again."
        )
