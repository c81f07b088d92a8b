import dagster as dg
import pytest

from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.errors import CarbonPipelinesError, CatalogError


class PassingError(CarbonPipelinesError):
    retryable = True


def attempts_until_failure(error: Exception) -> int:
    attempts: list[int] = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=RETRIES.max_retries))
    def failing() -> None:
        attempts.append(1)
        with as_failure():
            raise error

    assert not dg.materialize([failing], raise_on_error=False).success
    return len(attempts)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (PassingError("The broker restarts. Run again."), 4),
        (CatalogError("A declaration is wrong. Correct it."), 1),
        (TypeError("a mistake of ours"), 1),
    ],
)
def test_only_errors_that_may_pass_are_retried(error: Exception, attempts: int) -> None:
    assert attempts_until_failure(error) == attempts


def test_the_failure_a_person_sees_is_the_errors_own_sentence() -> None:
    with pytest.raises(dg.Failure) as failure, as_failure():
        raise CatalogError("Nothing declared is called x. Declare it.")

    assert failure.value.description == "Nothing declared is called x. Declare it."
    assert {name: entry.value for name, entry in failure.value.metadata.items()} == {
        "carbon/error": "CatalogError",
        "carbon/retryable": False,
    }


def test_a_failure_inside_is_passed_on_as_it_is() -> None:
    inner = dg.Failure(description="already one", allow_retries=True)

    with pytest.raises(dg.Failure) as failure, as_failure():
        raise inner

    assert failure.value is inner
