"""Both kinds of Iceberg catalog, for tests that hold for either.

What belongs here: a REST catalog with a warehouse of its own, and the mark that runs a test on it
and on the SQL catalog. What does not: what the tests do.
"""

import secrets
from dataclasses import replace

import pytest

from carbon_pipelines.embedded.endpoints import LakeEndpoint
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines_tests.integration.weed import weed_arguments, weed_shell

both_catalogs = pytest.mark.parametrize("pipeline", ["sql", "rest"], indirect=True)
"""For tests whose fixture ``pipeline`` is made with ``lake_of``."""


def lake_of(request: pytest.FixtureRequest, stack: Stack) -> LakeEndpoint | None:
    """The lake that the test's parameter asks for; None is the stack's own, a SQL catalog."""
    return rest_lake(stack) if getattr(request, "param", "sql") == "rest" else None


def rest_lake(stack: Stack) -> LakeEndpoint:
    """A fresh warehouse behind the object store's REST catalog, which asks for a credential."""
    bucket = f"rest-{secrets.token_hex(4)}"
    weed_shell(stack, f"s3tables.bucket -create -name {bucket} -account admin")
    lake = stack.endpoints().lake
    return replace(
        lake,
        catalog_type="rest",
        catalog_uri=f"http://127.0.0.1:{weed_arguments(stack)['s3.port.iceberg']}",
        warehouse=f"s3://{bucket}",
        catalog_credential=f"{lake.s3_access_key}:{lake.s3_secret_key}",
    )
