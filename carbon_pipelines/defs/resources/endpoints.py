"""Where Kafka, the lake and Trino are, for assets and sensors.

What belongs here: the addresses that may be shown in the UI, as flat optional fields. What does
not: passwords, keys, tokens, DSNs, and addresses that hold a password (the catalog's, Trino's).
Those are no fields at all, so no run config, page or log can show them; ``resolve_endpoints`` reads
them from the environment when a run needs them.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from carbon_pipelines.embedded.endpoints import Endpoints


class EndpointsResource(dg.ConfigurableResource):
    """Field ``<stage>_<field>`` is the variable ``CARBON_<STAGE>_<FIELD>``; None is "not told".

    What is not told is looked up at run time: in the environment first, else the embedded stack of
    this directory answers.
    """

    stream_bootstrap: str | None = None
    lake_catalog_type: str | None = None
    lake_warehouse: str | None = None
    lake_s3_endpoint: str | None = None
    lake_s3_region: str | None = None
    trino_ca: str | None = None
    trino_oauth_uri: str | None = None
    trino_oauth_scope: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "EndpointsResource":
        """Bind each field to its variable, if that is set; an unset ``EnvVar`` would fail the run.

        The values stay in the environment: the UI shows the variables' names.
        """
        variables = {field: variable(field) for field in cls.model_fields}
        told = {field: dg.EnvVar(name) for field, name in variables.items() if environ.get(name)}
        return cls(**told)

    def resolve(self) -> "Endpoints":
        """The addresses and credentials of this moment.

        Raises:
            SettingsError: Neither the environment nor an embedded stack tells one of them.
        """
        from carbon_pipelines.embedded.endpoints import resolve_endpoints

        told = {
            variable(field): value
            for field in type(self).model_fields
            if (value := getattr(self, field)) is not None
        }
        return resolve_endpoints({**os.environ, **told})


def variable(field: str) -> str:
    """The environment variable of a field."""
    return f"CARBON_{field.upper()}"
