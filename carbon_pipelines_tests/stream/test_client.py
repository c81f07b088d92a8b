"""A client of Kafka says who it is if it is told who it is."""

import pytest

from carbon_pipelines.errors import SettingMissingError
from carbon_pipelines.stream.client import client_settings


def test_without_a_user_kafka_is_asked_in_plain_text() -> None:
    assert client_settings("kafka:9092", {}) == {"bootstrap.servers": "kafka:9092", "log_level": 0}


def test_a_user_comes_with_its_password_over_tls() -> None:
    told = {
        "CARBON_STREAM_USER": "carbon-capture",
        "CARBON_STREAM_PASSWORD": "planted-password",
        "CARBON_STREAM_CA": "/etc/kafka-ca/ca.crt",
    }
    assert client_settings("kafka:9093", told) == {
        "bootstrap.servers": "kafka:9093",
        "log_level": 0,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "carbon-capture",
        "sasl.password": "planted-password",
        "ssl.ca.location": "/etc/kafka-ca/ca.crt",
    }


def test_a_user_without_a_password_is_refused_before_kafka_is_asked() -> None:
    with pytest.raises(SettingMissingError, match=r"CARBON_STREAM_PASSWORD .*carbon-capture"):
        client_settings("kafka:9093", {"CARBON_STREAM_USER": "carbon-capture"})
