"""What a front end tells about itself beside its counts: traces, and how well its loop runs."""

import asyncio
import sys

from trtserve.config import Settings
from trtserve.frontend.lag import LoopLag
from trtserve.frontend.otlp import make_sender
from trtserve.frontend.tracing import Tracer
from trtserve.metrics import Recorder

_SWITCH_SECONDS = 5e-4
"""How long the thread that makes spans may keep Python's lock when the loop wants it."""


class Telemetry:
    """Traces, if the settings ask for them, and the loop's lag.

    `tracer` is None without traces: then requests do nothing for them. Raises ConfigurationError
    where traces are asked for and their packages are not there.
    """

    def __init__(self, settings: Settings, process: str, recorder: Recorder) -> None:
        self._sender = make_sender(settings, process)
        self._lag = LoopLag(recorder.histogram("loop_lag_seconds", (process,)))
        self.tracer: Tracer | None = None
        if self._sender is not None:
            self.tracer = Tracer(settings.trace_sample_ratio, self._sender.offer)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, in the loop's thread."""
        self._lag.start(loop)
        if self._sender is not None:
            sys.setswitchinterval(_SWITCH_SECONDS)
            self._sender.start()

    def write(self, recorder: Recorder) -> None:
        """Set the recorder's totals."""
        if self._sender is not None:
            recorder.counters["traces", ("sent",)] = self._sender.sent
            recorder.counters["traces", ("dropped",)] = self._sender.unsent

    def close(self) -> None:
        """Send what waits, if that goes quickly, and end."""
        self._lag.stop()
        if self._sender is not None:
            self._sender.close()
