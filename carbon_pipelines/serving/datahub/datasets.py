"""What is told of a dataset, of whichever system: name, owner, tags, domain and lineage.

What belongs here: the aspects that all datasets have. What does not: which datasets there are
(``tables.py``, ``marts.py``, ``bi.py``).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from carbon_pipelines.serving.datahub.proposal import Aspect, Proposal
from carbon_pipelines.serving.datahub.schemas import NOBODY, Column, schema
from carbon_pipelines.serving.datahub.urns import (
    classification_urn,
    dataset_of,
    dataset_parts,
    domain_urn,
    field_urn,
    group_urn,
    platform_urn,
)

CLASSIFICATIONS = ("public", "internal", "confidential", "restricted")
"""Least strict first."""
DECLARED = "SOURCE_CONTROL"
"""Where an owner of ours is from: those of another origin are not ours to change."""


@dataclass(frozen=True, slots=True)
class ColumnSource:
    """What a column is made of: columns, or the rows of datasets, by their urns."""

    path: str
    columns: tuple[str, ...] = ()
    rows_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset to be told of.

    Attributes:
        kind: DataHub's subtype, like Table or Topic.
        copies: Whether its rows are those of what it is made of, unchanged.
        made_of: Of each column that is made of others; datasets are told from it.
    """

    urn: str
    kind: str
    description: str
    owner: str
    domain: str | None
    columns: tuple[Column, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict[str, str])
    form: Aspect | None = None
    copies: bool = False
    made_of: tuple[ColumnSource, ...] = ()


def dataset_proposals(dataset: Dataset) -> Iterator[Proposal]:
    """Every aspect of a dataset."""
    platform, name = dataset_parts(dataset.urn)
    aspects: dict[str, Aspect] = {
        "dataPlatformInstance": {"platform": platform_urn(platform)},
        "datasetProperties": {
            "customProperties": dict(dataset.properties),
            "name": name.rpartition(".")[2] if platform != "kafka" else name,
            "qualifiedName": name,
            "description": dataset.description,
            "tags": [],
        },
        "subTypes": {"typeNames": [dataset.kind]},
    }
    if dataset.columns:
        aspects["schemaMetadata"] = schema(platform, name, dataset.columns, form=dataset.form)
    if dataset.made_of:
        aspects["upstreamLineage"] = upstream_lineage(dataset)
    for aspect, value in aspects.items():
        yield Proposal("dataset", dataset.urn, aspect, value)
    classes = [one.classification for one in dataset.columns if one.classification]
    yield from belonging(
        "dataset", dataset.urn, owner=dataset.owner, domain=dataset.domain, classes=classes
    )


def belonging(
    entity: str, urn: str, *, owner: str, domain: str | None, classes: Sequence[str] = ()
) -> Iterator[Proposal]:
    """That an entity is there, whose it is, where it belongs, and how strictly it is guarded."""
    yield Proposal(entity, urn, "status", {"removed": False})
    yield Proposal(entity, urn, "ownership", ownership([owner]), "merged")
    if domain is not None:
        yield Proposal(entity, urn, "domains", {"domains": [domain_urn(domain)]}, "merged")
    # Said without a tag too: one that was declared before has to go.
    strictest = [max(classes, key=CLASSIFICATIONS.index)] if classes else []
    tags = [{"tag": classification_urn(one)} for one in strictest]
    yield Proposal(entity, urn, "globalTags", {"tags": tags}, "merged")


def ownership(owners: Iterable[str]) -> Aspect:
    """The teams that answer for something."""
    return {
        "owners": [
            {"owner": group_urn(owner), "type": "TECHNICAL_OWNER", "source": {"type": DECLARED}}
            for owner in owners
        ],
        "ownerTypes": {},
        "lastModified": NOBODY,
    }


def upstream_lineage(dataset: Dataset) -> Aspect:
    """What a dataset is made of, and each of its columns."""
    read = {dataset_of(one)[0] for made in dataset.made_of for one in made.columns}
    read |= {one for made in dataset.made_of for one in made.rows_of}
    kind = "COPY" if dataset.copies else "TRANSFORMED"
    return {
        "upstreams": [{"auditStamp": NOBODY, "dataset": urn, "type": kind} for urn in sorted(read)],
        "fineGrainedLineages": [
            lineage
            for made in dataset.made_of
            for lineage in _fine_grained(dataset.urn, made, "IDENTITY" if dataset.copies else None)
        ],
    }


def _fine_grained(urn: str, made: ColumnSource, operation: str | None) -> Iterator[Aspect]:
    for kind, sources in (("FIELD_SET", made.columns), ("DATASET", made.rows_of)):
        if sources:
            yield {
                "upstreamType": kind,
                "upstreams": list(sources),
                "downstreamType": "FIELD",
                "downstreams": [field_urn(urn, made.path)],
                "transformOperation": operation if kind == "FIELD_SET" else "COUNT",
                "confidenceScore": 1.0,
            }
