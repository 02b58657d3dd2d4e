"""Triton's own metrics, under its names, labels and units, from our sums.

Its counters have no `_total` at the end and its durations are microseconds: that is what its
dashboards ask for. Each request adds its whole batch's stage times, as in Triton.
"""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family

from trtserve.model.spec import ModelState
from trtserve.supervisor.host import memory
from trtserve.supervisor.snapshot import Snapshot

_NS_PER_US = 1000

_FAILURES = "nv_inference_request_failure"
_REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
_REASON_OF = {"overloaded": "REJECTED", "cancelled": "CANCELED", "execution": "BACKEND"}
"""Triton's reason for an error's metric word; all others are OTHER."""

_SUMS = {
    "nv_inference_request_success": ("success", 1, "Requests that succeeded."),
    "nv_inference_count": ("inferences", 1, "Inferences: a request of n rows counts n."),
    "nv_inference_exec_count": ("executions", 1, "Batches run."),
    "nv_inference_request_duration_us": ("request_ns", _NS_PER_US, "Time of whole requests."),
    "nv_inference_queue_duration_us": ("queue_ns", _NS_PER_US, "Time in queues."),
    "nv_inference_compute_input_duration_us": (
        "input_ns", _NS_PER_US, "Time preparing and copying inputs."),
    "nv_inference_compute_infer_duration_us": ("infer_ns", _NS_PER_US, "Time executing."),
    "nv_inference_compute_output_duration_us": (
        "output_ns", _NS_PER_US, "Time copying outputs."),
}
"""Counter: the label `sum` of `version_sums` behind it, how many of that make one, the help."""

COUNTERS = (_FAILURES, *_SUMS)
"""The names that are counters though they do not end in `_total`."""


def triton_families(snapshot: Snapshot, cpu_share: float) -> Iterator[Family]:
    """All of them. Versions that serve have every counter from the start, at 0."""
    served = [
        (update.model, str(update.version))
        for update in snapshot.models if update.state is ModelState.READY
    ]
    yield from _sums(snapshot, served)
    yield _failures(snapshot, served)
    yield _pending(snapshot, served)
    loads = GaugeMetricFamily(
        "nv_model_load_duration_secs", "How long loading took.", labels=["model", "version"]
    )
    seconds: dict[tuple[str, str], float] = {}
    for update in snapshot.models:
        if update.state is ModelState.READY:
            seconds[update.model, str(update.version)] = update.load_seconds
    for key, value in seconds.items():
        loads.add_metric(key, value)
    yield loads
    total, used = memory()
    yield GaugeMetricFamily("nv_cpu_utilization", "Busy share of the processors, 0 to 1.",
                            cpu_share)
    yield GaugeMetricFamily("nv_cpu_memory_total_bytes", "Memory of the machine.", total)
    yield GaugeMetricFamily("nv_cpu_memory_used_bytes", "Memory in use.", used)


def _sums(snapshot: Snapshot, served: list[tuple[str, str]]) -> Iterator[Family]:
    values: dict[str, dict[tuple[str, str], float]] = {}
    for sample in snapshot.statistics.counters:
        if sample.name == "version_sums":
            model, version, which = sample.labels
            values.setdefault(which, {})[model, version] = sample.value
    for name, (which, divisor, text) in _SUMS.items():
        family = Family(name, text, "unknown")
        found = dict.fromkeys(served, 0.0) | values.get(which, {})
        for (model, version), value in found.items():
            family.add_sample(name, {"model": model, "version": version}, value // divisor)
        yield family


def _failures(snapshot: Snapshot, served: list[tuple[str, str]]) -> Family:
    counts = {(*key, reason): 0.0 for key in served for reason in _REASONS}
    for sample in snapshot.statistics.counters:
        if sample.name == "requests" and sample.labels[-1] != "ok":
            model, version, outcome = sample.labels
            reason = _REASON_OF.get(outcome, "OTHER")
            key = (model, version, reason)
            counts[key] = counts.get(key, 0.0) + sample.value
    family = Family(_FAILURES, "Requests that failed, by reason.", "unknown")
    for (model, version, reason), value in counts.items():
        labels = {"model": model, "version": version, "reason": reason}
        family.add_sample(_FAILURES, labels, value)
    return family


def _pending(snapshot: Snapshot, served: list[tuple[str, str]]) -> Family:
    family = GaugeMetricFamily(
        "nv_inference_pending_request_count", "Requests waiting for a lane.",
        labels=["model", "version"],
    )
    counts: dict[tuple[str, ...], float] = dict.fromkeys(served, 0.0)
    for sample in snapshot.statistics.gauges:
        if sample.name == "queued_requests":
            counts[sample.labels] = sample.value
    for key, value in counts.items():
        family.add_metric(key, value)
    return family
