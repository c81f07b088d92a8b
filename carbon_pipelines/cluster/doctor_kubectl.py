"""Asking the cluster through kubectl: its objects, its Secrets, and commands in its pods.

What belongs here: calls of kubectl, and what its errors mean. What does not: anything that the
answers mean (``doctor_state.py``).

kubectl and not a client library: it reads every kubeconfig, plug-in and cloud login that people
have, and what the doctor does can be done again by hand word by word.
"""

import base64
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from carbon_pipelines.cluster.doctor_state import ApiObject
from carbon_pipelines.errors import (
    KubectlAnswerError,
    KubectlCredentialsError,
    KubectlForbiddenError,
    KubectlMissingError,
    KubectlUnreachableError,
    ProbeFailedError,
)

KINDS = (
    "pods,services,endpointslices.discovery.k8s.io,networkpolicies.networking.k8s.io,"
    "namespaces,nodes,daemonsets.apps"
)
_UNREACHABLE = (
    "connection refused",
    "no such host",
    "i/o timeout",
    "context deadline exceeded",
    "no route to host",
    "network is unreachable",
    "no configuration has been provided",
    "was refused",
    "unable to connect to the server",
    "current-context is not set",
    "context was not found",
    "error in configuration",
    "error loading config",
    "no such file or directory",
    "does not exist",
    "eof",
)
_CREDENTIALS = (
    "unauthorized",
    "must be logged in",
    "provide credentials",
    "certificate has expired",
    "expired",
    "getting credentials",
    "token is invalid",
    "certificate signed by unknown authority",
)


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl for one context; None is the current one."""

    program: str = "kubectl"
    context: str | None = None
    kubeconfig: str | None = None
    timeout_seconds: float = 60.0

    @property
    def label(self) -> str:
        """Whose cluster it is, for people."""
        return f'context "{self.context}"' if self.context else "the current context"

    def command(self, *words: str) -> list[str]:
        """The whole command, as it can be run by hand."""
        named = [f"--context={self.context}"] if self.context else []
        named += [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        return [self.program, *named, *words]

    def run(self, *words: str, stdin: str = "", timeout_seconds: float | None = None) -> str:
        """What a command printed.

        Raises:
            KubectlMissingError: There is no such program.
            KubectlUnreachableError: No API server answers.
            KubectlCredentialsError: It does not accept our credentials.
            KubectlForbiddenError: It does not let us do that.
            KubectlAnswerError: Anything else went wrong.
        """
        command = self.command(*words)
        limit = timeout_seconds or self.timeout_seconds
        try:
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
        except FileNotFoundError:
            raise KubectlMissingError(self.program) from None
        except subprocess.TimeoutExpired:
            said = f"no answer within {limit:g} s"
            raise KubectlUnreachableError(self.label, said) from None
        if done.returncode == 0:
            return done.stdout
        raise self._explain(words, done.stderr)

    def objects(self) -> list[ApiObject]:
        """Everything a diagnosis needs to know, in one question."""
        short = "--request-timeout=30s"
        found = json.loads(self.run("get", KINDS, "-A", "-o", "json", short))["items"]
        try:
            found += json.loads(self.run("get", "servicecidrs", "-o", "json", short))["items"]
        except (KubectlAnswerError, KubectlForbiddenError):
            return found  # before Kubernetes 1.33 there is no such kind
        return found

    def secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """A Secret's text by key; values that are no text are left out.

        Raises:
            KubectlForbiddenError: We may not read it.
            KubectlAnswerError: It is not there.
        """
        told = json.loads(self.run("-n", namespace, "get", "secret", name, "-o", "json"))
        found: dict[str, str] = {}
        for key, encoded in (told.get("data") or {}).items():
            try:
                found[key] = base64.b64decode(encoded).decode()
            except ValueError:
                continue
        return found

    def _explain(self, words: Sequence[str], stderr: str) -> Exception:
        lines = [
            line for line in stderr.strip().splitlines() if not line.startswith(("E1", "E0", "I"))
        ]
        said = (lines or stderr.strip().splitlines() or ["it said nothing"])[-1]
        low = stderr.lower()
        if "forbidden" in low:
            return KubectlForbiddenError(" ".join(words[:4]), said)
        if any(part in low for part in _CREDENTIALS):
            return KubectlCredentialsError(self.label, said)
        if "notfound" not in low and any(part in low for part in _UNREACHABLE):
            return KubectlUnreachableError(self.label, said)
        return KubectlAnswerError(self.command(*words[:6]), said)


@dataclass(frozen=True, slots=True)
class PodPlace:
    """A container of a pod, or an ephemeral one beside it with an image that has Python."""

    kubectl: Kubectl
    namespace: str
    pod: str
    container: str = ""
    debug_image: str = ""

    @property
    def label(self) -> str:
        """The pod."""
        return f"pod {self.namespace}/{self.pod}"

    def run(self, command: Sequence[str], stdin: str, *, timeout_seconds: float) -> str:
        """Run a command there through the API server.

        Raises:
            ProbeFailedError: Commands cannot be run in the pod; says what can be done about it.
                What kubectl prints of a command may read like an error of the cluster's, so no
                error here ends the look from other pods.
        """
        try:
            return self.kubectl.run(
                *self._words(), "--", *command, stdin=stdin, timeout_seconds=timeout_seconds
            )
        except KubectlForbiddenError as error:
            what = "pods/ephemeralcontainers" if self.debug_image else "pods/exec"
            step = f"Bind a role that may create {what} in {self.namespace} to this account."
            raise ProbeFailedError(self.label, error.said, step) from error
        except (
            KubectlAnswerError,
            KubectlUnreachableError,
            KubectlCredentialsError,
        ) as error:
            step = "Name an image with Python for a debug container beside it: --debug-image."
            if self.debug_image:
                step = f"See kubectl -n {self.namespace} describe pod {self.pod}."
            raise ProbeFailedError(self.label, error.said, step) from error

    def _words(self) -> list[str]:
        if self.debug_image:
            target = [f"--target={self.container}"] if self.container else []
            words = ["-n", self.namespace, "debug", self.pod, "-i", "-q", "--profile=restricted"]
            return [*words, f"--image={self.debug_image}", *target]
        named = ["-c", self.container] if self.container else []
        return ["-n", self.namespace, "exec", "-i", self.pod, *named]
