"""The HTTP port: /metrics, the probes /livez and /readyz, and the status page.

Each connection has a thread of its own; all that these know they get from the supervisor's loop
as snapshots.
"""

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from trtserve.clock import NS_PER_S, now_ns
from trtserve.supervisor.exposition import Exposition
from trtserve.supervisor.listen import Address, bind, resolve
from trtserve.supervisor.snapshot import Snapshot
from trtserve.supervisor.status_page import page

_log = logging.getLogger(__name__)

LIVE_NS = 10 * NS_PER_S
"""The loop turns at least every second; this much later it is stuck."""

IDLE_SECONDS = 10
"""A connection that says nothing for this long is closed."""

_TEXT = "text/plain; charset=utf-8"


class Probes(Protocol):
    """What the HTTP threads ask of the supervisor's loop."""

    turned_ns: int
    """When the loop last ran."""

    def snapshot(self, fresh: bool) -> Snapshot:
        """The daemon as it is, where `fresh` after a poll of all children.

        Raises TimeoutError when the loop does not answer.
        """


@dataclass(frozen=True, slots=True)
class _Answer:
    status: str
    body: str | bytes
    content_type: str = _TEXT


class HttpServer:
    """Serves from its own threads, from `open` to `close`."""

    def __init__(self, probes: Probes, exposition: Exposition) -> None:
        self._probes = probes
        self._exposition = exposition
        self._one_scrape = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._routes: dict[str, Callable[[str], _Answer]] = {
            "/": self._status, "/status": self._status, "/metrics": self._metrics,
            "/livez": self._live, "/readyz": self._ready,
        }

    def open(self, host: str, port: int) -> int:
        """Bind: the port, a free one for 0. Raises OperatorError. `start` begins to serve."""
        family, address = resolve(host, port)
        self._server = _Server(family, address)
        self._server.set_app(self._application)
        return int(self._server.server_port)

    def start(self) -> None:
        """Begin to serve."""
        assert self._server is not None
        self._thread = threading.Thread(
            target=self._server.accept_forever, name="http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening. Twice is harmless."""
        if self._server is None:
            return
        self._server.stop()
        if self._thread is not None:
            self._thread.join()
        self._server.server_close()
        self._server = None

    def _application(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        route = self._routes.get(environ.get("PATH_INFO", "") or "/")
        if route is None:
            answer = _Answer("404 Not Found", f"There is: {' '.join(self._routes)}\n")
        elif method not in ("GET", "HEAD"):
            answer = _Answer("405 Method Not Allowed", "Use GET or HEAD.\n")
        else:
            answer = self._answer(route, environ.get("HTTP_ACCEPT", ""))
        body = answer.body.encode() if isinstance(answer.body, str) else answer.body
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if answer.status.startswith("405"):
            headers.append(("Allow", "GET, HEAD"))
        start_response(answer.status, headers)
        return [] if method == "HEAD" else [body]

    def _answer(self, route: Callable[[str], _Answer], accept: str) -> _Answer:
        try:
            return route(accept)
        except TimeoutError:
            return _Answer("503 Service Unavailable", "The supervisor's loop does not answer.\n")
        except Exception:
            _log.exception("an HTTP request failed")
            return _Answer("500 Internal Server Error", "The supervisor's log says why.\n")

    def _metrics(self, accept: str) -> _Answer:
        snapshot = self._probes.snapshot(True)
        with self._one_scrape:
            content_type, body = self._exposition.encode(snapshot, accept)
        return _Answer("200 OK", body, content_type)

    def _live(self, _accept: str) -> _Answer:
        if now_ns() - self._probes.turned_ns < LIVE_NS:
            return _Answer("200 OK", "live\n")
        return _Answer("503 Service Unavailable", "The supervisor's loop is stuck.\n")

    def _ready(self, _accept: str) -> _Answer:
        missing = self._probes.snapshot(False).not_ready
        if not missing:
            return _Answer("200 OK", "ready\n")
        return _Answer(
            "503 Service Unavailable", "".join(f"not ready: {reason}\n" for reason in missing)
        )

    def _status(self, _accept: str) -> _Answer:
        return _Answer("200 OK", page(self._probes.snapshot(True)), "text/html; charset=utf-8")


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def log_message(self, *_: Any) -> None:
        """Scrapes and probes are no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, family: socket.AddressFamily, address: Address) -> None:
        self.address_family = family
        self._address = address
        super().__init__(("", 0), _Handler)

    def server_bind(self) -> None:
        """Bind with an error that helps, and without asking the DNS for our own name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind(self.socket, self._address, "http_port")
        self.server_address = self.socket.getsockname()
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])
        self.setup_environ()

    def accept_forever(self) -> None:
        """Accept until `stop`; unlike serve_forever this need not poll to notice."""
        while True:
            try:
                request, address = self.get_request()
            except ConnectionAbortedError:
                continue
            except OSError:
                return
            try:
                self.process_request(request, address)
            except Exception:
                self.handle_error(request, address)
                self.shutdown_request(request)

    def stop(self) -> None:
        """End `accept_forever`."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # it does not listen
            pass

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away or dawdled is no news."""
        _log.debug("an HTTP connection failed", exc_info=True)
