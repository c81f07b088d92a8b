"""Errors of declarations and settings.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from carbon_pipelines.errors.root import CarbonPipelinesError


class CatalogError(CarbonPipelinesError):
    """A declaration is missing or contradicts itself."""


class DeclarationError(CatalogError):
    """Declarations hold mistakes.

    ``problems`` has one ``(file, line, reason)`` for each; lines count from 1.
    """

    def __init__(self, problems: Sequence[tuple[Path, int, str]]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {file}:{line}: {reason}" for file, line, reason in self.problems)
        mistakes = "1 mistake" if len(self.problems) == 1 else f"{len(self.problems)} mistakes"
        super().__init__(
            f"The declarations hold {mistakes}; nothing was loaded. "
            f"Correct the lines named here and run again:\n{lines}"
        )


class UnknownTableError(CatalogError):
    """Nothing declared is called ``name``; ``known`` holds what is."""

    def __init__(self, name: str, *, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        close = get_close_matches(name, self.known, n=3, cutoff=0.5)
        declared = close or self.known[:10]
        listed = ", ".join(declared) if declared else "nothing yet"
        super().__init__(
            f'Nothing declared is called "{name}". {"Close to it" if close else "Declared"}: '
            f'{listed}. "carbon tables list" shows all; "carbon tables add" declares a new one.'
        )


class DeclarationExistsError(CatalogError):
    """``path`` already declares something, and declarations are never overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{path} already exists and was left as it is. Edit it, or move it away and run "
            '"carbon tables add" again.'
        )


class SettingsError(CarbonPipelinesError):
    """Where a service is cannot be told from the environment or the embedded stack."""


class SettingMissingError(SettingsError):
    """A variable is not set, and there is no embedded stack to stand in."""

    def __init__(self, variable: str, meaning: str) -> None:
        self.variable = variable
        super().__init__(
            f"{variable} is not set ({meaning}), and there is no embedded stack here to stand in: "
            "set it, or run `carbon up` (CARBON_HOME names the stack's directory)."
        )


class SettingUnknownError(SettingsError):
    """A variable has a value without meaning."""

    def __init__(self, variable: str, value: str, known: Sequence[str]) -> None:
        self.variable = variable
        self.value = value
        super().__init__(f"{variable} is {value!r}; it must be one of {', '.join(known)}.")
