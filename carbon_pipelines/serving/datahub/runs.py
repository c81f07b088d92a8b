"""What runs: merges into the lake and builds of marts, as jobs of DataHub and what they did.

What belongs here: a job for each table and mart, an operation for each of their snapshots, and an
instance for each build of a mart. What does not: running anything.

A merge comes every few minutes, so it is an operation on its table alone. A build is told with what
it was made of.
"""

from collections.abc import Iterator, Sequence

from carbon_pipelines.serving.datahub.assertions import WHOLE
from carbon_pipelines.serving.datahub.datasets import belonging
from carbon_pipelines.serving.datahub.facts import LakeSnapshot
from carbon_pipelines.serving.datahub.proposal import TIME, Aspect, Proposal
from carbon_pipelines.serving.datahub.urns import FLOW, Names, platform_urn, run_urn

ACTOR = "urn:li:corpuser:carbon_pipelines"
"""Who did it, where DataHub asks for somebody."""
_OPERATIONS = {"append": "INSERT", "overwrite": "UPDATE", "delete": "DELETE"}
"""By Iceberg's word; upkeep ("replace") changes no row and is none."""


def flow_proposals(names: Names) -> Iterator[Proposal]:
    """That there is this project."""
    info = {
        "customProperties": {},
        "name": FLOW,
        "description": "Keeps Iceberg tables an exact, fresh and proven copy of PostgreSQL.",
    }
    yield Proposal("dataFlow", names.flow(), "dataFlowInfo", info)
    yield Proposal("dataFlow", names.flow(), "status", {"removed": False})


def job_proposals(
    names: Names,
    key: str,
    *,
    description: str,
    owner: str,
    domain: str | None,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Iterator[Proposal]:
    """An asset of the project, what it reads and what it writes."""
    urn = names.job(key)
    info = {
        "customProperties": {"carbon.stage": key.partition("/")[0]},
        "name": key,
        "description": description,
        "type": {"string": "COMMAND"},
        "flowUrn": names.flow(),
    }
    yield Proposal("dataJob", urn, "dataJobInfo", info)
    read = {"inputDatasets": list(inputs), "outputDatasets": list(outputs)}
    yield Proposal("dataJob", urn, "dataJobInputOutput", read)
    yield from belonging("dataJob", urn, owner=owner, domain=domain)


def operation_proposals(dataset: str, snapshots: Sequence[LakeSnapshot]) -> Iterator[Proposal]:
    """What was done to a table of the lake, oldest first."""
    for snapshot in snapshots:
        kind = _OPERATIONS.get(snapshot.operation)
        if kind is None:
            continue
        told = {
            "snapshot_id": str(snapshot.snapshot_id),
            "position": snapshot.position,
            "added_rows": str(snapshot.added_rows),
            "deleted_rows": str(snapshot.deleted_rows),
        }
        event: Aspect = {
            TIME: snapshot.at,
            "lastUpdatedTimestamp": snapshot.at,
            "operationType": kind,
            "numAffectedRows": snapshot.added_rows + snapshot.deleted_rows,
            "actor": ACTOR,
            "sourceType": "DATA_PROCESS",
            "customProperties": told,
            "partitionSpec": WHOLE,
        }
        yield Proposal("dataset", dataset, "operation", event, "event", dataset, closes=True)


def build_proposals(
    names: Names, key: str, snapshots: Sequence[LakeSnapshot], *, output: str
) -> Iterator[Proposal]:
    """The builds of a mart that are known to the lake, oldest first."""
    for snapshot in snapshots:
        if not snapshot.built_from:
            continue
        number = str(snapshot.snapshot_id)
        urn = run_urn(names.job(key), number)
        inputs = [
            names.dataset("iceberg", *table.split(".", 1)) for table in sorted(snapshot.built_from)
        ]
        aspects: dict[str, Aspect] = {
            "dataProcessInstanceProperties": {
                "customProperties": {
                    f"certified.{table}": str(read) for table, read in snapshot.built_from.items()
                },
                "name": f"{key} at table snapshot {number}",
                "type": "BATCH_SCHEDULED",
                "created": {"time": snapshot.at, "actor": ACTOR},
            },
            "dataProcessInstanceRelationships": {
                "parentTemplate": names.job(key),
                "upstreamInstances": [],
            },
            "dataProcessInstanceInput": {"inputs": inputs},
            "dataProcessInstanceOutput": {"outputs": [output]},
            "dataPlatformInstance": {"platform": platform_urn("dagster")},
        }
        for aspect, value in aspects.items():
            yield Proposal("dataProcessInstance", urn, aspect, value)
        event: Aspect = {
            TIME: snapshot.at,
            "status": "COMPLETE",
            "result": {"type": "SUCCESS", "nativeResultType": "dbt"},
            "partitionSpec": WHOLE,
        }
        yield Proposal(
            "dataProcessInstance",
            urn,
            "dataProcessInstanceRunEvent",
            event,
            "event",
            urn,
            closes=True,
        )
