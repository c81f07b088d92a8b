"""Serving: what people look at is what was certified.

What belongs here: bringing marts to the services that people look at, and reading back that these
show them. What does not: making marts (``mart``), and what is certified (``quality``).

Doris: settings (``doris_settings.py``), statements (``doris_statements.py``) and who runs them
(``doris_sql.py``), HTTP (``doris_http.py``), loads (``doris_load.py``, ``doris_rows.py``), the lake
as a catalog of Doris and its materialized views (``doris_lake.py``, ``doris_view.py``), and a mart
from end to end (``doris_content.py``, ``doris_mart.py``).

Trino: views and their statements (``trino_view.py``), who runs them (``trino_sql.py``), and one of
them read back (``trino_serving.py``) against the sum that DuckDB makes (``snapshot_sum.py``,
``row_sum.py``).

Superset: settings (``superset_settings.py``), REST (``superset_http.py``), dashboards as code
(``superset_code.py``, ``superset_plan.py``, ``superset_import.py``), databases and datasets
(``superset_data.py``), roles (``superset_access.py``), what charts show (``superset_charts.py``),
what is proven (``superset_proven.py``), and a dashboard from end to end (``superset_serve.py``,
opened by ``superset_open.py``).

Freshness: what a service was seen to show (``visible.py``), and how far behind each stage is
(``freshness.py``, ``freshness_reading.py``, ``freshness_page.py``).
"""
