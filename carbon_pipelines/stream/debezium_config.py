"""The configuration of a Debezium connector that captures a declared database.

What belongs here: every setting that what we read depends on, and why it has its value. What does
not: sending it to a worker (a person's or an operator's business), and where the password is: it is
named, never written.
Source: Debezium's documentation of the PostgreSQL connector, "Connector properties".
"""

import re
from collections.abc import Mapping

from psycopg.conninfo import conninfo_to_dict

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.stream.topics import LARGEST_EVENT_BYTES, topic_prefix

_SSL = ("sslmode", "sslrootcert", "sslcert", "sslkey")
_JSON = "org.apache.kafka.connect.json.JsonConverter"


def connector_config(database: DatabaseSpec, dsn: str, *, password: str) -> Mapping[str, str]:
    """The configuration as Kafka Connect takes it: ``PUT /connectors/<name>/config``.

    Args:
        database: What is declared; its tables, dropped columns and keys.
        dsn: Where it is; no password is taken from it.
        password: A reference that a config provider of the worker resolves, like
            ``${env:CARBON_SOURCE_MARKET_PASSWORD}``.
    """
    values = database.connector or DebeziumSpec()
    tables = sorted(database.tables, key=lambda table: table.name)
    config = {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        **_connection(dsn, password),
        # which changes: those of our publication and slot, which "carbon sync" sets up
        "plugin.name": "pgoutput",
        "slot.name": database.slot_name,
        "publication.name": database.publication_name,
        "publication.autocreate.mode": "disabled",
        "table.include.list": ",".join(
            ["carbon\\.ddl_history", *(_named(table) for table in tables)]
        ),
        "topic.prefix": topic_prefix(database.name),
        # the first copy is ours, so the connector reads no rows of its own
        "snapshot.mode": "no_data",
        # TRUNCATE is skipped unless told otherwise; other transactions' messages are not ours
        "skipped.operations": "none",
        "message.prefix.exclude.list": ".*",
        # a slot that is past the stored offset has lost changes: the connector must stop
        "offset.mismatch.strategy": "trust_offset",
        "lsn.flush.mode": "connector",
        "heartbeat.interval.ms": "1000",
        # the tables' own topics: one partition keeps the order of a changed key
        "topic.creation.default.partitions": "1",
        "topic.creation.default.replication.factor": "-1",
        "topic.creation.default.cleanup.policy": "delete",
        "tombstones.on.delete": "false",
        "provide.transaction.metadata": "false",
        # values: what is declared, and nothing left out
        "decimal.handling.mode": values.decimal_handling_mode,
        "time.precision.mode": values.time_precision_mode,
        "binary.handling.mode": values.binary_handling_mode,
        "interval.handling.mode": values.interval_handling_mode,
        "include.unknown.datatypes": "true",
        "unavailable.value.placeholder": values.unavailable_value_placeholder,
        # a value that cannot be written becomes NULL unless told otherwise
        "event.converting.failure.handling.mode": "fail",
        "key.converter": _JSON,
        "key.converter.schemas.enable": "false",
        "value.converter": _JSON,
        "value.converter.schemas.enable": "false",
        # a NULL becomes the column's default unless told otherwise
        "value.converter.replace.null.with.default": "false",
        "producer.override.max.request.size": str(LARGEST_EVENT_BYTES),
        "errors.tolerance": "none",
    }
    keys = [f"{_named(table)}:{','.join(table.key)}" for table in tables if table.key]
    if keys:
        config["message.key.columns"] = ";".join(keys)
    dropped = [
        f"{_named(table)}\\.{re.escape(column)}"
        for table in tables
        for column in sorted(table.dropped_columns)
    ]
    if dropped:
        config["column.exclude.list"] = ",".join(dropped)
    return config


def _connection(dsn: str, password: str) -> Mapping[str, str]:
    found = conninfo_to_dict(dsn)
    config = {
        "database.hostname": str(found.get("host") or "localhost"),
        "database.port": str(found.get("port") or 5432),
        "database.dbname": str(found.get("dbname") or ""),
        "database.user": str(found.get("user") or ""),
        "database.password": password,
    }
    return config | {f"database.{name}": str(found[name]) for name in _SSL if name in found}


def _named(table: TableSpec) -> str:
    """A table as a regular expression; a comma would end it."""
    name = f"{re.escape(table.source_schema)}\\.{re.escape(table.source_table)}"
    return name.replace(",", "\\x2c")
