"""How Trino knows us, as variables say it."""

import pytest

from carbon_pipelines.embedded.trino_endpoint import OAuthClient, load_trino
from carbon_pipelines.errors import SettingMissingError, SettingUnknownError

HERE = "https://ann@trino.example/lake"
OAUTH = {
    "CARBON_TRINO_OAUTH_URI": "https://login.example/token",
    "CARBON_TRINO_OAUTH_CLIENT": "carbon:s3cret",
}


def test_nothing_is_told_of_a_trino_that_nobody_names() -> None:
    assert load_trino({"CARBON_TRINO_TOKEN": "t0ken"}) is None


def test_a_token_and_a_file_of_certificates_are_taken_and_no_secret_is_shown() -> None:
    named = {"CARBON_TRINO_URI": HERE, "CARBON_TRINO_TOKEN": "t0ken", "CARBON_TRINO_CA": "/ca.pem"}
    trino = load_trino(named)
    assert trino is not None
    assert (trino.token, trino.ca, trino.port, trino.label) == (
        "t0ken",
        "/ca.pem",
        443,
        "Trino at https://trino.example:443",
    )
    assert "t0ken" not in repr(trino)


def test_a_client_of_an_oauth_server_is_taken_and_its_secret_is_not_shown() -> None:
    named = {"CARBON_TRINO_URI": HERE, **OAUTH, "CARBON_TRINO_OAUTH_SCOPE": "trino"}
    trino = load_trino(named)
    assert trino is not None
    assert trino.oauth == OAuthClient("https://login.example/token", "carbon", "s3cret", "trino")
    assert "s3cret" not in repr(trino)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (
            {"CARBON_TRINO_URI": "http://ann@trino/lake", "CARBON_TRINO_TOKEN": "t0ken"},
            "plain http",
        ),
        ({"CARBON_TRINO_URI": "http://ann@trino/lake", **OAUTH}, "OAuth 2 over plain http"),
        ({"CARBON_TRINO_URI": HERE, **OAUTH, "CARBON_TRINO_TOKEN": "t0ken"}, "a token and OAuth 2"),
        (
            {"CARBON_TRINO_URI": "https://ann:s3cret@trino/lake", "CARBON_TRINO_TOKEN": "t0ken"},
            "a password and a token",
        ),
        ({"CARBON_TRINO_URI": HERE, **OAUTH, "CARBON_TRINO_OAUTH_CLIENT": "carbon"}, "id:secret"),
        (
            {"CARBON_TRINO_URI": HERE, **OAUTH, "CARBON_TRINO_OAUTH_URI": "http://login/token"},
            "no https address",
        ),
    ],
)
def test_what_would_show_a_secret_or_means_nothing_is_refused(
    named: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingUnknownError, match=said) as refused:
        load_trino(named)
    assert "t0ken" not in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_half_of_an_oauth_client_is_missing_something() -> None:
    with pytest.raises(SettingMissingError, match="CARBON_TRINO_OAUTH_CLIENT"):
        load_trino({"CARBON_TRINO_URI": HERE, "CARBON_TRINO_OAUTH_URI": "https://login/token"})
