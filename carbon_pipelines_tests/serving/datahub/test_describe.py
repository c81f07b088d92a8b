"""What is told of the sample market, aspect by aspect."""

from dataclasses import replace

import pytest

from carbon_pipelines.catalog.owners import OwnersSpec
from carbon_pipelines.serving.datahub.describe import describe_database, describe_marts
from carbon_pipelines.serving.datahub.facts import LakeColumn, Setting
from carbon_pipelines.serving.datahub.urns import Names
from carbon_pipelines_tests.serving.datahub.telling import (
    CREDIT,
    aspect,
    column,
    credit,
    dataset,
    events,
    only,
)
from carbon_pipelines_tests.serving.datahub.world import (
    MARKET,
    SETTING,
    market,
    marts,
    told_of_market,
    told_of_marts,
)


def test_the_same_facts_are_told_in_the_same_bytes() -> None:
    first = [one.to_wire() for one in (*told_of_market(), *told_of_marts())]
    again = [
        one.to_wire()
        for one in (*describe_database(SETTING, market()), *describe_marts(SETTING, marts()))
    ]

    assert first == again
    assert all(one["aspect"]["value"].isascii() for one in first)


def test_each_aspect_is_told_once_but_for_events() -> None:
    for told in (told_of_market(), told_of_marts()):
        named = [(one.urn, one.aspect) for one in told if one.sharing != "event"]
        assert len(named) == len(set(named))


def test_a_table_in_postgresql_has_the_types_keys_and_classification_that_were_declared() -> None:
    credit = dataset("postgres", "market.public.credit")
    schema = aspect(told_of_market(), credit, "schemaMetadata")

    fields = {one["fieldPath"]: one for one in schema["fields"]}
    assert [one["nativeDataType"] for one in schema["fields"]] == [
        "uuid",
        "integer",
        "integer",
        "smallint",
        "numeric(12,3)",
        "public.credit_state",
        "timestamp with time zone",
        "jsonb",
    ]
    assert schema["primaryKeys"] == ["credit_id"]
    assert fields["state"]["type"] == {"type": {"com.linkedin.schema.EnumType": {}}}
    assert fields["tonnes"]["globalTags"] == {
        "tags": [{"tag": "urn:li:tag:classification.internal"}]
    }
    assert [fields["attributes"]["nullable"], fields["tonnes"]["nullable"]] == [True, False]
    assert aspect(told_of_market(), credit, "globalTags") == {
        "tags": [{"tag": "urn:li:tag:classification.confidential"}]
    }
    [owner] = aspect(told_of_market(), credit, "ownership")["owners"]
    assert owner["owner"] == "urn:li:corpGroup:registry"
    assert aspect(told_of_market(), credit, "domains") == {"domains": ["urn:li:domain:market"]}


def test_a_lake_table_has_its_partitions_and_its_columns_come_from_the_topics_rows() -> None:
    reading = dataset("iceberg", "market.emission_reading")
    schema = aspect(told_of_market(), reading, "schemaMetadata")
    lineage = aspect(told_of_market(), reading, "upstreamLineage")

    partitions = [one["fieldPath"] for one in schema["fields"] if one["isPartitioningKey"]]
    assert partitions == ["read_at"]
    topic = "cdc.market.public.emission_reading"
    assert [one["dataset"] for one in lineage["upstreams"]] == [dataset("kafka", topic)]
    assert [(one["upstreams"], one["downstreams"]) for one in lineage["fineGrainedLineages"]] == [
        ([column("kafka", topic, f"after.{name}")], [column("iceberg", reading_name, name)])
        for reading_name in ["market.emission_reading"]
        for name in ("meter_id", "read_at", "co2_tonnes", "ch4_kg", "energy_mwh", "quality")
    ]


def test_a_column_that_the_lake_still_calls_otherwise_comes_from_the_same_column() -> None:
    facts = credit()
    assert facts.relation is not None
    renamed = tuple(
        replace(one, name="owner_id") if one.name == "holder_id" else one
        for one in facts.relation.columns
    )
    told = only(replace(facts, relation=replace(facts.relation, columns=renamed)))

    lineage = aspect(told, CREDIT, "upstreamLineage")["fineGrainedLineages"]
    topic = "cdc.market.public.credit"
    assert {"".join(one["downstreams"]): one["upstreams"] for one in lineage}[
        column("iceberg", "market.credit", "holder_id")
    ] == [column("kafka", topic, "after.owner_id")]


def test_a_view_of_trino_has_the_certified_columns_of_what_the_lake_calls_otherwise_now() -> None:
    facts = credit()
    assert facts.lake is not None
    lake = replace(facts.lake, certified={"credit_id": "credit_id", "owner": "holder_id"})
    told = only(replace(facts, lake=lake))

    view = "lake.certified_market.credit"
    made = aspect(told, dataset("trino", view), "upstreamLineage")["fineGrainedLineages"]
    assert [(one["upstreams"], one["downstreams"]) for one in made] == [
        ([column("iceberg", "market.credit", now)], [column("trino", view, name)])
        for name, now in (("credit_id", "credit_id"), ("owner", "holder_id"))
    ]
    never = only(replace(facts, lake=replace(lake, certified=None)))
    assert not [one for one in never if "trino" in one.urn]


def test_a_column_that_never_leaves_the_source_is_in_no_topic() -> None:
    facts = credit()
    hidden = facts.table.columns["holder_id"].model_copy(update={"protect": "drop"})
    columns = {**facts.table.columns, "holder_id": hidden}
    told = only(replace(facts, table=facts.table.model_copy(update={"columns": columns})))

    topic = dataset("kafka", "cdc.market.public.credit")
    paths = [one["fieldPath"] for one in aspect(told, topic, "schemaMetadata")["fields"]]
    assert "after.tonnes" in paths
    assert "after.holder_id" not in paths
    source = dataset("postgres", "market.public.credit")
    assert column("postgres", "market.public.credit", "holder_id") not in str(
        aspect(told, topic, "upstreamLineage")
    )
    assert "holder_id" in str(aspect(told, source, "schemaMetadata"))


def test_a_history_says_since_when_a_row_was_the_row() -> None:
    facts = credit()
    assert facts.lake is not None
    added = (
        LakeColumn("carbon_valid_from", "timestamptz", required=False),
        LakeColumn("carbon_valid_from_lsn", "long", required=True),
    )
    table = facts.table.model_copy(update={"mode": "history"})
    lake = replace(facts.lake, columns=(*facts.lake.columns, *added))
    told = only(replace(facts, table=table, lake=lake))

    lineage = aspect(told, CREDIT, "upstreamLineage")
    topic = "cdc.market.public.credit"
    assert {one["type"] for one in lineage["upstreams"]} == {"TRANSFORMED"}
    assert [one["upstreams"] for one in lineage["fineGrainedLineages"]][-2:] == [
        [column("kafka", topic, "ts_ms")],
        [column("kafka", topic, "source")],
    ]


def test_a_table_that_is_not_in_the_lake_or_gone_from_the_source_is_told_without_columns() -> None:
    told = only(credit(lake=None, relation=None, scores=()))

    assert {one.urn for one in told if one.entity == "dataset"} == {
        CREDIT,
        dataset("postgres", "market.public.credit"),
        dataset("kafka", "cdc.market.public.credit"),
    }
    assert not events(told, "schemaMetadata")
    assert not events(told, "upstreamLineage")


def test_a_mart_is_shown_where_it_is_configured_with_each_column_from_the_lakes() -> None:
    told = told_of_marts()

    name = "mart.credit_inventory"
    made = aspect(told, dataset("iceberg", name), "upstreamLineage")
    assert [one["dataset"] for one in made["upstreams"]] == [
        CREDIT,
        dataset("iceberg", "market.facility"),
    ]
    counted = [one for one in made["fineGrainedLineages"] if one["upstreamType"] == "DATASET"]
    assert [(one["upstreams"], one["downstreams"]) for one in counted] == [
        ([CREDIT], [column("iceberg", name, "credits")])
    ]
    for shown in (dataset("doris", name), dataset("trino", f"lake.{name}")):
        lineage = aspect(told, shown, "upstreamLineage")
        assert [one["dataset"] for one in lineage["upstreams"]] == [dataset("iceberg", name)]
        assert len(lineage["fineGrainedLineages"]) == 7
        assert lineage["upstreams"][0]["type"] == "COPY"
    schema = aspect(told, dataset("doris", name), "schemaMetadata")
    assert [one["nativeDataType"] for one in schema["fields"]] == [
        "int",
        "string",
        "string",
        "string",
        "long",
        "long",
        "decimal(38, 3)",
    ]


def test_a_build_of_a_mart_says_which_certified_snapshots_it_was_made_of() -> None:
    told = told_of_marts()
    [(run, made)] = [
        (one.urn, one.value)
        for one in told
        if one.aspect == "dataProcessInstanceProperties" and "credit_inventory" in one.text
    ]

    assert made["customProperties"] == {
        "certified.market.credit": "7",
        "certified.market.facility": "7",
    }
    assert aspect(told, run, "dataProcessInstanceInput")["inputs"] == [
        CREDIT,
        dataset("iceberg", "market.facility"),
    ]
    assert (
        aspect(told, run, "dataProcessInstanceRunEvent")["timestampMillis"]
        == made["created"]["time"]
    )


@pytest.mark.parametrize("operation", ["replace", "something new"])
def test_upkeep_is_no_operation_on_rows(operation: str) -> None:
    facts = credit()
    assert facts.lake is not None
    moved = tuple(replace(one, operation=operation) for one in facts.lake.snapshots)

    assert events(only(facts), "operation")
    assert not events(only(replace(facts, lake=replace(facts.lake, snapshots=moved))), "operation")


def test_a_team_that_is_written_to_has_its_address_and_no_secret_is_told() -> None:
    mail = {"kind": "email", "to": ["registry@example.org"]}
    slack = {"kind": "slack", "url_variable": "CARBON_ALERTS_SLACK"}
    owners = OwnersSpec.model_validate(
        {
            "default": [slack],
            "teams": {"team:registry": [slack, mail]},
            "smtp": {"host": "mail", "port": "25", "sender": "a@example.org"},
        }
    )
    told = describe_database(Setting(Names(), owners), market())

    groups = {one.urn: one.value["email"] for one in told if one.aspect == "corpGroupInfo"}
    assert groups["urn:li:corpGroup:registry"] == "registry@example.org"
    assert groups["urn:li:corpGroup:risk"] is None
    assert not any("CARBON_" in one.text for one in told)


def test_another_environment_has_other_datasets() -> None:
    told = describe_database(Setting(Names("DEV")), market())

    assert all(",DEV)" in one.urn for one in told if one.entity in ("dataset", "dataJob"))
    assert {table.label for table in MARKET.tables} == {
        one.value["customProperties"]["carbon.table"]
        for one in told
        if one.aspect == "datasetProperties"
    }
