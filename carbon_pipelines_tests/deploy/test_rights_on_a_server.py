"""A real API server grants each role what the matrix says, and refuses what our policies refuse."""

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from carbon_pipelines_tests.deploy.rendered import render

pytest.importorskip(
    "carbon_pipelines_tests.deploy.control_plane", reason="the control plane is not there yet"
)

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
MATRIX = yaml.safe_load((DEPLOY / "policies" / "rbac" / "matrix.yaml").read_text())
SPACE = "data-platform"
WORKLOAD: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "tried", "namespace": SPACE},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "tried"}},
        "template": {
            "metadata": {"labels": {"app": "tried"}},
            "spec": {
                "serviceAccountName": "doctor",
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 1,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "tried",
                        "image": "docker.io/library/tried:1.0",
                        "resources": {
                            "requests": {"cpu": "1m", "memory": "1Mi"},
                            "limits": {"memory": "1Mi"},
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }
                ],
            },
        },
    },
}


@pytest.fixture(scope="module")
def ruled(plane: Any) -> Any:
    """The control plane with the foundation on it: namespaces, roles, admission."""
    objects = list(render(DEPLOY / "base" / "foundation"))
    spaces = [found for found in objects if found["kind"] == "Namespace"]
    rest = [found for found in objects if found["kind"] != "Namespace"]
    for part in (spaces, rest):
        text = "---\n".join(yaml.safe_dump(found) for found in part)
        plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    again = "---\n".join(yaml.safe_dump(found) for found in objects)
    told = plane.kubectl("diff", "--server-side", "--force-conflicts", "-f", "-", stdin=again)
    assert told == "", "a second application would change something"
    _await_admission(plane)
    return plane


def _await_admission(plane: Any) -> None:
    """A new policy is enforced some moments after it was made."""
    wrong = changed(lambda pod: pod["containers"][0].update(image="docker.io/library/tried"))
    for _ in range(100):
        if apply(plane, wrong).status_code == 422:
            return
        time.sleep(0.2)
    pytest.fail("the policies of admission are not enforced after 20 s")


def changed(change: Any) -> dict[str, Any]:
    body = copy.deepcopy(WORKLOAD)
    change(body["spec"]["template"]["spec"])
    return body


def apply(plane: Any, body: dict[str, Any], user: str | None = None, *groups: str) -> Any:
    """Server-side apply as a dry run, as the administrator or as somebody else."""
    path = (
        f"/apis/apps/v1/namespaces/{body['metadata']['namespace']}/deployments/"
        f"{body['metadata']['name']}?fieldManager=test&force=true&dryRun=All"
    )
    headers = {"Content-Type": "application/apply-patch+yaml"}
    if user is not None:
        headers |= {"Impersonate-User": user, "Impersonate-Group": ",".join(groups)}
    return plane.request("PATCH", path, data=json.dumps(body), headers=headers)


def may(plane: Any, line: str, user: str, groups: list[str]) -> bool:
    """What the API server's authorizer says."""
    verb, resource, namespace = line.split(" ")
    kind, _, group_and_sub = resource.partition(".")
    group, _, sub = group_and_sub.partition("/")
    if "/" in kind:
        kind, _, sub = kind.partition("/")
    attributes = {
        "verb": verb,
        "group": group,
        "resource": kind,
        "subresource": sub,
        "namespace": "" if namespace == "-" else namespace,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return plane.request("POST", path, json=review).json()["status"]["allowed"]


def who(role: str) -> tuple[str, list[str]]:
    """The user and the groups that a role is bound to."""
    for found in render(DEPLOY / "base" / "foundation"):
        bound = found["kind"].endswith("RoleBinding") or found["kind"] == "ClusterRoleBinding"
        if bound and found["roleRef"]["name"] == f"carbon-{role}":
            (subject,) = found["subjects"]
            if subject["kind"] == "Group":
                return "somebody", [subject["name"], "system:authenticated"]
            user = f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
            return user, ["system:authenticated", "system:serviceaccounts"]
    pytest.fail(f"nothing binds {role}")


@pytest.mark.parametrize("role", sorted(MATRIX["can"]))
def test_a_role_can_what_the_matrix_says_and_nothing_else_that_is_asked(
    ruled: Any, role: str
) -> None:
    user, groups = who(role)
    granted = {line for line in MATRIX["asked"] if may(ruled, line, user, groups)}
    assert granted == set(MATRIX["can"][role])


def test_who_has_no_role_can_nothing(ruled: Any) -> None:
    nobody = ("nobody", ["system:authenticated"])
    assert [line for line in MATRIX["asked"] if may(ruled, line, *nobody)] == []


def test_what_keeps_to_the_rules_is_accepted(ruled: Any) -> None:
    answer = apply(ruled, WORKLOAD)
    assert answer.status_code in {200, 201}, answer.text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda pod: pod["containers"][0].update(image="docker.io/x/y:latest"), "never latest"),
        (lambda pod: pod["containers"][0].update(image="docker.io/x/y:a-latest"), "never latest"),
        (lambda pod: pod["containers"][0].update(image="docker.io/x/y"), "need a version"),
        (lambda pod: pod["containers"][0].update(image="nginx:1.0"), "name of their registry"),
        (lambda pod: pod["containers"][0].pop("resources"), "which CPU and memory it needs"),
        (lambda pod: pod.update(serviceAccountName="default"), "a ServiceAccount of its own"),
        (lambda pod: pod.pop("serviceAccountName"), "a ServiceAccount of its own"),
        (
            lambda pod: pod.update(volumes=[{"name": "x", "hostPath": {"path": "/"}}]),
            "a volume of type hostPath is refused",
        ),
        (
            lambda pod: pod.update(initContainers=[{"name": "i", "image": "docker.io/x/y"}]),
            "need a version",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused_with_what_to_do(
    ruled: Any, change: Any, reason: str
) -> None:
    answer = apply(ruled, changed(change))
    assert answer.status_code == 422, answer.text
    assert reason in answer.json()["message"]


def test_an_image_by_digest_is_accepted(ruled: Any) -> None:
    digest = "docker.io/x/y@sha256:" + "0a" * 32
    answer = apply(ruled, changed(lambda pod: pod["containers"][0].update(image=digest)))
    assert answer.status_code in {200, 201}, answer.text


def test_the_rules_hold_in_the_namespaces_of_the_platform_only(ruled: Any) -> None:
    body = changed(lambda pod: pod["containers"][0].update(image="nginx"))
    body["metadata"]["namespace"] = "default"
    answer = apply(ruled, body)
    assert answer.status_code in {200, 201}, answer.text


def test_pod_security_refuses_a_root_pod(ruled: Any) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": SPACE},
        "spec": {
            "serviceAccountName": "doctor",
            "containers": [{"name": "x", "image": "docker.io/x/y:1"}],
        },
    }
    answer = ruled.request("POST", f"/api/v1/namespaces/{SPACE}/pods?dryRun=All", json=pod)
    assert answer.status_code == 403
    assert 'violates PodSecurity "restricted:latest"' in answer.json()["message"]


def test_what_holds_data_is_deleted_only_by_somebody_who_says_why(ruled: Any) -> None:
    path = "/api/v1/namespaces/registry"
    refused = ruled.request("DELETE", path, params={"dryRun": "All"})
    assert refused.status_code == 422
    assert "take a backup" in refused.json()["message"]
    ruled.kubectl("annotate", "namespace", "registry", "carbon-pipelines/may-be-deleted=me, a test")
    accepted = ruled.request("DELETE", path, params={"dryRun": "All"})
    ruled.kubectl("annotate", "namespace", "registry", "carbon-pipelines/may-be-deleted-")
    assert accepted.status_code == 200, accepted.text


def test_on_call_one_may_restart_but_not_change_the_pods(ruled: Any) -> None:
    ruled.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(WORKLOAD))
    try:
        path = f"/apis/apps/v1/namespaces/{SPACE}/deployments/tried?dryRun=All"
        headers = {
            "Content-Type": "application/strategic-merge-patch+json",
            "Impersonate-User": "somebody",
            "Impersonate-Group": "carbon:on-call",
        }
        restart = {"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}}
        answer = ruled.request("PATCH", path, json=restart, headers=headers)
        assert answer.status_code == 200, answer.text
        account = {"spec": {"template": {"spec": {"serviceAccountName": "provisioner"}}}}
        answer = ruled.request("PATCH", path, json=account, headers=headers)
        assert answer.status_code == 422
        assert "one may restart and scale" in answer.json()["message"]
    finally:
        ruled.kubectl("-n", SPACE, "delete", "deployment", "tried")


def test_every_network_policy_is_accepted(ruled: Any) -> None:
    policies = render(DEPLOY / "policies" / "network")
    text = "---\n".join(yaml.safe_dump(found) for found in policies)
    told = ruled.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=text)
    assert len(told.splitlines()) == len(policies)
