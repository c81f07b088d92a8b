"""Where small metadata files of tables are kept on local disk.

What belongs here: the two variables and what they may say. What does not: keeping anything
(``lake/disk_cache.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from carbon_pipelines.errors import SettingUnknownError

DIRECTORY_VARIABLE = "CARBON_LAKE_CACHE_DIRECTORY"
BYTES_VARIABLE = "CARBON_LAKE_CACHE_BYTES"
MOST_BYTES = 256 * 1024 * 1024
LEAST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LakeCache:
    """A local directory, and how many bytes are kept there at most."""

    directory: Path
    most_bytes: int = MOST_BYTES


def resolve_cache(environ: Mapping[str, str]) -> LakeCache | None:
    """The cache that the environment names, or None.

    Raises:
        SettingUnknownError: The bytes are no number, or too few to be of use.
    """
    directory = environ.get(DIRECTORY_VARIABLE)
    text = environ.get(BYTES_VARIABLE) or str(MOST_BYTES)
    if not text.isdecimal() or int(text) < LEAST_BYTES:
        known = (f"numbers of bytes from {LEAST_BYTES} on",)
        raise SettingUnknownError(BYTES_VARIABLE, text, known)
    return LakeCache(Path(directory).absolute(), int(text)) if directory else None
