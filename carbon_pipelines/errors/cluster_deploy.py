"""Errors while a cluster is changed: each says what is done, and that a new run goes on from there.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them.
"""

from collections.abc import Sequence

from carbon_pipelines.errors.cluster import ClusterError


class ProvisionLockedError(ClusterError):
    """Somebody else provisions the cluster."""

    retryable = True

    def __init__(self, holder: str, since: str, expires_in_seconds: float) -> None:
        self.holder, self.since = holder, since
        self.expires_in_seconds = expires_in_seconds
        super().__init__(
            f"{holder} is changing this cluster since {since}. Nothing was changed by us. Wait for "
            f"it to end; if that process is dead, its lock expires in {expires_in_seconds:.0f} s."
        )


class LockLostError(ClusterError):
    """Our lock was taken or could not be renewed in time."""

    retryable = True

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(
            f"The lock on the cluster was lost to {holder}: it was not renewed in time. What was "
            "applied stays; nothing more was done. Run again once nobody else works on it."
        )


class ApplyStoppedError(ClusterError):
    """The API server refused an object that its dry run had accepted."""

    retryable = True

    def __init__(self, service: str, name: str, said: str, *, done: int, left: int) -> None:
        self.service, self.name, self.said = service, name, said
        self.done, self.left = done, left
        super().__init__(
            f"{service}: {name} was refused: {said}. {done} objects are applied, {left} are not. "
            "Correct the cause and run again: what is applied is not applied twice."
        )


class ServiceNotReadyError(ClusterError):
    """A service is not ready; its object, condition, event and log line say why."""

    retryable = True

    def __init__(
        self,
        service: str,
        waiting: Sequence[tuple[str, str]],
        *,
        waited_seconds: float,
        event: str | None,
        log_line: str | None,
    ) -> None:
        self.service, self.waiting = service, tuple(waiting)
        self.waited_seconds, self.event, self.log_line = waited_seconds, event, log_line
        (name, condition), *others = waiting
        more = f" ({len(others)} more objects wait)" if others else ""
        super().__init__(
            f"{service} is not ready after {waited_seconds:.0f} s: {name}: {condition}{more}. "
            f"Event: {event or 'none'}. Log: {log_line or 'none'}. What was applied stays; correct "
            "the cause and run again, it goes on from here."
        )


class RevisionMissingError(ClusterError):
    """There is no recorded state of a service to go back to."""

    def __init__(self, service: str, wanted: str, known: Sequence[int]) -> None:
        self.service, self.known = service, tuple(known)
        there = ", ".join(map(str, known)) or "none"
        super().__init__(
            f"{service} has no recorded revision {wanted}; there are: {there}. Nothing was "
            "changed. A revision is recorded each time a service is applied and becomes ready."
        )


class ScaleRefusedError(ClusterError):
    """A number of pods that a workload cannot have."""

    def __init__(self, service: str, pods: str, reason: str) -> None:
        self.service, self.pods, self.reason = service, pods, reason
        super().__init__(f"{service}: {pods} cannot be scaled: {reason}. Nothing was changed.")


class BackupFailedError(ClusterError):
    """A backup that must come before a removal did not succeed."""

    def __init__(self, service: str, what: str, said: str) -> None:
        self.service, self.what = service, what
        super().__init__(
            f"{service}: the backup of {what} did not succeed: {said}. Nothing was removed. "
            "Correct the cause, or keep the data, and run again."
        )
