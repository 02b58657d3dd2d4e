"""What is measured: every metric's name, kind and labels in one table, and the recorder.

Each child process counts in a Recorder, in plain memory; its heartbeats carry the totals to the
supervisor, which adds them up and serves /metrics (supervisor/exposition.py). Times are in
seconds.
"""

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum

from trtserve.errors import ProtocolError
from trtserve.ipc.statistics import (
    CounterSample,
    ErrorSample,
    Exemplar,
    HistogramSample,
    Statistics,
)

LATENCY_EDGES = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)
"""Seconds. Dense from 1 to 25 ms, where the bounds of vision models lie."""

BATCH_EDGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Rows."""

SERVER_FAULTS = ("deadline", "execution", "internal", "overloaded", "unavailable")
"""Outcomes of requests that count against availability. A deadline that passes is one: whoever
set it did not get an answer in time."""


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
_GPU = ("device", "uuid")


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
    Metric("traces", Kind.COUNTER,
           "Traced requests whose spans were sent to the collector, or dropped.", ("outcome",)),
    Metric("refused_calls", Kind.COUNTER,
           "Calls refused at the gate, before a request was read, by kind of call and the "
           "error's word.", ("kind", "outcome")),
    Metric("tls_certificate_expiry_timestamp_seconds", Kind.GAUGE,
           "When the certificates in force expire, in seconds since 1970.", ("file",)),
    Metric("reload_failures", Kind.COUNTER,
           "Changed files that could not be used: the old ones stay in force.", ("what",)),
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
    Metric("padding_rows", Kind.COUNTER,
           "Rows that ran only to fill a batch up to a size that is prepared.", _VERSION),
    Metric("size_batches", Kind.COUNTER,
           "Batches by variant and bucket; beyond a number of buckets together as other.",
           (*_VERSION, "variant", "bucket")),
    Metric("size_rows", Kind.COUNTER, "The rows in them.", (*_VERSION, "variant", "bucket")),
    Metric("queued_requests", Kind.GAUGE, "Requests waiting for a lane.", _VERSION),
    Metric("queue_limit", Kind.GAUGE, "Requests that may wait; more are refused.", _VERSION),
    Metric("lanes", Kind.GAUGE, "Lanes of a device.", ("device",)),
    Metric("lanes_busy", Kind.GAUGE, "Lanes that run a batch.", ("device",)),
    Metric("lane_busy_seconds", Kind.COUNTER, "Time that lanes spent on batches.", ("device",)),
    Metric("device_busy_seconds", Kind.COUNTER,
           "Time in which at least one lane had a batch.", ("device",)),
    Metric("copied_bytes", Kind.COUNTER,
           "Tensor bytes copied to the device (in) and from it (out).", ("device", "direction")),
    Metric("device_memory_bytes", Kind.GAUGE, "Memory of a device.", ("device",)),
    Metric("device_memory_used_bytes", Kind.GAUGE,
           "The part of it that is in use, whoever uses it.", ("device",)),
    Metric("scratch_bytes", Kind.GAUGE,
           "Memory that engines use while they run, shared by all of a lane.", ("device",)),
    Metric("scratch_unshared_bytes", Kind.GAUGE,
           "What it would be if each context had its own.", ("device",)),
    Metric("device_errors", Kind.COUNTER,
           "Errors that ended a device's worker, by CUDA's name for them.", ("device", "error")),
    # GPUs, as their driver sees them.
    Metric("gpu_utilization_ratio", Kind.GAUGE,
           "The share of the last moments in which any kernel ran.", _GPU),
    Metric("gpu_memory_busy_ratio", Kind.GAUGE,
           "The share of the last moments in which device memory was read or written.", _GPU),
    Metric("gpu_memory_bytes", Kind.GAUGE, "Memory of the GPU, as the driver counts it.", _GPU),
    Metric("gpu_memory_used_bytes", Kind.GAUGE, "The part of it that is in use.", _GPU),
    Metric("gpu_power_watts", Kind.GAUGE, "Power drawn.", _GPU),
    Metric("gpu_power_limit_watts", Kind.GAUGE, "The power limit that holds.", _GPU),
    Metric("gpu_temperature_celsius", Kind.GAUGE, "Temperature of the chip.", _GPU),
    Metric("gpu_sm_clock_hertz", Kind.GAUGE, "Clock of the processors.", _GPU),
    Metric("gpu_clocks_limited", Kind.GAUGE,
           "1 for each reason that holds the clocks down now.", (*_GPU, "reason")),
    Metric("gpu_ecc_uncorrected_errors", Kind.GAUGE,
           "Memory errors that could not be corrected: since the driver was loaded (volatile), "
           "and in the GPU's life (aggregate).", (*_GPU, "since")),
    Metric("gpu_xid_errors", Kind.COUNTER,
           "Errors that the driver reported while the worker ran, by NVIDIA's number.",
           (*_GPU, "xid")),
    Metric("gpu_recovery_action", Kind.GAUGE,
           "1 for what the driver says the GPU needs to work again.", (*_GPU, "action")),
    # Both.
    Metric("loop_lag_seconds", Kind.HISTOGRAM,
           "How long a process's event loop could not hear anybody.", ("process",),
           LATENCY_EDGES),
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
    """Observations in each bucket (le edges, then +Inf) and their sum, and the latest traced one
    of each bucket."""

    __slots__ = ("counts", "edges", "exemplars", "total")

    def __init__(self, edges: tuple[float, ...]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self.counts[bisect_left(self.edges, value)] += times
        self.total += value * times

    def exemplify(self, value: float, trace_id: str, at: float) -> None:
        """Remember the trace of a value, which is counted apart, here or in another process.

        `at` is in seconds since 1970.
        """
        bucket = bisect_left(self.edges, value)
        self.exemplars[bucket] = Exemplar(bucket, trace_id, value, at)


class Recorder:
    """Counts for one process. Not thread-safe: one thread records and reads."""

    def __init__(self) -> None:
        self.counters: dict[tuple[str, Labels], float] = {}
        self.gauges: dict[tuple[str, Labels], float] = {}
        self.histograms: dict[tuple[str, Labels], Histogram] = {}
        self.errors: tuple[ErrorSample, ...] = ()

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
                HistogramSample(
                    *key, tuple(histogram.counts), histogram.total,
                    tuple(histogram.exemplars.values()),
                )
                for key, histogram in self.histograms.items()
            ),
            self.errors,
        )
