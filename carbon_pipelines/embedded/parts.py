"""Which parts there are, and making each from what the stack remembers.

What belongs here: the list, the ports each needs, and filling in a part's fields. What does not:
what a part does with them.
"""

from collections.abc import Mapping
from pathlib import Path

from carbon_pipelines.embedded import object_store
from carbon_pipelines.embedded.connect import Connect
from carbon_pipelines.embedded.endpoints import make_addresses
from carbon_pipelines.embedded.kafka import Kafka
from carbon_pipelines.embedded.object_store import ObjectStore
from carbon_pipelines.embedded.os_user import ensure_os_user
from carbon_pipelines.embedded.part import Part
from carbon_pipelines.embedded.ports import choose_port, is_group_free
from carbon_pipelines.embedded.postgres import Postgres, find_binaries
from carbon_pipelines.embedded.process import find
from carbon_pipelines.embedded.state import PartName, Report, StackHome, StackSecrets, StackState
from carbon_pipelines.embedded.superset import Superset
from carbon_pipelines.embedded.trino import Trino

ALWAYS: tuple[PartName, ...] = ("postgres", "kafka", "s3")

NEEDED_BY: Mapping[PartName, tuple[PartName, ...]] = {"superset": ("trino",)}
"""What a part reads, so that it is started too."""

_PORT_NAMES: Mapping[PartName, tuple[str, ...]] = {
    "postgres": ("sql",),
    "kafka": ("broker", "controller"),
    "s3": object_store.port_names(),
    "connect": ("rest",),
    "trino": ("http",),
    "superset": ("http",),
}


def assign_ports(state: StackState, names: tuple[PartName, ...]) -> StackState:
    """Give every part its ports.

    The first port of a part is its address and stays for good. The others are the part's own
    business: one that somebody else holds by now is replaced, unless the part still runs.
    """
    ports = {name: dict(given) for name, given in state.ports.items()}
    for name in names:
        given = ports.setdefault(name, {})
        running = find(state.processes.get(name)) is not None
        for number, port_name in enumerate(_PORT_NAMES[name]):
            companion = object_store.GRPC_OFFSET if port_name == "admin" else None
            if port_name in given and (
                running or number == 0 or is_group_free(given[port_name], companion=companion)
            ):
                continue
            taken = {port for each in ports.values() for port in each.values()}
            given[port_name] = choose_port(taken, companion=companion)
    return state.model_copy(update={"ports": ports})


def make_parts(
    files: StackHome,
    cache: Path,
    state: StackState,
    secrets: StackSecrets,
    environ: Mapping[str, str],
    report: Report,
) -> dict[PartName, Part]:
    """Every part that has ports."""
    known: dict[PartName, Part] = {}
    for name, ports in state.ports.items():
        match name:
            case "postgres":
                known[name] = Postgres(
                    directory=files.part(name),
                    log=files.log(name),
                    port=ports["sql"],
                    binaries=state.postgres_bin or find_binaries(),
                    user=ensure_os_user(environ, report),
                    password=secrets.postgres_password,
                )
            case "kafka":
                known[name] = Kafka(
                    directory=files.part(name), log=files.log(name), cache=cache, ports=ports
                )
            case "s3":
                known[name] = ObjectStore(
                    directory=files.part(name),
                    log=files.log(name),
                    ports=ports,
                    access_key=secrets.s3_access_key,
                    secret_key=secrets.s3_secret_key,
                )
            case "connect":
                known[name] = Connect(
                    directory=files.part(name),
                    log=files.log(name),
                    cache=cache,
                    port=ports["rest"],
                    addresses=make_addresses(state, secrets),
                )
            case "trino":
                known[name] = Trino(
                    directory=files.part(name),
                    log=files.log(name),
                    cache=cache,
                    port=ports["http"],
                    addresses=make_addresses(state, secrets),
                )
            case "superset":
                known[name] = Superset(
                    directory=files.part(name),
                    log=files.log(name),
                    cache=cache,
                    port=ports["http"],
                    password=secrets.superset_password,
                    secret_key=secrets.superset_secret_key,
                )
    return known
