"""Errors of the services around the lakehouse, in Kubernetes.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from carbon_pipelines.errors.root import CarbonPipelinesError


class ClusterError(CarbonPipelinesError):
    """The services in Kubernetes are not, or could not be made, as they are declared."""


class ServiceGraphError(ClusterError):
    """Declared services contradict each other; ``mistakes`` has a sentence for each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        listed = "\n".join(f"  {mistake}" for mistake in self.mistakes)
        super().__init__(
            "The declared services contradict each other; nothing was done. Correct these in "
            f"deploy/*/<service>/service.yaml and run again:\n{listed}"
        )


class UnknownServiceError(ClusterError):
    """No declared service is called ``name``."""

    def __init__(self, name: str, *, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        close = get_close_matches(name, self.known, n=3, cutoff=0.5)
        listed = ", ".join(close or self.known)
        super().__init__(
            f'No service is called "{name}". {"Close to it" if close else "Declared"}: {listed}.'
        )
