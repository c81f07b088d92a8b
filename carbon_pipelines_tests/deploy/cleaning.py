"""An empty cluster again, in a second.

What belongs here: removing what a test left. Deleting a namespace and waiting takes five to eleven
seconds, because its controller waits before it looks; so its content is deleted here, and it is
finalized by hand.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from carbon_pipelines_tests.deploy.control_plane import ControlPlane

NAMESPACES = ("shop", "keeper")
CONTENT = (
    "apis/apps/v1/deployments",
    "apis/apps/v1/statefulsets",
    "apis/batch/v1/cronjobs",
    "apis/batch/v1/jobs",
    "apis/apps/v1/replicasets",
    "apis/apps/v1/controllerrevisions",
    "api/v1/pods",
    "api/v1/services",
    "api/v1/persistentvolumeclaims",
    "api/v1/configmaps",
    "api/v1/secrets",
    "api/v1/resourcequotas",
    "api/v1/serviceaccounts",
    "apis/discovery.k8s.io/v1/endpointslices",
    "api/v1/endpoints",
    "api/v1/events",
)
SHARED = (
    "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "api/v1/persistentvolumes",
)
DEFINITIONS = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OWN = (
    "apis/coordination.k8s.io/v1/namespaces/default/leases",
    "api/v1/namespaces/default/configmaps?labelSelector=carbon-pipelines/revision-of",
)
NOW = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
PATIENCE_SECONDS = 40


def empty_again(plane: ControlPlane) -> None:
    """Remove the small overlay and whatever a test put beside it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for path in (*SHARED, *OWN):
        plane.request("DELETE", f"/{path}", json=NOW)
    # A definition that is deleted by its name takes its objects along; deleted with the whole list
    # it leaves them in the store, where the next one finds them.
    while found := plane.request("GET", f"/{DEFINITIONS}").json()["items"]:
        assert time.monotonic() < deadline, "definitions of kinds do not go away"
        for body in found:
            plane.request("DELETE", f"/{DEFINITIONS}/{body['metadata']['name']}")
        time.sleep(0.05)
    for name in NAMESPACES:
        plane.request("DELETE", f"/api/v1/namespaces/{name}")  # nothing can be created from here on
    _release(plane, SHARED[1])
    with ThreadPoolExecutor(8) as threads:
        for name in NAMESPACES:
            if plane.request("GET", f"/api/v1/namespaces/{name}").status_code == 404:
                continue
            inside = [_inside(path, name) for path in CONTENT]
            while any(threads.map(lambda path: _emptied(plane, path), inside)):
                assert time.monotonic() < deadline, f"namespace {name} does not become empty"
            namespace = plane.request("GET", f"/api/v1/namespaces/{name}").json()
            namespace["spec"] = {"finalizers": []}
            plane.request("PUT", f"/api/v1/namespaces/{name}/finalize", json=namespace)


def _inside(path: str, namespace: str) -> str:
    base, _, plural = path.rpartition("/")
    return f"{base}/namespaces/{namespace}/{plural}"


def _emptied(plane: ControlPlane, path: str) -> bool:
    """Delete what is there; whether something was."""
    if not plane.request("GET", f"/{path}").json().get("items"):
        return False
    plane.request("DELETE", f"/{path}", json=NOW)
    _release(plane, path)
    return True


def _release(plane: ControlPlane, path: str) -> None:
    """Take away finalizers that nobody here answers (protection of claims in use)."""
    for body in plane.request("GET", f"/{path}").json().get("items", ()):
        if body["metadata"].get("finalizers"):
            plane.request(
                "PATCH",
                f"/{path}/{body['metadata']['name']}",
                json={"metadata": {"finalizers": None}},
                headers={"Content-Type": "application/merge-patch+json"},
            )
