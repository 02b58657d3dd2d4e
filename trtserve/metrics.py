"""What is measured: every metric's name, kind and labels in one table, and the recorder.

Each child process counts in a Recorder, in plain memory; its heartbeats carry the totals to the
supervisor, which adds them up and serves /metrics (supervisor/exposition.py). Times are in
seconds.
"""

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum

from trtserve.errors import ProtocolError
from trtserve.ipc.message import CounterSample, HistogramSample, Statistics

LATENCY_EDGES = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)
"""Seconds. Dense from 1 to 25 ms, where the bounds of vision models lie."""

BATCH_EDGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Rows."""


class Kind(StrEnum):
    """Prometheus's kinds. Gauges of dead processes vanish, the others' totals stay."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One family. The exposition puts `trtserve_` in front, and `_total` behind counters."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()


_VERSION = ("model", "version")


def _table(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS = _table(
    # Front ends.
    Metric("requests", Kind.COUNTER, "Requests answered, by outcome: ok or the error's word.",
           (*_VERSION, "outcome")),
    Metric("request_duration_seconds", Kind.HISTOGRAM,
           "From a request's arrival to its answer, for requests that succeeded.",
           _VERSION, LATENCY_EDGES),
    Metric("requests_in_flight", Kind.GAUGE, "Requests that a front end has not answered yet."),
    Metric("replayed_requests", Kind.COUNTER,
           "Requests sent again because their worker died.", _VERSION),
    Metric("input_bytes", Kind.COUNTER, "Tensor bytes received.", _VERSION),
    Metric("output_bytes", Kind.COUNTER, "Tensor bytes sent.", _VERSION),
    # Workers. Durations of stages are those of a batch, once for each batch.
    Metric("queue_duration_seconds", Kind.HISTOGRAM,
           "From a request's arrival to the start of its batch.", _VERSION, LATENCY_EDGES),
    Metric("stage_duration_seconds", Kind.HISTOGRAM,
           "Gathering a batch's inputs on the CPU.", _VERSION, LATENCY_EDGES),
    Metric("h2d_duration_seconds", Kind.HISTOGRAM,
           "Copying a batch's inputs to the device.", _VERSION, LATENCY_EDGES),
    Metric("compute_duration_seconds", Kind.HISTOGRAM,
           "Running a batch.", _VERSION, LATENCY_EDGES),
    Metric("d2h_duration_seconds", Kind.HISTOGRAM,
           "Copying a batch's outputs from the device.", _VERSION, LATENCY_EDGES),
    Metric("batch_rows", Kind.HISTOGRAM, "Rows in a batch.", _VERSION, BATCH_EDGES),
    Metric("batch_requests", Kind.HISTOGRAM, "Requests in a batch.", _VERSION, BATCH_EDGES),
    Metric("queued_requests", Kind.GAUGE, "Requests waiting for a lane.", _VERSION),
    Metric("lanes", Kind.GAUGE, "Lanes of a device.", ("device",)),
    Metric("lanes_busy", Kind.GAUGE, "Lanes that run a batch.", ("device",)),
    Metric("lane_busy_seconds", Kind.COUNTER, "Time that lanes spent on batches.", ("device",)),
    Metric("device_memory_bytes", Kind.GAUGE, "Memory of a device.", ("device",)),
    Metric("device_memory_used_bytes", Kind.GAUGE,
           "The part of it that is in use, whoever uses it.", ("device",)),
    Metric("scratch_bytes", Kind.GAUGE,
           "Memory that engines use while they run, shared by all of a lane.", ("device",)),
    Metric("scratch_unshared_bytes", Kind.GAUGE,
           "What it would be if each context had its own.", ("device",)),
    Metric("device_errors", Kind.COUNTER,
           "Errors that ended a device's worker, by CUDA's name for them.", ("device", "error")),
    # Both.
    Metric("arena_bytes", Kind.GAUGE, "Shared memory for tensors, by process.", ("process",)),
    Metric("arena_used_bytes", Kind.GAUGE, "The part of it that is lent.", ("process",)),
    # For Triton's counters and ModelStatistics: sums over requests, in nanoseconds.
    Metric("version_sums", Kind.COUNTER,
           "Sums behind Triton's counters (not exposed under this name).", (*_VERSION, "sum")),
    Metric("batch_size_sums", Kind.COUNTER,
           "Sums for each batch size (not exposed under this name).",
           (*_VERSION, "size", "sum")),
)

VERSION_SUMS = (
    "success", "fail", "executed", "inferences", "executions", "request_ns", "fail_ns", "queue_ns",
    "input_ns", "infer_ns", "output_ns", "last_inference_ms",
)
"""The values of `version_sums`' label `sum`. Front ends count success and fail (requests),
request_ns and fail_ns; workers the rest: executed counts requests, inferences rows, executions
batches. As in Triton, each request adds its whole batch's stage times."""

BATCH_SIZE_SUMS = ("executions", "input_ns", "infer_ns", "output_ns")
"""The values of `batch_size_sums`' label `sum`, once for each batch."""

Labels = tuple[str, ...]


class Histogram:
    """Observations in each bucket (le edges, then +Inf) and their sum."""

    __slots__ = ("counts", "edges", "total")

    def __init__(self, edges: tuple[float, ...]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self.counts[bisect_left(self.edges, value)] += times
        self.total += value * times


class Recorder:
    """Counts for one process. Not thread-safe: one thread records and reads."""

    def __init__(self) -> None:
        self.counters: dict[tuple[str, Labels], float] = {}
        self.gauges: dict[tuple[str, Labels], float] = {}
        self.histograms: dict[tuple[str, Labels], Histogram] = {}

    def count(self, name: str, labels: Labels, value: float = 1) -> None:
        """Add to a counter."""
        key = (name, labels)
        self.counters[key] = self.counters.get(key, 0) + value

    def gauge(self, name: str, labels: Labels, value: float) -> None:
        """Set a gauge."""
        self.gauges[name, labels] = value

    def histogram(self, name: str, labels: Labels) -> Histogram:
        """The histogram of these labels; hot paths keep it. Raises ProtocolError if unknown."""
        key = (name, labels)
        found = self.histograms.get(key)
        if found is None:
            metric = METRICS.get(name)
            if metric is None or len(metric.labels) != len(labels):
                raise ProtocolError(f"no histogram {name} with {len(labels)} labels")
            found = self.histograms[key] = Histogram(metric.edges)
        return found

    def statistics(self) -> Statistics:
        """All totals, as a heartbeat carries them."""
        return Statistics(
            tuple(CounterSample(*key, value) for key, value in self.counters.items()),
            tuple(CounterSample(*key, value) for key, value in self.gauges.items()),
            tuple(
                HistogramSample(*key, tuple(histogram.counts), histogram.total)
                for key, histogram in self.histograms.items()
            ),
        )
