"""What the HTTP port's clients may take: connections, time, and bytes of a request.

Whoever reaches the port may open connections and say nothing. None is refused for that, since
a probe could be among them: the oldest makes room for the newest, and a probe is over long before
it is the oldest.
"""

import socket
import threading
from typing import Any

MAX_CONNECTIONS = 64
"""Open at once, each with a thread."""

MAX_REQUEST_BYTES = 32 * 1024
"""A request's line and headers together."""


class Connections:
    """Those that are open, the oldest first. For all threads."""

    def __init__(self, limit: int = MAX_CONNECTIONS) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: dict[socket.socket, None] = {}

    def add(self, connection: socket.socket) -> None:
        """One more; the oldest ends if there are too many."""
        with self._lock:
            self._open[connection] = None
            if len(self._open) > self._limit:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _end(oldest)

    def remove(self, connection: socket.socket) -> None:
        """It is about to be closed."""
        with self._lock:
            self._open.pop(connection, None)


class Bounded:
    """A request's bytes, which end with an error when there are too many of them."""

    def __init__(self, file: Any, limit: int = MAX_REQUEST_BYTES) -> None:
        self._file = file
        self._left = limit

    def readline(self, limit: int) -> bytes:
        """The next line, or its first `limit` bytes. Raises OSError."""
        line: bytes = self._file.readline(min(limit, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise OSError("the request is too large")
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _end(connection: socket.socket) -> None:
    """Its thread then finds it at its end. Not by a TLS socket's own method, which would take
    away what that thread is reading with."""
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:  # it has ended by itself
        pass
