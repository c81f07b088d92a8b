"""Reading all declarations of a directory, and finding tables in them.

What belongs here: which file declares what, and the rules between files. What does not: where the
directory is (the caller asks ``embedded.endpoints.catalog_directory``), the sentences for what
pydantic finds (``findings.py``), and the rules within one table (``table.py``).

    <directory>/owners.yaml
    <directory>/<database>/_database.yaml
    <directory>/<database>/<logical name>.yaml
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from carbon_pipelines.catalog.database import DatabaseSpec
from carbon_pipelines.catalog.debezium import DebeziumSpec
from carbon_pipelines.catalog.document import Document, load_document
from carbon_pipelines.catalog.findings import Problem, as_problem, unknown_field
from carbon_pipelines.catalog.owners import OwnersSpec
from carbon_pipelines.catalog.quality import Place
from carbon_pipelines.catalog.table import TableSpec, default_name
from carbon_pipelines.catalog.values import WORD, Declared
from carbon_pipelines.errors import DeclarationError, UnknownTableError

PACKAGED = Path(__file__).parent / "tables"
DATABASE_FILE = "_database.yaml"
OWNERS_FILE = "owners.yaml"

Model = TypeVar("Model", bound=Declared)
# told by the directory, never written in a file
_FROM_PLACE = frozenset({"database", "debezium", "tables"})


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that is declared, in name order; ``owners`` is None where nobody says them."""

    databases: tuple[DatabaseSpec, ...]
    owners: OwnersSpec | None = None

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        """The tables of all databases."""
        return tuple(table for database in self.databases for table in database.tables)

    def database(self, name: str) -> DatabaseSpec:
        """The database with this name.

        Raises:
            UnknownTableError: No such database is declared.
        """
        for database in self.databases:
            if database.name == name:
                return database
        raise UnknownTableError(name, known=[database.name for database in self.databases])

    def select(self, patterns: Sequence[str]) -> tuple[TableSpec, ...]:
        """The tables that any pattern names, each once, in name order; no pattern means all.

        A pattern is ``<database>/<table>``, ``*`` allowed in both, or ``<database>`` for all of it.

        Raises:
            UnknownTableError: A pattern names nothing: a typing mistake must not become "no work".
        """
        chosen: set[TableSpec] = set()
        for pattern in patterns or ("*",):
            full = pattern if "/" in pattern else f"{pattern}/*"
            found = [table for table in self.tables if fnmatchcase(table.label, full)]
            if not found and patterns:
                known = [table.label for table in self.tables]
                raise UnknownTableError(pattern, known=known)
            chosen.update(found)
        return tuple(table for table in self.tables if table in chosen)


def load_catalog(directory: Path | None = None) -> Catalog:
    """Read every declaration under ``directory``; None means the packaged ones.

    Raises:
        DeclarationError: With every mistake of every file, not only the first.
    """
    root = PACKAGED if directory is None else directory
    if not root.is_dir():
        reason = "is not a directory; point CARBON_CATALOG_DIR at your declarations"
        raise DeclarationError([(root, 1, reason)])
    problems: list[Problem] = []
    databases: list[DatabaseSpec] = []
    owners: OwnersSpec | None = None
    for entry in sorted(root.iterdir()):
        if entry.name.startswith((".", "__")):
            continue
        try:
            if entry.is_dir():
                databases.append(load_database(entry))
            elif entry.name == OWNERS_FILE:
                owners = _declared(OwnersSpec, load_document(entry), {}, hidden=frozenset())
            else:
                problems.extend(_misplaced(entry))
        except DeclarationError as error:
            problems.extend(error.problems)
    if problems:
        raise DeclarationError(problems)
    return Catalog(tuple(databases), owners)


def _misplaced(path: Path) -> Iterator[Problem]:
    """A file beside the databases that is not read, and looks as if it were meant to be."""
    if path.name == "owners.yml":
        yield path, 1, f"is not read; call it {OWNERS_FILE}"
    elif path.suffix in {".yaml", ".yml"}:
        yield path, 1, "belongs in a directory named after its database"


def load_database(directory: Path) -> DatabaseSpec:
    """Read one database's directory.

    Raises:
        DeclarationError: With every mistake of every file in it.
    """
    if not WORD.fullmatch(directory.name):
        reason = "names a database, so it must start with a-z and hold only a-z, 0-9 and _"
        raise DeclarationError([(directory, 1, reason)])
    declaration = directory / DATABASE_FILE
    if not declaration.is_file():
        reason = 'is missing; it says at least "owner: team:<name>"'
        raise DeclarationError([(declaration, 1, reason)])
    problems: list[Problem] = []
    tables: list[tuple[Document, TableSpec]] = []
    try:
        document = load_document(declaration)
        told = {"name": directory.name}
        database = _declared(DatabaseSpec, document, told, hidden=frozenset({"name", "tables"}))
    except DeclarationError as error:
        document, database = None, None
        problems.extend(error.problems)
    for path in sorted(directory.iterdir()):
        if path.suffix == ".yml":
            problems.append((path, 1, f"is not read; call it {path.stem}.yaml"))
        if path.suffix != ".yaml" or path.name == DATABASE_FILE:
            continue
        try:
            owner = database.owner if database else "team:unknown"
            connector = database.connector if database else None
            tables.append(load_table(path, owner=owner, connector=connector))
        except DeclarationError as error:
            problems.extend(error.problems)
    problems.extend(_declared_twice(tables))
    problems.extend(_tables_unknown(tables))
    if problems or database is None:
        raise DeclarationError(problems)
    return database.model_copy(update={"tables": tuple(table for _, table in tables)})


def load_table(
    path: Path, *, owner: str, connector: DebeziumSpec | None = None
) -> tuple[Document, TableSpec]:
    """Read one table's declaration; ``owner`` answers for it if it names nobody.

    Raises:
        DeclarationError: With every mistake of the file.
    """
    document = load_document(path)
    return document, declared_table(document, owner=owner, connector=connector)


def declared_table(
    document: Document, *, owner: str, connector: DebeziumSpec | None = None
) -> TableSpec:
    """What one table's declaration says.

    Raises:
        DeclarationError: With every mistake of it.
    """
    path = document.path
    told: dict[str, Any] = {"database": path.parent.name, "owner": owner, "debezium": connector}
    source = document.fields.get("source_table")
    if isinstance(source, str):
        schema = document.fields.get("source_schema", "public")
        told["name"] = default_name(str(schema), source)
    else:
        told["name"] = path.stem
    table = _declared(TableSpec, document, told, hidden=_FROM_PLACE)
    if table.name != path.stem:
        reason = (
            f'declares the table "{table.name}"; call the file {table.name}.yaml '
            f'or set "name: {path.stem}"'
        )
        line = document.line(("name",) if "name" in document.fields else ("source_table",))
        raise DeclarationError([(path, line, reason)])
    return _with_places(table, document)


def _with_places(table: TableSpec, document: Document) -> TableSpec:
    """The declaration whose expectations know their lines, to name them when a table is scored."""
    placed = tuple(
        expectation.written_at(
            Place(
                document.path,
                document.line(("expectations", index)),
                {
                    name: document.line(("expectations", index, name))
                    for name in document.fields["expectations"][index]
                },
            )
        )
        for index, expectation in enumerate(table.expectations)
    )
    return table.model_copy(update={"expectations": placed}) if placed else table


def _tables_unknown(tables: Sequence[tuple[Document, TableSpec]]) -> Iterator[Problem]:
    """Expectations that name another table of the database, which is not declared."""
    known = sorted(table.name for _, table in tables)
    for document, table in tables:
        for expectation in table.expectations:
            for field, name in expectation.names_tables:
                if name not in known:
                    line = expectation.place.line_of(field)
                    close = get_close_matches(name, known, n=1)
                    hint = f'; did you mean "{close[0]}"?' if close else ""
                    reason = f'{expectation.label}: no table "{name}" is declared here{hint}'
                    yield document.path, line, reason


def _declared_twice(tables: Sequence[tuple[Document, TableSpec]]) -> Iterator[Problem]:
    """Source tables that two files claim; logical names cannot clash, being file names."""
    first: dict[tuple[str, str], Path] = {}
    for document, table in tables:
        source = (table.source_schema, table.source_table)
        if source in first:
            reason = f"{'.'.join(source)} is declared in {first[source].name} already; keep one"
            yield document.path, document.line(("source_table",)), reason
        first.setdefault(source, document.path)


def _declared(
    model: type[Model], document: Document, told: Mapping[str, Any], *, hidden: frozenset[str]
) -> Model:
    """Build ``model`` from a file's fields and what its place tells; mistakes get their lines."""
    known = sorted(set(model.model_fields) - hidden)
    written_elsewhere = [name for name in document.fields if name in hidden]
    problems: list[Problem] = [
        (document.path, document.line((name,)), unknown_field(name, known))
        for name in written_elsewhere
    ]
    fields = {name: value for name, value in document.fields.items() if name not in hidden}
    try:
        declared = model.model_validate({**told, **fields})
    except ValidationError as error:
        problems.extend(as_problem(document, known, detail) for detail in error.errors())
        raise DeclarationError(sorted(problems, key=lambda found: found[1])) from error
    if problems:
        raise DeclarationError(problems)
    return declared
