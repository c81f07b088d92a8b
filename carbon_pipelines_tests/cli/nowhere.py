"""Addresses of every service, at which nothing answers."""

NOWHERE = {
    "CARBON_STREAM_BOOTSTRAP": "127.0.0.1:1",
    "CARBON_LAKE_CATALOG_TYPE": "rest",
    "CARBON_LAKE_CATALOG_URI": "http://127.0.0.1:1",
    "CARBON_LAKE_WAREHOUSE": "s3://lake/warehouse",
    "CARBON_LAKE_S3_ENDPOINT": "http://127.0.0.1:1",
    "CARBON_LAKE_S3_ACCESS_KEY": "key",
    "CARBON_LAKE_S3_SECRET_KEY": "secret",
    "CARBON_LAKE_S3_REGION": "us-east-1",
}
