"""A collector that takes OTLP over HTTP, and keeps what came."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """What has come, and how to answer: `status` is the HTTP status of the next answers."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.status = 200
        self.paths: set[str] = set()
        self.resources: list[dict[str, Any]] = []
        self.spans: list[Any] = []
        self.changed = threading.Condition()

    def take(self, path: str, body: bytes) -> int:
        """One request of an exporter; the status to answer."""
        request = ExportTraceServiceRequest.FromString(body)
        with self.changed:
            self.paths.add(path)
            if self.status == 200:
                for group in request.resource_spans:
                    self.resources.append(attributes(group.resource))
                    for scope in group.scope_spans:
                        self.spans += scope.spans
            self.changed.notify_all()
            return self.status

    def wait(self, count: int, seconds: float = 20) -> list[Any]:
        """The server spans, once there are so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.servers) >= count, seconds), self.spans
            return self.servers

    @property
    def servers(self) -> list[Any]:
        """The spans of requests."""
        return [span for span in self.spans if span.kind == span.SPAN_KIND_SERVER]

    def children(self, parent: Any) -> dict[str, Any]:
        """The spans below one, by name."""
        found = [span for span in self.spans if span.parent_span_id == parent.span_id]
        named = {span.name: span for span in found}
        assert len(named) == len(found)
        return named


def attributes(holder: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in holder.attributes
    }


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(collector.take(self.path, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
