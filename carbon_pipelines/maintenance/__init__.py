"""Upkeep of Iceberg tables: health, compaction, expiry, orphans."""
