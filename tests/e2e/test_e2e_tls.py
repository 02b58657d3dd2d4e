"""TLS and mutual TLS with the real daemon; certificates that change while it serves."""

import os
import signal
import socket
import ssl
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon_process import Daemon, running
from tests.e2e.repositories import add_plus
from tests.security.authority import Authority, serial
from trtserve.client import Client, InferenceError, PermissionDenied, Security, Unauthenticated

X = np.ones((1, 3), np.float32)

ACCESS = """
callers:
  - name: app
    certificates: ["spiffe://cluster/app"]
    models: [plus]
  - name: old-app
    certificates: ["cn:veteran"]
    allow: [read]
"""


class Mutual:
    """The daemon, with what its clients need."""

    def __init__(self, daemon: Daemon, authority: Authority) -> None:
        self.daemon = daemon
        self.authority = authority

    def client(self, pair: tuple[str, str] | None) -> Client:
        certificate, key = pair or (None, None)
        return Client(self.daemon.grpc, retry=False, security=Security(
            ca=self.authority.ca, certificate=certificate, key=key
        ))

    def seen(self, address: str) -> int:
        """The number of the certificate that a server shows."""
        host, _, port = address.rpartition(":")
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        # TLS 1.3 shows the server's certificate before it asks for the client's.
        with socket.create_connection((host, int(port))) as plain, context.wrap_socket(
            plain
        ) as secure:
            found = secure.getpeercert(binary_form=True)
        assert found is not None
        return serial(ssl.DER_cert_to_PEM_cert(found).encode())


@pytest.fixture(scope="module")
def mutual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutual")
    add_plus(folder / "models")
    authority = Authority(folder)
    certificate, key = authority.server()
    (folder / "access.yaml").write_text(ACCESS)
    with running(
        folder / "models", folder, "--tls-certificate", certificate, "--tls-key", key,
        "--tls-client-ca", str(authority.ca), "--http-tls",
        "--access-file", str(folder / "access.yaml"),
    ) as daemon:
        daemon.trust(authority.ca)
        yield Mutual(daemon, authority)


def test_a_client_s_certificate_says_who_calls(mutual):
    with mutual.client(mutual.authority.client("app", "spiffe://cluster/app")) as client:
        np.testing.assert_array_equal(client.infer("plus", {"x": X})["y"], X + 1)
    with mutual.client(mutual.authority.client("veteran")) as client:
        assert client.models()
        with pytest.raises(PermissionDenied, match="'old-app'"):
            client.infer("plus", {"x": X})


def test_a_stranger_whom_the_authority_knows_is_told_so(mutual):
    with mutual.client(mutual.authority.client("stranger", "app")) as client, pytest.raises(
        Unauthenticated, match="not one that may call here"
    ):
        client.infer("plus", {"x": X})


def test_no_certificate_and_one_of_another_authority_do_not_connect(mutual, tmp_path):
    elsewhere = Authority(tmp_path, "elsewhere").client("app", "spiffe://cluster/app")
    for pair in (None, elsewhere):
        with mutual.client(pair) as client, pytest.raises(InferenceError) as caught:
            client.infer("plus", {"x": X}, deadline=5)
        assert caught.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def test_renewed_certificates_are_shown_and_open_connections_stay(mutual):
    app = mutual.authority.client("app", "spiffe://cluster/app")
    expiry = mutual.daemon.metric("trtserve_tls_certificate_expiry_timestamp_seconds")
    with mutual.client(app) as before:
        before.infer("plus", {"x": X})
        certificate, _ = mutual.authority.server(ends=60)
        wanted = serial(Path(certificate).read_bytes())
        for address in (mutual.daemon.grpc, str(mutual.daemon.ready["http"])):
            mutual.daemon.until(
                lambda address=address: mutual.seen(address) == wanted, "the new certificate"
            )
        before.infer("plus", {"x": X})
        with mutual.client(app) as after:
            after.infer("plus", {"x": X})
    mutual.daemon.until(
        lambda: mutual.daemon.metric("trtserve_tls_certificate_expiry_timestamp_seconds") > expiry,
        "the new certificate's expiry",
    )


def test_a_broken_pair_is_not_used(mutual):
    before = mutual.seen(mutual.daemon.grpc)
    failures = mutual.daemon.metric("trtserve_reload_failures_total", what="certificate")
    key = mutual.authority.folder / "server.key"
    good = key.read_bytes()
    key.write_bytes(b"half a k")
    mutual.daemon.until(
        lambda: mutual.daemon.metric("trtserve_reload_failures_total", what="certificate")
        > failures, "the failure's count",
    )
    assert mutual.seen(mutual.daemon.grpc) == before
    # Nor does it keep a front end from starting: the supervisor has the old one.
    first = mutual.daemon.children()["front end 1"]
    os.kill(first, signal.SIGKILL)
    mutual.daemon.until(
        lambda: mutual.daemon.replaced("front end 1", first), "another front end"
    )
    assert mutual.seen(mutual.daemon.grpc) == before
    key.write_bytes(good)


def test_plain_http_is_not_answered(mutual):
    host, _, port = str(mutual.daemon.ready["http"]).rpartition(":")
    with socket.create_connection((host, int(port))) as plain:
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        plain.settimeout(20)
        assert b"live" not in plain.recv(1000)
    assert mutual.daemon.get("/livez") == (200, "live\n")


def test_a_daemon_with_bad_files_does_not_start(tmp_path):
    add_plus(tmp_path / "models")
    certificate, key = Authority(tmp_path).server("old", begins=-3, ends=-1)
    daemon = Daemon(tmp_path / "models", tmp_path, "--tls-certificate", certificate,
                    "--tls-key", key)
    try:
        assert daemon.end() == 1
        assert "tls_certificate" in daemon.log
        assert "has expired" in daemon.log
        assert "Traceback" not in daemon.log
    finally:
        daemon.close()
