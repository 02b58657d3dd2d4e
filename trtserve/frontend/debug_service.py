"""Looking into a running server: the service trtserve.v1.DebugService."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

import grpc

from trtserve import clock
from trtserve.clock import NS_PER_S
from trtserve.errors import InvalidRequest, Overloaded, Unavailable
from trtserve.frontend.inference_service import Context, abort
from trtserve.frontend.link import WorkerLink
from trtserve.ipc.message import AnyMessage, Trace, Traced
from trtserve.ipc.recording import TracedBatch
from trtserve.proto import trtserve_pb2 as v1

SERVICE = "trtserve.v1.DebugService"

MAX_SECONDS = 60
"""The longest recording. Tracing costs a microsecond for each request, and a client that keeps
what it gets needs about 30 bytes: nobody should leave it on by mistake."""

EVERY_SECONDS = 0.1
"""How often a caller gets a reply, with whatever has finished since the last one."""

REPLY_BYTES = 256 * 1024
"""Batches that make more than this come in several replies: far below any limit on messages."""

MAX_WAITING_BYTES = 32 << 20
"""Batches kept for a caller that reads too slowly; the ones after are counted and dropped."""


MAX_CALLS = 8
"""Calls of Timeline at once: each may keep that many bytes for somebody who does not read."""


class Recording:
    """One call of Timeline: the batches that its caller was not sent yet, serialized."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._missed = 0

    def add(self, batches: bytes, count: int) -> None:
        """Some batches have finished."""
        if self._bytes + len(batches) > MAX_WAITING_BYTES:
            self._missed += count
            return
        self._waiting.append(batches)
        self._bytes += len(batches)

    def replies(self, now: int) -> Iterator[bytes]:
        """What there is to say now: one reply at least."""
        left = len(self._waiting)
        while True:
            reply = v1.TimelineReply(now_ns=now, missed=self._missed)
            self._missed = 0
            # Serialized messages one after the other are one message with all their batches.
            parts = [reply.SerializeToString()]
            size = 0
            while left and size < REPLY_BYTES:
                parts.append(self._waiting.popleft())
                size += len(parts[-1])
                left -= 1
            self._bytes -= size
            yield b"".join(parts)
            if not left:
                return


class DebugService:
    """The handlers. `tell_workers` sends a message to every worker there is; the ones that come
    later are greeted."""

    def __init__(
        self, tell_workers: Callable[[AnyMessage], None], *,
        now: Callable[[], int] = clock.now_ns,
    ) -> None:
        self._tell_workers = tell_workers
        self._now = now
        self._recordings: list[Recording] = []
        self._calls = 0
        self._stopped = asyncio.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        """Everything, for grpc.aio.Server.add_generic_rpc_handlers."""
        return grpc.method_handlers_generic_handler(SERVICE, {
            "Timeline": grpc.unary_stream_rpc_method_handler(
                self.timeline, request_deserializer=v1.TimelineRequest.FromString
            ),
        })

    def greet(self, link: WorkerLink) -> None:
        """A new worker: it has to trace too if anybody records."""
        if self._recordings:
            link.channel.send(Trace(True))

    def traced(self, message: Traced) -> None:
        """A worker tells of batches that have finished."""
        if not self._recordings:
            return  # they were on their way when the last caller went
        batches = v1.TimelineReply(
            batches=[_batch(message.device, batch) for batch in message.batches]
        ).SerializeToString()
        for recording in self._recordings:
            recording.add(batches, len(message.batches))

    def stop(self) -> None:
        """End every recording with UNAVAILABLE: it would hold up the server's end."""
        self._stopped.set()

    async def timeline(self, request: v1.TimelineRequest, context: Context) -> None:
        """Send the batches that finish within the next seconds."""
        if not 0 < request.seconds <= MAX_SECONDS:
            await abort(context, InvalidRequest(
                f"a timeline of {request.seconds:g} seconds can not be recorded: ask for more "
                f"than 0 and at most {MAX_SECONDS}"
            ))
        if self._calls >= MAX_CALLS:
            await abort(context, Overloaded(f"{MAX_CALLS} timelines are being recorded", 1000))
        recording = Recording()
        self._calls += 1
        self._begin(recording)
        # Also while a caller that does not read holds up the loop below.
        timer = asyncio.get_running_loop().call_later(request.seconds, self._end, recording)
        try:
            now = self._now()
            end = now + int(request.seconds * NS_PER_S)
            await _write_all(recording, context, now)
            while now < end:
                if await self._stops_within(min((end - now) / NS_PER_S, EVERY_SECONDS)):
                    await abort(context, Unavailable("the server is shutting down"))
                now = self._now()
                await _write_all(recording, context, now)
        finally:
            # Where the caller goes away, gRPC cancels this task.
            timer.cancel()
            self._end(recording)
            self._calls -= 1

    def _begin(self, recording: Recording) -> None:
        self._recordings.append(recording)
        if len(self._recordings) == 1:
            self._tell_workers(Trace(True))

    def _end(self, recording: Recording) -> None:
        if recording not in self._recordings:
            return
        self._recordings.remove(recording)
        if not self._recordings:
            self._tell_workers(Trace(False))

    async def _stops_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return False
        return True


async def _write_all(recording: Recording, context: Context, now: int) -> None:
    for reply in recording.replies(now):
        await context.write(reply)


def _batch(device: str, batch: TracedBatch) -> v1.TracedBatch:
    return v1.TracedBatch(
        device=device,
        id=batch.id,
        model=batch.model,
        version=batch.version,
        variant=batch.variant,
        bucket=[v1.TracedShape(dims=shape) for shape in batch.bucket],
        lane=batch.lane,
        rows=batch.rows,
        padded_rows=batch.padded,
        requests=[
            v1.TracedRequest(front_end=front_end, id=number, arrived_ns=arrived_ns)
            for front_end, number, arrived_ns in batch.requests
        ],
        started_ns=batch.started_ns,
        began_ns=batch.began_ns,
        stage_ns=batch.stage_ns,
        h2d_ns=batch.h2d_ns,
        compute_ns=batch.compute_ns,
        d2h_ns=batch.d2h_ns,
        error=batch.error,
    )
