"""What CARBON_DORIS_* say."""

import pytest

from carbon_pipelines.errors import SettingMissingError, SettingUnknownError
from carbon_pipelines.serving.doris_settings import DorisSettings, load_doris_settings

NAMED = {"CARBON_DORIS_HOST": "fe.doris", "CARBON_DORIS_USER": "carbon"}


def test_without_a_host_doris_is_not_configured() -> None:
    assert load_doris_settings({"CARBON_DORIS_USER": "carbon"}) is None


def test_all_is_read_and_the_password_shows_in_no_text() -> None:
    found = load_doris_settings(
        {
            **NAMED,
            "CARBON_DORIS_PASSWORD": "s3cret",
            "CARBON_DORIS_TLS": "on",
            "CARBON_DORIS_BACKENDS": "be-0.doris, BE-1.doris",
            "CARBON_DORIS_REPLICAS": "1",
        }
    )

    assert found == DorisSettings(
        "fe.doris",
        "carbon",
        "s3cret",
        http_port=8050,
        tls=True,
        backends=frozenset({"be-0.doris", "be-1.doris"}),
        replicas=1,
    )
    assert "s3cret" not in repr(found)


def test_a_host_without_a_user_is_told() -> None:
    with pytest.raises(SettingMissingError, match="CARBON_DORIS_USER"):
        load_doris_settings({"CARBON_DORIS_HOST": "fe.doris"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOST", "http://fe.doris"),
        ("TLS", "yes"),
        ("SQL_PORT", "0"),
        ("HTTP_PORT", "x"),
        ("BACKENDS", "a b"),
        ("DATABASE", "Mart"),
        ("CATALOG", "a.b"),
        ("REPLICAS", "-1"),
    ],
)
def test_a_value_without_meaning_is_told(name: str, value: str) -> None:
    with pytest.raises(SettingUnknownError, match=f"CARBON_DORIS_{name}"):
        load_doris_settings({**NAMED, f"CARBON_DORIS_{name}": value})
