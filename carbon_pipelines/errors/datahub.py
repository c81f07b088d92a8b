"""Errors of telling DataHub what we know.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Sequence
from pathlib import Path

from carbon_pipelines.errors.serving import ServingError

_NAMED = 5
"""Of what was refused; the rest is counted."""


class DataHubError(ServingError):
    """DataHub was not told what we know, or not all of it."""


class DataHubUnavailableError(DataHubError):
    """DataHub does not answer, or asks us to come later."""

    retryable = True

    def __init__(self, where: str, reason: str, *, told: int = 0) -> None:
        self.where, self.reason, self.told = where, reason, told
        so_far = f" {told:,} aspects were told before that." if told else ""
        super().__init__(
            f"{where} does not answer: {reason.rstrip('.')}.{so_far} What it knew before stays. "
            "Run the same again when it answers: only what it lacks is sent."
        )


class DataHubAccessError(DataHubError):
    """DataHub refuses our token."""

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(
            f"{where} refuses us: {reason.rstrip('.')}. What it knew before stays. Set "
            "CARBON_DATAHUB_TOKEN to a token that is valid and may edit the entities that "
            "docs/serving.md lists."
        )


class DataHubAnswerError(DataHubError):
    """What answers is no metadata service of DataHub, or says what we do not understand."""

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(
            f"{where} answers as no metadata service of DataHub does: {reason.rstrip('.')}. What "
            "was told before that stays. CARBON_DATAHUB_URL has to be that of the metadata "
            "service, as http://<host>:8080, or of the frontend with /api/gms behind it."
        )


class DataHubExportError(DataHubError):
    """A file of the dashboards' export cannot be understood."""

    def __init__(self, file: Path, reason: str) -> None:
        self.file, self.reason = file, reason
        super().__init__(
            f"{file} is no part of an export of Superset: {reason.rstrip('.')}. DataHub was told "
            "nothing. Export the dashboard again, or correct the file."
        )


class MetadataRefusedError(DataHubError):
    """DataHub refuses aspects; each is named with its entity."""

    def __init__(self, where: str, refused: Sequence[tuple[str, str, str]], told: int) -> None:
        self.where, self.refused, self.told = where, tuple(refused), told
        named = "; ".join(
            f"{aspect} of {urn}: {reason.rstrip('.')}" for urn, aspect, reason in refused[:_NAMED]
        )
        more = f"; and {len(refused) - _NAMED:,} more" if len(refused) > _NAMED else ""
        super().__init__(
            f"{where} refuses {len(refused):,} of {len(refused) + told:,} aspects: {named}{more}. "
            "The others were told. See whether its version is older than the model it was told "
            "in (docs/serving.md); what was refused is sent again by the next run."
        )
