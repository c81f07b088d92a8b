"""Lineage as a picture, drawn from what is told to DataHub and from nothing else.

What belongs here: proposals in, a graph in Graphviz's language out. What does not: how it becomes
an image (``dot -Tsvg``), and what is told (``describe.py``).

A box is a dataset, chart or dashboard, a row in it a column. A line goes from column to column; one
that starts at a box's name says that rows are counted, or that the whole is shown.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from carbon_pipelines.serving.datahub.urns import dataset_of, dataset_parts

_PLATFORMS = ("postgres", "kafka", "iceberg", "trino", "doris", "superset")
_COLOURS = {
    "postgres": "#DCE8F5",
    "kafka": "#EEE6DA",
    "iceberg": "#DDF0EC",
    "trino": "#F5E1EE",
    "doris": "#E5E3F7",
    "superset": "#FBF0CF",
}
_WHOLE = ""
"""The port of a box's name."""

Node = tuple[str, str]
"""A box and a row of it."""


@dataclass(slots=True)
class Graph:
    """Boxes with their rows, lines between rows, and what each row is marked with."""

    boxes: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    titles: dict[str, str] = field(default_factory=dict[str, str])
    lines: set[tuple[Node, Node]] = field(default_factory=set[tuple[Node, Node]])


def read_graph(events: Iterable[Mapping[str, Any]]) -> Graph:
    """The graph that proposals, as they are sent, make."""
    graph = Graph()
    for event in events:
        urn, aspect = event["entityUrn"], event["aspectName"]
        value = json.loads(event["aspect"]["value"])
        if aspect == "schemaMetadata":
            rows = graph.boxes.setdefault(urn, {})
            rows.update({one["fieldPath"]: _mark(one) for one in value["fields"]})
        elif aspect == "upstreamLineage":
            graph.lines |= set(_lines(value))
        elif aspect in ("chartInfo", "dashboardInfo"):
            graph.boxes.setdefault(urn, {})
            graph.titles[urn] = value["title"]
            graph.lines |= {((one, _WHOLE), (urn, _WHOLE)) for one in value.get("charts") or []}
        elif aspect == "inputFields":
            named = [dataset_of(one["schemaFieldUrn"]) for one in value["fields"]]
            graph.lines |= {(one, (urn, _WHOLE)) for one in named}
    for start, end in graph.lines:
        for urn, row in (start, end):
            rows = graph.boxes.setdefault(urn, {})
            if row:
                rows.setdefault(row, "")
    return graph


def draw(graph: Graph, *, title: str) -> str:
    """The graph in Graphviz's language, always in the same order."""
    lines = [
        f"// {title}. Drawn from the events told to DataHub.",
        "digraph lineage {",
        "  rankdir=LR; ranksep=2.2; nodesep=0.25; splines=true;",
        f'  label="{title}"; labelloc=t; fontname="Helvetica"; fontsize=20;',
        '  node [shape=plaintext, fontname="Helvetica", fontsize=10];',
        '  edge [color="#5A6B7B", arrowsize=0.5, penwidth=0.6];',
    ]
    order = sorted(graph.boxes, key=_order)
    names = {urn: f"b{number}" for number, urn in enumerate(order)}
    ports = {
        urn: {row: f"r{number}" for number, row in enumerate(_rows(graph, urn))} for urn in order
    }
    for urn in order:
        lines += _box(graph, urn, names[urn], ports[urn])
    for start, end in sorted(graph.lines):
        left, right = (f"{names[urn]}:{ports[urn].get(row, 'name')}" for urn, row in (start, end))
        lines.append(f"  {left}:e -> {right}:w;")
    return "\n".join([*lines, "}"]) + "\n"


def told_lines(graph: Graph) -> list[str]:
    """The same lines as text for people, one each: what a review reads."""
    return sorted(f"{_shown(start)} -> {_shown(end)}" for start, end in graph.lines)


def _lines(value: Mapping[str, Any]) -> Iterator[tuple[Node, Node]]:
    for one in value.get("fineGrainedLineages") or []:
        for end in one["downstreams"]:
            for start in one["upstreams"]:
                rows = one["upstreamType"] == "DATASET"
                yield ((start, _WHOLE) if rows else dataset_of(start)), dataset_of(end)


def _mark(column: Mapping[str, Any]) -> str:
    """Key and classification of a column, and its type."""
    tags = [one["tag"] for one in (column.get("globalTags") or {}).get("tags") or []]
    marks = ["key"] if column["isPartOfKey"] else []
    marks += [tag.rpartition(".")[2] for tag in tags]
    return " ".join([column["nativeDataType"], *(f"[{mark}]" for mark in marks)])


def _rows(graph: Graph, urn: str) -> Sequence[str]:
    """Rows of a box in their order, without those of a topic that no line touches."""
    touched = {row for line in graph.lines for box, row in line if box == urn}
    rows = graph.boxes[urn]
    return [row for row in rows if row in touched or not urn.startswith(_TOPIC)]


_TOPIC = "urn:li:dataset:(urn:li:dataPlatform:kafka,"


def _box(graph: Graph, urn: str, name: str, ports: Mapping[str, str]) -> Iterator[str]:
    platform, title = _named(graph, urn)
    colour = _COLOURS.get(platform, "#EEEEEE")
    yield f"  {name} [label=<"
    yield '    <table border="0" cellborder="1" cellspacing="0" cellpadding="3" color="#9AA7B3">'
    head = f"<b>{escape(title)}</b><br/>{escape(platform)}"
    yield f'    <tr><td port="name" bgcolor="{colour}">{head}</td></tr>'
    for row, port in ports.items():
        mark = graph.boxes[urn][row]
        told = f'  <font color="#6B7280">{escape(mark)}</font>' if mark else ""
        yield f'    <tr><td port="{port}" align="left">{escape(row)}{told}</td></tr>'
    yield "    </table>>];"


def _named(graph: Graph, urn: str) -> tuple[str, str]:
    if urn.startswith("urn:li:dataset:"):
        return dataset_parts(urn)
    return "superset", f"{graph.titles[urn]} ({urn.split(':')[2]})"


def _order(urn: str) -> tuple[int, str]:
    platform = dataset_parts(urn)[0] if urn.startswith("urn:li:dataset:") else "superset"
    return (_PLATFORMS.index(platform) if platform in _PLATFORMS else len(_PLATFORMS), urn)


def _shown(node: Node) -> str:
    urn, row = node
    if not urn.startswith("urn:li:dataset:"):
        return urn
    return " ".join([*dataset_parts(urn), row or "(rows)"])
