"""Where services are, as Dagster resources."""
