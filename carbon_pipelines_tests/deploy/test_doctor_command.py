"""``carbon doctor`` and its Dagster job, from the declarations to the packets of the lab.

Only kubectl stands in: it answers from the lab's objects and runs commands in the lab's namespaces.
"""

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner, Result

from carbon_pipelines.cli import cli
from carbon_pipelines.defs.cluster.doctor import DoctorResource, doctor
from carbon_pipelines_tests.deploy import lab_kubectl
from carbon_pipelines_tests.deploy.lab_world import (
    CATALOG,
    CATALOG_NAME,
    DB,
    GRAFANA_DB,
    PASSWORD,
    TRINO_DB,
    World,
    running,
)
from carbon_pipelines_tests.deploy.network_lab import find_nft

SCRIPT = Path(__file__).parents[2] / "deploy" / "troubleshoot-connectivity.sh"


@dataclass
class Cluster:
    """The lab behind a kubectl."""

    world: World
    home: Path
    program: Path

    def settings(self, *, texts: Mapping[str, str] | None = None, **changed: Any) -> None:
        """What kubectl is told; then its files are written from the world as it is."""
        told = {
            "closed": [],
            "without_python": [],
            "kube_proxy": "",
            "spaces": {
                CATALOG_NAME if name == "catalog" else name: self.world.lab.space(name)
                for name in self.world.lab.addresses
            },
        }
        (self.home / "settings.json").write_text(json.dumps(told | changed))
        objects = {"items": list(self.world.objects.values())}
        (self.home / "objects.json").write_text(json.dumps(objects))
        (self.home / "commands").write_text("")
        cases = [
            f"*{shlex.quote(part)}*) printf %s {shlex.quote(answer)}; exit 0 ;;"
            for part, answer in (texts or {}).items()
        ]
        answers = "\n".join(['case "$*" in', *cases, "esac"]) if cases else ""
        (self.home / "texts.sh").write_text(answers)

    def commands(self) -> list[str]:
        return [line for line in (self.home / "commands").read_text().splitlines() if line]

    def run(self, *arguments: str) -> Result:
        words = ["doctor", "--deploy", str(self.home / "deploy"), *arguments]
        environment = {"CARBON_CLUSTER_KUBECTL": str(self.program)}
        return CliRunner().invoke(cli, words, env=environment)


@pytest.fixture(scope="module")
def lab() -> Iterator[Cluster]:
    if os.geteuid() != 0 or not shutil.which("ip") or find_nft() is None:
        pytest.skip("NOT TESTED: network namespaces need root, iproute2 and nft")
    with tempfile.TemporaryDirectory(prefix="carbon-lab-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        with running(home) as world:
            program = home / "kubectl"
            python = f'exec {sys.executable} {lab_kubectl.__file__} {home} "$@"'
            program.write_text(f"#!/bin/sh\n. {home}/texts.sh\n{python}\n")
            program.chmod(0o755)
            for service in world.graph.services:
                folder = home / "deploy" / "base" / service.name
                folder.mkdir(parents=True)
                told = service.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
                (folder / "service.yaml").write_text(yaml.safe_dump(told))
            secret = {"password": PASSWORD, "ca.crt": world.authority.pem}
            encoded = {
                key: base64.b64encode(text.encode()).decode() for key, text in secret.items()
            }
            (home / "secrets.json").write_text(json.dumps({"data": encoded}))
            yield Cluster(world, home, program)


@pytest.fixture
def cluster(lab: Cluster) -> Iterator[Cluster]:
    lab.settings()
    yield lab
    lab.world.heal()


def test_a_healthy_cluster_is_exit_code_0_and_was_only_looked_at(cluster: Cluster) -> None:
    done = cluster.run()
    assert done.output.splitlines()[-1] == "4 edges: 4 works"
    assert done.exit_code == 0
    assert {line.split()[0] for line in cluster.commands()} <= {"get", "-n"}
    verbs = {word for line in cluster.commands() for word in line.split()}
    assert not verbs & {"apply", "delete", "rollout", "debug", "drain"}
    assert PASSWORD not in " ".join(cluster.commands())


def test_a_fault_is_told_for_programs_with_exit_code_3(cluster: Cluster) -> None:
    cluster.world.lab.expose({(CATALOG, 8181): (cluster.world.lab.addresses["catalog"], 8443)})
    done = cluster.run("--edge", "trino->db", "--json", "--fix")
    told = json.loads(done.stdout)
    assert done.exit_code == 3
    assert [(one["edge"], one["cause"]) for one in told["edges"]] == [(TRINO_DB, "kube_proxy")]
    first, second, third = told["steps"]
    assert first.splitlines()[1].endswith("-n kube-system rollout restart daemonset/kube-proxy")
    assert "docker exec node-1 systemctl restart kubelet" in second
    assert "aws ssm send-command" in second
    assert "only after a backup" in third
    assert not [line for line in cluster.commands() if "rollout" in line]


def test_fix_takes_the_first_step_and_looks_whether_it_helped(cluster: Cluster) -> None:
    at = cluster.world.lab.addresses
    cluster.world.lab.expose({(CATALOG, 8181): (at["catalog"], 8443)})
    nft = cluster.home / "again.nft"
    nft.write_text(
        f"add rule ip kube_proxy rules ip daddr {DB} tcp dport 5432 dnat to {at['db']}\n"
    )
    program, environment = find_nft() or ("", {})
    libraries = environment.get("LD_LIBRARY_PATH", "")
    space = cluster.world.lab.space("node")
    again = f"LD_LIBRARY_PATH={libraries} ip netns exec {space} {program} -f {nft}"
    cluster.settings(kube_proxy=again)
    done = cluster.run("--fix", "--apply", "--edge", "trino->db")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "1 edges: 1 works"
    taken = [line for line in cluster.commands() if "rollout" in line]
    assert [line.split("rollout ")[1] for line in taken] == [
        "restart daemonset/kube-proxy",
        "status daemonset/kube-proxy",
    ]


def test_a_pod_without_python_is_tried_by_its_shell_up_to_tcp(cluster: Cluster) -> None:
    cluster.settings(without_python=["grafana"])
    done = cluster.run("--edge", "grafana->db", "--json")
    (one,) = json.loads(done.stdout)["edges"]
    assert (one["edge"], one["status"]) == (GRAFANA_DB, "works")
    assert one["sentence"] == "every level is reached: dns, tcp"


def test_a_pod_that_no_command_runs_in_is_untested_and_says_what_helps(cluster: Cluster) -> None:
    cluster.settings(closed=["trino"])
    done = cluster.run("--edge", "trino->db")
    assert done.exit_code == 4
    assert f"untested  {TRINO_DB}: Nothing can be tried from pod data-platform/trino" in done.output
    assert "Bind a role that may create pods/exec in data-platform" in done.output


def first_pass(cluster: Cluster, *arguments: str) -> tuple[int, list[str]]:
    """The script's exit code, and its lines about one edge."""
    pods = f"{cluster.world.lab.addresses['db']}\n"
    cluster.settings(
        texts={
            "get --raw /version": "{}",
            "jsonpath={range .items[*]}{.spec.podCIDR}": "10.244.0.0/24\n",
            "{.endpoints[*].conditions.ready}": "data-platform/db true\n",
            "{.addresses[0]}": pods,
            "{.items[0].ports[0].port}": "5432",
            "{.spec.clusterIP}": DB,
            "{.spec.ports[0].port}": "5432",
            "get nodes": "node-1 Ready control-plane 1d v1.37.2\n",
            "get daemonsets": "kube-proxy 1 1 1 1 1 none 1d\n",
            "get pods -l k8s-app=kube-dns": "coredns-1 1/1 Running 0 1d\n",
            "get networkpolicies": "data-platform default-deny <none> 1d\n",
        }
    )
    environment = {**os.environ, "KUBECTL": str(cluster.program)}
    done = subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.partition("7. ")[2].splitlines()[1:5]


def test_the_first_pass_with_kubectl_alone_tells_kube_proxy_from_the_network(
    cluster: Cluster,
) -> None:
    edge = ("monitoring/grafana", "data-platform/db")
    code, told = first_pass(cluster, *edge)
    assert (code, told[:3]) == (
        0,
        [
            "  ok      DNS: db.data-platform.svc",
            "  ok      TCP to the pods' own addresses (1 of 1)",
            f"  ok      TCP to the Service's address {DB}:5432",
        ],
    )
    cluster.world.lab.expose({})
    code, told = first_pass(cluster, *edge)
    assert code == 3
    assert f"the pods answer, the Service's address {DB}:5432 does not: kube-proxy" in told[2]
    cluster.world.lab.drop("ip daddr 10.244.0.0/24")
    code, told = first_pass(cluster, *edge)
    assert code == 3
    assert "TCP to the pods' own addresses (0 of 1): a policy, the CNI, or nothing" in told[1]


def test_the_checks_and_the_job_say_the_same_in_dagster(cluster: Cluster) -> None:
    cluster.world.lab.expose({(CATALOG, 8181): (cluster.world.lab.addresses["catalog"], 8443)})
    variables = {"CARBON_CLUSTER_DEPLOY": str(cluster.home / "deploy")}
    resources = {"doctor": DoctorResource(kubectl=str(cluster.program))}
    made = dg.Definitions.merge(doctor(variables), dg.Definitions(executor=dg.in_process_executor))
    config = {"reason": "a test", "edges": ["trino->db"]}
    with dg.DagsterInstance.ephemeral() as instance:
        looked = made.resolve_job_def("examine_connectivity").execute_in_process(
            resources=resources, instance=instance
        )
        ran = made.resolve_job_def("repair_connectivity").execute_in_process(
            run_config=config, resources=resources, instance=instance
        )
    found = {
        f"{one.asset_key.to_user_string()}:{one.check_name}": one.passed
        for one in looked.get_asset_check_evaluations()
    }
    assert found == {
        "cluster/grafana:server_reaches_db_sql": False,
        "cluster/grafana:server_reaches_iceberg_rest_catalog_rest": True,
        "cluster/trino:coordinator_reaches_db_sql": False,
        "cluster/trino:coordinator_reaches_iceberg_rest_catalog_rest": True,
    }
    assert ran.success
    assert not [line for line in cluster.commands() if "rollout" in line]
