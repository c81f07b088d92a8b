"""The portal: one page that leads to every application, and how people's requests get there.

What belongs here: which applications people see (``deploy/base/portal/applications.yaml``), and
what follows from them and the service graph: the page, what the tunnel and the ingress let through,
and the applications of Access. What does not: serving the page (``portal_server.py``) and the
graph.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError

from carbon_pipelines.catalog.document import load_document
from carbon_pipelines.catalog.findings import as_problem
from carbon_pipelines.catalog.values import Declared, Name, Text
from carbon_pipelines.cluster.graph import ServiceGraph
from carbon_pipelines.cluster.service import Label, Place
from carbon_pipelines.errors import DeclarationError

DOMAIN = "platform.example.org"
"""Stands in the committed files; an overlay puts its own in its place."""


class ApplicationSpec(Declared):
    """One application: where it is, under which name of a host, and who may open it.

    ``groups`` are those of the identity provider; who is in none of them is turned away.
    """

    title: Text
    about: Text
    endpoint: Place
    host: Label
    groups: Annotated[tuple[Name, ...], Field(min_length=1)]


class PortalSpec(Declared):
    """All applications by name, in the order of the page."""

    applications: Annotated[Mapping[Label, ApplicationSpec], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Application:
    """An application with everything that the graph says of it."""

    name: str
    title: str
    about: str
    url: str
    groups: tuple[str, ...]
    inside: str
    health: str
    status: tuple[int, ...]

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """What ``as_json`` wrote."""
        lists: dict[str, Any] = {name: tuple(fields[name]) for name in ("groups", "status")}
        return cls(**{**fields, **lists})


@dataclass(frozen=True, slots=True)
class Table:
    """What is known of a table: its score (0 to 100), and up to when it is proven."""

    name: str
    score: float | None
    verified_through: str | None


def load_applications(path: Path, graph: ServiceGraph, domain: str) -> tuple[Application, ...]:
    """Read the applications and look up where each of them is.

    Raises:
        DeclarationError: With every mistake of the file, also an endpoint that the graph has not.
    """
    document = load_document(path)
    try:
        spec = PortalSpec.model_validate(document.fields)
    except ValidationError as error:
        known = sorted(ApplicationSpec.model_fields)
        raise DeclarationError(
            [as_problem(document, known, detail) for detail in error.errors()]
        ) from error
    found: list[Application] = []
    problems: list[tuple[Path, int, str]] = []
    for name, application in spec.applications.items():
        server, endpoint_name = application.endpoint.split("/")
        by_name = {service.name: service for service in graph.services}
        service = by_name.get(server)
        endpoint = service.endpoints.get(endpoint_name) if service else None
        if service is None or endpoint is None or endpoint.service is None:
            line = document.line(("applications", name, "endpoint"))
            reason = f'"{application.endpoint}" is no endpoint of a service in the cluster'
            problems.append((path, line, reason))
            continue
        scheme = "https" if endpoint.tls else "http"
        inside = f"{scheme}://{endpoint.service}.{service.namespace}.svc:{endpoint.port}"
        found.append(
            Application(
                name=name,
                title=application.title,
                about=application.about,
                url=f"https://{application.host}.{domain}/",
                groups=application.groups,
                inside=inside,
                health=inside + (endpoint.path or "/"),
                status=endpoint.status,
            )
        )
    if problems:
        raise DeclarationError(problems)
    return tuple(found)


def as_json(applications: Sequence[Application]) -> str:
    """What the portal's pod reads: it has no graph."""
    fields = [
        {slot: getattr(application, slot) for slot in Application.__slots__}
        for application in applications
    ]
    return json.dumps({"applications": fields}, indent=1) + "\n"


def tunnel_config(applications: Sequence[Application]) -> Mapping[str, Any]:
    """The tunnel's ``config.yaml``: what is not listed answers 404.

    Each request must carry what Access signed for this application: a request that found another
    way to Cloudflare's edge is refused here too.
    """
    rules: list[Mapping[str, Any]] = [
        {
            "hostname": _host(application),
            "service": application.inside,
            "originRequest": {
                "access": {
                    "required": True,
                    "teamName": "example",
                    "audTag": [f"access-{application.name}"],
                },
                **({"caPool": "/etc/cloudflared/ca/ca.crt"} if _has_tls(application) else {}),
            },
        }
        for application in applications
    ]
    return {
        "tunnel": "carbon-pipelines",
        "credentials-file": "/etc/cloudflared/credentials/credentials.json",
        "metrics": "0.0.0.0:2000",
        "no-autoupdate": True,
        "ingress": [*rules, {"service": "http_status:404"}],
    }


def access_applications(applications: Sequence[Application]) -> Sequence[Mapping[str, Any]]:
    """The bodies for Cloudflare's API (``access/apps``): who may open what, for eight hours."""
    return [
        {
            "name": application.title,
            "type": "self_hosted",
            "domain": _host(application),
            "session_duration": "8h",
            "app_launcher_visible": True,
            "policies": [
                {
                    "name": f"groups of {application.name}",
                    "decision": "allow",
                    "include": [{"group": {"name": group}} for group in application.groups],
                    "require": [{"auth_method": {"auth_method": "mfa"}}],
                }
            ],
        }
        for application in applications
    ]


def ingress_routes(applications: Sequence[Application]) -> Mapping[str, Any]:
    """Traefik's dynamic configuration: TLS, then who somebody is, then the application."""
    routers = {
        application.name: {
            "rule": f"Host(`{_host(application)}`)",
            "entryPoints": ["https"],
            "service": application.name,
            "middlewares": [f"groups-{application.name}", "headers"],
            "tls": {},
        }
        for application in applications
    }
    login = {
        "rule": "PathPrefix(`/oauth2/`)",
        "priority": 1_000,
        "entryPoints": ["https"],
        "service": "login",
        "middlewares": ["headers"],
        "tls": {},
    }
    asks = {
        f"groups-{application.name}": {
            "forwardAuth": {
                "address": "http://ingress-login:4180/oauth2/auth?allowed_groups="
                + ",".join(application.groups),
                "authResponseHeaders": ["X-Auth-Request-Email", "X-Auth-Request-Groups"],
            }
        }
        for application in applications
    }
    headers = {
        "headers": {
            "stsSeconds": 31_536_000,
            "contentTypeNosniff": True,
            "referrerPolicy": "same-origin",
        }
    }
    services: dict[str, Any] = {
        application.name: {
            "loadBalancer": {
                "servers": [{"url": application.inside}],
                **({"serversTransport": "inside"} if _has_tls(application) else {}),
            }
        }
        for application in applications
    }
    services["login"] = {"loadBalancer": {"servers": [{"url": "http://ingress-login:4180"}]}}
    certificate = {"certFile": "/tls/tls.crt", "keyFile": "/tls/tls.key"}
    return {
        "http": {
            "routers": {**routers, "login": login},
            "middlewares": {**asks, "headers": headers},
            "services": services,
            "serversTransports": {"inside": {"rootCAs": ["/tls/ca.crt"]}},
        },
        "tls": {
            "options": {"default": {"minVersion": "VersionTLS12"}},
            "stores": {"default": {"defaultCertificate": certificate}},
        },
    }


def _has_tls(application: Application) -> bool:
    """Whether it is asked by TLS, with a certificate of the cluster's own authority."""
    return application.inside.startswith("https:")


def _host(application: Application) -> str:
    return application.url.removeprefix("https://").removesuffix("/")


_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.5rem}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #8884}"
    ".well{color:#18794e}.ill{color:#c62a2f}.unknown{color:#8a6d00}td.number{text-align:right}"
)


def portal_page(
    applications: Sequence[Application],
    health: Mapping[str, bool],
    tables: Sequence[Table] | None,
    groups: Sequence[str] | None = None,
) -> str:
    """The page; of ``groups`` (None: all) it shows what they may open.

    ``health`` says of each application that was asked whether it is well; ``tables`` is None where
    nobody told. Texts are escaped: titles are declared, but names of tables come from a database.
    """
    shown = [
        application
        for application in applications
        if groups is None or set(groups) & set(application.groups)
    ]
    rows = "".join(
        f'<tr><td><a href="{escape(application.url)}">{escape(application.title)}</a></td>'
        f"<td>{escape(application.about)}</td><td>{escape(', '.join(application.groups))}</td>"
        f"<td>{_health(health.get(application.name))}</td></tr>"
        for application in shown
    )
    none = "<p>No application is open to your groups. Ask the owner of the platform.</p>"
    head = "<tr><th>Application<th>What for<th>Groups<th>State</tr>"
    listed = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>" if shown else none
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>carbon_pipelines</title><style>{_STYLE}</style></head><body>"
        f"<h1>carbon_pipelines</h1>{listed}<h2>Tables</h2>{_tables(tables)}</body></html>\n"
    )


def _health(well: bool | None) -> str:  # noqa: FBT001
    name = "unknown" if well is None else "well" if well else "ill"
    word = {"unknown": "not asked", "well": "well", "ill": "does not answer"}[name]
    return f'<span class="{name}">{word}</span>'


def _tables(tables: Sequence[Table] | None) -> str:
    if tables is None:
        return "<p>Nobody has told the scores of tables.</p>"
    rows = "".join(
        f'<tr><td>{escape(table.name)}</td><td class="number">'
        f"{'unknown' if table.score is None else f'{table.score:.1f}'}</td>"
        f"<td>{escape(table.verified_through or 'never')}</td></tr>"
        for table in sorted(tables, key=lambda table: table.name)
    )
    head = "<tr><th>Table<th>Score<th>Verified through</tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
