"""What the doctor's probe says to HTTP, to an object store (S3) and to an Iceberg catalog.

What belongs here: the few requests that tell whether a server answers, lets us in, and lets us do
what we must. What does not: connections (``doctor_wire.py``). Only the standard library.

Sources: AWS Signature Version 4; the Iceberg REST catalog's OpenAPI document.
"""

import base64
import hashlib
import hmac
import json
import re
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote, urlencode

from carbon_pipelines.cluster.doctor_wire import Dialer, Refused, Request, StopHere

_EMPTY = hashlib.sha256(b"").hexdigest()
_BAD_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId"}


@dataclass(frozen=True)
class Answer:
    """A status and the first 64 KiB of the body."""

    status: int
    body: bytes

    def document(self) -> dict[str, Any]:
        """The body as a JSON object; empty if it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def http(dialer: Dialer, request: Request) -> None:
    """The declared path; with a login also what it opens."""
    login = request.get("login") or {}
    path = request.get("path") or "/"
    with dialer.level("protocol"):
        _expect(_ask(dialer, "GET", path), request.get("status") or [200], path)
    if not (login.get("password") or login.get("token")):
        return
    _allowed(dialer, _ask_as(dialer, login, request.get("resource") or path))


def iceberg(dialer: Dialer, request: Request) -> None:
    """The catalog's configuration, a token, and the names of its namespaces."""
    login = request.get("login") or {}
    path = request.get("path") or "/v1/config"
    base, _, _ = path.rpartition("/v1/config")
    warehouse = request.get("resource")
    asked = f"{base}/v1/config" + (f"?warehouse={quote(warehouse, safe='')}" if warehouse else "")
    with dialer.level("protocol"):
        found = _ask(dialer, "GET", asked)
        _expect(found, [200, 401, 403, *(request.get("status") or [])], asked)
        if found.status == 200 and "defaults" not in found.document():
            raise Refused("wrong_protocol", f"{asked} answers 200 and no catalog's configuration")
    header = None
    if login.get("password"):
        if not dialer.trusted:
            raise StopHere
        with dialer.level("auth"):
            header = _token(dialer, f"{base}/v1/oauth/tokens", login)
            found = _ask(dialer, "GET", asked, header)
            if found.status == 401:
                raise Refused("bad_login", f"{asked} answers 401 to our token")
    elif found.status in {401, 403}:
        with dialer.level("auth"):
            raise Refused("login_missing", f"{asked} answers {found.status} without a token")
    told = found.document()
    prefix = {**told.get("defaults", {}), **told.get("overrides", {})}.get("prefix")
    names = "/".join(filter(None, [f"{base}/v1", prefix, "namespaces"]))
    _permitted(dialer, _ask(dialer, "GET", names, header), names)


def s3(dialer: Dialer, request: Request) -> None:
    """Any answer at all, then a bucket's first key as ours."""
    login = request.get("login") or {}
    with dialer.level("protocol"):
        found = _ask(dialer, "GET", request.get("path") or "/")
        if found.status >= 500:
            raise Refused("status", f"it answers {found.status}")
    if not login.get("user"):
        return
    if not dialer.trusted:
        raise StopHere
    bucket = request.get("resource") or ""
    query = "list-type=2&max-keys=1" if bucket else ""
    with dialer.level("auth"):
        path = f"/{bucket}"
        found = _ask(dialer, "GET", path + f"?{query}" * bool(query), _signed(dialer, path, query))
        code = re.search(rb"<Code>([A-Za-z]+)</Code>", found.body)
        word = code.group(1).decode() if code else ""
        if word in _BAD_KEYS:
            raise Refused("bad_login", word)
        if word == "RequestTimeTooSkewed":
            raise Refused("clock", word)
    with dialer.level("permission"):
        if word == "NoSuchBucket" or found.status == 404:
            raise Refused("not_found", f"no bucket {bucket}")
        if found.status == 403:
            raise Refused("no_right", f"bucket {bucket}: {word or 403}")
        _expect(found, [200], path)


def _ask(
    dialer: Dialer, method: str, path: str, header: str | None = None, body: str = ""
) -> Answer:
    """One request on a connection of its own."""
    wire = dialer.dial()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {_host(dialer)}", "Connection: close"]
    lines += ["Accept: */*", "User-Agent: carbon-doctor", *([header] if header else [])]
    if body:
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/x-www-form-urlencoded"]
    wire.send(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
    try:
        found = HTTPResponse(wire.connection, method=method)
        found.begin()
        return Answer(found.status, found.read(65_536))
    except TimeoutError:
        raise Refused("silent", f"no answer to {path} within {wire.timeout:g} s") from None
    except OSError as error:
        raise Refused("reset", str(error)) from None
    except HTTPException as error:
        closed = "RemoteDisconnected" in type(error).__name__
        word = "closed" if closed else "wrong_protocol"
        raise Refused(word, f"{type(error).__name__}: {str(error)[:60]}") from None
    finally:
        wire.close()


def _host(dialer: Dialer) -> str:
    return f"{dialer.request['host']}:{dialer.request.get('service_port') or dialer.port}"


def _expect(found: Answer, statuses: list[int], path: str) -> None:
    if found.status not in statuses:
        wanted = " or ".join(map(str, statuses))
        raise Refused("status", f"{path} answers {found.status}, not {wanted}")


def _ask_as(dialer: Dialer, login: dict[str, str], path: str) -> Answer:
    if not dialer.trusted:
        raise StopHere
    if login.get("token"):
        return _ask(dialer, "GET", path, f"Authorization: Bearer {login['token']}")
    pair = f"{login.get('user', '')}:{login['password']}".encode()
    return _ask(dialer, "GET", path, f"Authorization: Basic {base64.b64encode(pair).decode()}")


def _allowed(dialer: Dialer, found: Answer) -> None:
    with dialer.level("auth"):
        if found.status == 401:
            raise Refused("bad_login", "it answers 401 to our login")
    _permitted(dialer, found, "it")


def _permitted(dialer: Dialer, found: Answer, path: str) -> None:
    with dialer.level("permission"):
        if found.status in {401, 403}:
            raise Refused("no_right", f"{path} answers {found.status}")
        if found.status == 404:
            raise Refused("not_found", f"{path} answers 404")
        if found.status >= 400:
            raise Refused("status", f"{path} answers {found.status}")


def _token(dialer: Dialer, path: str, login: dict[str, str]) -> str:
    asked = {"grant_type": "client_credentials", "client_id": login.get("user") or ""}
    asked.update(client_secret=login["password"], scope=login.get("scope") or "PRINCIPAL_ROLE:ALL")
    found = _ask(dialer, "POST", path, None, urlencode(asked))
    if found.status in {400, 401, 403}:
        raise Refused("bad_login", f"{path} answers {found.status}")
    token = found.document().get("access_token")
    if not token:
        raise Refused("status", f"{path} answers {found.status} without a token")
    return f"Authorization: Bearer {token}"


def _signed(dialer: Dialer, path: str, query: str) -> str:
    """The headers of a GET, signed; the query's parameters are in order already."""
    login = dialer.request["login"]
    region = login.get("region") or "us-east-1"
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    names = "host;x-amz-content-sha256;x-amz-date"
    headers = f"host:{_host(dialer)}\nx-amz-content-sha256:{_EMPTY}\nx-amz-date:{moment}\n"
    canonical = f"GET\n{quote(path)}\n{query}\n{headers}\n{names}\n{_EMPTY}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = ("AWS4" + login.get("password", "")).encode()
    for part in (moment[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return (
        f"x-amz-content-sha256: {_EMPTY}\r\nx-amz-date: {moment}\r\n"
        f"Authorization: AWS4-HMAC-SHA256 Credential={login['user']}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
