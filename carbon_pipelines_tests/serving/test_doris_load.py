"""Loads over HTTP, against a stand-in that keeps to what Doris' manual says of the protocol."""

import io
import json
from collections.abc import Iterator

import pytest

from carbon_pipelines.errors import (
    LoadRefusedError,
    LoadUnfinishedError,
    RedirectRefusedError,
    ServiceAuthenticationError,
    ServiceUnavailableError,
)
from carbon_pipelines.serving.doris_http import DorisHttp
from carbon_pipelines.serving.doris_load import Load, StreamLoader
from carbon_pipelines.serving.doris_settings import DorisSettings
from carbon_pipelines.serving.http_exchange import Body
from carbon_pipelines_tests.serving.stub import (
    ERROR_LINE,
    PASSWORD,
    FakeTime,
    StubDoris,
    running_stub,
)

LINES = [{"day": "2025-09-01", "price": "1.50"}, {"day": "2025-09-02", "price": None}]
LABEL = "carbon_prices_7_abc"


@pytest.fixture
def stub() -> Iterator[StubDoris]:
    with running_stub() as running:
        running.engine.execute("CREATE TABLE mart.prices (day DATE, price DECIMAL(12, 2))")
        yield running


def load(*, shows_rows: bool = True) -> Load:
    content = "".join(f"{json.dumps(line)}\n" for line in LINES).encode()
    body = Body(io.BytesIO(content), len(content))
    return Load("mart", "prices", LABEL, len(LINES), body, shows_rows)


def send(
    stub: StubDoris, *, seconds: float = 60, shows_rows: bool = True, **changes: object
) -> str:
    time = FakeTime()
    loader = StreamLoader(DorisHttp(stub.settings(**changes)))
    return loader.load(load(shows_rows=shows_rows), time.clock().deadline(seconds))


def test_a_load_follows_the_redirect_with_the_password_and_sends_its_rows_once(
    stub: StubDoris,
) -> None:
    assert send(stub) == LABEL

    assert stub.applied == [LABEL]
    assert len(stub.rows("prices")) == len(LINES)
    assert stub.bodies == 1
    puts = [asked for asked in stub.asked if asked[1] == "PUT"]
    assert puts == [("fe", "PUT", True), ("be", "PUT", True)]


@pytest.mark.parametrize("fault", ["lost", "publish", "slow", "broken", "busy", "cut"])
def test_whatever_happens_on_the_way_the_rows_are_there_once(stub: StubDoris, fault: str) -> None:
    stub.faults.append(fault)

    assert send(stub) == LABEL

    assert stub.applied == [LABEL]
    assert stub.labels[LABEL] == "VISIBLE"


def test_the_same_load_again_sends_nothing(stub: StubDoris) -> None:
    send(stub)

    assert send(stub) == LABEL

    assert (stub.applied, stub.bodies) == ([LABEL], 1)


def test_a_label_that_others_hold_meanwhile_is_waited_for_and_not_sent_to(stub: StubDoris) -> None:
    stub.labels[LABEL], stub.pending[LABEL] = "PREPARE", 3

    assert send(stub) == LABEL

    assert (stub.applied, stub.bodies) == ([], 0)


def test_a_load_that_doris_gave_up_is_sent_under_another_label(stub: StubDoris) -> None:
    stub.faults.extend(["abort", "abort"])

    assert send(stub) == f"{LABEL}_2"

    assert stub.applied == [f"{LABEL}_2"]


def test_a_load_that_is_given_up_again_and_again_says_why(stub: StubDoris) -> None:
    stub.faults.extend(["abort"] * 5)

    with pytest.raises(LoadRefusedError, match=r"too many versions \(5 times\)"):
        send(stub)
    assert stub.applied == []


def test_a_transaction_that_does_not_end_is_not_called_applied(stub: StubDoris) -> None:
    stub.labels[LABEL] = "COMMITTED"

    with pytest.raises(LoadUnfinishedError, match=f"{LABEL} is COMMITTED in Doris after 20 s"):
        send(stub, seconds=20)


def test_rows_that_do_not_fit_are_told_with_the_first_of_them(stub: StubDoris) -> None:
    stub.faults.append("rows")

    with pytest.raises(LoadRefusedError) as refused:
        send(stub)

    assert refused.value.rows == (ERROR_LINE.strip(),) * 3
    assert not refused.value.retryable
    assert ("log", "GET", False) in stub.asked, "the log of errors needs no password"
    assert stub.bodies == 1, "the same rows would be refused again"


def test_rows_that_do_not_fit_are_refused_without_an_address_of_them_too(stub: StubDoris) -> None:
    stub.faults.append("rows")
    stub.error_url = False

    with pytest.raises(LoadRefusedError, match="too many filtered rows"):
        send(stub)
    assert stub.bodies == 1


def test_of_classified_rows_only_the_column_is_told(stub: StubDoris) -> None:
    stub.faults.append("rows")

    with pytest.raises(LoadRefusedError, match="column price") as refused:
        send(stub, shows_rows=False)
    assert "Zebra" not in str(refused.value)


def test_a_load_that_took_fewer_rows_is_refused(stub: StubDoris) -> None:
    stub.faults.append("short")

    with pytest.raises(LoadRefusedError, match="it took 1 of 2 rows"):
        send(stub)


@pytest.mark.parametrize("place", ["http://backend.example:8040", "http://127.0.0.2:8040"])
def test_a_redirect_to_a_stranger_is_not_followed(stub: StubDoris, place: str) -> None:
    stub.redirect_to = place.replace("http://", f"http://carbon:{PASSWORD.replace('/', '%2F')}@")

    with pytest.raises(RedirectRefusedError, match=f"redirects to {place}, ") as refused:
        send(stub)
    assert "s3cret" not in str(refused.value)
    assert stub.bodies == 0


def test_a_redirect_that_gives_up_the_encryption_is_not_followed() -> None:
    http = DorisHttp(DorisSettings("a", "u", "p", tls=True))

    with pytest.raises(RedirectRefusedError, match="gives up the encryption"):
        http._next_address("https://a:8050/api", "http://a:8030/api")
    assert http._next_address("https://a:8050/x", "https://u:p@a/y?") == "https://a:443/y"


def test_a_backend_that_is_named_gets_the_password(stub: StubDoris) -> None:
    stub.redirect_to = f"http://localhost:{stub.be_port}"

    assert send(stub, backends=frozenset({"localhost"})) == LABEL


def test_a_circle_of_redirects_ends(stub: StubDoris) -> None:
    stub.redirect_to = f"http://127.0.0.1:{stub.fe_port}"

    with pytest.raises(RedirectRefusedError, match="circle"):
        send(stub)


def test_a_wrong_password_is_told_at_once_and_stands_in_no_message(stub: StubDoris) -> None:
    with pytest.raises(ServiceAuthenticationError, match='refuses the user "carbon"') as refused:
        send(stub, password="wr0ng")

    assert not refused.value.retryable
    assert "wr0ng" not in str(refused.value)
    assert len(stub.asked) == 1


def test_a_refusal_of_the_user_in_a_body_counts_as_one(stub: StubDoris) -> None:
    http = DorisHttp(stub.settings(password="wr0ng"))

    with pytest.raises(ServiceAuthenticationError):
        http.send("PUT", "/api/mart/prices/_stream_load")


def test_an_fe_that_is_away_is_asked_until_the_deadline() -> None:
    time = FakeTime()
    http = DorisHttp(DorisSettings("127.0.0.1", "u", http_port=1))

    with pytest.raises(ServiceUnavailableError) as away:
        StreamLoader(http).load(load(), time.clock().deadline(30))
    assert away.value.retryable
    assert time.seconds >= 30
