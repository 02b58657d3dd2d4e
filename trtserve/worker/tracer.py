"""Telling front ends about every batch, while they ask for it."""

from trtserve.ipc.message import Traced, TracedBatch
from trtserve.worker.job import LaneResult
from trtserve.worker.link import FrontEndLink
from trtserve.worker.request import Batch
from trtserve.worker.resident import ResidentVariant


class Tracer:
    """The front ends that asked, and what they were not told yet.

    `on` says whether there are any: without them the loop looks at this and goes on. What is
    noted leaves with `flush`, once in each turn of the loop, so that a turn's batches share a
    message.
    """

    def __init__(self, device: str) -> None:
        self.on = False
        self._device = device
        self._links: list[FrontEndLink] = []
        self._noted: list[TracedBatch] = []

    def trace(self, link: FrontEndLink, on: bool) -> None:
        """A front end wants to hear of batches from now on, or no more. Twice is harmless."""
        if link in self._links:
            self._links.remove(link)
        if on:
            self._links.append(link)
        self.on = bool(self._links)
        if not self.on:
            self._noted.clear()

    def note(
        self, part: Batch, variant: ResidentVariant, result: LaneResult, padded: int
    ) -> None:
        """A lane has run a batch, or a part of one, whatever became of it. `padded`: the rows
        that the engine ran where they are more than the requests', as in the lane's job."""
        self._noted.append(TracedBatch(
            id=part.id,
            model=variant.model,
            version=variant.version,
            variant=variant.spec.name,
            bucket=part.bucket,
            lane=result.lane,
            rows=part.rows,
            padded=padded or part.rows,
            requests=tuple([
                (request.owner.peer, request.submit.id, request.submit.arrived_ns)
                for request in part.requests
            ]),
            started_ns=part.started_ns,
            began_ns=result.began_ns or part.started_ns,  # none where it failed too soon
            stage_ns=result.stage_ns,
            h2d_ns=result.h2d_ns,
            compute_ns=result.compute_ns,
            d2h_ns=result.d2h_ns,
            error="" if result.error is None else str(result.error),
        ))

    def flush(self) -> None:
        """Queue what was noted for every front end that asked."""
        if not self._noted:
            return
        message = Traced(self._device, tuple(self._noted))
        self._noted.clear()
        for link in self._links:
            link.channel.send(message)
