"""Who we are to Kafka: the settings that every client of ours begins with.

What belongs here: address, name, password and whose certificates are trusted. What does not: what
a producer or consumer does (``producer.py``, ``consumer.py``).

    CARBON_STREAM_USER        who we are (SCRAM-SHA-512 over TLS); unset: plain text, nobody asks
    CARBON_STREAM_PASSWORD    its password
    CARBON_STREAM_CA          a file of certificates to trust; unset: those of the machine
"""

import os
from collections.abc import Mapping

from carbon_pipelines.errors import SettingMissingError

USER_VARIABLE = "CARBON_STREAM_USER"
PASSWORD_VARIABLE = "CARBON_STREAM_PASSWORD"
CA_VARIABLE = "CARBON_STREAM_CA"


def client_settings(
    bootstrap: str, environ: Mapping[str, str] | None = None
) -> dict[str, str | int | float | bool]:
    """Settings of librdkafka for a client; holds the password.

    Args:
        bootstrap: Address of Kafka.
        environ: Usually, and if None, ``os.environ``.

    Raises:
        SettingMissingError: There is a user without a password.
    """
    given = os.environ if environ is None else environ
    settings: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap, "log_level": 0}
    user = given.get(USER_VARIABLE)
    if not user:
        return settings
    password = given.get(PASSWORD_VARIABLE)
    if not password:
        raise SettingMissingError(PASSWORD_VARIABLE, f"the password of {user} at Kafka")
    settings |= {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": password,
    }
    if given.get(CA_VARIABLE):
        settings["ssl.ca.location"] = given[CA_VARIABLE]
    return settings
