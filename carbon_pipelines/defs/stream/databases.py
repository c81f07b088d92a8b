"""``stream/<database>``: materialized, Kafka holds everything committed before that moment."""

from datetime import timedelta

import dagster as dg

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.failures import RETRIES, as_failure
from carbon_pipelines.defs.keys import database_key, table_key
from carbon_pipelines.defs.resources.endpoints import EndpointsResource

CAPTURED = "captured"


class DrainConfig(dg.Config):
    """How one drain behaves."""

    timeout_seconds: float = 600.0


def stream_database(database: DatabaseSpec) -> dg.AssetsDefinition:
    """The asset that brings one database's changes into Kafka up to now."""

    @dg.asset(
        key=database_key("stream", database),
        deps=[table_key("source", table) for table in database.tables],
        group_name="stream",
        kinds={"kafka"},
        owners=[database.owner],
        description=(
            f"The change events of {database.name}, one topic per table. Materializing drains the "
            "replication slot up to this moment, or waits until the running capture has."
        ),
        metadata={
            "carbon/slot": database.slot_name,
            "carbon/publications": [database.publication_name, database.keyless_publication_name],
        },
        tags={"carbon/database": database.name},
        pool="stream",
        retry_policy=RETRIES,
        check_specs=[
            dg.AssetCheckSpec(
                CAPTURED,
                asset=database_key("stream", database),
                blocking=False,
                description="Every declared table is captured; if one is not, this says why.",
            )
        ],
    )
    def drained(config: DrainConfig, endpoints: EndpointsResource) -> dg.MaterializeResult:
        from carbon_pipelines.stream.drain import drain

        with as_failure():
            timeout = timedelta(seconds=config.timeout_seconds)
            facts = drain(database, endpoints.resolve(), timeout=timeout)
        refused = {name: str(refusal) for name, refusal in facts.refused.items()}
        return dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(
                    asset_key=database_key("stream", database),
                    check_name=CAPTURED,
                    passed=not refused,
                    severity=dg.AssetCheckSeverity.ERROR,
                    description="\n".join(refused.values()) or None,
                    metadata={"carbon/refused": refused},
                )
            ],
            metadata={
                "carbon/position": str(facts.position),
                "carbon/events": facts.events,
                "carbon/seconds": facts.seconds,
                "carbon/captured_by": facts.by,
                "carbon/generation": facts.generation,
                **({"carbon/advice": list(facts.advice)} if facts.advice else {}),
                **({"carbon/refused": refused} if refused else {}),
            },
        )

    return drained


def stream_databases(catalog: Catalog) -> dg.Definitions:
    """One asset per database."""
    return dg.Definitions(assets=[stream_database(database) for database in catalog.databases])
