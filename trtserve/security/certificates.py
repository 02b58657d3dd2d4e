"""The server's certificate and key, and the certificates of those who may sign clients' ones.

They are proved before they are used, by a TLS handshake in memory: that the key fits, that the
certificate is a server's, and that it is in force. Everything is read once, so that what was
proved is what is used, even while somebody changes the files.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from trtserve.errors import ConfigurationError
from trtserve.security.watched import read_file

MAX_FILE_BYTES = 1 << 20
"""More than any certificate or bundle of them needs."""

_EXPIRED = 10
_NOT_YET = 9
"""OpenSSL's numbers for a certificate whose time is over, or has not come."""

_RENEW = "Renew the certificate"


@dataclass(frozen=True, slots=True)
class Files:
    """The paths of the settings tls_certificate, tls_key and tls_client_ca."""

    certificate: str
    key: str
    client_ca: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """All that there are."""
        return tuple(filter(None, (self.certificate, self.key, self.client_ca)))


@dataclass(frozen=True, slots=True)
class Identity:
    """What a TLS server needs, in PEM. `expires` are seconds since 1970 by the files' settings."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    expires: tuple[tuple[str, float], ...]


def read_identity(files: Files) -> Identity:
    """Read and prove. Raises OperatorError with the setting, the cause and the cure."""
    certificate = read_file(files.certificate, "tls_certificate", MAX_FILE_BYTES)
    key = read_file(files.key, "tls_key", MAX_FILE_BYTES)
    expires = [("tls_certificate", _prove(files, certificate, key))]
    client_ca = None
    if files.client_ca is not None:
        client_ca = read_file(files.client_ca, "tls_client_ca", MAX_FILE_BYTES)
        expires.append(("tls_client_ca", _prove_ca(files.client_ca, client_ca)))
    return Identity(certificate, key, client_ca, tuple(expires))


def server_context(identity: Identity) -> ssl.SSLContext:
    """For a server in Python. Raises ssl.SSLError for a pair that was not proved."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _as_file(identity.certificate) as certificate, _as_file(identity.key) as key:
        # Without a password given, OpenSSL would ask the terminal for one.
        context.load_cert_chain(certificate, key, password="")
    return context


def _prove(files: Files, certificate: bytes, key: bytes) -> float:
    """When the certificate expires; raises ConfigurationError if the pair does not work."""
    try:
        client = _client_context(certificate)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigurationError(
            f"{files.certificate} holds no certificate in PEM", where="tls_certificate",
            cure="Give a file that begins with -----BEGIN CERTIFICATE-----: the server's own "
            "certificate first, then those between it and the root",
        ) from error
    try:
        server = server_context(Identity(certificate, key, None, ()))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(
                f"{files.key} is not the key of {files.certificate}", where="tls_key",
                cure="Give the key that the certificate was made with",
            ) from error
        raise ConfigurationError(
            f"{files.key} holds no key that can be used{_said(error)}", where="tls_key",
            cure="Give a private key in PEM, without a password",
        ) from error
    try:
        return _handshake(server, client)
    except ssl.SSLCertVerificationError as error:
        problem = {
            _EXPIRED: "has expired", _NOT_YET: "is not in force yet",
        }.get(error.verify_code, f"is not accepted for a server: {error.verify_message}")
        raise ConfigurationError(
            f"{files.certificate} {problem}", where="tls_certificate",
            cure=_RENEW if error.verify_code == _EXPIRED else "Give another one, or set the clock",
        ) from error
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{files.certificate} does not work for a server{_said(error)}",
            where="tls_certificate", cure="Make a certificate for a TLS server",
        ) from error


def _client_context(certificate: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Trust this very certificate, whoever has signed it: its own properties are in question.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate.decode("ascii"))
    return context


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> float:
    """Shake hands in memory; when the server's certificate expires."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server)
    waiting = [theirs, ours]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
    found = theirs.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(found["notAfter"])))


def _prove_ca(path: str, data: bytes) -> float:
    """When the first of these certificates expires. Raises ConfigurationError for none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cadata=data.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise ConfigurationError(
            f"{path} holds no certificates in PEM", where="tls_client_ca",
            cure="Give the certificates of those who sign clients' certificates",
        ) from error
    found = context.get_ca_certs()
    if not found:
        raise ConfigurationError(
            f"{path} holds no certificate that may sign others", where="tls_client_ca",
            cure="Give the certificate of the authority, not those of clients",
        )
    return min(float(ssl.cert_time_to_seconds(str(one["notAfter"]))) for one in found)


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path of bytes in memory: Python's ssl takes keys from files only."""
    fd = os.memfd_create("trtserve tls")
    try:
        os.write(fd, data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _said(error: ssl.SSLError) -> str:
    return f" ({error.reason.lower().replace('_', ' ')})" if error.reason else ""
