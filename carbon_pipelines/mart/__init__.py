"""Marts: dbt models over certified snapshots, published to the lake.

What belongs here: what the dbt project says (``project.py``), the snapshots it may read
(``certified.py``), running dbt (``build.py``, ``dbt_run.py``), dbt-duckdb's side of reading and
publishing (``duckdb_plugin.py``, ``lake_table.py``). What does not: the models (``dbt/``), and what
is certified (``quality``).
"""
