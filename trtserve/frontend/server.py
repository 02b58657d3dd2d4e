"""A front end's gRPC server: its options and limits, where it listens, TLS, and who may connect."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from trtserve.config import Settings
from trtserve.frontend import health as health_service
from trtserve.frontend.call import Call
from trtserve.frontend.gate import Gate, Note
from trtserve.frontend.guarded import Guarded
from trtserve.metrics import Recorder
from trtserve.model.catalog import Catalog
from trtserve.proto import pool
from trtserve.security.certificates import Identity
from trtserve.security.keeper import NOTHING, Kept
from trtserve.security.socket_file import Peers, permissions, protect
from trtserve.security.start import watched_access, watched_identity
from trtserve.security.watched import Watched

log = logging.getLogger(__name__)

MAX_METADATA_BYTES = 16 * 1024
"""All metadata of one call: traces, tokens and what proxies add are a few hundred."""

KEEPALIVE_SECONDS = 60
KEEPALIVE_TIMEOUT_SECONDS = 20
"""A client that says nothing is asked, and is forgotten if it does not answer: else a machine
that was switched off would keep its connection for hours."""

HANDSHAKE_SECONDS = 20
"""A connection that has not become one of HTTP/2 by then, TLS included, is closed."""

CLIENT_PING_SECONDS = 10
"""Clients may ask us as often as this; gRPC's own limit of five minutes surprises them."""

_CLOSED_UMASK = 0o177

_SPARE_CALLS = 1024


def max_calls(settings: Settings) -> int:
    """Calls that a front end holds at once on all of its connections, open streams included:
    one that does nothing takes 20 KB. Beyond, they are refused before anything is read."""
    return 2 * settings.max_in_flight + _SPARE_CALLS


def server_options(settings: Settings) -> tuple[tuple[str, int], ...]:
    """The options of gRPC's core."""
    options = [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_concurrent_streams", settings.max_in_flight),
        ("grpc.max_allowed_incoming_connections", settings.grpc_max_connections),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", CLIENT_PING_SECONDS * 1000),
    ]
    for name, seconds in (
        ("grpc.max_connection_age_ms", settings.grpc_max_connection_age_seconds),
        ("grpc.max_connection_age_grace_ms", settings.grpc_max_connection_age_grace_seconds),
    ):
        if seconds:
            options.append((name, max(1, int(seconds * 1000))))
    return tuple(options)


class GrpcServer:
    """The server of the front end with that index; on its event loop.

    Reads what the settings name; `kept` is what the supervisor had of it last. Raises
    OperatorError, in the constructor, if that is no good;
    `open` raises OSError, RuntimeError and OperatorError where it can not listen.
    """

    def __init__(
        self, settings: Settings, index: int, catalog: Callable[[], Catalog], note: Note,
        kept: Kept = NOTHING,
    ) -> None:
        self._settings = settings
        self._first = index == 1
        self._identity = watched_identity(settings, kept)
        self._access = watched_access(settings, kept)
        self._peers: Peers | None = None
        self.gate = Gate(
            self._access, control_on_tcp=settings.control_on_tcp, catalog=catalog, note=note
        )
        # Where nobody asks who calls, inference passes no gate and costs nothing more.
        self.make_call: Callable[[Any, str], Call] = (
            self.gate.call if self.gate.guards_everything else Call
        )

    def open(
        self, services: Sequence[str], handlers: Sequence[grpc.GenericRpcHandler],
        health: health_service.Health,
    ) -> list[str]:
        """Make it and bind it: the addresses. `services` are the names of those of `handlers`."""
        self._server = grpc.aio.server(
            options=server_options(self._settings),
            maximum_concurrent_rpcs=max_calls(self._settings),
        )
        _describe_standard_services()
        names = (*services, health_service.SERVICE, reflection.SERVICE_NAME)
        self._server.add_generic_rpc_handlers(tuple(
            Guarded(handler, self.gate) for handler in (*handlers, _reflection(names))
        ))
        self._server.add_generic_rpc_handlers((
            Guarded(health.handler(), self.gate, is_open=True),
        ))
        addresses = [self._bind_port()]
        # A Unix socket has one listener, so one front end serves it.
        if self._settings.socket is not None and self._first:
            addresses.append(self._bind_socket(os.path.abspath(self._settings.socket)))
        return addresses

    async def start(self) -> None:
        """Take calls."""
        await self._server.start()

    async def ended(self) -> None:
        """Wait until it serves no more, whether it was told to stop or not."""
        await self._server.wait_for_termination()

    async def stop(self, grace: float) -> None:
        """Take none any more, and give those that are open so many seconds."""
        await self._server.stop(grace)

    def look(self, recorder: Recorder) -> None:
        """Take up changed files, and note what there is to measure. Called every second."""
        if self._access is not None and self._access.look():
            self.gate.changed()
        for key, count in self.gate.refused.items():
            recorder.counters["refused_calls", key] = count
        if self._identity is not None:
            self._identity.look()
        if not self._first:  # all front ends would tell the same
            return
        if self._identity is not None:
            for setting, at in self._identity.value.expires:
                recorder.gauge("tls_certificate_expiry_timestamp_seconds", (setting,), at)
        watched: tuple[Watched[Any] | None, ...] = (self._identity, self._access)
        for file in watched:
            if file is not None:
                recorder.counters["reload_failures", (file.name,)] = file.failures
        self._look_at_peers()

    def _look_at_peers(self) -> None:
        if self._peers is None:
            return
        try:
            new, cut_off = self._peers.look()
        except OSError as error:
            log.warning("who is on the Unix socket can not be seen: %s", error.strerror)
            return
        for peer in new:
            log.debug("connected to the Unix socket: user %d, process %d", peer.user, peer.pid)
        for peer in cut_off:
            log.warning(
                "cut off from the Unix socket: user %d, process %d (socket_users does not name it)",
                peer.user, peer.pid,
            )

    def _bind_port(self) -> str:
        host = self._settings.host
        address = f"[{host}]" if ":" in host else host
        wanted = f"{address}:{self._settings.grpc_port}"
        if self._identity is None:
            port = self._server.add_insecure_port(wanted)
        else:
            port = self._server.add_secure_port(wanted, _credentials(self._identity))
        if port == 0:
            raise OSError("the address is in use")
        return wanted

    def _bind_socket(self, path: str) -> str:
        settings = self._settings
        wanted = permissions(settings.socket_mode, settings.socket_group, settings.socket_users)
        if os.path.exists(path):
            os.unlink(path)  # what a front end before us left; the supervisor checked it
        before = os.umask(_CLOSED_UMASK)
        try:
            self._server.add_insecure_port(f"unix:{path}")
        finally:
            os.umask(before)
        protect(path, wanted)
        if wanted.users:  # else there is nobody to cut off, and looking takes time
            self._peers = Peers(path, wanted)
        return f"unix:{path}"


def _credentials(identity: Watched[Identity]) -> grpc.ServerCredentials:
    """Credentials that follow the files: gRPC asks before each handshake, from its threads."""
    told = identity.value

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        identity.look()
        if identity.value is told:
            return None
        told = identity.value
        return _configuration(told)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(told), fetch, require_client_authentication=told.client_ca is not None
    )


def _configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key, identity.certificate)], identity.client_ca
    )


def _reflection(services: Sequence[str]) -> grpc.GenericRpcHandler:
    """The reflection service's handler, for our own descriptor pool."""
    servicer = reflection.aio.ReflectionServicer(service_names=services, pool=pool.POOL)
    return grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        ),
    })


def _describe_standard_services() -> None:
    """Put the health and reflection services into our descriptor pool, for reflection."""
    for source in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        file = descriptor_pb2.FileDescriptorProto()
        source.CopyToProto(file)
        pool.POOL.Add(file)
