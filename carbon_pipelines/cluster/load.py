"""Reading the declared services: ``<deploy>/{operators,base}/<service>/service.yaml``.

What belongs here: which file declares what, and mistakes with file and line. What does not: the
fields (``service.py``) and the rules between services (``graph.py``).
"""

from pathlib import Path

from pydantic import ValidationError

from carbon_pipelines.catalog.document import load_document
from carbon_pipelines.catalog.findings import Problem, as_problem, unknown_field
from carbon_pipelines.cluster.graph import ServiceGraph, service_graph
from carbon_pipelines.cluster.service import ServiceSpec
from carbon_pipelines.errors import DeclarationError

SERVICE_FILE = "service.yaml"
PLACES = ("operators", "base")


def load_graph(deploy: Path) -> ServiceGraph:
    """The graph of all services declared under ``deploy/operators`` and ``deploy/base``.

    Raises:
        DeclarationError: With every mistake of every file, or there are none.
        ServiceGraphError: The files contradict each other.
    """
    files = service_files(deploy)
    if not files:
        reason = f"holds no base/<service>/{SERVICE_FILE}; name the directory with --deploy"
        raise DeclarationError([(deploy, 1, reason)])
    services: list[ServiceSpec] = []
    problems: list[Problem] = []
    for path in files:
        try:
            services.append(load_service(path))
        except DeclarationError as error:
            problems.extend(error.problems)
    if problems:
        raise DeclarationError(problems)
    return service_graph(services)


def service_files(deploy: Path) -> list[Path]:
    """Every file that declares a service."""
    return [path for place in PLACES for path in sorted((deploy / place).glob(f"*/{SERVICE_FILE}"))]


def load_service(path: Path) -> ServiceSpec:
    """Read one service; its name is its directory's.

    Raises:
        DeclarationError: With every mistake of the file.
    """
    document = load_document(path)
    known = sorted(set(ServiceSpec.model_fields) - {"name"})
    if "name" in document.fields:
        problem = (path, document.line(("name",)), unknown_field("name", known))
        raise DeclarationError([problem])
    try:
        return ServiceSpec.model_validate({"name": path.parent.name, **document.fields})
    except ValidationError as error:
        problems = [as_problem(document, known, detail) for detail in error.errors()]
        raise DeclarationError(sorted(problems, key=lambda found: found[1])) from error
