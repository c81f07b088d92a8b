"""Certificates of a control plane on loopback.

What belongs here: an authority, what it signs, and kubeconfigs. What does not: who may do what.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK = "127.0.0.1"
NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
ADDRESSES = (LOOPBACK, "10.96.0.1")


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs for one control plane; everything lies in ``directory``."""

    directory: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def sign(
        self,
        file: str,
        name: str,
        *groups: str,
        server: bool = False,
        lasts: timedelta = timedelta(days=2),
    ) -> None:
        """Write ``<file>.crt`` and ``<file>.key`` for a user in groups, or for a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        subject = _name(name, groups)
        built = _builder(subject, self.certificate.subject, lasts).public_key(key.public_key())
        built = built.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if server:
            hosts = [x509.DNSName(host) for host in NAMES]
            places = [x509.IPAddress(ipaddress.ip_address(address)) for address in ADDRESSES]
            built = built.add_extension(
                x509.SubjectAlternativeName([*hosts, *places]), critical=False
            )
        certificate = built.sign(self.key, hashes.SHA256())
        _write(self.directory / f"{file}.crt", certificate.public_bytes(serialization.Encoding.PEM))
        _write(self.directory / f"{file}.key", _private(key))

    def kubeconfig(self, file: str, server: str) -> Path:
        """A kubeconfig for the user whose certificate is ``<file>.crt``."""
        at = self.directory
        user = {
            "client-certificate": str(at / f"{file}.crt"),
            "client-key": str(at / f"{file}.key"),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": server, "certificate-authority": str(at / "ca.crt")},
                }
            ],
            "users": [{"name": file, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": file}}],
            "current-context": "test",
        }
        path = at / f"{file}.kubeconfig"
        _write(path, yaml.safe_dump(document).encode())
        return path


def make_authority(directory: Path) -> Authority:
    """A new authority, and the keys that service accounts' tokens are signed with."""
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("test-ca", ())
    certificate = (
        _builder(name, name, timedelta(days=2))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(directory / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))
    _write(directory / "ca.key", _private(key))
    tokens = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write(directory / "sa.key", _private(tokens))
    public = tokens.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write(directory / "sa.pub", public)
    return Authority(directory, key, certificate)


def _builder(subject: x509.Name, issuer: x509.Name, lasts: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + lasts)
    )


def _name(name: str, groups: tuple[str, ...]) -> x509.Name:
    named = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*named, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
