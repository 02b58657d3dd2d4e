"""/metrics: the merged statistics and the supervisor's own state, in Prometheus's words.

Two families of names: `trtserve_*`, made from the table in metrics.py, and Triton's `nv_*`, so
that dashboards made for Triton go on working (supervisor/triton_metrics.py).
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from trtserve import __version__
from trtserve.ipc.statistics import CounterSample, HistogramSample
from trtserve.metrics import METRICS, Kind, Metric
from trtserve.model.spec import ModelState
from trtserve.supervisor.host import CpuMeter, resident_bytes
from trtserve.supervisor.snapshot import Snapshot
from trtserve.supervisor.triton_metrics import COUNTERS, triton_families

S = TypeVar("S", CounterSample, HistogramSample)

NOT_EXPOSED = frozenset({"version_sums", "batch_size_sums"})
"""Raw material of Triton's counters and of the ModelStatistics call."""


class Exposition:
    """Turns snapshots into what a scrape gets. One thread at a time."""

    def __init__(self, supervisor_pid: int) -> None:
        self._pid = supervisor_pid
        self._cpu = CpuMeter()

    def encode(self, snapshot: Snapshot, accept: str) -> tuple[str, bytes]:
        """The content type that the scraper's Accept header prefers, and the body."""
        encoder, content_type = choose_encoder(accept)
        body = encoder(_Families([*self._families(snapshot)]))
        if content_type.startswith("text/plain"):
            # prometheus_client ends every counter's name in _total, Triton's have no end. They
            # go out as families without a type and get it back here. OpenMetrics allows no
            # other end, so there they stay of unknown type; their names are right in both.
            for name in COUNTERS:
                untyped, counter = (f"# TYPE {name} {kind}\n" for kind in ("untyped", "counter"))
                body = body.replace(untyped.encode(), counter.encode())
        return content_type, body

    def _families(self, snapshot: Snapshot) -> Iterator[Family]:
        statistics = snapshot.statistics
        values = _by_name([*statistics.counters, *statistics.gauges])
        histograms = _by_name(statistics.histograms)
        for metric in METRICS.values():
            if metric.name in NOT_EXPOSED:
                continue
            if metric.kind is Kind.HISTOGRAM:
                yield _histogram(metric, histograms.get(metric.name, []))
            else:
                yield _values(metric, values.get(metric.name, []))
        yield from self._own(snapshot)
        yield from triton_families(snapshot, self._cpu.share())

    def _own(self, snapshot: Snapshot) -> Iterator[Family]:
        """What the supervisor itself knows."""
        yield GaugeMetricFamily(
            "trtserve_ready", "1 when everything that should serve does.", float(snapshot.ready)
        )
        build = GaugeMetricFamily(
            "trtserve_build_info", "Always 1; the version is a label.", labels=["version"]
        )
        build.add_metric([__version__], 1)
        yield build
        restarts = CounterMetricFamily(
            "trtserve_worker_restarts", "Restarts of workers and front ends after their death.",
            labels=["process"],
        )
        memory = GaugeMetricFamily(
            "trtserve_process_resident_memory_bytes",
            "Resident memory; the arenas that a process has touched count in each of them.",
            labels=["process"],
        )
        pids: list[tuple[str, int | None]] = [("supervisor", self._pid)]
        for process in snapshot.processes:
            restarts.add_metric([process.name], process.restarts)
            pids.append((process.name, process.pid))
        for name, pid in pids:
            resident = resident_bytes(pid) if pid is not None else None
            if resident is not None:
                memory.add_metric([name], resident)
        yield restarts
        yield memory
        yield from _models(snapshot)


class _Families(Collector):
    """One scrape's families, in the shape that prometheus_client's encoders take."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _models(snapshot: Snapshot) -> Iterator[Family]:
    """The states of all versions: on several workers, those of any."""
    state = GaugeMetricFamily(
        "trtserve_model_state", "1 for the state that a version is in on any worker.",
        labels=["model", "version", "state"],
    )
    duration = GaugeMetricFamily(
        "trtserve_model_load_duration_seconds", "How long loading and warming took.",
        labels=["model", "version"],
    )
    kept, peak = (
        GaugeMetricFamily(
            f"trtserve_model_{name}_bytes", text, labels=["model", "version", "device"]
        )
        for name, text in (
            ("memory", "Memory that loading a version took and kept; on the CPU of the worker."),
            ("memory_peak", "The most that it took while it was loaded."),
        )
    )
    states: dict[tuple[str, str], set[ModelState]] = {}
    loads: dict[tuple[str, str], float] = {}
    for update in snapshot.models:
        key = (update.model, str(update.version))
        states.setdefault(key, set()).add(update.state)
        if update.state is ModelState.READY:
            loads[key] = max(loads.get(key, 0.0), update.load_seconds)
        if update.state is ModelState.READY and update.memory is not None:
            kept.add_metric([*key, update.memory.device], update.memory.resident_bytes)
            peak.add_metric([*key, update.memory.device], update.memory.peak_bytes)
    for key, present in states.items():
        for each in ModelState:
            state.add_metric([*key, each], float(each in present))
    for key, seconds in loads.items():
        duration.add_metric(key, seconds)
    yield state
    yield duration
    yield kept
    yield peak


def _values(metric: Metric, samples: Iterable[CounterSample]) -> Family:
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(f"trtserve_{metric.name}", metric.help, labels=metric.labels)
    for sample in samples:
        family.add_metric(sample.labels, sample.value)
    return family


def _histogram(metric: Metric, samples: Iterable[HistogramSample]) -> Family:
    """Prometheus counts cumulatively, the recorder does not."""
    family = HistogramMetricFamily(f"trtserve_{metric.name}", metric.help, labels=metric.labels)
    edges = [*(str(edge) for edge in metric.edges), "+Inf"]
    for sample in samples:
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
            *zip(edges, accumulate(map(float, sample.counts)), strict=True)
        ]
        for found in sample.exemplars:
            # One may come before the count, which another process makes.
            if sample.counts[found.bucket]:
                edge, count = buckets[found.bucket][:2]
                exemplar = Exemplar({"trace_id": found.trace_id}, found.value, found.at)
                buckets[found.bucket] = (edge, count, exemplar)
        family.add_metric(sample.labels, buckets, sample.total)
    return family


def _by_name(samples: Iterable[S]) -> dict[str, list[S]]:
    found: dict[str, list[S]] = {}
    for sample in samples:
        found.setdefault(sample.name, []).append(sample)
    return found
