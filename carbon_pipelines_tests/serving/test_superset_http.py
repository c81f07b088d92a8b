"""Asking Superset: tokens that run out, servers that are busy, answers that are lost."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from carbon_pipelines.errors import (
    ServiceUnavailableError,
    SupersetLoginError,
    SupersetRefusedError,
)
from carbon_pipelines.serving.clock import Clock
from carbon_pipelines.serving.superset_http import SupersetApi, Upload
from carbon_pipelines_tests.serving.superset_stub import (
    CSRF_GONE,
    LIST,
    StubSuperset,
    running_superset_stub,
)


@dataclass
class Sleeper:
    """A clock that no test waits for."""

    at: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.at, sleep=self.sleep)


@pytest.fixture
def stub() -> Iterator[StubSuperset]:
    with running_superset_stub() as running:
        yield running


@pytest.fixture
def sleeper() -> Sleeper:
    return Sleeper()


@pytest.fixture
def api(stub: StubSuperset, sleeper: Sleeper) -> Iterator[SupersetApi]:
    with SupersetApi(stub.settings, clock=sleeper.clock) as opened:
        yield opened


def test_a_list_is_read_to_its_end_however_small_its_pages_are(
    stub: StubSuperset, api: SupersetApi
) -> None:
    found = [one["id"] for one in api.pages(LIST, order="name")]

    assert found == list(range(7))
    assert stub.asked == [f"GET {LIST}"] * 3


def test_a_token_that_ran_out_is_renewed_and_the_request_repeated(
    stub: StubSuperset, api: SupersetApi
) -> None:
    api.send("PUT", "/api/v1/thing/1", {"a": 1})
    stub.expire()

    api.send("PUT", "/api/v1/thing/1", {"a": 2})

    assert (stub.logins, stub.written) == (2, [{"a": 1}, {"a": 2}])


def test_a_csrf_token_that_ran_out_is_renewed(stub: StubSuperset, api: SupersetApi) -> None:
    api.send("PUT", "/api/v1/thing/1", {"a": 1})
    stub.csrf = "csrf-1"

    api.send("PUT", "/api/v1/thing/1", {"a": 2})

    assert stub.written == [{"a": 1}, {"a": 2}]


def test_a_csrf_token_that_is_never_right_is_told(stub: StubSuperset, api: SupersetApi) -> None:
    stub.next_answers = [(400, {}, CSRF_GONE)] * 3

    with pytest.raises(SupersetRefusedError, match="CSRF token has expired"):
        api.send("PUT", "/api/v1/thing/1", {"a": 1})


def test_a_wrong_password_is_told_once_and_shows_in_no_word(
    stub: StubSuperset, api: SupersetApi
) -> None:
    stub.password = "another"

    with pytest.raises(SupersetLoginError) as refused:
        api.get("/api/v1/thing/1")

    assert not refused.value.retryable
    assert 'refuses the user "carbon"' in str(refused.value)
    assert "right" not in repr(api.settings)
    assert "right" not in str(refused.value)
    assert stub.asked == []


def test_a_user_without_the_right_is_told_so(stub: StubSuperset, api: SupersetApi) -> None:
    stub.next_answers = [(403, {}, {"message": "Forbidden"})]

    with pytest.raises(SupersetLoginError, match="PUT /api/v1/thing/1: HTTP status 403, Forbidden"):
        api.send("PUT", "/api/v1/thing/1", {})


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server_is_asked_again_as_late_as_it_says(
    stub: StubSuperset, api: SupersetApi, sleeper: Sleeper, status: int
) -> None:
    stub.next_answers = [(status, {"Retry-After": "7"}, {}), (status, {}, {})]

    api.send("PUT", "/api/v1/thing/1", {"a": 1})

    assert (sleeper.slept, stub.written) == ([7.0, 0.2], [{"a": 1}])


def test_a_lost_answer_is_asked_for_again_where_that_does_no_harm(
    stub: StubSuperset, api: SupersetApi
) -> None:
    stub.next_answers = [(0, {}, None)]

    api.send("PUT", "/api/v1/thing/1", {"a": 1})

    assert stub.written == [{"a": 1}]


@pytest.mark.parametrize("status", [0, 500, 502])
def test_what_must_not_happen_twice_is_not_sent_again(
    stub: StubSuperset, api: SupersetApi, status: int
) -> None:
    stub.next_answers = [(status, {}, {})]

    with pytest.raises(ServiceUnavailableError):
        api.send("POST", "/api/v1/thing/", {"a": 1}, again=False)

    assert stub.asked == ["POST /api/v1/thing/"]


def test_what_was_not_done_for_sure_is_sent_again_all_the_same(
    stub: StubSuperset, api: SupersetApi
) -> None:
    stub.next_answers = [(429, {}, {}), (503, {}, {})]

    api.send("POST", "/api/v1/thing/", {"a": 1}, again=False)

    assert stub.written == [{"a": 1}]


def test_a_server_that_stays_busy_is_given_up_at_the_deadline(
    stub: StubSuperset, api: SupersetApi, sleeper: Sleeper
) -> None:
    stub.next_answers = [(503, {"Retry-After": "30"}, {})] * 50

    with pytest.raises(ServiceUnavailableError, match="HTTP status 503") as given_up:
        api.get("/api/v1/thing/1")

    assert given_up.value.retryable
    assert sleeper.at == 120.0


def test_a_file_that_the_import_fails_on_is_refused_and_not_sent_again(
    stub: StubSuperset, api: SupersetApi
) -> None:
    stub.next_answers = [(500, {}, {})]

    with pytest.raises(SupersetRefusedError, match="HTTP status 500"):
        api.upload("/api/v1/assets/import/", Upload("bundle", "a.zip", b"PK"))

    assert stub.asked == ["POST /api/v1/assets/import/"]


def test_what_is_not_there_is_told_apart_from_what_is_refused(
    stub: StubSuperset, api: SupersetApi
) -> None:
    stub.next_answers = [(404, {}, {"message": "Not found"}), (422, {}, {"message": "no column x"})]

    assert api.find("/api/v1/thing/9") is None
    with pytest.raises(SupersetRefusedError, match="HTTP status 422, no column x"):
        api.find("/api/v1/thing/9")
