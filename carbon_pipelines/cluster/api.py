"""The API server, as this project talks to it: plain objects in and out, errors with a next step.

What belongs here: connecting, one request, and which kinds the server knows. What does not: which
objects there should be.

Credentials are the ``kubernetes`` package's matter: it knows kubeconfigs, exec plugins, and tokens
of pods and renews them. Its models are not used, because a custom resource has none and a model
drops fields it does not know. Importing it takes a CPU-second, so it is imported on connecting.
"""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from carbon_pipelines.cluster.manifest import Manifest
from carbon_pipelines.errors import (
    ApiRefusalError,
    ClusterCredentialsError,
    ClusterVersionError,
    NoClusterError,
)

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

MANAGER = "carbon-pipelines"
"""Our name among the managers of an object's fields."""

OLDEST, NEWEST = (1, 34), (1, 37)
"""Versions of Kubernetes that the operators in ``deploy/versions.yaml`` run on."""

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
REQUEST_SECONDS = 60.0

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind that the server knows: its part of a path, and whether it lives in a namespace."""

    api_version: str
    name: str
    plural: str
    namespaced: bool
    verbs: frozenset[str]

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """Where objects of the kind lie."""
        base = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{base}{inside}/{self.plural}{f'/{name}' if name else ''}"


@dataclass(slots=True)
class Cluster:
    """An open connection; threads may share it."""

    client: "ApiClient"
    server: str
    version: str
    _kinds: dict[tuple[str, str], Kind] = field(default_factory=dict[tuple[str, str], Kind])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
    ) -> Json:
        """The object that the server answers with.

        Raises:
            ApiRefusalError: It answers with an error.
            ClusterCredentialsError: It does not accept who we are.
            NoClusterError: It does not answer.
        """
        return cast("Json", json.loads(self.text(method, path, query, body, content_type)))

    def text(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
    ) -> str:
        """The text of an answer, for those that are no object (logs)."""
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json", "Content-Type": content_type}
        self.client.update_params_for_auth(headers, [], ["BearerToken"])
        url = f"{self.server}{path}{f'?{urlencode(query)}' if query else ''}"
        try:
            answer = self.client.rest_client.pool_manager.request(
                method,
                url,
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=REQUEST_SECONDS,
                retries=False,
            )
        except HTTPError as error:
            raise NoClusterError(self.server, _reason(error)) from error
        said = answer.data.decode("utf-8", errors="replace")
        if answer.status == 401:
            raise ClusterCredentialsError(self.server, "401 Unauthorized")
        if answer.status >= 400:
            raise _refusal(f"{method} {path}", answer.status, said)
        return said

    def get(self, path: str) -> Json | None:
        """An object, or None when there is none."""
        try:
            return self.request("GET", path)
        except ApiRefusalError as error:
            if error.code == 404:
                return None
            raise

    def items(self, path: str, selector: str | None = None) -> list[Json]:
        """Objects of a list, by label if told so, in pages."""
        found: list[Json] = []
        query = {"limit": "500", **({"labelSelector": selector} if selector else {})}
        while True:
            page = self.request("GET", path, query=query)
            found.extend(page.get("items", ()))
            if not (token := page.get("metadata", {}).get("continue")):
                return found
            query["continue"] = token

    def kind(self, api_version: str, name: str) -> Kind | None:
        """A kind, asked of the server once; None when it does not know it."""
        with self._lock:
            if (api_version, name) not in self._kinds:
                self._discover(api_version)
            return self._kinds.get((api_version, name))

    def kinds(self) -> Sequence[Kind]:
        """Every kind of the server, in its preferred version of each group."""
        groups = self.request("GET", "/apis")["groups"]
        preferred = ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]
        with self._lock:
            for api_version in preferred:
                self._discover(api_version)
            return [kind for kind in self._kinds.values() if kind.api_version in preferred]

    def forget_kinds(self) -> None:
        """Ask for kinds anew: definitions come and go while a connection is open."""
        with self._lock:
            self._kinds.clear()

    def place(self, manifest: Manifest) -> str | None:
        """The path of an object, or None when the server does not know its kind."""
        kind = self.kind(manifest.api_version, manifest.kind)
        return kind and kind.path(manifest.namespace, manifest.name)

    def _discover(self, api_version: str) -> None:
        listed = self.get("/api/v1" if api_version == "v1" else f"/apis/{api_version}") or {}
        for found in listed.get("resources", ()):
            if "/" in found["name"]:
                continue
            key = (api_version, found["kind"])
            verbs = frozenset(found.get("verbs", ()))
            self._kinds[key] = Kind(*key, found["name"], found["namespaced"], verbs)


def connect(kubeconfig: str | None = None, context: str | None = None) -> Cluster:
    """Connect as a kubeconfig says, or as the pod that we run in; None: the usual kubeconfig.

    Raises:
        NoClusterError: There is no such kubeconfig or context, or nothing answers.
        ClusterCredentialsError: The server does not accept who we are.
        ClusterVersionError: The cluster is of a version that the manifests are not for.
    """
    from kubernetes import client, config
    from kubernetes.config import ConfigException

    settings = client.Configuration()
    where = f"{kubeconfig or 'the usual kubeconfig'}{f', context {context}' if context else ''}"
    in_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    try:
        if in_pod and not (kubeconfig or context):
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(kubeconfig, context, settings, persist_config=False)
    except (ConfigException, OSError, ValueError) as error:
        raise NoClusterError(where, _reason(error)) from error
    settings.connection_pool_maxsize = 16
    opened = Cluster(client.ApiClient(settings), str(settings.host), "")
    found = opened.request("GET", "/version")
    opened.version = str(found["gitVersion"]).removeprefix("v")
    major, minor = (int("".join(filter(str.isdigit, found[part]))) for part in ("major", "minor"))
    if not OLDEST <= (major, minor) <= NEWEST:
        oldest, newest = (".".join(map(str, bound)) for bound in (OLDEST, NEWEST))
        raise ClusterVersionError(opened.server, opened.version, oldest=oldest, newest=newest)
    # Any right that an unknown user lacks: /version answers those whose credentials are refused.
    opened.request(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        body={"spec": {"resourceAttributes": {"verb": "get", "resource": "namespaces"}}},
    )
    return opened


def _refusal(request: str, code: int, said: str) -> ApiRefusalError:
    """What an error's body says; a proxy may answer with something that is no Status."""
    try:
        status = cast("Json", json.loads(said))
        causes = [
            (cause.get("reason", ""), cause.get("field", ""), cause.get("message", ""))
            for cause in (status.get("details") or {}).get("causes", ())
        ]
        message = str(status.get("message", ""))
        return ApiRefusalError(request, code, str(status.get("reason", "")), message, causes)
    except (ValueError, AttributeError):
        return ApiRefusalError(request, code, "", said.strip()[:200])


def _reason(error: BaseException) -> str:
    """The first line of an error, which for a connection is long."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
