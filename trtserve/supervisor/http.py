"""The HTTP port: /metrics, the probes /livez and /readyz, and the status for people and scripts.

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
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

import msgspec

from trtserve.clock import NS_PER_S, now_ns
from trtserve.security.https import Https
from trtserve.supervisor.exposition import Exposition
from trtserve.supervisor.http_connections import Bounded, Connections
from trtserve.supervisor.listen import Address, bind, resolve
from trtserve.supervisor.snapshot import Snapshot
from trtserve.supervisor.status_data import Status
from trtserve.supervisor.status_docs import docs_page
from trtserve.supervisor.status_page import page, security_policy, tables
from trtserve.supervisor.status_strangers import for_strangers, is_near, short
from trtserve.supervisor.status_view import StatusView

_log = logging.getLogger(__name__)

LIVE_NS = 10 * NS_PER_S
"""The loop turns at least every second; this much later it is stuck."""

_MAX_DIGITS = 18

IDLE_SECONDS = 10
"""A connection that says nothing for this long is closed."""

WAITING = 128
"""Connections that wait to be accepted: probes, scrapes and pages may come all at once."""

_REST_SECONDS = 0.5
"""Before accepting again, where the process may open no more files."""

_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"


class Probes(Protocol):
    """What the HTTP threads ask of the supervisor's loop."""

    turned_ns: int
    """When the loop last ran."""

    def snapshot(self, fresh: bool, watching: bool = False) -> Snapshot:
        """The daemon as it is, where `fresh` after a poll of all children, where `watching`
        with what the status page shows beside.

        Raises TimeoutError when the loop does not answer.
        """


@dataclass(frozen=True, slots=True)
class _Answer:
    status: str
    body: str | bytes
    content_type: str = _TEXT


class HttpServer:
    """Serves from its own threads, from `open` to `close`. `details_for_all`: those who ask
    from elsewhere see as much as those on this machine (status_strangers.py)."""

    def __init__(
        self, probes: Probes, exposition: Exposition, *, details_for_all: bool = False
    ) -> None:
        self._probes = probes
        self._details_for_all = details_for_all
        self._exposition = exposition
        self._one_scrape = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._view = StatusView(probes)
        self._routes: dict[str, Callable[[WSGIEnvironment], _Answer]] = {
            "/": self._status, "/status": self._status, "/status.json": self._status_json,
            "/status/tables": self._status_tables, "/docs": self._docs,
            "/metrics": self._metrics, "/livez": self._live, "/readyz": self._ready,
        }

    def open(self, host: str, port: int, https: Https | None = None) -> int:
        """Bind: the port, a free one for 0. Raises OperatorError. `start` begins to serve."""
        family, address = resolve(host, port)
        self._server = _Server(family, address, https)
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
            answer = self._answer(route, environ)
        body = answer.body.encode() if isinstance(answer.body, str) else answer.body
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if answer.content_type == _HTML:
            headers.append(("Content-Security-Policy", security_policy()))
            headers.append(("Referrer-Policy", "no-referrer"))
        if answer.status.startswith("405"):
            headers.append(("Allow", "GET, HEAD"))
        start_response(answer.status, headers)
        return [] if method == "HEAD" else [body]

    def _answer(
        self, route: Callable[[WSGIEnvironment], _Answer], environ: WSGIEnvironment
    ) -> _Answer:
        try:
            return route(environ)
        except TimeoutError:
            return _Answer("503 Service Unavailable", "The supervisor's loop does not answer.\n")
        except Exception:
            _log.exception("an HTTP request failed")
            return _Answer("500 Internal Server Error", "The supervisor's log says why.\n")

    def _metrics(self, environ: WSGIEnvironment) -> _Answer:
        snapshot = self._probes.snapshot(True)
        accept = environ.get("HTTP_ACCEPT", "")
        with self._one_scrape:
            content_type, body = self._exposition.encode(snapshot, accept)
        return _Answer("200 OK", body, content_type)

    def _live(self, _environ: WSGIEnvironment) -> _Answer:
        if now_ns() - self._probes.turned_ns < LIVE_NS:
            return _Answer("200 OK", "live\n")
        return _Answer("503 Service Unavailable", "The supervisor's loop is stuck.\n")

    def _ready(self, environ: WSGIEnvironment) -> _Answer:
        missing = self._probes.snapshot(False).not_ready
        if not missing:
            return _Answer("200 OK", "ready\n")
        if not self._sees_all(environ):
            missing = short(missing)
        return _Answer(
            "503 Service Unavailable", "".join(f"not ready: {reason}\n" for reason in missing)
        )

    def _status(self, environ: WSGIEnvironment) -> _Answer:
        return _Answer("200 OK", page(self._seen(environ)), _HTML)

    def _status_tables(self, environ: WSGIEnvironment) -> _Answer:
        return _Answer("200 OK", tables(self._seen(environ)), _HTML)

    def _status_json(self, environ: WSGIEnvironment) -> _Answer:
        after = parse_qs(environ.get("QUERY_STRING", "")).get("after", ["0"])[-1]
        if not after.isascii() or not after.isdigit() or len(after) > _MAX_DIGITS:
            return _Answer("400 Bad Request", "after= takes the number of a batch.\n")
        body = msgspec.json.encode(self._seen(environ, int(after)))
        return _Answer("200 OK", body, "application/json")

    def _seen(self, environ: WSGIEnvironment, after: int = 0) -> Status:
        status = self._view.status(after)
        return status if self._sees_all(environ) else for_strangers(status)

    def _sees_all(self, environ: WSGIEnvironment) -> bool:
        return self._details_for_all or is_near(environ.get("REMOTE_ADDR", ""))

    def _docs(self, _environ: WSGIEnvironment) -> _Answer:
        return _Answer("200 OK", docs_page(), _HTML)


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def setup(self) -> None:
        """Bound what is read."""
        super().setup()
        self.rfile: Any = Bounded(self.rfile)

    def log_message(self, *_: Any) -> None:
        """Scrapes and probes are no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = WAITING

    def __init__(
        self, family: socket.AddressFamily, address: Address, https: Https | None
    ) -> None:
        self.address_family = family
        self._https = https
        self._address = address
        self._connections = Connections()
        self._stopped = threading.Event()
        super().__init__(("", 0), _Handler)

    def server_bind(self) -> None:
        """Bind with an error that helps, and without asking the DNS for our own name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind(self.socket, self._address, "http_port")
        self.server_address = self.socket.getsockname()
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        """Accept one connection."""
        connection, address = super().get_request()
        if self._https is None:
            return connection, address
        try:
            return self._https.wrap(connection), address
        except OSError as error:
            connection.close()
            raise ConnectionAbortedError from error

    def accept_forever(self) -> None:
        """Accept until `stop`; unlike serve_forever this need not poll to notice."""
        starved = False
        while True:
            try:
                request, address = self.get_request()
            except ConnectionAbortedError:
                continue
            except OSError as error:
                # The listener's end; or no files are left, which passes: without this port the
                # daemon would be taken for dead.
                if self._stopped.wait(_REST_SECONDS):
                    return
                if not starved:
                    _log.warning("HTTP connections can not be accepted: %s", error.strerror)
                starved = True
                continue
            starved = False
            self._connections.add(request)
            try:
                self.process_request(request, address)
            except Exception:
                self.handle_error(request, address)
                self.shutdown_request(request)

    def close_request(self, request: Any) -> None:
        """The connection is over."""
        self._connections.remove(request)
        super().close_request(request)

    def stop(self) -> None:
        """End `accept_forever`."""
        self._stopped.set()
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # it does not listen
            pass

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away or dawdled is no news."""
        _log.debug("an HTTP connection failed", exc_info=True)
