"""What a worker counts for each version of a model, once for each batch."""

from collections.abc import Iterable, Sequence

from trtserve import clock
from trtserve.clock import NS_PER_S
from trtserve.device.interface import Device
from trtserve.engine.scratch import Scratch
from trtserve.ipc.arena import ArenaStatistics
from trtserve.metrics import BATCH_SIZE_SUMS, METRICS, Histogram, Labels, Recorder
from trtserve.worker.batcher_statistics import BatcherStatistics
from trtserve.worker.job import LaneResult
from trtserve.worker.request import Batch
from trtserve.worker.size_counts import SizeCounts
from trtserve.worker.vitals import record_vitals

_STAGES = ("stage", "h2d", "compute", "d2h")

_SUMS = (
    "executed", "inferences", "executions", "queue_ns", "input_ns", "infer_ns", "output_ns",
)
"""The part of metrics.VERSION_SUMS that workers count."""


def record_gauges(
    recorder: Recorder, process: str, device: Device, arena: ArenaStatistics,
    batcher: BatcherStatistics, versions: Iterable[tuple[str, int]],
    scratches: Sequence[Scratch] = (),
) -> None:
    """What is so now: requests waiting for each (model, version), lanes, and memory.

    `versions` are all that there are, those that do not serve included.
    """
    for model, version in versions:
        length = batcher.queued.get((model, version), 0)
        recorder.gauge("queued_requests", (model, str(version)), length)
        limit = batcher.limits.get((model, version), 0)
        recorder.gauge("queue_limit", (model, str(version)), limit)
    recorder.gauge("lanes", (device.name,), batcher.lanes)
    recorder.gauge("lanes_busy", (device.name,), batcher.lanes_busy)
    memory = device.memory()
    if memory is not None:
        free, total = memory
        recorder.gauge("device_memory_bytes", (device.name,), total)
        recorder.gauge("device_memory_used_bytes", (device.name,), total - free)
        together = sum(scratch.size for scratch in scratches)
        recorder.gauge("scratch_bytes", (device.name,), together)
        apart = sum(scratch.unshared for scratch in scratches)
        recorder.gauge("scratch_unshared_bytes", (device.name,), apart)
    record_vitals(recorder, device.name, device.vitals())
    recorder.gauge("arena_bytes", (process,), arena.capacity)
    recorder.gauge("arena_used_bytes", (process,), arena.used)


def forget_gauges(recorder: Recorder, model: str, version: int) -> None:
    """The version is gone, and nothing of it is measured any more. Its counts stay."""
    labels = (model, str(version))
    for key in list(recorder.gauges):
        name, found = key
        if METRICS[name].labels[:2] == ("model", "version") and found[:2] == labels:
            del recorder.gauges[key]


class VersionCounts:
    """Counts of one version; writes straight into the recorder."""

    def __init__(self, recorder: Recorder, model: str, version: int) -> None:
        self._labels = (model, str(version))
        self._counters = recorder.counters
        self._queue = recorder.histogram("queue_duration_seconds", self._labels)
        self._stages: list[Histogram] = [
            recorder.histogram(f"{stage}_duration_seconds", self._labels) for stage in _STAGES
        ]
        self._rows = recorder.histogram("batch_rows", self._labels)
        self._requests = recorder.histogram("batch_requests", self._labels)
        # Keys are made once: making them for each batch took longer than the counting.
        self._latest = ("version_sums", (*self._labels, "last_inference_ms"))
        self._sums: list[tuple[str, Labels]] = [
            ("version_sums", (*self._labels, name)) for name in _SUMS
        ]
        self._size_sums: dict[int, list[tuple[str, Labels]]] = {}
        self._padding = ("padding_rows", self._labels)
        self._sizes = SizeCounts(recorder, model, version)
        self._counters.update(dict.fromkeys((*self._sums, self._padding), 0))

    def batch(self, batch: Batch, result: LaneResult, variant: str) -> None:
        """A batch of the variant of that name succeeded."""
        queue_ns = 0
        observe = self._queue.observe
        for request in batch.requests:
            waited = batch.started_ns - request.submit.arrived_ns
            queue_ns += waited
            observe(waited / NS_PER_S)
        stage_ns, h2d_ns, infer_ns, output_ns = (
            result.stage_ns, result.h2d_ns, result.compute_ns, result.d2h_ns
        )
        for histogram, duration in zip(
            self._stages, (stage_ns, h2d_ns, infer_ns, output_ns), strict=True
        ):
            histogram.observe(duration / NS_PER_S)
        requests = len(batch.requests)
        self._rows.observe(batch.rows)
        self._requests.observe(requests)
        input_ns = stage_ns + h2d_ns
        counters = self._counters
        for key, value in zip(self._sums, (
            requests, batch.rows, 1, queue_ns, input_ns * requests, infer_ns * requests,
            output_ns * requests,
        ), strict=True):
            counters[key] += value
        for key, value in zip(
            self._size_keys(batch.rows), (1, input_ns, infer_ns, output_ns), strict=True
        ):
            counters[key] += value
        if result.padded:
            counters[self._padding] += result.padded - batch.rows
        self._sizes.batch(variant, batch.bucket, batch.rows)
        counters[self._latest] = clock.unix_ns() // clock.NS_PER_MS

    def _size_keys(self, rows: int) -> list[tuple[str, Labels]]:
        keys = self._size_sums.get(rows)
        if keys is None:
            keys = [
                ("batch_size_sums", (*self._labels, str(rows), name)) for name in BATCH_SIZE_SUMS
            ]
            self._size_sums[rows] = keys
            self._counters.update(dict.fromkeys(keys, 0))
        return keys
