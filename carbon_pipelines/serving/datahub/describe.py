"""Everything that DataHub should know of a database, or of the marts. Pure.

What belongs here: which things there are to tell of, and the tags, domains and groups that they
name. What does not: what is told of each (the modules called here), and what DataHub knows already
(``plan.py``).

The same facts make the same proposals, byte for byte and in the same order.
"""

from collections.abc import Iterable, Iterator

from carbon_pipelines.catalog.owners import OwnersSpec
from carbon_pipelines.serving.datahub.assertions import assertion_proposals
from carbon_pipelines.serving.datahub.bi import bi_proposals
from carbon_pipelines.serving.datahub.datasets import CLASSIFICATIONS, dataset_proposals
from carbon_pipelines.serving.datahub.facts import (
    DatabaseFacts,
    MartFacts,
    MartsFacts,
    Setting,
)
from carbon_pipelines.serving.datahub.marts import mart_datasets, mart_domain, mart_urn
from carbon_pipelines.serving.datahub.proposal import Proposal
from carbon_pipelines.serving.datahub.runs import (
    build_proposals,
    flow_proposals,
    job_proposals,
    operation_proposals,
)
from carbon_pipelines.serving.datahub.tables import (
    lake_urn,
    source_urn,
    table_datasets,
    topic_urn,
)
from carbon_pipelines.serving.datahub.urns import (
    classification_urn,
    domain_urn,
    group_urn,
)

_COLOURS = {
    "public": "#2E7D32",
    "internal": "#1565C0",
    "confidential": "#EF6C00",
    "restricted": "#C62828",
}
MARTS = "mart"
"""The scope of all marts; no database may be called so."""


def describe_database(setting: Setting, facts: DatabaseFacts) -> tuple[Proposal, ...]:
    """A database: its tables in PostgreSQL, Kafka and the lake, and what is expected of them."""
    names, database = setting.names, facts.database
    owners = [database.owner, *(table.owner for table in database.tables)]
    told = list(_shared(setting, owners, [database.name]))
    for of in facts.tables:
        table = of.table
        lake = lake_urn(names, table.database, table.name)
        topic = topic_urn(names, table)
        for dataset in table_datasets(names, facts, of):
            told.extend(dataset_proposals(dataset))
        told.extend(
            job_proposals(
                names,
                f"lake/{table.label}",
                description=f"Merges the changes of {table.label} into the lake.",
                owner=table.owner,
                domain=table.database,
                inputs=[topic],
                outputs=[lake],
            )
        )
        told.extend(
            job_proposals(
                names,
                f"stream/{table.label}",
                description=f"Captures the changes of {table.label}.",
                owner=table.owner,
                domain=table.database,
                inputs=[source_urn(names, facts, table)],
                outputs=[topic],
            )
        )
        told.extend(assertion_proposals(lake, of))
        told.extend(operation_proposals(lake, of.lake.snapshots if of.lake else ()))
    return tuple(told)


def describe_marts(setting: Setting, facts: MartsFacts) -> tuple[Proposal, ...]:
    """All marts, where they are shown, and their builds."""
    domains = {mart_domain(one.mart) for one in facts.marts} - {None}
    owners = [one.mart.owner for one in facts.marts]
    told = list(_shared(setting, owners, sorted(one for one in domains if one)))
    for one in facts.marts:
        for dataset in mart_datasets(setting.names, one, facts.shown):
            told.extend(dataset_proposals(dataset))
        told.extend(_mart_runs(setting, one))
    told.extend(bi_proposals(setting.names, facts))
    return tuple(told)


def _mart_runs(setting: Setting, facts: MartFacts) -> Iterator[Proposal]:
    mart, names = facts.mart, setting.names
    urn, key = mart_urn(names, mart), f"mart/{mart.name}"
    snapshots = facts.lake.snapshots if facts.lake else ()
    yield from job_proposals(
        names,
        key,
        description=f"Builds the mart {mart.name} from certified snapshots, and tests it.",
        owner=mart.owner,
        domain=mart_domain(mart),
        inputs=[lake_urn(names, *source) for source in mart.sources],
        outputs=[urn],
    )
    yield from operation_proposals(urn, snapshots)
    yield from build_proposals(names, key, snapshots, output=urn)


def _shared(setting: Setting, owners: Iterable[str], domains: Iterable[str]) -> Iterator[Proposal]:
    """What others refer to, first: the flow, tags, domains and the groups of owners.

    People rename and describe these in DataHub: what is there is left alone.
    """
    yield from flow_proposals(setting.names)
    for name in CLASSIFICATIONS:
        tag = {
            "name": name,
            "description": f"Declared as {name}.",
            "colorHex": _COLOURS[name],
        }
        yield Proposal("tag", classification_urn(name), "tagProperties", tag, "seeded")
    for name in domains:
        domain = {
            "customProperties": {},
            "name": name,
            "description": f"What database {name} holds, and what is made of it.",
        }
        yield Proposal("domain", domain_urn(name), "domainProperties", domain, "seeded")
    for owner in sorted(set(owners)):
        group = {
            "displayName": owner.removeprefix("team:"),
            "email": _mail(owner, setting.owners),
            "admins": [],
            "members": [],
            "groups": [],
        }
        yield Proposal("corpGroup", group_urn(owner), "corpGroupInfo", group, "seeded")


def _mail(owner: str, owners: OwnersSpec | None) -> str | None:
    """Where a team is written to, if it is by e-mail."""
    receivers = owners.teams.get(owner, ()) if owners is not None else ()
    return next((one.to[0] for one in receivers if one.kind == "email" and one.to), None)
