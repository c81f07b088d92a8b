"""Errors of tables whose columns are not what the source's history makes of them.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from carbon_pipelines.errors.lake import LakeError


class UnsupportedSchemaChangeError(LakeError):
    """A DDL cannot be followed in place."""

    def __init__(self, table: str, change: str, version: int) -> None:
        self.table, self.change, self.version = table, change, version
        super().__init__(
            f"{table}: schema version {version} {change}, which cannot be followed in place. The "
            f'table stands before it; other tables go on. Run "carbon recopy {table}".'
        )


class LakeColumnsChangedError(LakeError):
    """The lake's table calls a column otherwise than the source, or has it no more."""

    def __init__(self, table: str, column: str, found: str | None, version: int) -> None:
        self.table, self.column, self.found, self.version = table, column, found, version
        how = "has no such column" if found is None else f"calls it {found}"
        super().__init__(
            f"{table}: column {column} of schema version {version} is followed, but the lake's "
            f"table {how}: another tool changed its columns, or set main back to a snapshot from "
            "before a copy. Nothing was merged, since values would go into another column or "
            f'nowhere. Run "carbon recopy {table}".'
        )
