"""The base of every error.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from typing import ClassVar


class CarbonPipelinesError(Exception):
    """Base class; ``retryable`` says whether the same call may succeed later."""

    retryable: ClassVar[bool] = False
