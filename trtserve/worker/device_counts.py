"""What a worker counts of its device: how long it had work, and how many bytes were copied."""

from collections.abc import Iterable

from trtserve.clock import NS_PER_S
from trtserve.metrics import Recorder
from trtserve.worker.job import LaneResult
from trtserve.worker.request import Batch


class DeviceCounts:
    """Counts of one device; writes straight into the recorder.

    With `unified` the device reads host memory where it lies, so nothing is copied to or from it.
    """

    def __init__(self, recorder: Recorder, device: str, *, unified: bool) -> None:
        self._counters = recorder.counters
        self._unified = unified
        self._lanes = ("lane_busy_seconds", (device,))
        self._device = ("device_busy_seconds", (device,))
        self._copied_in = ("copied_bytes", (device, "in"))
        self._copied_out = ("copied_bytes", (device, "out"))
        self._busy_since: int | None = None
        for key in (self._lanes, self._device, self._copied_in, self._copied_out):
            self._counters[key] = 0.0

    def batch(self, batch: Batch, result: LaneResult) -> None:
        """A batch succeeded: its requests' bytes went to the device and its outputs came back."""
        if self._unified:
            return
        came = 0
        for request in batch.requests:
            for _, size in request.submit.inputs:
                came += size
        self._counters[self._copied_in] += came
        went = sum([sum(block.sizes) for block in result.outputs])
        self._counters[self._copied_out] += went

    def freed(self, started_ns: int, finished_ns: int, others: Iterable[int]) -> None:
        """A lane that had a batch since `started_ns` is free at `finished_ns`.

        `others` is when the batches that still run were started. While there are any, the
        device stays busy, and time that several lanes shared counts once.
        """
        counters = self._counters
        counters[self._lanes] += (finished_ns - started_ns) / NS_PER_S
        earliest = min(others, default=None)
        since = self._busy_since
        if since is None:
            since = started_ns if earliest is None else min(started_ns, earliest)
        counters[self._device] += max(0, finished_ns - since) / NS_PER_S
        self._busy_since = None if earliest is None else max(since, finished_ns)
