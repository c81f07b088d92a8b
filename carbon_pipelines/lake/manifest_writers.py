"""Writing manifests that every engine reads.

What belongs here: how our manifests differ from those of PyIceberg's writer, of which these are
subclasses (pinned to 0.12). What does not: which files a manifest lists (``row_delta.py``).

Avro knows a fixed type by its name, and a name may be defined once in a schema. PyIceberg calls
every ``uuid`` and every ``decimal(9, 2)`` the same, so the manifests of a table that is partitioned
by two of them are no Avro that DuckDB or a Java engine can read. Here the second one gets a name of
its own. Readers go by field ids; what the type is called says nothing to them.
"""

import json
from typing import Any

from pyiceberg.avro.codecs import AVRO_CODEC_KEY, CODEC_MAPPING_ICEBERG_TO_AVRO
from pyiceberg.avro.file import (
    _SCHEMA_KEY,  # pyright: ignore[reportPrivateUsage]
    MAGIC,
    META_SCHEMA,
    AvroFileHeader,
    AvroOutputFile,
)
from pyiceberg.avro.resolver import construct_writer
from pyiceberg.manifest import ManifestContent, ManifestEntry, ManifestWriterV2
from pyiceberg.utils.schema_conversion import AvroSchemaConversion


class DataManifestWriter(ManifestWriterV2):
    """Writes a manifest whose content is data files."""

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        """PyIceberg's, with another header."""
        made = super().new_writer()
        made.__class__ = _ManifestOutput
        return made


class DeleteManifestWriter(DataManifestWriter):
    """Writes a manifest whose content is delete files."""

    def content(self) -> ManifestContent:
        """``DELETES``, where PyIceberg's writer always says ``DATA``."""
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class _ManifestOutput(AvroOutputFile[ManifestEntry]):
    """A manifest whose schema defines every name once."""

    def _write_header(self) -> None:
        schema = AvroSchemaConversion().iceberg_to_avro(
            self.file_schema, schema_name=self.schema_name
        )
        codec = self.metadata[AVRO_CODEC_KEY]
        meta = {
            **self.metadata,
            _SCHEMA_KEY: json.dumps(with_distinct_names(schema, set())),
            AVRO_CODEC_KEY: CODEC_MAPPING_ICEBERG_TO_AVRO.get(codec) or codec,
        }
        header = AvroFileHeader(MAGIC, meta, self.sync_bytes)
        construct_writer(META_SCHEMA).write(self.encoder, header)


def with_distinct_names(schema: Any, taken: set[str]) -> Any:
    """An Avro schema in which no two fixed types have one name; ``taken`` are those seen so far."""
    if isinstance(schema, list):
        return [with_distinct_names(part, taken) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "fixed":
        name, number = schema["name"], 1
        while schema["name"] in taken:
            number += 1
            schema = {**schema, "name": f"{name}_{number}"}
        taken.add(schema["name"])
        return schema
    return {key: with_distinct_names(part, taken) for key, part in schema.items()}
