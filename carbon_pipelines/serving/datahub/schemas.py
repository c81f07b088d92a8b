"""Columns as DataHub shows them: type, nullability, key, description and classification.

What belongs here: the aspect ``schemaMetadata`` from columns, and which of DataHub's twelve kinds a
type is. What does not: whose columns they are (``datasets.py``, ``bi.py``).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from carbon_pipelines.serving.datahub.proposal import Aspect
from carbon_pipelines.serving.datahub.urns import classification_urn, platform_urn

NOBODY: Aspect = {"actor": "urn:li:corpuser:unknown", "time": 0}
"""Who and when, where DataHub asks for it and the time would be that of the telling."""
_KINDS: Sequence[tuple[str, str]] = (
    # the first that is found in the type's name, without what is in parentheses
    (r"\[\]$|^list|^array", "ArrayType"),
    (r"^(struct|record|composite|row)", "RecordType"),
    (r"^(map|jsonb?$)", "MapType"),
    (r"^bool", "BooleanType"),
    (r"^(timestamp|time|interval|datetime)", "TimeType"),
    (r"^date", "DateType"),
    (r"^(bytea|binary|varbinary|fixed|blob)", "BytesType"),
    (r"^enum", "EnumType"),
    (
        r"^(u?(big|small|tiny|large|huge)?int|integer|numeric|decimal|real|double|float|long|money)",
        "NumberType",
    ),
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of any dataset.

    Attributes:
        type: As the dataset's own system spells it.
        kind: One of DataHub's, if the spelling does not tell it.
    """

    path: str
    type: str
    nullable: bool = True
    description: str | None = None
    classification: str | None = None
    is_key: bool = False
    is_partition: bool = False
    kind: str | None = None


def schema(
    platform: str, name: str, columns: Iterable[Column], *, form: Aspect | None = None
) -> Aspect:
    """The aspect of a dataset's columns.

    Args:
        platform: Whose dataset it is.
        name: Of the dataset.
        columns: In their order.
        form: What DataHub calls the platform's schema; the usual one is empty.
    """
    listed = list(columns)
    keys = [column.path for column in listed if column.is_key]
    return {
        "schemaName": name,
        "platform": platform_urn(platform),
        "version": 0,
        "created": NOBODY,
        "lastModified": NOBODY,
        "hash": "",
        "platformSchema": form or {"com.linkedin.schema.OtherSchema": {"rawSchema": ""}},
        "fields": [_field(column) for column in listed],
        "primaryKeys": keys or None,
    }


def _field(column: Column) -> Aspect:
    tags = None
    if column.classification is not None:
        tags = {"tags": [{"tag": classification_urn(column.classification)}]}
    kind = column.kind or kind_of(column.type)
    return {
        "fieldPath": column.path,
        "nullable": column.nullable,
        "description": column.description,
        "type": {"type": {f"com.linkedin.schema.{kind}": {}}},
        "nativeDataType": column.type,
        "recursive": False,
        "globalTags": tags,
        "isPartOfKey": column.is_key,
        "isPartitioningKey": column.is_partition or None,
    }


def kind_of(type_name: str) -> str:
    """DataHub's kind of a type, by its name in PostgreSQL, Iceberg, Arrow or Doris."""
    bare = re.sub(r"\(.*?\)", "", type_name.lower()).strip()
    for pattern, kind in _KINDS:
        if re.search(pattern, bare):
            return kind
    return "StringType"
