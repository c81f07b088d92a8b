"""The picture of the sample market's lineage, drawn from the events and from nothing else.

A wanted change is written with ``CARBON_UPDATE_SNAPSHOT=1 pytest`` of this file, and the image of
it by ``dot -Tsvg docs/images/lineage.dot -o docs/images/lineage.svg``.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carbon_pipelines.serving.datahub.picture import draw, read_graph, told_lines
from carbon_pipelines_tests.serving.datahub.export import NUMBERS, write_export
from carbon_pipelines_tests.serving.datahub.world import MARTS, told_of_market, told_of_marts

IMAGES = Path(__file__).resolve().parents[3] / "docs" / "images"
PICTURE, LINES = IMAGES / "lineage.dot", IMAGES / "lineage.txt"
TITLE = "Lineage of market, mart"


def sample_events() -> list[dict[str, Any]]:
    return [one.to_wire() for one in (*told_of_market(), *told_of_marts())]


def test_the_lineage_of_the_sample_market_is_the_picture_that_was_reviewed() -> None:
    graph = read_graph(sample_events())
    now = {PICTURE: draw(graph, title=TITLE), LINES: "\n".join(told_lines(graph)) + "\n"}
    if os.environ.get("CARBON_UPDATE_SNAPSHOT") == "1":
        for file, text in now.items():
            file.write_text(text, encoding="utf-8")

    assert {file.name: text for file, text in now.items()} == {
        file.name: file.read_text(encoding="utf-8") for file in now
    }


def test_the_image_is_of_that_picture() -> None:
    """Graphviz writes the name of each box and row into the image."""
    image = (IMAGES / "lineage.svg").read_text(encoding="utf-8")
    graph = read_graph(sample_events())

    boxes = [urn.split(",")[1] for urn in graph.boxes]
    assert boxes
    assert not [name for name in boxes if f">{name}</text>" not in image]
    assert image.count('class="edge"') == len(graph.lines)


def test_every_column_of_a_mart_leads_back_to_postgresql() -> None:
    graph = read_graph(sample_events())
    sources: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for start, end in graph.lines:
        sources.setdefault(end, set()).add(start)

    def origins(node: tuple[str, str]) -> set[str]:
        if node not in sources:
            return {node[0].split(":")[6].split(",")[0]}
        return {found for start in sources[node] for found in origins(start)}

    # Rows are counted as they are in the lake, and one column of the price curve is a word.
    rows = {"readings", "credits", "held_credits", "quotes", "market"}
    both = {"tonnes_per_mwh", "mean_price"}
    shown = {end for _, end in graph.lines if "dataPlatform:doris" in end[0]}
    assert {node: origins(node) for node in shown} == {
        (urn, path): {"iceberg"}
        if path in rows
        else {"postgres", "iceberg"}
        if path in both
        else {"postgres"}
        for urn, path in shown
    }
    assert len(shown) == sum(len(mart.columns) for mart in MARTS)


def test_one_line_more_or_less_is_another_picture() -> None:
    events = sample_events()
    drawn = draw(read_graph(events), title=TITLE)

    def without_one_line(event: Mapping[str, Any]) -> dict[str, Any]:
        value = json.loads(event["aspect"]["value"])
        value["fineGrainedLineages"].pop()
        return {**event, "aspect": {**event["aspect"], "value": json.dumps(value)}}

    told = [at for at, event in enumerate(events) if event["aspectName"] == "upstreamLineage"]
    assert len(told) > 30
    for at in told[::6]:
        changed = [*events[:at], without_one_line(events[at]), *events[at + 1 :]]
        assert draw(read_graph(changed), title=TITLE) != drawn


def test_a_chart_is_drawn_with_the_columns_it_shows(tmp_path: Path) -> None:
    from carbon_pipelines.serving.datahub.superset import load_export

    export = load_export(write_export(tmp_path), NUMBERS)
    graph = read_graph(one.to_wire() for one in told_of_marts(export))

    lines = told_lines(graph)
    assert "superset Trino.mart.price_curve close_price -> urn:li:chart:(superset,11)" in lines
    assert "urn:li:chart:(superset,11) -> urn:li:dashboard:(superset,5)" in lines
    assert "Carbon risk (dashboard)" in draw(graph, title="t")
