"""Traces to an OpenTelemetry collector: spans made and sent by a thread of its own.

OTLP over HTTP: the process's gRPC then serves and does nothing else. The packages are the extra
`otel`. They read the environment variables that OpenTelemetry has for them (headers, resource
attributes, certificates): https://opentelemetry.io/docs/specs/otel/protocol/exporter/

The event loop hands over with `offer`, which never waits. A collector that is slow or away costs
traces, which are counted, and nothing else.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from trtserve import __version__
from trtserve.config import Settings
from trtserve.errors import ConfigurationError
from trtserve.frontend.spans import SpanMaker
from trtserve.frontend.tracing import Traced
from trtserve.log import printable

log = logging.getLogger(__name__)

MAX_WAITING = 4096
"""Requests whose traces wait to be sent. More are dropped."""

BATCH = 64
"""Requests whose spans are sent together. Making them takes Python's lock for milliseconds."""

EVERY_SECONDS = 1.0
"""How long a trace waits for company."""

MAX_REASON = 300
"""Characters of what is wrong with a collector."""

PATH = "/v1/traces"

_EXPORTERS = "opentelemetry.exporter.otlp"
_TIMEOUT_SECONDS = 5
_CLOSE_SECONDS = 2.0
_GIVE_UP_SECONDS = 1.0

NOT_INSTALLED = "OpenTelemetry's exporter is not installed ({cause})"


class Shipper(Protocol):
    """Sends traces, and waits until they are there."""

    def ship(self, traced: Sequence[Traced]) -> str:
        """Send them. Returns what was wrong, empty if nothing was."""

    def give_up(self) -> None:
        """End what is under way. From any thread."""

    def close(self) -> None:
        """The end."""


class TraceSender:
    """A bounded queue of traces, and the thread that empties it.

    `sent` and `dropped` count requests. Its methods are for the thread that made it.
    """

    def __init__(self, shipper: Shipper, where: str) -> None:
        self.sent = 0
        self.dropped = 0
        self._lost = 0
        self._shipper = shipper
        self._where = where
        self._waiting: deque[Traced] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def offer(self, traced: Traced) -> None:
        """Take a trace, or drop it where too many wait."""
        waiting = len(self._waiting)
        if waiting >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(traced)
        if waiting == BATCH:
            self._wake.set()

    @property
    def waiting(self) -> int:
        """Traces not sent yet."""
        return len(self._waiting)

    @property
    def unsent(self) -> int:
        """Traces that were dropped, here or for want of a collector."""
        return self.dropped + self._lost

    def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Send what waits, if that goes quickly."""
        self._stopping = True
        self._wake.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._shipper.give_up()
            self._thread.join(_GIVE_UP_SECONDS)
        self._shipper.close()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(EVERY_SECONDS)
            self._wake.clear()
            self.send_waiting()
        self.send_waiting()

    def send_waiting(self) -> None:
        """Send what waits, in this thread; what can not be sent is dropped."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                problem = self._shipper.ship(batch)
            except Exception as error:  # whatever is in a library: serving goes on
                problem = f"{type(error).__name__}: {error}"
            if problem:
                self._lost += len(batch)
                if not self._failing:
                    log.warning(
                        "traces can not be sent to %s: %s. They are dropped until it answers",
                        self._where, problem,
                    )
            else:
                self.sent += len(batch)
                if self._failing:
                    log.info("traces are sent to %s again", self._where)
            self._failing = bool(problem)


class OtlpShipper:
    """OpenTelemetry's exporter. Raises ConfigurationError where it is not installed."""

    def __init__(self, endpoint: str, attributes: dict[str, str]) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import SpanExportResult
        except ImportError as error:
            raise ConfigurationError(
                NOT_INSTALLED.format(cause=error), where="otlp_endpoint",
                cure="pip install 'trtserve[otel]', or leave otlp_endpoint out",
            ) from error
        self._success: Any = SpanExportResult.SUCCESS
        self._spans = SpanMaker(attributes)
        self._exporter: Any = OTLPSpanExporter(
            endpoint=traces_url(endpoint), timeout=_TIMEOUT_SECONDS
        )
        # It logs each failure, several times: we say once what it says first.
        self._said = ""
        self._given_up = False
        self._log = logging.getLogger(f"{_EXPORTERS}.proto.http.trace_exporter")
        self._log.addFilter(self._keep)
        # The library under it tells of each of its tries.
        logging.getLogger("urllib3").setLevel(logging.ERROR)

    def ship(self, traced: Sequence[Traced]) -> str:
        """Send the spans of these requests."""
        self._said = ""
        spans = [span for each in traced for span in self._spans.of(each)]
        if self._exporter.export(spans) is self._success:
            return ""
        return self._said or "the collector did not take them"

    def give_up(self) -> None:
        """End what is under way: the exporter tries no more."""
        if not self._given_up:
            self._given_up = True
            self._exporter.shutdown()

    def close(self) -> None:
        """The end."""
        self.give_up()
        self._log.removeFilter(self._keep)

    def _keep(self, record: logging.LogRecord) -> bool:
        # Only its first line has the reason; the others say how often it has tried.
        self._said = self._said or printable(record.getMessage(), MAX_REASON)
        return False


def traces_url(endpoint: str) -> str:
    """Where traces go: the endpoint itself if it has a path, else OTLP's own path there."""
    parts = urlsplit(endpoint)
    return endpoint if parts.path.strip("/") else endpoint.rstrip("/") + PATH


def make_sender(settings: Settings, process: str) -> TraceSender | None:
    """What the settings ask for; None without a collector. Raises ConfigurationError."""
    if settings.otlp_endpoint is None:
        return None
    shipper = OtlpShipper(settings.otlp_endpoint, {
        "service.name": "trtserve", "service.version": __version__, "trtserve.process": process,
    })
    return TraceSender(shipper, settings.otlp_endpoint)
