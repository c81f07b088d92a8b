"""The service graph: all services, the edges between their pods, and the order to bring them up.

What belongs here: the rules between services, and pure questions about the graph. What does not:
the fields of one service (``service.py``) and reading files (``load.py``).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from carbon_pipelines.cluster.service import EndpointSpec, ServiceSpec, UseSpec
from carbon_pipelines.errors import ServiceGraphError, UnknownServiceError


@dataclass(frozen=True, slots=True)
class Edge:
    """Pods of one service that use an endpoint of another (or of the same)."""

    client: ServiceSpec
    pods: str
    server: ServiceSpec
    endpoint_name: str
    use: UseSpec

    @property
    def endpoint(self) -> EndpointSpec:
        """Where the server answers."""
        return self.server.endpoints[self.endpoint_name]

    @property
    def name(self) -> str:
        """``client.pods->server/endpoint``, as ``carbon doctor --edge`` takes it."""
        return f"{self.client.name}.{self.pods}->{self.server.name}/{self.endpoint_name}"


@dataclass(frozen=True, slots=True)
class ServiceGraph:
    """Services in name order; made by ``service_graph``, which checks the rules between them."""

    services: tuple[ServiceSpec, ...]

    def service(self, name: str) -> ServiceSpec:
        """The service with this name.

        Raises:
            UnknownServiceError: There is none.
        """
        for service in self.services:
            if service.name == name:
                return service
        raise UnknownServiceError(name, known=[service.name for service in self.services])

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Every edge, in the order of clients' names and of their declarations."""
        return tuple(
            Edge(client, pods, self.service(server), endpoint, use)
            for client in self.services
            for use in client.uses
            for server, endpoint in [use.endpoint.split("/")]
            for pods in use.pods
        )

    def before(self) -> dict[str, set[str]]:
        """For each service those that must be there before it."""
        return _before(self.services)

    def waves(self) -> tuple[tuple[str, ...], ...]:
        """Names in the order to bring them up: each wave needs only what earlier ones hold.

        A use of an external service waits for nothing, nor does one between two services that use
        each other: there the one that ``needs`` the other says who is first.
        """
        sorter = TopologicalSorter(_before(self.services))
        sorter.prepare()
        found: list[tuple[str, ...]] = []
        while sorter.is_active():
            ready = tuple(sorted(sorter.get_ready()))
            found.append(ready)
            sorter.done(*ready)
        return tuple(found)


def service_graph(services: Iterable[ServiceSpec]) -> ServiceGraph:
    """Check the rules between services.

    Raises:
        ServiceGraphError: With every mistake: a name that nothing has, or a circle of needs.
    """
    known = sorted(services, key=lambda service: service.name)
    mistakes = list(_mistakes(known))
    if not mistakes:
        try:
            TopologicalSorter(_before(known)).prepare()
        except CycleError as error:
            circle = " needs ".join(reversed(error.args[1]))
            mistakes.append(f"no service of a circle can be the first one: {circle}")
    if mistakes:
        raise ServiceGraphError(mistakes)
    return ServiceGraph(tuple(known))


def _mistakes(services: list[ServiceSpec]) -> Iterator[str]:
    """Names that lead nowhere, and services that are declared twice."""
    by_name = {service.name: service for service in services}
    if len(by_name) < len(services):
        names = [service.name for service in services]
        twice = sorted({name for name in names if names.count(name) > 1})
        yield f"declared twice: {', '.join(twice)}"
    for service in services:
        for need in service.needs:
            if need not in by_name:
                yield f'{service.name} needs "{need}", which no service is called'
        for use in service.uses:
            server, endpoint = use.endpoint.split("/")
            if server not in by_name:
                yield f'{service.name} uses "{use.endpoint}", but no service is called "{server}"'
            elif endpoint not in by_name[server].endpoints:
                has = ", ".join(by_name[server].endpoints) or "none"
                yield f'{service.name} uses "{use.endpoint}"; the endpoints of {server} are: {has}'


def _before(services: Iterable[ServiceSpec]) -> dict[str, set[str]]:
    """For each service those that come before it."""
    by_name = {service.name: service for service in services}
    uses = {
        service.name: {use.endpoint.split("/")[0] for use in service.uses} - {service.name}
        for service in by_name.values()
    }
    before: dict[str, set[str]] = {}
    for name, service in by_name.items():
        mutual = {used for used in uses[name] if name in uses[used]}
        inside = {used for used in uses[name] if by_name[used].kind != "external"}
        needed_by = {other for other in by_name if name in by_name[other].needs}
        before[name] = (inside - mutual - needed_by) | set(service.needs)
    return before
