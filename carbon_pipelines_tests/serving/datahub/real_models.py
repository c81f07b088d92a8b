"""Run by a Python that has ``acryl-datahub`` and none of ours: proposals against the real models.

What belongs here: what DataHub's own client says of proposals, on standard input as JSON, one line
each; and, if an address is given, what that client sends for the same. What does not: assertions;
``integration/test_datahub_models.py`` reads what is printed here.
"""

import json
import sys
import warnings

warnings.simplefilter("error")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of importing it
    from datahub.emitter.mcp import MetadataChangeProposalWrapper
    from datahub.emitter.rest_emitter import DatahubRestEmitter
    from datahub.emitter.serialization_helper import pre_json_transform
    from datahub.ingestion.graph.client import DataHubGraph
    from datahub.ingestion.graph.config import DatahubClientConfig
    from datahub.metadata.schema_classes import KEY_ASPECTS, MetadataChangeProposalClass
    from datahub.utilities.urns.urn import Urn, guess_entity_type


def read(wire):
    """The proposal as DataHub's client has it, and what is wrong with it."""
    problems = []
    value = wire["aspect"]["value"]
    raw = {**wire, "aspect": {**wire["aspect"], "value": value}}
    generic = MetadataChangeProposalClass.from_obj(raw, tuples=False)
    if isinstance(generic.aspect.value, str):
        generic.aspect.value = generic.aspect.value.encode()
    if not generic.validate():
        problems.append("the proposal does not validate")
    wrapper = MetadataChangeProposalWrapper.try_from_mcpc(generic)
    if wrapper is None:
        return None, [*problems, "the aspect is unknown"]
    if not wrapper.validate():
        problems.append("the aspect does not validate")
    again = json.dumps(
        pre_json_transform(wrapper.aspect.to_obj()), sort_keys=True, separators=(",", ":")
    )
    if again != value:
        problems.append(f"read and written again it is {again}")
    urn = wire["entityUrn"]
    if str(Urn.from_string(urn)) != urn:
        problems.append(f"the urn is read as {Urn.from_string(urn)}")
    if guess_entity_type(urn) != wire["entityType"]:
        problems.append(f"the urn is that of a {guess_entity_type(urn)}")
    key = KEY_ASPECTS[wire["entityType"]]
    if wire["aspectName"] not in key.ASPECT_INFO["entityAspects"]:
        problems.append(f"a {wire['entityType']} has no such aspect")
    return wrapper, problems


def urns_in(value):
    """Every urn that an aspect names."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        return [urn for one in value for urn in urns_in(one)]
    return [value] if isinstance(value, str) and value.startswith("urn:li:") else []


def main(address=None):
    found, proposals = [], []
    for line in sys.stdin:
        wire = json.loads(line)
        try:
            wrapper, problems = read(wire)
            for urn in urns_in(json.loads(wire["aspect"]["value"])):
                if str(Urn.from_string(urn)) != urn:
                    problems.append(f"it names {urn}")
        except Exception as error:  # noqa: BLE001  whatever it says of it is a finding
            wrapper, problems = None, [f"{type(error).__name__}: {error}"]
        found.append(problems)
        proposals.append(wrapper)
    if address is not None:
        emitter = DatahubRestEmitter(address, token="a-token", retry_max_times=0)
        emitter.emit_mcps(proposals)
        graph = DataHubGraph(DatahubClientConfig(server=address, token="a-token"))
        kinds = {(one.entityType, one.aspectName): at for at, one in enumerate(proposals)}
        for at in kinds.values():  # the last of each
            if not read_back(graph, proposals[at]):
                found[at].append("it is not read back")
        graph.test_connection()  # whether what answers is a metadata service
    json.dump(found, sys.stdout)


def read_back(graph, one):
    """Whether DataHub's client finds an aspect where it was told."""
    kind = type(one.aspect)
    if one.aspect.ASPECT_TYPE == "timeseries":
        values = graph.get_timeseries_values(one.entityUrn, kind, {}, limit=100)
        return one.aspect in values
    found = graph.get_entities(one.entityType, [one.entityUrn], [one.aspectName])
    return found[one.entityUrn][one.aspectName][0] == one.aspect


if __name__ == "__main__":
    main(*sys.argv[1:])
