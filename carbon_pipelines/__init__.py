"""Change data from PostgreSQL to proven Iceberg tables, orchestrated by Dagster."""
