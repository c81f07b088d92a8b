"""Errors of telling people.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them. None
of them holds an address or a token.
"""

from collections.abc import Sequence

from carbon_pipelines.errors.root import CarbonPipelinesError


class AlertsError(CarbonPipelinesError):
    """People are not told of what is wrong, or would not be."""


class OwnersIncompleteError(AlertsError):
    """Who is to be told is not declared for every team; ``problems`` are sentences."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        count = "1 thing" if len(self.problems) == 1 else f"{len(self.problems)} things"
        super().__init__(
            f"Alerts would not reach everybody: {count} to correct in owners.yaml or in the "
            f'environment, then run "carbon alerts check" again:\n{lines}'
        )


class OwnersMissingError(AlertsError):
    """No ``owners.yaml`` says who is told."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        super().__init__(
            f"{directory} has no owners.yaml, so nobody is told of alerts. Write one, with at "
            "least a default receiver: docs/alerts.md shows it."
        )


class TeamUnknownError(AlertsError):
    """Nothing is declared of a team."""

    def __init__(self, team: str, known: Sequence[str]) -> None:
        self.team, self.known = team, tuple(known)
        super().__init__(
            f'"{team}" owns no table and has no receivers. The teams are {", ".join(self.known)}.'
        )


class AlertmanagerMailError(AlertsError):
    """Alertmanager cannot reach the declared mail server."""

    def __init__(self, port: int, security: str) -> None:
        self.port, self.security = port, security
        super().__init__(
            f'owners.yaml declares port {port} with "security: {security}", but Alertmanager '
            "speaks TLS from the first byte on port 465 and STARTTLS on any other. Nothing was "
            "rendered; declare the server's other port."
        )


class TestNotSentError(AlertsError):
    """Receivers did not accept a test alert; ``problems`` are sentences."""

    __test__ = False  # not a test class

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(
            f"{len(self.problems)} receivers did not accept the test alert. Correct what is named, "
            f"and send it again:\n{lines}"
        )
