"""A certificate authority for the lab, and certificates with every fault that one can have."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates into a directory."""

    directory: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(
        self, label: str, *names: str, until: timedelta = timedelta(days=9)
    ) -> tuple[str, str]:
        """Paths of a certificate for these names, valid ``until`` from now, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = (
            _begin(names[0], self.certificate.subject, key, until)
            .add_extension(
                x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        certificate, private = self.directory / f"{label}.pem", self.directory / f"{label}.key"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return str(certificate), str(private)


def make_authority(directory: Path, name: str = "Lab") -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = {name: False for name in x509.KeyUsage.__init__.__annotations__ if name != "return"}
    made = (
        _begin(name, subject, key, timedelta(days=99))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage | {"key_cert_sign": True}), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(directory, key, made)


def _begin(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, until: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=90))
        .not_valid_after(now + until)
    )
