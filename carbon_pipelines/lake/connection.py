"""Opening the Iceberg catalog and loading tables from it.

What belongs here: turning a ``LakeEndpoint`` into a PyIceberg catalog, and the errors of a catalog
or bucket that does not answer. What does not: anything about the content of a table.
"""

from collections.abc import Generator
from contextlib import contextmanager

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    NoSuchTableError,
    OAuthError,
    ServerError,
    ServiceUnavailableError,
    UnauthorizedError,
)
from pyiceberg.table import Table
from sqlalchemy.exc import DBAPIError, OperationalError

from carbon_pipelines.embedded.endpoints import LakeEndpoint
from carbon_pipelines.embedded.names import ICEBERG_CATALOG
from carbon_pipelines.errors import (
    CommitConflictError,
    LakeAuthenticationError,
    LakeUnavailableError,
    TableNotCopiedError,
)
from carbon_pipelines.lake.file_io import CACHE_BYTES, CACHE_DIRECTORY

SHARED_FILES = "carbon_pipelines.lake.file_io.SharedFileIO"
KEPT_FILES = "carbon_pipelines.lake.file_io.KeptFileIO"


def open_catalog(lake: LakeEndpoint, *, files: str = SHARED_FILES) -> Catalog:
    """Connect to the Iceberg catalog.

    Args:
        lake: Where it is.
        files: How files are reached: ``KEPT_FILES`` answers from memory what this process knows,
            and from local disk what others did, if ``lake`` says where.

    Raises:
        LakeUnavailableError: The catalog does not answer (retryable).
        LakeAuthenticationError: The catalog refuses our credentials.
    """
    properties = {
        "type": lake.catalog_type,
        "uri": lake.catalog_uri,
        "warehouse": lake.warehouse,
        "py-io-impl": files,
        "s3.endpoint": lake.s3_endpoint,
        "s3.access-key-id": lake.s3_access_key,
        "s3.secret-access-key": lake.s3_secret_key,
        "s3.region": lake.s3_region,
        "s3.force-virtual-addressing": "false",
        "s3.connect-timeout": "5.0",
        "s3.request-timeout": "60.0",
        "pool_pre_ping": "true",
        "init_catalog_tables": "true",
    }
    if lake.cache is not None and files == KEPT_FILES:
        properties[CACHE_DIRECTORY] = str(lake.cache.directory)
        properties[CACHE_BYTES] = str(lake.cache.most_bytes)
    if lake.catalog_credential:
        properties["credential"] = lake.catalog_credential
        properties["oauth2-server-uri"] = f"{lake.catalog_uri.rstrip('/')}/v1/oauth/tokens"
        if lake.catalog_scope:
            properties["scope"] = lake.catalog_scope
    with lake_errors(f"Iceberg catalog ({lake.catalog_type})"):
        return load_catalog(ICEBERG_CATALOG, **properties)


@contextmanager
def lake_errors(what: str) -> Generator[None]:
    """Translate a conflict and the errors of an unreachable catalog or store; ``what`` names it."""
    try:
        yield
    except CommitFailedException as conflict:
        raise CommitConflictError(what, 1) from conflict
    except (OperationalError, DBAPIError) as error:
        text = str(error.orig)
        if "authentication failed" in text or "permission denied" in text:
            raise LakeAuthenticationError(what) from error
        raise LakeUnavailableError(
            what, text.splitlines()[0] if text else type(error).__name__
        ) from error
    except (ServerError, ServiceUnavailableError, CommitStateUnknownException) as error:
        raise LakeUnavailableError(what, str(error).partition("\n")[0][:300]) from error
    except (UnauthorizedError, ForbiddenError, OAuthError) as error:
        raise LakeAuthenticationError(what) from error
    except OSError as error:
        text = str(error)
        if any(
            word in text
            for word in ("ACCESS_DENIED", "InvalidAccessKeyId", "SignatureDoesNotMatch")
        ):
            raise LakeAuthenticationError(what) from error
        raise LakeUnavailableError(
            what, text.splitlines()[0][:300] if text else "no detail"
        ) from error


def load_table(catalog: Catalog, identifier: tuple[str, str]) -> Table | None:
    """The table's current state, or ``None`` where the catalog has no such table."""
    with lake_errors(f"Iceberg table {'.'.join(identifier)}"):
        try:
            return catalog.load_table(identifier)
        except NoSuchTableError:
            return None


def load_lake_table(catalog: Catalog, identifier: tuple[str, str]) -> Table:
    """The table as the catalog names it now.

    Raises:
        TableNotCopiedError: There is none.
    """
    table = load_table(catalog, identifier)
    if table is None:
        raise TableNotCopiedError("/".join(identifier))
    return table
