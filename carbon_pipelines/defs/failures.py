"""Translating errors to Dagster failures, in one place.

Dagster's ``RetryPolicy`` repeats a step after any exception at all. Only a ``Failure`` can say no,
so everything that leaves a domain call becomes one: our own errors say themselves whether another
attempt may help, and for an error nobody foresaw the answer is no.
"""

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from carbon_pipelines.errors import CarbonPipelinesError

RETRIES = dg.RetryPolicy(
    max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL
)


@contextmanager
def as_failure() -> Generator[None]:
    """Raise whatever goes wrong inside as ``Failure``, repeated only if the error says it can help.

    Raises:
        Failure: Its description is the error's own sentence, next step included.
    """
    try:
        yield
    except dg.Failure:
        raise
    except CarbonPipelinesError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"carbon/error": type(error).__name__, "carbon/retryable": error.retryable},
            allow_retries=error.retryable,
        ) from error
    except Exception as error:
        raise dg.Failure(
            description=(
                f"{type(error).__name__}: {error}. This is not an error the project foresees, so "
                "it is not retried; the cause is in the stack trace below."
            ),
            metadata={"carbon/error": type(error).__name__, "carbon/retryable": False},
            allow_retries=False,
        ) from error
