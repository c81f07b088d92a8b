"""Messages as Debezium writes them, and a table to read them into."""

import json
from datetime import timedelta
from typing import Any

from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.catalog.table import TableSpec
from carbon_pipelines.source.position import Position
from carbon_pipelines.source.relation import SourceColumn, SourceRelation, SourceType
from carbon_pipelines.stream.debezium import Decoder
from carbon_pipelines.stream.debezium_order import Ordering
from carbon_pipelines.stream.json_values import builtin_type

UNAVAILABLE = "__debezium_unavailable_value"
OIDS = {
    "bool": 16,
    "bytea": 17,
    "int8": 20,
    "int2": 21,
    "int4": 23,
    "text": 25,
    "json": 114,
    "float4": 700,
    "float8": 701,
    "date": 1082,
    "time": 1083,
    "timestamp": 1114,
    "timestamptz": 1184,
    "interval": 1186,
    "timetz": 1266,
    "varbit": 1562,
    "numeric": 1700,
    "uuid": 2950,
    "text[]": 1009,
    "int4[]": 1007,
    "float8[]": 1022,
    "uuid[]": 2951,
    "numeric[]": 1231,
    "time[]": 1183,
    "bytea[]": 1001,
}


def source_type(name: str, typmod: int = -1) -> SourceType:
    found = builtin_type(OIDS[name], typmod)
    assert found is not None
    return found


def relation(version: int = 1, *, identity: str = "d", **columns: str) -> SourceRelation:
    """A table with the column ``id`` in front; a type that ends with ! is NOT NULL."""
    made = [
        SourceColumn(
            number,
            name,
            source_type(kind.rstrip("!")),
            not kind.endswith("!"),
            0 if name == "id" else None,
        )
        for number, (name, kind) in enumerate({"id": "int8!", **columns}.items(), start=1)
    ]
    return SourceRelation(16_384, "public", "t", "r", identity, tuple(made), version)


def table(**more: Any) -> TableSpec:
    fields = {"debezium": DebeziumSpec(), "key": ("id",), "source_table": "t", **more}
    return TableSpec(
        database="market",
        name="t",
        owner="team:tests",
        freshness=timedelta(hours=1),
        description="A table.",
        **fields,
    )


def decoder(
    *shapes: tuple[int, SourceRelation | None], after: Position | None = None, **more: Any
) -> Decoder:
    """A decoder that knows ``shapes`` from their commit LSNs on."""
    spec = table(**more)
    assert spec.debezium is not None
    known = [(Position(lsn, 0), shape) for lsn, shape in shapes]
    return Decoder(spec, spec.debezium, known, Ordering(after or Position(0, 0)))


def message(
    op: str,
    place: tuple[int | None, int],
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    snapshot: str = "false",
    xid: int | None = 700,
) -> bytes:
    sequence = [None if place[0] is None else str(place[0]), str(place[1])]
    source = {
        "connector": "postgresql",
        "snapshot": snapshot,
        "sequence": json.dumps(sequence),
        "txId": xid,
        "lsn": place[1],
        "ts_ms": 5,
    }
    return json.dumps({"before": before, "after": after, "source": source, "op": op}).encode()


def decoded(made: Decoder, *messages: bytes) -> list[dict[str, Any]]:
    """What the messages become, without what is the same in every event."""
    envelopes = [
        json.loads(envelope)
        for offset, value in enumerate(messages)
        for envelope in made.decode(offset, value)
    ]
    return [
        {
            "op": envelope["op"],
            "before": envelope["before"],
            "after": envelope["after"],
            **(
                {"unchanged": envelope["source"]["unchanged"]}
                if "unchanged" in envelope["source"]
                else {}
            ),
        }
        for envelope in envelopes
    ]
