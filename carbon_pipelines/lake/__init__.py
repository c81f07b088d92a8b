"""Iceberg: types, schema evolution, first copy and merge of change events, one commit at a time."""
