"""``carbon doctor`` answers bad input with one clear sentence, and touches nothing."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from carbon_pipelines.cli import cli
from carbon_pipelines_tests.cli.nowhere import NOWHERE

KUBECTL = """\
#!/bin/sh
echo "$@" >> {log}
echo '{said}' >&2
exit 1
"""
SERVICE = """\
title: A
about: A.
kind: manifests
namespace: data
owner: team:platform
pods: {main: {labels: {app: a}}}
endpoints: {rest: {pods: main, service: alpha, port: 80, protocol: http}}
uses:
- {endpoint: alpha/rest, pods: [main], why: its own pods talk}
"""


@pytest.fixture(autouse=True)
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CARBON_CLUSTER_DEPLOY", *NOWHERE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CARBON_HOME", str(tmp_path / "home"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *arguments])


def declared(tmp_path: Path) -> str:
    folder = tmp_path / "deploy" / "base" / "alpha"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "service.yaml").write_text(SERVICE)
    return str(tmp_path / "deploy")


def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> Path:
    """A kubectl that always ends with this error."""
    program, log = tmp_path / "kubectl", tmp_path / "log"
    program.write_text(KUBECTL.format(log=log, said=said))
    program.chmod(0o755)
    monkeypatch.setenv("CARBON_CLUSTER_KUBECTL", str(program))
    return log


def test_without_a_stack_it_says_which_address_is_missing() -> None:
    done = run()
    assert done.exit_code == 1
    assert "CARBON_STREAM_BOOTSTRAP" in done.output


def test_services_that_nobody_serves_are_faults_with_exit_code_3(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    done = run("--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 3
    assert {one["edge"]: one["cause"] for one in told["edges"]} == {
        "here->kafka": "not_listening",
        "here->catalog": "not_listening",
        "here->s3": "not_listening",
    }
    assert "secret" not in done.output


def test_no_kubectl_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBON_CLUSTER_KUBECTL", "/nowhere/kubectl")
    done = run("--deploy", declared(tmp_path))
    assert done.exit_code == 1
    assert "Install kubectl, or name it in CARBON_CLUSTER_KUBECTL" in done.output


def test_an_unknown_edge_is_told_before_the_cluster_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = answering(tmp_path, monkeypatch, "never asked")
    done = run("--deploy", declared(tmp_path), "--edge", "alpa->alpha")
    assert done.exit_code == 1
    assert 'No edge is called "alpa->alpha"' in done.output
    assert "Close to it:\n  alpha.main->alpha/rest" in done.output
    assert not log.exists()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "The connection to the server localhost:8080 was refused - did you specify the right "
            "host or port?",
            "No cluster answers for the current context",
        ),
        (
            "Error in configuration: context was not found for specified context: nowhere",
            "No cluster answers for the current context",
        ),
        (
            "error: You must be logged in to the server (Unauthorized)",
            "does not accept our credentials (expired, or of another cluster)",
        ),
        (
            'Error from server (Forbidden): pods is forbidden: User "x" cannot list resource '
            '"pods" in API group "" at the cluster scope',
            "We may not get pods",
        ),
        ("error: something else", "Run it by hand to see more"),
    ],
)
def test_what_kubectl_says_is_told_with_a_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: str
) -> None:
    answering(tmp_path, monkeypatch, said)
    done = run("--deploy", declared(tmp_path))
    assert done.exit_code == 1
    assert expected in done.output
    assert said[:30] in done.output


def test_apply_without_fix_is_a_wrong_option() -> None:
    assert run("--apply").exit_code == 2
