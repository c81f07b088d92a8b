"""The portal shows each person their applications, whether these are well, and what is proven."""

import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from carbon_pipelines.cluster.graph import service_graph
from carbon_pipelines.cluster.portal import (
    Application,
    Table,
    as_json,
    load_applications,
    portal_page,
)
from carbon_pipelines.cluster.portal_server import (
    Health,
    is_well,
    load_portal,
    load_tables,
    make_server,
)
from carbon_pipelines.cluster.service import EndpointSpec, PodsSpec, ServiceSpec
from carbon_pipelines.errors import DeclarationError

SUPERSET = Application(
    "superset",
    "Superset",
    "Charts <b>",
    "https://charts.example.org/",
    ("carbon:analysts",),
    "http://superset:8088",
    "http://superset:8088/health",
    (200,),
)
TRINO = Application(
    "trino",
    "Trino",
    "Queries.",
    "https://trino.example.org/",
    ("carbon:data-engineers",),
    "https://trino:8443",
    "https://trino:8443/v1/info",
    (200,),
)
FILE = """\
applications:
  superset:
    title: Superset
    about: Charts.
    endpoint: superset/web
    host: charts
    groups: [carbon:analysts]
"""


def superset() -> ServiceSpec:
    web = EndpointSpec(pods="web", service="superset", port=8088, protocol="http", path="/health")
    return ServiceSpec(
        name="superset",
        title="Superset",
        about="Charts.",
        kind="manifests",
        namespace="data",
        owner="team:platform",
        pods={"web": PodsSpec(labels={"app": "superset"})},
        endpoints={"web": web},
    )


def test_an_application_is_where_the_graph_says(tmp_path: Path) -> None:
    (tmp_path / "applications.yaml").write_text(FILE)
    found = load_applications(
        tmp_path / "applications.yaml", service_graph([superset()]), "example.org"
    )
    wanted = Application(
        "superset",
        "Superset",
        "Charts.",
        "https://charts.example.org/",
        ("carbon:analysts",),
        "http://superset.data.svc:8088",
        "http://superset.data.svc:8088/health",
        (200,),
    )
    assert found == (wanted,)
    (tmp_path / "portal.json").write_text(as_json(found))
    assert load_portal(tmp_path / "portal.json") == found


def test_an_endpoint_that_the_graph_has_not_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "applications.yaml").write_text(FILE.replace("superset/web", "superset/ui"))
    with pytest.raises(DeclarationError, match=r'yaml:5: "superset/ui" is no endpoint'):
        load_applications(
            tmp_path / "applications.yaml", service_graph([superset()]), "example.org"
        )


def test_a_person_sees_only_what_a_group_of_theirs_may_open() -> None:
    page = portal_page([SUPERSET, TRINO], {"superset": True}, None, ["carbon:analysts"])
    assert "https://charts.example.org/" in page
    assert "https://trino.example.org/" not in page
    assert "No application is open" in portal_page([SUPERSET], {}, None, ["others"])


def test_the_state_of_each_application_and_table_is_told_and_nothing_is_markup() -> None:
    tables = [Table("market/<script>", 98.25, "2026-12-01T10:00:00Z"), Table("a/b", None, None)]
    page = portal_page([SUPERSET, TRINO], {"superset": True, "trino": False}, tables)
    assert page.index("well</span>") < page.index("does not answer</span>")
    assert "<script>" not in page
    assert "<b>" not in page
    assert '<td>a/b</td><td class="number">unknown</td><td>never</td>' in page
    assert ">98.2<" in page
    assert page.index("a/b") < page.index("market/")


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/well" else 503)
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


def test_the_server_asks_each_application_and_answers_with_the_page(tmp_path: Path) -> None:
    def at(path: str, name: str) -> Application:
        there = f"http://127.0.0.1:{answering.server_port}"
        return Application(name, name, "", "https://x/", ("g",), there, there + path, (200,))

    with HTTPServer(("127.0.0.1", 0), Answering) as answering:
        threading.Thread(target=answering.serve_forever, daemon=True).start()
        applications = (at("/well", "one"), at("/ill", "two"))
        assert [is_well(application) for application in applications] == [True, False]
        tables = tmp_path / "tables.json"
        tables.write_text(json.dumps([{"table": "a/b", "score": 99.5, "verified_through": "noon"}]))
        health = Health(applications)
        with make_server(("127.0.0.1", 0), applications, health, tables) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}"
            with urllib.request.urlopen(f"{url}/", timeout=5) as answer:
                page = answer.read().decode()
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert page == portal_page(
                applications, {"one": True, "two": False}, load_tables(tables)
            )
            with pytest.raises(urllib.error.HTTPError, match="404") as missing:
                urllib.request.urlopen(f"{url}/etc/passwd", timeout=5)
            missing.value.close()
            server.shutdown()
        answering.shutdown()
    assert not is_well(applications[0])


def test_applications_are_asked_once_in_a_while_however_often_the_page_is_loaded() -> None:
    asked: list[str] = []
    now = [0.0]

    def ask(application: Application) -> bool:
        asked.append(application.name)
        return True

    health = Health([SUPERSET], ask, lambda: now[0])
    for seconds in (0.0, 1.0, 14.9, 15.0):
        now[0] = seconds
        assert health.now() == {"superset": True}
    assert asked == ["superset", "superset"]
