"""Telling front ends, and the supervisor, about every batch, while they ask for it."""

from collections import deque

from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Traced
from trtserve.ipc.recording import TracedBatch
from trtserve.worker.job import LaneResult
from trtserve.worker.request import Batch
from trtserve.worker.resident import ResidentVariant

MAX_KEPT = 8192
"""Batches kept for the patient one; the oldest go first. More than a second of any device."""


class Tracer:
    """The channels to who asked, and what they were not told yet.

    `on` says whether there are any: without them the loop looks at this and goes on. What is
    noted leaves with `flush`, once in each turn of the loop, so that a turn's batches share a
    message. The supervisor, which would have to turn as often, is patient: it gets its share
    with `beat`, before each heartbeat.
    """

    def __init__(self, device: str) -> None:
        self.on = False
        self._device = device
        self._channels: list[Channel] = []
        self._noted: list[TracedBatch] = []
        self._patient: Channel | None = None
        self._kept: deque[TracedBatch] = deque(maxlen=MAX_KEPT)

    def trace(self, channel: Channel, on: bool) -> None:
        """Somebody wants to hear of batches from now on, or no more. Twice is harmless."""
        if channel in self._channels:
            self._channels.remove(channel)
        if on:
            self._channels.append(channel)
        self._switch()

    def trace_patiently(self, channel: Channel, on: bool) -> None:
        """The same for the supervisor."""
        self._patient = channel if on else None
        self._switch()

    def _switch(self) -> None:
        self.on = bool(self._channels) or self._patient is not None
        if not self.on:
            self._noted.clear()
        if self._patient is None:
            self._kept.clear()

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
        """Queue what was noted for everybody who asked."""
        if not self._noted:
            return
        if self._channels:
            message = Traced(self._device, tuple(self._noted))
            for channel in self._channels:
                channel.send(message)
        if self._patient is not None:
            self._kept.extend(self._noted)
        self._noted.clear()

    def beat(self) -> None:
        """Queue what the patient one has not got yet."""
        self.flush()
        if self._patient is not None and self._kept:
            self._patient.send(Traced(self._device, tuple(self._kept)))
            self._kept.clear()
