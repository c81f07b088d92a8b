"""Makes Polaris' catalog "lake", who may use it, and a Secret for each of them.

It may run again: what is there stays. A user whose Secret is missing, or holds what the catalog
refuses, gets a new secret; the old one ends then. Polaris chooses the client's id itself, so these
Secrets cannot come from a vault.
"""

import base64
import json
import os
import ssl
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

CATALOG = os.environ.get("CATALOG", "")
MANAGEMENT = f"{CATALOG}/api/management/v1"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
GRANTS = {
    "carbon": ["CATALOG_MANAGE_CONTENT"],
    "trino": ["CATALOG_MANAGE_CONTENT"],
    "doris": [
        "CATALOG_READ_PROPERTIES",
        "NAMESPACE_LIST",
        "NAMESPACE_READ_PROPERTIES",
        "TABLE_LIST",
        "TABLE_READ_PROPERTIES",
        "TABLE_READ_DATA",
        "VIEW_LIST",
        "VIEW_READ_PROPERTIES",
    ],
}


class Session:
    """Requests with a bearer token."""

    def __init__(self, token: str, context: ssl.SSLContext | None = None) -> None:
        self._token, self._context = token, context

    def ask(self, method: str, url: str, body: object = None, missing: int = 0) -> dict:
        """The answer's JSON; an empty one for status ``missing``, where that is expected."""
        request = Request(
            url,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
        )
        try:
            with urlopen(request, timeout=30, context=self._context) as response:
                return json.loads(response.read() or b"{}")
        except HTTPError as error:
            if error.code == missing:
                return {}
            sys.exit(f"{method} {url} answers {error.code}: {error.read()[:500]!r}")


def log_in(client_id: str, client_secret: str) -> str | None:
    """A token, or None if the catalog refuses this client."""
    form = urlencode(
        {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
            "scope": "PRINCIPAL_ROLE:ALL",
        }
    )
    try:
        with urlopen(f"{CATALOG}/v1/oauth/tokens", form.encode(), timeout=30) as response:
            return json.loads(response.read())["access_token"]
    except HTTPError as error:
        if error.code in (400, 401):
            return None
        raise


def main() -> None:
    """Catalog first, then each user with its roles, then its Secret."""
    token = log_in(os.environ["ROOT_CLIENT_ID"], os.environ["ROOT_CLIENT_SECRET"])
    if token is None:
        sys.exit("The catalog refuses root: its realm was made with another secret than Vault has.")
    root = Session(token)
    ensure_catalog(root)
    kubernetes = Session(
        (ACCOUNT / "token").read_text(),
        ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")),
    )
    for user, privileges in GRANTS.items():
        ensure_user(root, kubernetes, user, privileges)


def ensure_catalog(root: Session) -> None:
    """The catalog of the lake's bucket."""
    base = f"s3://{os.environ['STORE_BUCKET']}/warehouse"
    endpoint = os.environ["STORE_ENDPOINT"]
    root.ask(
        "POST",
        f"{MANAGEMENT}/catalogs",
        {
            "catalog": {
                "type": "INTERNAL",
                "name": "lake",
                "properties": {"default-base-location": base},
                "storageConfigInfo": {
                    "storageType": "S3",
                    "allowedLocations": [base],
                    "region": os.environ["STORE_REGION"],
                    "endpoint": endpoint,
                    "pathStyleAccess": True,
                    "stsUnavailable": True,
                },
            }
        },
        missing=409,
    )


def ensure_user(root: Session, kubernetes: Session, user: str, privileges: list[str]) -> None:
    """A principal, a role of the same name on both sides, and the Secret."""
    roles = f"{MANAGEMENT}/catalogs/lake/catalog-roles"
    made = root.ask(
        "POST",
        f"{MANAGEMENT}/principals",
        {"principal": {"name": user}, "credentialRotationRequired": False},
        missing=409,
    )
    root.ask(
        "POST",
        f"{MANAGEMENT}/principal-roles",
        {"principalRole": {"name": user}},
        missing=409,
    )
    root.ask("POST", roles, {"catalogRole": {"name": user}}, missing=409)
    for privilege in privileges:
        grant = {"grant": {"type": "catalog", "privilege": privilege}}
        root.ask("PUT", f"{roles}/{user}/grants", grant)
    root.ask(
        "PUT",
        f"{MANAGEMENT}/principals/{user}/principal-roles",
        {"principalRole": {"name": user}},
    )
    root.ask(
        "PUT",
        f"{MANAGEMENT}/principal-roles/{user}/catalog-roles/lake",
        {"catalogRole": {"name": user}},
    )
    secrets = f"{os.environ['KUBERNETES']}/api/v1/namespaces/{os.environ['NAMESPACE']}/secrets"
    name = f"iceberg-rest-catalog-{user}"
    known = kubernetes.ask("GET", f"{secrets}/{name}", missing=404)
    if known and works(known["data"]):
        sys.stdout.write(f"{user}: as it was\n")
        return
    if not made:
        made = root.ask("POST", f"{MANAGEMENT}/principals/{user}/reset", {})
    credentials = made["credentials"]
    client_id, client_secret = credentials["clientId"], credentials["clientSecret"]
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/part-of": "carbon-pipelines",
                "carbon-pipelines/service": "iceberg-rest-catalog",
            },
        },
        "stringData": {
            "client_id": client_id,
            "client_secret": client_secret,
            "credential": f"{client_id}:{client_secret}",
        },
    }
    if known:
        secret["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"]
        kubernetes.ask("PUT", f"{secrets}/{name}", secret)
    else:
        kubernetes.ask("POST", secrets, secret)
    sys.stdout.write(f"{user}: has a new secret\n")


def works(data: dict[str, str]) -> bool:
    """Whether the catalog takes what a Secret holds."""
    try:
        known = [base64.b64decode(data[key]).decode() for key in ("client_id", "client_secret")]
    except KeyError:
        return False
    return log_in(*known) is not None


if __name__ == "__main__":
    main()
