"""A table that can be certified, and its way to where people look.

What belongs here: the table, certifying it as it is now, and its declarations on disk. What does
not: what shows it.
"""

from pathlib import Path

from carbon_pipelines.catalog.load import Catalog, load_catalog
from carbon_pipelines.quality.certification import Certification, certify_table
from carbon_pipelines.quality.lake_scores import open_scores
from carbon_pipelines_tests.integration.pipeline import Pipeline
from carbon_pipelines_tests.integration.supervised import write_catalog

NAME = "reading"
ROWS = 200
SCHEMA = (
    f"CREATE TABLE {NAME} (id bigint PRIMARY KEY, name text, mw numeric(9,3), at timestamptz)",
    f"INSERT INTO {NAME} SELECT n, 'reading ' || n, n % 90, now()"
    f" FROM generate_series(1, {ROWS}) n",
)
EXPECTED = ({"kind": "unique", "columns": ["id"]},)
DECLARED = """
expectations:
  - {kind: unique, columns: [id]}
"""


def copy_readings(pipeline: Pipeline) -> None:
    """Make the table in the source, declare it, and copy it."""
    pipeline.execute(*SCHEMA)
    pipeline.declare(NAME, expectations=EXPECTED)
    pipeline.follow(NAME)


def certify(pipeline: Pipeline) -> Certification:
    """Certify the table as it is, which has to succeed."""
    with open_scores(pipeline.endpoints.lake) as scores:
        done = certify_table(
            pipeline.tables[NAME], pipeline.database, pipeline.endpoints, scores, by="a test"
        )
    assert done.is_certified, done.sentence()
    return done


def declared(pipeline: Pipeline, directory: Path) -> Catalog:
    """The declarations as Dagster and commands load them."""
    catalog = write_catalog(pipeline, directory)
    with (catalog / pipeline.name / f"{NAME}.yaml").open("a") as file:
        file.write(DECLARED)
    return load_catalog(catalog)
