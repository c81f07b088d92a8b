"""Who may do what with data, as the service graph says it, and what is excepted from the rules.

What belongs here: rights on data by account, mistakes in them, their table, and the exceptions in
``deploy/policies/exceptions``. What does not: network policies (``network_policy.py``) and roles of
Kubernetes (``deploy/policies/rbac``).

A service grants rights to accounts; pods prove by a Secret which account they are. So one Secret is
one account of one service, and an account that is used says what it must be able to do.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationError, model_validator

from carbon_pipelines.catalog.document import load_document
from carbon_pipelines.catalog.findings import Problem, as_problem
from carbon_pipelines.catalog.values import Declared, Team, Text, mistake
from carbon_pipelines.cluster.graph import ServiceGraph
from carbon_pipelines.cluster.service import Label
from carbon_pipelines.cluster.versions import Day
from carbon_pipelines.errors import DeclarationError

API_SERVER = "kubernetes/api"
LONGEST_DAYS = 366
"""No exception is made for longer than a year: somebody looks at it again."""


@dataclass(frozen=True, slots=True)
class Right:
    """What an account may do at a service; ``clients`` are the pods that are it."""

    server: str
    account: str
    may: tuple[str, ...]
    clients: tuple[str, ...]
    secrets: tuple[str, ...]


def data_rights(graph: ServiceGraph) -> tuple[Right, ...]:
    """Every account of every service that knows who asks, in name order.

    Rights at the API server are roles of Kubernetes and are not among them.
    """
    may: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    clients: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    secrets: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for edge in graph.edges:
        if edge.use.account is None or edge.use.endpoint == API_SERVER:
            continue
        key = (edge.server.name, edge.use.account)
        clients[key].add(f"{edge.client.name}.{edge.pods}")
        may[key] |= {edge.use.may} if edge.use.may else set()
        secrets[key] |= {edge.use.secret} if edge.use.secret else set()
    return tuple(
        Right(
            server=key[0],
            account=key[1],
            may=tuple(sorted(may[key])),
            clients=tuple(sorted(clients[key])),
            secrets=tuple(sorted(secrets[key])),
        )
        for key in sorted(clients)
    )


def rights_mistakes(rights: Iterable[Right]) -> tuple[str, ...]:
    """A sentence for each account whose right nobody said; a service's own pods need none."""
    return tuple(
        f"{right.clients[0]} is {right.account} at {right.server}, but no use says what it may do"
        for right in rights
        if not right.may and any(c.split(".")[0] != right.server for c in right.clients)
    )


def rights_table(rights: Sequence[Right]) -> str:
    """The can-do matrix, in Markdown."""
    rows = [
        f"| {right.server} | `{right.account}` | {'; '.join(right.may) or 'its own part'} | "
        f"{', '.join(right.clients)} | {', '.join(f'`{name}`' for name in right.secrets) or '-'} |"
        for right in rights
    ]
    head = ["| at | account | may | pods that are it | Secret |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


class ExceptionSpec(Declared):
    """A rule that a namespace is excepted from, why, and until when."""

    namespace: Label
    rule: Literal["pod-security"]
    level: Literal["baseline", "privileged"]
    owner: Team
    reason: Text
    since: Day
    expires: Day

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not self.since < self.expires:
            reason = "must be later than since"
            raise mistake(reason, ("expires",))
        if (self.expires - self.since).days > LONGEST_DAYS:
            reason = "is more than a year after since; look at it again within a year"
            raise mistake(reason, ("expires",))
        return self


def load_exceptions(deploy: Path) -> Mapping[str, ExceptionSpec]:
    """All exceptions by the name of their file.

    Raises:
        DeclarationError: With every mistake of every file.
    """
    found: dict[str, ExceptionSpec] = {}
    problems: list[Problem] = []
    for path in sorted((deploy / "policies" / "exceptions").glob("*.yaml")):
        document = load_document(path)
        try:
            found[path.stem] = ExceptionSpec.model_validate(document.fields)
        except ValidationError as error:
            known = sorted(ExceptionSpec.model_fields)
            problems += [as_problem(document, known, detail) for detail in error.errors()]
    if problems:
        raise DeclarationError(problems)
    return found


def expired(exceptions: Mapping[str, ExceptionSpec], today: date) -> tuple[str, ...]:
    """Names of those that no longer hold."""
    return tuple(name for name, found in exceptions.items() if found.expires <= today)
