"""What the devices do, batch by batch: the call DebugService/Timeline.

The sync and the asyncio client differ only in how they read the stream.
"""

from dataclasses import dataclass
from typing import Any

from trtserve.client.security import Metadata
from trtserve.proto import trtserve_pb2 as v1

METHOD = "/trtserve.v1.DebugService/Timeline"


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """A request of a batch: the process that took it, its number there, when it arrived."""

    front_end: str
    id: int
    arrived_ns: int

    def __str__(self) -> str:
        return f"{self.front_end}/{self.id}"


@dataclass(frozen=True, slots=True)
class TracedBatch:
    """One batch as a lane ran it.

    Times are nanoseconds of the server's monotonic clock, `..._ns` of stages durations. The
    four stages follow one another from `began_ns` on.
    """

    device: str
    id: int
    """Means something on its device only. A batch that was taken apart comes once for each run."""
    model: str
    version: int
    variant: str
    bucket: tuple[tuple[int, ...], ...]
    """The inputs' shapes, without the batch dimension where there is one."""
    lane: int
    rows: int
    padded_rows: int
    """Rows that the engine ran; `rows` came from clients."""
    requests: tuple[TracedRequest, ...]
    started_ns: int
    """When it left the queue."""
    began_ns: int
    """When the lane began with it."""
    stage_ns: int
    h2d_ns: int
    compute_ns: int
    d2h_ns: int
    error: str
    """Why it failed; empty if it did not."""


@dataclass(frozen=True, slots=True)
class TimelinePart:
    """The batches that have finished since the part before.

    The first part, without any, says when the recording began, the last one when it ended.
    `missed` counts batches that were left out because parts are read too slowly.
    """

    now_ns: int
    batches: tuple[TracedBatch, ...]
    missed: int


def start(
    channel: Any, seconds: float, deadline: float | None, metadata: Metadata = ()
) -> Any:
    """Start the call on a channel of the sync or of the asyncio API."""
    return channel.unary_stream(
        METHOD,
        request_serializer=v1.TimelineRequest.SerializeToString,
        response_deserializer=v1.TimelineReply.FromString,
    )(v1.TimelineRequest(seconds=seconds), timeout=deadline, metadata=metadata)


def read(reply: v1.TimelineReply) -> TimelinePart:
    """From the message to what the caller gets."""
    return TimelinePart(reply.now_ns, tuple(map(_batch, reply.batches)), reply.missed)


def _batch(batch: v1.TracedBatch) -> TracedBatch:
    return TracedBatch(
        device=batch.device,
        id=batch.id,
        model=batch.model,
        version=batch.version,
        variant=batch.variant,
        bucket=tuple(tuple(shape.dims) for shape in batch.bucket),
        lane=batch.lane,
        rows=batch.rows,
        padded_rows=batch.padded_rows,
        requests=tuple(
            TracedRequest(request.front_end, request.id, request.arrived_ns)
            for request in batch.requests
        ),
        started_ns=batch.started_ns,
        began_ns=batch.began_ns,
        stage_ns=batch.stage_ns,
        h2d_ns=batch.h2d_ns,
        compute_ns=batch.compute_ns,
        d2h_ns=batch.d2h_ns,
        error=batch.error,
    )
