"""Errors before a cluster is changed: every one of them leaves it as it was.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from carbon_pipelines.errors.cluster import ClusterError


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


class NoClusterError(ClusterError):
    """No API server answers at ``where``."""

    retryable = True

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(
            f"No cluster answers ({where}): {reason}. Nothing was changed. Name another with "
            "CARBON_CLUSTER_KUBECONFIG and CARBON_CLUSTER_CONTEXT, or start it, then run again."
        )


class ClusterCredentialsError(ClusterError):
    """The API server does not accept who we say we are."""

    def __init__(self, server: str, reason: str) -> None:
        self.server, self.reason = server, reason
        super().__init__(
            f"{server} does not accept our credentials: {reason}. They have expired or belong to "
            "another cluster. Nothing was changed. Log in again with what made the kubeconfig, "
            "then run again."
        )


class ClusterVersionError(ClusterError):
    """The cluster's version is none that the manifests were written for."""

    def __init__(self, server: str, version: str, *, oldest: str, newest: str) -> None:
        self.server, self.version = server, version
        super().__init__(
            f"{server} runs Kubernetes {version}; the manifests are for {oldest} to {newest}. "
            "Nothing was changed. Upgrade the cluster, or this project."
        )


class ApiRefusalError(ClusterError):
    """The API server refused a request; ``causes`` are (field, message) of each cause it named."""

    def __init__(
        self,
        request: str,
        code: int,
        reason: str,
        message: str,
        causes: Sequence[tuple[str, str, str]] = (),
    ) -> None:
        self.request, self.code, self.reason, self.message = request, code, reason, message
        self.causes = tuple(causes)
        super().__init__(
            f"The API server refused {request}: {code} {reason}: {message}. What was done before "
            "stays; correct the cause and run again."
        )


class UnknownOverlayError(ClusterError):
    """No overlay is called ``name``."""

    def __init__(self, name: str, directory: Path, *, known: Sequence[str]) -> None:
        self.name, self.known = name, tuple(known)
        close = get_close_matches(name, self.known, n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        super().__init__(
            f'No overlay is called "{name}" in {directory}. {hint}'
            f"There are: {', '.join(self.known) or 'none'}. Nothing was changed."
        )


class OverlayMistakesError(ClusterError):
    """An overlay contradicts the service graph or itself; ``mistakes`` has a sentence for each."""

    def __init__(self, overlay: str, mistakes: Sequence[str]) -> None:
        self.overlay, self.mistakes = overlay, tuple(mistakes)
        super().__init__(
            f"Overlay {overlay} cannot be used; nothing was changed. Correct these and run again:\n"
            f"{_listed(self.mistakes)}"
        )


class OverlayMismatchError(ClusterError):
    """The cluster was provisioned from another overlay."""

    def __init__(self, wanted: str, found: str, server: str) -> None:
        self.wanted, self.found = wanted, found
        super().__init__(
            f"{server} was provisioned from overlay {found}, not {wanted}. Nothing was changed. If "
            "this is the cluster you mean, say so with --change-overlay; else choose its context."
        )


class ToolMissingError(ClusterError):
    """A program that renders manifests is missing or too old."""

    def __init__(self, tool: str, reason: str) -> None:
        self.tool, self.reason = tool, reason
        super().__init__(
            f"{tool} cannot be used: {reason}. Nothing was changed. Install it, or name its path "
            f"with CARBON_CLUSTER_{tool.upper()}."
        )


class RenderError(ClusterError):
    """kubectl or helm could not render; ``said`` are its words."""

    def __init__(self, what: str, said: str) -> None:
        self.what, self.said = what, said
        super().__init__(
            f"{what} does not render; nothing was changed. Correct its files and run again:\n"
            f"{_listed(said.strip().splitlines()[-12:])}"
        )


class ChartUnavailableError(ClusterError):
    """A chart is neither at hand nor can it be fetched."""

    retryable = True

    def __init__(self, service: str, chart: str, directory: Path | None, said: str) -> None:
        self.service, self.chart = service, chart
        place = directory or "a directory named by CARBON_CLUSTER_CHARTS"
        super().__init__(
            f"Chart {chart} of service {service} could not be had: {said}. Nothing was changed. "
            f"Put its .tgz into {place}, or choose the services without it."
        )


class ObjectsMisfitError(ClusterError):
    """Rendered objects cannot be told apart or belong to no service."""

    def __init__(self, overlay: str, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(
            f"Objects of overlay {overlay} cannot be given to services; nothing was changed. Each "
            f"needs the label carbon-pipelines/service of one that the overlay lists:\n"
            f"{_listed(self.mistakes)}"
        )


class NamespaceTerminatingError(ClusterError):
    """A namespace is being deleted; nothing can be created in it."""

    retryable = True

    def __init__(self, namespace: str, held_by: Sequence[str]) -> None:
        self.namespace, self.held_by = namespace, tuple(held_by)
        held = f" It is held by: {'; '.join(held_by)}." if held_by else ""
        super().__init__(
            f"Namespace {namespace} is being deleted, so nothing can be created in it.{held} "
            "Nothing was changed. Wait until it is gone, or remove what holds it, then run again."
        )


class CrdMissingError(ClusterError):
    """Objects of kinds that neither the cluster nor the chosen services define."""

    def __init__(self, lacking: Sequence[tuple[str, str, str]]) -> None:
        self.lacking = tuple(lacking)
        lines = [f"{kind} ({service}: {name})" for kind, service, name in lacking]
        super().__init__(
            "The cluster does not know these kinds, and no chosen service defines them. Nothing "
            f"was changed. Provision the operator that brings them first:\n{_listed(lines)}"
        )


class FieldConflictError(ClusterError):
    """Fields belong to other managers; ``conflicts`` are (object, manager, field)."""

    def __init__(self, conflicts: Sequence[tuple[str, str, str]]) -> None:
        self.conflicts = tuple(conflicts)
        lines = [f"{name}: {manager} owns {field}" for name, manager, field in conflicts]
        super().__init__(
            "Others own fields that our manifests set; nothing was changed. Leave the field out of "
            "the manifest if it is theirs, or take it over with --take-over:\n" + _listed(lines)
        )


class ObjectsRefusedError(ClusterError):
    """The API server refuses objects; ``refusals`` are (service, object, its words)."""

    def __init__(self, refusals: Sequence[tuple[str, str, str]]) -> None:
        self.refusals = tuple(refusals)
        lines = [f"{service}: {name}: {said}" for service, name, said in refusals]
        super().__init__(
            "The API server would refuse these objects; nothing was changed. Correct them and run "
            f"again:\n{_listed(lines)}"
        )


class WebhookDownError(ClusterError):
    """An admission webhook does not answer, so its objects cannot be checked or written."""

    retryable = True

    def __init__(self, webhook: str, refusals: Sequence[tuple[str, str, str]]) -> None:
        self.webhook, self.refusals = webhook, tuple(refusals)
        names = ", ".join(sorted({name for _, name, _ in refusals}))
        super().__init__(
            f"Webhook {webhook} does not answer, and {names} cannot be written without it: "
            f"{refusals[0][2]}. Nothing was changed. Bring up the operator that serves it "
            "(carbon cluster status), then run again."
        )


class DangerousPlanError(ClusterError):
    """A plan holds what may lose data or stop a service, and nobody accepted it."""

    def __init__(self, dangers: Sequence[str]) -> None:
        self.dangers = tuple(dangers)
        super().__init__(
            "The plan is dangerous; nothing was changed. Look at each, take a backup, then accept "
            f"them with --accept-dangers:\n{_listed(self.dangers)}"
        )
