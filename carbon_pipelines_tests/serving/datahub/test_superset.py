"""What Superset shows of the marts, read from an export's files."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from carbon_pipelines.errors import DataHubExportError
from carbon_pipelines.serving.datahub.superset import EXPORT, load_declared, load_export
from carbon_pipelines_tests.serving.datahub.export import NUMBERS, write_export
from carbon_pipelines_tests.serving.datahub.world import told_of_marts

SHOWN = "urn:li:dataset:(urn:li:dataPlatform:superset,Trino.mart.price_curve,PROD)"
TRINO = "urn:li:dataset:(urn:li:dataPlatform:trino,lake.mart.price_curve,PROD)"


def told(directory: Path, numbers: dict[str, int]) -> dict[tuple[str, str], Any]:
    """What is told of Superset, by urn and aspect."""
    export = load_export(write_export(directory), numbers)
    return {
        (one.urn, one.aspect): one.value
        for one in told_of_marts(export)
        if "superset" in one.urn and one.aspect != "dataPlatformInstance"
    }


def test_a_dataset_is_called_as_datahubs_source_calls_it_and_made_of_trinos_columns(
    tmp_path: Path,
) -> None:
    lineage = told(tmp_path, {})[SHOWN, "upstreamLineage"]

    made = {
        "".join(one["downstreams"]): (one["upstreamType"], one["upstreams"])
        for one in lineage["fineGrainedLineages"]
    }
    assert made == {
        f"urn:li:schemaField:({SHOWN},day)": ("FIELD_SET", [f"urn:li:schemaField:({TRINO},day)"]),
        f"urn:li:schemaField:({SHOWN},close_price)": (
            "FIELD_SET",
            [f"urn:li:schemaField:({TRINO},close_price)"],
        ),
        f"urn:li:schemaField:({SHOWN},last_price)": (
            "FIELD_SET",
            [f"urn:li:schemaField:({TRINO},close_price)"],
        ),
        f"urn:li:schemaField:({SHOWN},count)": ("DATASET", [TRINO]),
    }


def test_a_chart_shows_columns_and_a_dashboard_charts_by_the_numbers_superset_gave(
    tmp_path: Path,
) -> None:
    found = told(tmp_path, NUMBERS)

    chart, board = "urn:li:chart:(superset,11)", "urn:li:dashboard:(superset,5)"
    assert found[chart, "chartInfo"]["inputs"] == [{"string": SHOWN}]
    assert found[chart, "chartInfo"]["type"] == "LINE"
    assert [one["schemaFieldUrn"] for one in found[chart, "inputFields"]["fields"]] == [
        f"urn:li:schemaField:({SHOWN},{name})" for name in ("last_price", "close_price", "day")
    ]
    assert found[board, "dashboardInfo"]["charts"] == [chart]
    assert found[board, "dashboardInfo"]["title"] == "Carbon risk"


def test_what_has_no_number_yet_and_what_shows_no_mart_is_left_out(tmp_path: Path) -> None:
    assert {urn for urn, _ in told(tmp_path, {})} == {SHOWN}
    assert not any("somebody" in urn or ",12)" in urn for urn, _ in told(tmp_path, NUMBERS))


def test_an_export_without_its_database_and_columns_is_of_the_lake_as_it_is(
    tmp_path: Path,
) -> None:
    write_export(tmp_path)
    (tmp_path / "databases" / "Trino.yaml").unlink()
    file = tmp_path / "datasets" / "Trino" / "price_curve.yaml"
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump({**document, "columns": []}), encoding="utf-8")
    found = [one for one in told_of_marts(load_export(tmp_path)) if "superset" in one.urn]

    shown = "urn:li:dataset:(urn:li:dataPlatform:superset,Lake %28Trino%29.mart.price_curve,PROD)"
    [schema] = [one.value for one in found if one.aspect == "schemaMetadata"]
    assert {one.urn for one in found} == {shown}
    assert [one["fieldPath"] for one in schema["fields"]][:3] == ["market", "instrument", "hub"]
    assert len(schema["fields"]) == 16


def test_only_a_superset_that_is_configured_shows_anything(tmp_path: Path) -> None:
    write_export(tmp_path)
    there = {"CARBON_SUPERSET_DIR": str(tmp_path)}

    assert load_declared(there) is None
    assert load_declared({**there, "CARBON_SUPERSET_URL": "http://superset"}) == load_export(
        tmp_path
    )


def test_without_files_nothing_is_told_of_superset(tmp_path: Path) -> None:
    assert load_export(tmp_path) is None
    assert load_export(tmp_path / "nowhere") is None
    assert EXPORT.parts[-2:] == ("deploy", "superset")


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("charts/Prices_1.yaml", "slice_name: [", "while parsing"),
        ("charts/Prices_1.yaml", "- a", "it holds no fields"),
        ("charts/Prices_1.yaml", "slice_name: a", 'it has no "uuid"'),
        ("datasets/Trino/price_curve.yaml", "database_uuid: x", 'it has no "uuid"'),
    ],
)
def test_a_file_that_is_no_export_is_named(
    tmp_path: Path, file: str, text: str, reason: str
) -> None:
    (write_export(tmp_path) / file).write_text(text, encoding="utf-8")

    with pytest.raises(DataHubExportError, match=reason) as raised:
        load_export(tmp_path)

    assert file in str(raised.value)
