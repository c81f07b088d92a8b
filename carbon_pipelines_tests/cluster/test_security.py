"""Rights on data come from the service graph, and exceptions end."""

from datetime import date
from pathlib import Path

import pytest

from carbon_pipelines.cluster.graph import service_graph
from carbon_pipelines.cluster.security import (
    Right,
    data_rights,
    expired,
    load_exceptions,
    rights_mistakes,
    rights_table,
)
from carbon_pipelines.cluster.service import EndpointSpec, PodsSpec, ServiceSpec, UseSpec
from carbon_pipelines.errors import DeclarationError

EXCEPTION = """\
namespace: node-exporter
rule: pod-security
level: privileged
owner: team:platform
reason: It reads the node.
since: 2026-12-01
expires: 2027-12-01
"""


def service(name: str, *uses: UseSpec) -> ServiceSpec:
    web = EndpointSpec(pods="web", service=name, port=80, protocol="http")
    return ServiceSpec(
        name=name,
        title=name,
        about=name,
        kind="manifests",
        namespace="n",
        owner="team:platform",
        pods={"web": PodsSpec(labels={"app": name})},
        endpoints={"web": web},
        uses=uses,
    )


def use(endpoint: str, account: str | None, may: str | None = None) -> UseSpec:
    secret = f"{account}-secret" if account else None
    return UseSpec(
        endpoint=endpoint, pods=("web",), account=account, secret=secret, may=may, why="it must"
    )


def test_an_account_has_the_rights_of_all_pods_that_are_it() -> None:
    graph = service_graph(
        [
            service("kafka"),
            service("capture", use("kafka/web", "writer", "write cdc.*")),
            service("runs", use("kafka/web", "writer", "delete cdc.*"), use("capture/web", None)),
        ]
    )
    rights = data_rights(graph)
    assert rights == (
        Right(
            server="kafka",
            account="writer",
            may=("delete cdc.*", "write cdc.*"),
            clients=("capture.web", "runs.web"),
            secrets=("writer-secret",),
        ),
    )
    assert rights_mistakes(rights) == ()
    assert rights_table(rights).splitlines()[-1] == (
        "| kafka | `writer` | delete cdc.*; write cdc.* | capture.web, runs.web | `writer-secret` |"
    )


def test_an_account_of_which_nobody_says_what_it_may_do_is_named() -> None:
    graph = service_graph([service("kafka"), service("capture", use("kafka/web", "writer"))])
    assert rights_mistakes(data_rights(graph)) == (
        "capture.web is writer at kafka, but no use says what it may do",
    )


def written(directory: Path, text: str) -> Path:
    folder = directory / "policies" / "exceptions"
    folder.mkdir(parents=True)
    (folder / "node-exporter.yaml").write_text(text)
    return directory


def test_an_exception_holds_until_its_day(tmp_path: Path) -> None:
    found = load_exceptions(written(tmp_path, EXCEPTION))
    assert expired(found, date(2027, 11, 30)) == ()
    assert expired(found, date(2027, 12, 1)) == ("node-exporter",)


@pytest.mark.parametrize(
    ("right", "wrong", "line", "reason"),
    [
        ("expires: 2027-12-01", "expires: 2028-12-01", 7, "is more than a year after since"),
        ("expires: 2027-12-01", "expires: 2026-11-30", 7, "must be later than since"),
        ("since: 2026-12-01", "since: soon", 6, "since: must be a day"),
        ("level: privileged", "level: restricted", 3, "level: must be 'baseline' or 'privileged'"),
        ("reason: It reads the node.\n", "", 1, '"reason" is missing'),
    ],
)
def test_a_mistake_in_an_exception_is_named_with_its_line(
    tmp_path: Path, right: str, wrong: str, line: int, reason: str
) -> None:
    assert right in EXCEPTION
    with pytest.raises(DeclarationError, match=rf"node-exporter\.yaml:{line}: .*{reason}"):
        load_exceptions(written(tmp_path, EXCEPTION.replace(right, wrong)))
