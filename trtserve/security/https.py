"""TLS for the supervisor's own HTTP port, with the certificate that gRPC has."""

import socket
import ssl

from trtserve.security.certificates import Identity, server_context
from trtserve.security.watched import Watched


class Https:
    """Wraps accepted connections. For one thread: the one that accepts."""

    def __init__(self, identity: Watched[Identity]) -> None:
        self._identity = identity
        self._used = identity.value
        self._context = server_context(identity.value)

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """The connection with TLS. It shakes hands when it is first read from, which may take
        as long as the client likes: not here. Raises OSError for one that has gone."""
        self._identity.look()
        if self._identity.value is not self._used:
            self._context = server_context(self._identity.value)
            self._used = self._identity.value
        return self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
