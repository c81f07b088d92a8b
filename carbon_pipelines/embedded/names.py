"""Fixed names inside the embedded stack, for those who start it and those who address it.

What belongs here: constants without imports, so that reading an address costs nothing. What does
not: ports and passwords, which each stack draws for itself (``state``).
"""

LOOPBACK = "127.0.0.1"

POSTGRES_SUPERUSER = "carbon_admin"
"""Not "carbon": `"$user"` is first in search_path, and the source's own schema has that name."""

EMBEDDED_PASSWORD_VARIABLE = "CARBON_POSTGRES_PASSWORD"
"""Variable of the embedded Kafka Connect from which connectors take the password."""

ICEBERG_DATABASE = "iceberg_catalog"
"""Database of the embedded PostgreSQL that holds the SQL catalog's tables."""

ICEBERG_CATALOG = "carbon"
"""Value of ``catalog_name`` in the SQL catalog's tables; every reader must use the same."""

TRINO_CATALOG = "lake"
"""What the embedded Trino calls it."""

SUPERSET_USER = "carbon"
"""The one user of the embedded Superset, an administrator of it."""

BUCKET = "lake"
"""Three letters or more: the object store refuses shorter names."""

WAREHOUSE = f"s3://{BUCKET}/warehouse"

S3_REGION = "us-east-1"
