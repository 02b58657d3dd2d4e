"""Running short batches in the loop's own thread, where host and device share memory."""

from collections.abc import Callable

from trtserve.clock import NS_PER_S
from trtserve.worker.job import LaneJob, LaneResult
from trtserve.worker.request import Batch
from trtserve.worker.runner import BatchRunner

SHORT_NS = 200_000
"""Batches that take less than this run inline: handing one to a lane's thread and back costs two
thread switches, 50 us each on a machine that idles. Longer than that the loop must not be away."""

MISTAKE_NS = 10 * SHORT_NS
PENALTY_NS = NS_PER_S
"""A variant that took that long after all goes to the lanes for a second, in which the batcher
learns better."""


class Inline:
    """A lane without a thread. `estimate` is the batcher's, of how long a batch should take."""

    def __init__(self, runner: BatchRunner, estimate: Callable[[Batch], int | None]) -> None:
        self._runner = runner
        self._estimate = estimate
        self._penalties: dict[int, int] = {}

    @property
    def index(self) -> int:
        """Its place among the lanes: the one after the last."""
        return self._runner.index

    def takes(self, batch: Batch) -> bool:
        """Whether a batch is short enough."""
        if batch.started_ns < self._penalties.get(batch.variant, 0):
            return False
        estimate = self._estimate(batch)
        return estimate is not None and estimate < SHORT_NS

    def run(self, batch: Batch, job: LaneJob) -> LaneResult:
        """Run it, now and here."""
        result = self._runner.run(job)
        if result.service_ns > MISTAKE_NS:
            self._penalties[batch.variant] = result.finished_ns + PENALTY_NS
        return result
