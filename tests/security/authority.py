"""A certificate authority for one test run: its keys are made when it is, and nowhere kept."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM


class Authority:
    """Signs certificates, as files in a folder. `ca` is its own."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self._certificate = _builder(self._name, self._name, self._key, -1, 30).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        ).sign(self._key, hashes.SHA256())
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(self._certificate.public_bytes(PEM))

    def server(self, file: str = "server", *, begins: int = -1, ends: int = 30) -> tuple[str, str]:
        """A server's certificate and key, for localhost, between two days from now: the paths."""
        return self._issue(file, "localhost", ExtendedKeyUsageOID.SERVER_AUTH, begins, ends, (
            x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ))

    def client(self, name: str, *alternatives: str) -> tuple[str, str]:
        """A client's certificate, with a common name and names of services, and its key."""
        return self._issue(name, name, ExtendedKeyUsageOID.CLIENT_AUTH, -1, 30, tuple(
            x509.UniformResourceIdentifier(one) if "://" in one else x509.DNSName(one)
            for one in alternatives
        ))

    def _issue(
        self, file: str, name: str, usage: x509.ObjectIdentifier, begins: int, ends: int,
        alternatives: tuple[x509.GeneralName, ...],
    ) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_named(name), self._name, key, begins, ends).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        paths = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        replace(paths[0], builder.sign(self._key, hashes.SHA256()).public_bytes(PEM))
        replace(paths[1], key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))
        return str(paths[0]), str(paths[1])


def replace(path: Path, data: bytes) -> None:
    """Write a file so that its state is another one, as those who renew certificates do."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(data)
    draft.replace(path)


def serial(data: bytes) -> int:
    """The number of a certificate in PEM."""
    return x509.load_pem_x509_certificate(data).serial_number


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: int, ends: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now + begins * DAY).not_valid_after(now + ends * DAY)
    )
