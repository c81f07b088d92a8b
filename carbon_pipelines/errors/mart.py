"""Errors of marts: what they read is not certified, or they could not be built.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from carbon_pipelines.errors.root import CarbonPipelinesError


class MartError(CarbonPipelinesError):
    """A mart could not be built, so what was published before stays."""


class MartProjectError(MartError):
    """A file of the dbt project says what cannot be, or says too little."""

    def __init__(self, file: Path, reason: str) -> None:
        self.file, self.reason = file, reason
        super().__init__(f"{file}: {reason}. No mart was built; correct the file and run it again.")


class MartProjectMissingError(MartError):
    """There is no dbt project."""

    def __init__(self, looked: Sequence[Path]) -> None:
        self.looked = tuple(looked)
        places = ", ".join(str(place) for place in self.looked)
        super().__init__(
            f"There is no dbt project in {places}, so there are no marts. Set CARBON_DBT_DIR to "
            "the directory that holds its dbt_project.yml, or install the wheel, which brings one."
        )


class UnknownMartError(MartError):
    """The dbt project has no such mart."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(
            f'There is no mart "{name}". There are {", ".join(self.known) or "none"}. Nothing was '
            "built."
        )


class MartSourceError(MartError):
    """A mart reads a table that it cannot be built from."""

    def __init__(self, mart: str, table: str, reason: str) -> None:
        self.mart, self.table, self.reason = mart, table, reason
        super().__init__(
            f"mart/{mart} reads {table}, {reason}. Nothing was loaded. Declare the table so that "
            "it can be certified, with expectations and as a mirror, or take it out of the model."
        )


class MartTestsAloneError(MartError):
    """Only checks of marts were asked for."""

    def __init__(self) -> None:
        super().__init__(
            "A mart's tests are run on its rows before these are published, so they cannot be run "
            "alone; nothing was done. Materialize the mart, and its tests run along."
        )


class MartBuildError(MartError):
    """A mart's rows could not be made."""

    def __init__(self, mart: str, reason: str) -> None:
        self.mart, self.reason = mart, reason
        super().__init__(
            f"mart/{mart} was not built: {reason.rstrip('.')}. What was published before stays as "
            "it was. Correct the model, or what it reads, and build it again."
        )


class MartPublishError(MartError):
    """Rows that were made, and passed their tests, did not get to the lake."""

    retryable = True

    def __init__(self, mart: str, reason: str) -> None:
        self.mart, self.reason = mart, reason
        super().__init__(
            f"mart/{mart} was built and could not be published: {reason.rstrip('.')}. What was "
            "published before stays as it was. Build it again when that has passed."
        )


class MartTestsFailedError(MartError):
    """Rows that were made fail a test of theirs, so that they were not published."""

    def __init__(self, mart: str, failed: Mapping[str, str]) -> None:
        self.mart, self.failed = mart, dict(failed)
        listed = "; ".join(f"{name}: {why}" for name, why in self.failed.items())
        super().__init__(
            f"mart/{mart} was built and not published, for its tests failed: {listed}. What was "
            "published before stays as it was. Look at what the test selects, and build it again."
        )


class MartColumnTypeError(MartError):
    """A model makes a column of a type that a mart cannot have."""

    def __init__(self, mart: str, column: str, kind: str) -> None:
        self.mart, self.column, self.kind = mart, column, kind
        super().__init__(
            f"mart/{mart}: column {column} has the type {kind}, which marts do not have. Nothing "
            "was published. Cast it in the model: to a decimal, a whole number, text, a date or a "
            "timestamp."
        )


class MartLineageError(MartError):
    """What a mart's columns are made of cannot be found in its SQL."""

    def __init__(self, mart: str, reason: str) -> None:
        self.mart, self.reason = mart, reason
        super().__init__(
            f"{mart}: what its columns are made of cannot be told: {reason.rstrip('.')}. What "
            "DataHub was told of that before stays; everything else it was told. If the mart is "
            "built all the same, write the model so that every column names its table."
        )


class MartCompileError(MartError):
    """dbt does not compile the project."""

    def __init__(self, project: Path, reason: str) -> None:
        self.project, self.reason = project, reason
        super().__init__(
            f"dbt does not compile the project in {project}: {reason.rstrip('.')}. Nothing was "
            'told to DataHub. Correct the model; "carbon marts build" fails for the same reason.'
        )
