"""How the doctor's probe speaks: one connection, level by level, within a time limit.

What belongs here: TCP, TLS and what a certificate says, and the words for what can go wrong there.
What does not: protocols (``doctor_probe_*.py``), DNS and the program (``doctor_probe.py``).

The probe's modules are sent to where an edge begins and run there by whatever Python 3.10 or newer
there is. So they import the standard library and each other, nothing else.
"""

import contextlib
import errno
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

Request = dict[str, Any]
Fact = dict[str, Any]

WORDS = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EACCES: "forbidden_here",
    errno.EPERM: "forbidden_here",
}
CERTIFICATE_WORDS = {9: "certificate_early", 10: "certificate_expired", 62: "certificate_name"}
CERTIFICATE_WORDS[64] = "certificate_name"
UNTRUSTED = "certificate_untrusted"
_SUBJECT_NAMES = bytes.fromhex("0603551d11")


class Refused(Exception):  # noqa: N818
    """A level was not reached: a word for programs, and what was said there."""

    def __init__(self, word: str, said: str) -> None:
        super().__init__(said)
        self.word, self.said = word, said


class StopHere(Exception):  # noqa: N818
    """The levels above cannot be tried."""


class Wire:
    """A connection whose every read ends in time; what it says of errors is a ``Refused``."""

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        self.connection, self.timeout = connection, timeout

    def send(self, message: bytes) -> None:
        """Write all of it."""
        with self._told():
            self.connection.sendall(message)

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        found = b""
        while len(found) < size:
            with self._told():
                more = self.connection.recv(size - len(found))
            if not more:
                raise Refused("closed", f"the server closed the connection after {len(found)} B")
            found += more
        return found

    def read_line(self) -> bytes:
        """Up to CR LF, without it; at most 4 KiB."""
        found = b""
        while not found.endswith(b"\r\n") and len(found) < 4096:
            found += self.read(1)
        return found[:-2]

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self.connection.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise Refused("silent", f"no answer within {self.timeout:g} s") from None
        except OSError as error:
            raise Refused(WORDS.get(error.errno or 0, "reset"), str(error)) from None


class Dialer:
    """One address of an endpoint: opens connections to it, and keeps what each level found."""

    def __init__(self, address: str, port: int, request: Request) -> None:
        self.address, self.port, self.request = address, port, request
        self.timeout = float(request.get("timeout", 3.0))
        self.levels: dict[str, Fact] = {}
        self.open: list[Wire] = []

    @contextlib.contextmanager
    def level(self, name: str) -> Iterator[Fact]:
        """Try a level; what it found is kept, and a refusal ends the probe of this address.

        Raises:
            StopHere: It was not reached.
        """
        began = time.monotonic()
        fact = self.levels.setdefault(name, {"ok": False})
        try:
            yield fact
        except Refused as no:
            fact.update(ok=False, word=no.word, said=no.said, seconds=time.monotonic() - began)
            raise StopHere from None
        except StopHere:  # a lower level was not reached: nothing is known of this one
            if "word" not in fact:
                del self.levels[name]
            raise
        fact.update(ok=True, seconds=time.monotonic() - began)

    def dial(self, before_tls: Callable[[Wire], None] | None = None) -> Wire:
        """Connect, and secure the connection if the endpoint is declared so.

        A certificate that is not to be trusted is told, and the levels above are tried all the
        same: it is one fault, and may not be the only one. A password is never sent over it.
        """
        wire = self._connect()
        if not self.request.get("tls"):
            return wire
        seen = self.levels.get("tls")
        verify = bool(self.request.get("verify", True))
        if seen is None:
            try:
                with self.level("tls") as fact:
                    return self._secure(wire, before_tls, fact, verified=verify)
            except StopHere:
                seen = self.levels["tls"]
                if not str(seen["word"]).startswith("certificate"):
                    raise
            wire = self._connect()
        verified = bool(seen["ok"]) and verify
        try:
            return self._secure(wire, before_tls, seen, verified=verified)
        except Refused as no:
            seen.setdefault("later", no.said)
            raise StopHere from None

    @property
    def trusted(self) -> bool:
        """Whether a secret may be sent: there is no TLS to be had, or it was verified."""
        return bool(self.levels.get("tls", {"ok": True})["ok"])

    def close(self) -> None:
        """Hang up all connections."""
        for wire in self.open:
            wire.close()

    def _connect(self) -> Wire:
        if "tcp" in self.levels:
            wire = self._tcp()
        else:
            with self.level("tcp"):
                wire = self._tcp()
        self.open.append(wire)
        return wire

    def _tcp(self) -> Wire:
        try:
            found = socket.create_connection((self.address, self.port), self.timeout)
        except TimeoutError:
            said = f"no answer to the first packet within {self.timeout:g} s"
            raise Refused("timeout", said) from None
        except OSError as error:
            raise Refused(WORDS.get(error.errno or 0, "unreachable"), str(error)) from None
        return Wire(found, self.timeout)

    def _secure(
        self, wire: Wire, before_tls: Callable[[Wire], None] | None, fact: Fact, *, verified: bool
    ) -> Wire:
        if before_tls is not None:
            before_tls(wire)
        name = str(self.request.get("server_name") or self.request["host"])
        try:
            secured = self._context(verified=verified).wrap_socket(
                wire.connection, server_hostname=name
            )
        except ssl.SSLCertVerificationError as error:
            code = getattr(error, "verify_code", 0)
            said = getattr(error, "verify_message", str(error))
            raise Refused(CERTIFICATE_WORDS.get(code, UNTRUSTED), said) from None
        except TimeoutError:
            said = f"no TLS answer within {self.timeout:g} s"
            raise Refused("silent", said) from None
        except ssl.SSLError as error:
            plain = error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}
            word = "tls_missing" if plain else "tls_refused"
            raise Refused(word, error.reason or str(error)) from None
        except OSError as error:
            raise Refused(WORDS.get(error.errno or 0, "closed"), str(error)) from None
        secured.settimeout(self.timeout)
        described = describe_certificate(secured.getpeercert(binary_form=True) or b"")
        fact.update(described, version=secured.version(), asked_for=name)
        found = Wire(secured, self.timeout)
        self.open.append(found)
        return found

    def _context(self, *, verified: bool) -> ssl.SSLContext:
        login = self.request.get("login") or {}
        context = ssl.create_default_context(cadata=self.request.get("ca") or None)
        if not verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif login.get("certificate") and login.get("key"):
            with in_memory(login["certificate"] + "\n" + login["key"]) as path:
                context.load_cert_chain(path)
        return context


@contextlib.contextmanager
def in_memory(text: str) -> Iterator[str]:
    """A path of a file that never touches a disk, as ``ssl`` reads keys from files only."""
    descriptor = os.memfd_create("doctor")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def describe_certificate(encoded: bytes) -> Fact:
    """Validity and names in a DER certificate: ``ssl`` parses only those that it trusts."""
    times = re.findall(rb"\x17\x0d(\d{12})Z|\x18\x0f(\d{14})Z", encoded)[:2]
    found: Fact = {"names": _alternative_names(encoded)}
    for field, (short, long) in zip(("not_before", "not_after"), times, strict=False):
        century = b"" if long else b"19" if short[:2] >= b"50" else b"20"
        text = (century + (long or short)).decode()
        day = f"{text[:4]}-{text[4:6]}-{text[6:8]}"
        found[field] = f"{day}T{text[8:10]}:{text[10:12]}:{text[12:14]}+00:00"
    return found


def _alternative_names(encoded: bytes) -> list[str]:
    at = encoded.find(_SUBJECT_NAMES)
    if at < 0:
        return []
    at += len(_SUBJECT_NAMES)
    if encoded[at] == 1:  # a flag that says "critical"
        at += 3
    at, _ = _length(encoded, at)  # the octet string
    start, size = _length(encoded, at)
    names: list[str] = []
    end, at = start + size, start
    while at < end:
        tag = encoded[at]
        value, size = _length(encoded, at)
        raw = encoded[value : value + size]
        if tag == 0x82:
            names.append(raw.decode("ascii", "replace"))
        elif tag == 0x87 and size == 4:
            names.append(socket.inet_ntoa(raw))
        at = value + size
    return names


def _length(encoded: bytes, at: int) -> tuple[int, int]:
    """Where the value of the DER element at a place begins, and its size."""
    first = encoded[at + 1]
    if first < 0x80:
        return at + 2, first
    width = first & 0x7F
    return at + 2 + width, int.from_bytes(encoded[at + 2 : at + 2 + width], "big")
