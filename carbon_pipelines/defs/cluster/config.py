"""Run config of the jobs that change a cluster, and how their errors are shown."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import dagster as dg
from pydantic import Field

from carbon_pipelines.cluster.provision import Consent
from carbon_pipelines.cluster.wait import Patience
from carbon_pipelines.defs.failures import as_failure
from carbon_pipelines.errors import ServiceNotReadyError


class OverlayConfig(dg.Config):
    """What all these jobs are told."""

    overlay: str = Field(description="A directory of deploy/overlays.")
    reason: str = Field(min_length=1, description="Why; it is kept with the run.")
    dry_run: bool = Field(default=True, description="Only show the plan. Set false to do it.")
    accept_dangers: bool = Field(default=False, description="Do what the plan calls dangerous.")
    deadline_seconds: int = Field(default=600, ge=1, description="For each service to be ready.")
    without_charts: bool = Field(
        default=False, description="Leave out services made by charts that cannot be had."
    )

    def patience(self) -> Patience:
        """How long to wait."""
        return Patience(deadline=timedelta(seconds=self.deadline_seconds))


class ProvisionConfig(OverlayConfig):
    """What is provisioned, and what is allowed."""

    services: list[str] = Field(default=[], description="Only these; empty: all of the overlay.")
    prune: bool = Field(default=False, description="Remove what is no longer declared.")
    take_over: bool = Field(default=False, description="Set fields that other managers own.")
    change_overlay: bool = Field(default=False, description="The cluster gets another overlay.")

    def consent(self) -> Consent:
        """What is allowed."""
        return Consent(self.accept_dangers, self.prune, self.take_over, self.change_overlay)


@contextmanager
def told_failure() -> Generator[None]:
    """As ``as_failure``, and a service that is not ready has its facts beside the sentence.

    Raises:
        Failure: Service, object, condition, event and log line are metadata.
    """
    with as_failure():
        try:
            yield
        except ServiceNotReadyError as error:
            (name, condition), *_ = error.waiting
            raise dg.Failure(
                description=str(error),
                metadata={
                    "carbon/error": type(error).__name__,
                    "carbon/retryable": error.retryable,
                    "carbon/service": error.service,
                    "carbon/object": name,
                    "carbon/condition": condition,
                    "carbon/event": error.event or "none",
                    "carbon/log_line": error.log_line or "none",
                },
                allow_retries=False,
            ) from error
