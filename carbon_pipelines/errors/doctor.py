"""Errors of the doctor: it could not look, or was asked for what there is not.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them. What
the doctor finds is no error of this kind: that is a diagnosis.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from carbon_pipelines.errors.cluster import ClusterError


class DoctorError(ClusterError):
    """The doctor could not do what it was asked to."""


class KubectlMissingError(DoctorError):
    """There is no kubectl to ask the cluster with."""

    def __init__(self, program: str) -> None:
        self.program = program
        super().__init__(
            f'"{program}" is not a program here, and the doctor asks the cluster through it; '
            "nothing was tried. Install kubectl, or name it in CARBON_CLUSTER_KUBECTL. For the "
            'stack on this machine run "carbon doctor --here".'
        )


class KubectlUnreachableError(DoctorError):
    """No API server answers."""

    retryable = True

    def __init__(self, context: str, said: str) -> None:
        self.context, self.said = context, said
        super().__init__(
            f"No cluster answers for {context}: {said}. No edge was tried. Check with "
            '"kubectl config current-context" and "kubectl cluster-info" that the right cluster is '
            'named and runs. For the stack on this machine run "carbon doctor --here".'
        )


class KubectlCredentialsError(DoctorError):
    """The API server does not know us, or not any more."""

    def __init__(self, context: str, said: str) -> None:
        self.context, self.said = context, said
        super().__init__(
            f"The cluster of {context} does not accept our credentials (expired, or of another "
            f"cluster): {said}. No edge was tried. Log in again the way you got them (a new "
            'kubeconfig, "aws eks update-kubeconfig", "gcloud container clusters '
            'get-credentials", "az aks get-credentials"), then run the same command.'
        )


class KubectlForbiddenError(DoctorError):
    """The API server knows us and does not let us look."""

    def __init__(self, what: str, said: str) -> None:
        self.what, self.said = what, said
        super().__init__(
            f"We may not {what}: {said}. Without it no cause can be told from another. Bind the "
            "role of the doctor to this account (docs/cluster/connectivity.md lists its rights)."
        )


class KubectlAnswerError(DoctorError):
    """kubectl ended with an error that none of the others explains."""

    retryable = True

    def __init__(self, command: Sequence[str], said: str) -> None:
        self.command, self.said = tuple(command), said
        super().__init__(
            f'"{" ".join(command)}" failed: {said}. Run it by hand to see more, then run the '
            "doctor again."
        )


class UnknownEdgeError(DoctorError):
    """No edge of the service graph is called, or begins and ends, like that."""

    def __init__(self, name: str, *, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        ends = {end: edge for edge in self.known for end in (edge, _short(edge))}
        close = get_close_matches(name, ends, n=5, cutoff=0.4)
        offered = sorted({ends[end] for end in close}) or list(self.known[:8])
        listed = "".join(f"\n  {edge}" for edge in offered)
        more = "" if close else f"\n  ... {len(self.known)} in all" if len(self.known) > 8 else ""
        super().__init__(
            f'No edge is called "{name}": write client->server, client.pods->server or '
            f"client.pods->server/endpoint. {'Close to it' if close else 'There are'}:"
            f"{listed}{more}"
        )


class ProbeFailedError(DoctorError):
    """The probe could not be run at one place; other places are none the worse for it."""

    def __init__(self, place: str, said: str, next_step: str) -> None:
        self.place, self.said, self.next_step = place, said, next_step
        super().__init__(f"Nothing can be tried from {place}: {said}. {next_step}")


class RemedyRefusedError(DoctorError):
    """A remedy was not begun; nothing was changed by it."""

    def __init__(self, remedy: str, reason: str, next_step: str) -> None:
        self.remedy, self.reason = remedy, reason
        super().__init__(f'"{remedy}" was not begun: {reason}. {next_step}')


class RemedyFailedError(DoctorError):
    """A remedy's command ended with an error; later remedies were not begun."""

    retryable = True

    def __init__(self, remedy: str, command: str, said: str) -> None:
        self.remedy, self.command, self.said = remedy, command, said
        super().__init__(
            f'"{remedy}" did not come to its end: "{command}" said: {said}. No later remedy was '
            'begun. Correct that, then run "carbon doctor --fix" again: it looks first.'
        )


def _short(edge: str) -> str:
    """``client->server`` of an edge's whole name."""
    client, _, server = edge.partition("->")
    return f"{client.split('.')[0]}->{server.split('/')[0]}"
