"""Errors of reaching Trino.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from carbon_pipelines.errors.lake import LakeError
from carbon_pipelines.errors.serving import ServingError


class TokenUnavailableError(LakeError):
    """The OAuth 2 server that gives us tokens for Trino does not answer."""

    retryable = True

    def __init__(self, variable: str, reason: str) -> None:
        self.variable, self.reason = variable, reason
        super().__init__(
            f"The OAuth 2 server of {variable} does not answer: {reason}. Trino was not asked. "
            "Nothing is lost; run the same again when it answers."
        )


class TokenRefusedError(LakeError):
    """The OAuth 2 server gives us no token for Trino."""

    def __init__(self, variable: str, reason: str) -> None:
        self.variable, self.reason = variable, reason
        super().__init__(
            f"The OAuth 2 server gives no token for Trino: {reason}. Trino was not asked. Correct "
            f"{variable} and CARBON_TRINO_OAUTH_SCOPE, or let that client have tokens."
        )


class TrinoAccessError(ServingError):
    """Trino refuses our user, password or token, or grants too little."""

    def __init__(self, service: str, user: str, reason: str) -> None:
        self.service, self.user, self.reason = service, user, reason
        super().__init__(
            f'{service} refuses the user "{user}": {reason.rstrip(".")}. Views show what they '
            "showed before. Correct CARBON_TRINO_URI or CARBON_TRINO_TOKEN, or grant the user what "
            "docs/serving.md lists."
        )
