"""An export of Superset for the tests: files as Superset writes them.

What belongs here: writing it. What does not: assertions.
"""

from pathlib import Path

import yaml

FILES = {
    "metadata.yaml": {"version": "1.0.0", "type": "Dashboard"},
    "databases/Trino.yaml": {
        "database_name": "Trino",
        "sqlalchemy_uri": "trino://carbon@trino:8080/lake",
        "uuid": "d-1",
    },
    "datasets/Trino/price_curve.yaml": {
        "table_name": "price_curve",
        "schema": "mart",
        "uuid": "t-1",
        "database_uuid": "d-1",
        "columns": [
            {"column_name": "day", "type": "DATE"},
            {"column_name": "close_price", "type": "DECIMAL(12, 4)"},
        ],
        "metrics": [
            {"metric_name": "last_price", "expression": "MAX(close_price)"},
            {"metric_name": "count", "expression": "COUNT(*)"},
        ],
    },
    "datasets/Trino/somebody_elses.yaml": {
        "table_name": "somebody_elses",
        "schema": "mart",
        "uuid": "t-2",
        "database_uuid": "d-1",
        "columns": [{"column_name": "x", "type": "INT"}],
    },
    "charts/Prices_1.yaml": {
        "slice_name": "Prices",
        "viz_type": "echarts_timeseries_line",
        "params": {
            "x_axis": "day",
            "metrics": ["last_price", {"column": {"column_name": "close_price"}}],
            "groupby": ["not a column"],
        },
        "dataset_uuid": "t-1",
        "uuid": "c-1",
    },
    "charts/Others_2.yaml": {
        "slice_name": "Others",
        "viz_type": "table",
        "dataset_uuid": "t-2",
        "uuid": "c-2",
    },
    "dashboards/Risk_1.yaml": {
        "dashboard_title": "Carbon risk",
        "description": "Prices and what is open.",
        "uuid": "b-1",
        "position": {
            "DASHBOARD_VERSION_KEY": "v2",
            "CHART-a": {"type": "CHART", "meta": {"uuid": "c-1", "chartId": 90}},
            "CHART-b": {"type": "CHART", "meta": {"uuid": "c-2", "chartId": 91}},
            "ROW-1": {"type": "ROW", "meta": {}},
        },
    },
}
NUMBERS = {"c-1": 11, "c-2": 12, "b-1": 5}


def write_export(directory: Path) -> Path:
    """The files below a directory."""
    for name, document in FILES.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return directory
