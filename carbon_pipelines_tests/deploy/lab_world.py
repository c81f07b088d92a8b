"""The lab with a life in it: two clients, PostgreSQL, an Iceberg catalog, and what the API says.

What belongs here: one healthy world and the handles to break it. What does not: the faults
(``test_doctor_faults.py``).
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carbon_pipelines.cluster.doctor import Patience, examine
from carbon_pipelines.cluster.doctor_case import Case, Login
from carbon_pipelines.cluster.doctor_findings import Findings
from carbon_pipelines.cluster.doctor_places import Here
from carbon_pipelines.cluster.doctor_state import ClusterState, PodState, parse_state
from carbon_pipelines.cluster.graph import ServiceGraph, service_graph
from carbon_pipelines.cluster.service import ServiceSpec
from carbon_pipelines.embedded.os_user import ensure_os_user
from carbon_pipelines.embedded.postgres import Postgres, find_binaries
from carbon_pipelines_tests.deploy import api_objects as api
from carbon_pipelines_tests.deploy.lab_certificates import make_authority
from carbon_pipelines_tests.deploy.network_lab import NAME_SERVER, NetworkLab, find_nft

SERVERS = str(Path(__file__).with_name("lab_servers.py"))
PLATFORM, MONITORING = "data-platform", "monitoring"
DB, CATALOG = "10.96.0.20", "10.96.0.21"
CATALOG_NAME = "iceberg-rest-catalog"
PASSWORD = "lab-reader-password"
TRINO_DB, GRAFANA_DB = "trino.coordinator->db/sql", "grafana.server->db/sql"
TRINO_CATALOG = f"trino.coordinator->{CATALOG_NAME}/rest"
GRAFANA_CATALOG = f"grafana.server->{CATALOG_NAME}/rest"


def with_tls() -> bool:
    """Whether the PostgreSQL at hand can speak TLS: Debian's can, the wheel's is built without."""
    return bool(debian_binaries())


def debian_binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def spec(name: str, namespace: str, pods: str, **more: object) -> ServiceSpec:
    labels = {"app": name}
    return ServiceSpec.model_validate(
        {
            "name": name,
            "title": name,
            "about": name,
            "kind": "manifests",
            "namespace": namespace,
            "owner": "team:platform",
            "pods": {pods: {"labels": labels, "workload": f"Deployment/{name}"}},
            **more,
        }
    )


def make_graph() -> ServiceGraph:
    sql = {
        "endpoint": "db/sql",
        "account": "lab_reader",
        "secret": "db-login",
        "resource": "postgres",
        "asks": "SELECT count(*) FROM price",
        "may": "read price",
        "why": "reads",
    }
    rest = {"endpoint": f"{CATALOG_NAME}/rest", "why": "finds tables"}
    endpoint = {"pods": "main", "tls": True, "ca": "lab-ca/ca.crt"}
    database = {"service": "db", "port": 5432, "protocol": "postgres"} | endpoint
    database["tls"] = with_tls()
    catalog = {"service": CATALOG_NAME, "port": 8181, "target_port": 8443, "protocol": "iceberg"}
    catalog |= endpoint | {"path": "/v1/config"}
    return service_graph(
        [
            spec("db", PLATFORM, "main", endpoints={"sql": database}),
            spec(CATALOG_NAME, PLATFORM, "main", endpoints={"rest": catalog}),
            spec(
                "trino",
                PLATFORM,
                "coordinator",
                uses=[sql | {"pods": ["coordinator"]}, rest | {"pods": ["coordinator"]}],
            ),
            spec(
                "grafana",
                MONITORING,
                "server",
                uses=[sql | {"pods": ["server"]}, rest | {"pods": ["server"]}],
            ),
        ]
    )


class World:
    """Everything healthy; ``heal`` makes it so again. It is the doctor's access to this cluster."""

    def __init__(self, directory: Path, lab: NetworkLab) -> None:
        self.directory, self.lab, self.graph = directory, lab, make_graph()
        self.authority = make_authority(directory)
        for name in ("trino", "grafana", "db", CATALOG_NAME):
            lab.add_pod("catalog" if name == CATALOG_NAME else name)
        self.zone, self.delay = directory / "zone.json", directory / "delay"
        self.objects: dict[str, api.Object] = {}
        self.password, self.revoked = PASSWORD, False
        self.database = self._start_database()
        self.names: subprocess.Popen[str] | None = None
        self.catalog: subprocess.Popen[str] | None = None
        self.certificate = self.authority.issue("good", f"{CATALOG_NAME}.{PLATFORM}.svc")
        self.patience = self._measure_patience()
        self.heal()

    def _measure_patience(self) -> Patience:
        """Longer than anything takes in one machine's namespaces, also where it is busy now."""
        began = time.monotonic()
        before = self.lab.place("trino").before
        subprocess.run([*before, sys.executable, "-c", "import ssl, http.client"], check=True)
        seconds = min(max(1.0, 5 * (time.monotonic() - began)), 4.0)
        return Patience(timeout_seconds=seconds, slow_seconds=0.6 * seconds)

    def heal(self) -> None:
        """Put everything right again."""
        at = self.lab.addresses
        self.password = PASSWORD
        self.delay.write_text("0")
        if self.revoked:
            assert self.sql("GRANT SELECT ON price TO lab_reader")
            self.revoked = False
        self.zone.write_text(
            json.dumps(
                {
                    f"db.{PLATFORM}.svc.cluster.local": DB,
                    f"{CATALOG_NAME}.{PLATFORM}.svc.cluster.local": CATALOG,
                }
            )
        )
        self.lab.set_link("catalog", "up")
        self.lab.drop()
        self.lab.drop_incoming()
        self.lab.expose({(DB, 5432): (at["db"], 5432), (CATALOG, 8181): (at["catalog"], 8443)})
        self.serve_names()
        self.serve_catalog(*self.certificate)
        made = [
            *map(api.namespace, (PLATFORM, MONITORING, "kube-system")),
            api.node("node-1"),
            api.daemon("kube-proxy"),
            api.daemon("kindnet"),
            api.pod("kube-system", "coredns-1", NAME_SERVER, labels={"k8s-app": "kube-dns"}),
            api.pod(PLATFORM, "trino", at["trino"]),
            api.pod(MONITORING, "grafana", at["grafana"]),
            api.pod(PLATFORM, "db", at["db"], port=5432),
            api.pod(PLATFORM, CATALOG_NAME, at["catalog"], port=8443),
            api.service(PLATFORM, "db", DB, 5432, "main"),
            api.service(PLATFORM, CATALOG_NAME, CATALOG, 8181, 8443),
            api.endpoints(PLATFORM, "db", 5432, at["db"]),
            api.endpoints(PLATFORM, CATALOG_NAME, 8443, at["catalog"]),
            *(make(space) for space in (PLATFORM, MONITORING) for make in _COMMON),
            *self.policies(),
        ]
        self.objects = {}
        for one in made:
            self.put(one)

    def policies(self) -> list[api.Object]:
        """One allow per edge and side."""
        clients = [(PLATFORM, "trino"), (MONITORING, "grafana")]
        found = [
            api.allow_in(PLATFORM, "db", 5432, *clients),
            api.allow_in(PLATFORM, CATALOG_NAME, 8443, *clients),
        ]
        for space, app in clients:
            found.append(api.allow_out(space, app, (PLATFORM, "db"), 5432))
            found.append(api.allow_out(space, app, (PLATFORM, CATALOG_NAME), 8443))
        return found

    def remove(self, kind: str, name: str, space: str = PLATFORM) -> None:
        """As ``kubectl delete``."""
        del self.objects[f"{kind}/{space}/{name}"]

    def put(self, one: api.Object) -> None:
        """As ``kubectl apply``."""
        meta = one["metadata"]
        self.objects[f"{one['kind']}/{meta.get('namespace')}/{meta['name']}"] = one

    def serve_names(self) -> None:
        """Start the name server unless it runs."""
        if self.names is None or self.names.poll() is not None:
            command = (sys.executable, SERVERS, "names", NAME_SERVER, str(self.zone))
            self.names = self.lab.start("node", *command)

    def serve_catalog(self, certificate: str, key: str) -> None:
        """Start the catalog anew with a certificate, unless it runs with it."""
        command = (sys.executable, SERVERS, "https", "8443", certificate, key, str(self.delay))
        if self.catalog is not None and self.catalog.poll() is None:
            if self.catalog.args[-len(command) :] == list(command):  # type: ignore[index]
                return
            self.lab.end(self.catalog)
        self.catalog = self.lab.start("catalog", *command)

    def sql(self, statement: str) -> bool:
        """Whether a statement of the superuser comes to its end in the database's pod."""
        text = (
            "import psycopg\n"
            f"with psycopg.connect({self._server.dsn('postgres')!r}, autocommit=True) as c:\n"
            f"    c.execute({statement!r})\n"
        )
        before = self.lab.place("db").before
        done = subprocess.run(
            [*before, sys.executable, "-"], input=text, text=True, capture_output=True, check=False
        )
        return done.returncode == 0

    def examine(self, *edges: str) -> Findings:
        """What the doctor says."""
        return examine(self.graph, self, edges, patience=self.patience)

    def state(self) -> ClusterState:
        return parse_state(self.objects.values())

    def place(self, pod: PodState, container: str) -> Here:
        return self.lab.place(pod.name)

    def login(self, case: Case) -> Login | None:
        login = Login(case.account, self.password if case.secret else "", ca=self.authority.pem)
        return login if case.secret else Login(ca=self.authority.pem)

    def stop(self) -> None:
        """End the database as it should be: the rest goes with the lab."""
        self.database.terminate()
        self.database.wait(20)

    def _start_database(self) -> "subprocess.Popen[str]":
        """The embedded PostgreSQL, listening in its pod and with TLS."""
        user = ensure_os_user(os.environ, _silent)
        home = self.directory / "postgres"
        log = self.directory / "postgres.log"
        binaries = debian_binaries() or find_binaries()
        self._server = Postgres(home, log, 5432, binaries, user, password="lab-admin")
        self._server.prepare(_silent)
        with (self._server.data / "pg_hba.conf").open("a") as access:
            kind = "hostssl" if with_tls() else "host"
            access.write(f"{kind} all all 10.244.0.0/24 scram-sha-256\n")
        certificate, key = map(Path, self.authority.issue("db", f"db.{PLATFORM}.svc"))
        for file in (certificate, key):
            moved = file.rename(self._server.data / file.name)
            moved.chmod(0o600)
            if user is not None:
                os.chown(moved, user.pw_uid, user.pw_gid)
        switch = [] if user is None else ["setpriv", f"--reuid={user.pw_uid}"]
        switch += [] if user is None else [f"--regid={user.pw_gid}", "--clear-groups"]
        settings = ["listen_addresses=*"]
        if with_tls():
            settings += ["ssl=on", "ssl_cert_file=db.pem", "ssl_key_file=db.key"]
        command = [*self.lab.place("db").before, *switch, *self._server.launch().command]
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, *(word for one in settings for word in ("-c", one))],
                cwd=self._server.data,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.lab.adopt(process)
        deadline = time.monotonic() + 30
        while not self.sql(
            "CREATE TABLE price (id int); CREATE ROLE lab_reader LOGIN PASSWORD "
            f"'{PASSWORD}'; GRANT SELECT ON price TO lab_reader"
        ):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        return process


_COMMON = (api.deny_all, api.allow_dns)


def _silent(_line: str) -> None:
    """A report nobody reads."""


@contextmanager
def running(directory: Path) -> Iterator[World]:
    """A healthy world in a directory that other users may pass through."""
    nft = find_nft()
    assert nft is not None
    with NetworkLab(directory, nft) as lab:
        world = World(directory, lab)
        try:
            yield world
        finally:
            world.stop()
