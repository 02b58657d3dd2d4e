"""Timelines behind a real gRPC server, with workers whose channels the test holds."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from msgspec import structs

from tests.frontend.serving import run
from trtserve.clock import now_ns
from trtserve.frontend import debug_service
from trtserve.frontend.debug_service import DebugService, Recording
from trtserve.frontend.link import WorkerLink
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import AnyMessage, Trace, Traced
from trtserve.ipc.recording import TracedBatch
from trtserve.proto import trtserve_pb2 as v1


def batch(number: int) -> TracedBatch:
    return TracedBatch(
        id=number, model="m", version=2, variant="v.onnx", bucket=((3, 4), ()), lane=1, rows=5,
        padded=6, requests=(("front end 1", 7, 8), ("front end 2", 9, 10)), started_ns=11,
        began_ns=12, stage_ns=13, h2d_ns=14, compute_ns=15, d2h_ns=16, error="no",
    )


class Desk:
    """The service, what it told the workers, and a client."""

    def __init__(self) -> None:
        self.told: list[AnyMessage] = []
        self._change = asyncio.Event()
        self.service = DebugService(self._tell)

    def _tell(self, message: AnyMessage) -> None:
        self.told.append(message)
        self._change.set()

    async def until_told(self, *messages: AnyMessage) -> None:
        """Wait until these are all that was said."""
        while self.told != list(messages):
            self._change.clear()
            await self._change.wait()

    def timeline(self, seconds: float) -> Any:
        """A call."""
        return self.channel.unary_stream(
            "/trtserve.v1.DebugService/Timeline",
            request_serializer=v1.TimelineRequest.SerializeToString,
            response_deserializer=v1.TimelineReply.FromString,
        )(v1.TimelineRequest(seconds=seconds))

    @asynccontextmanager
    async def open(self, address: str) -> AsyncIterator["Desk"]:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((self.service.handler(),))
        server.add_insecure_port(address)
        await server.start()
        async with grpc.aio.insecure_channel(address) as self.channel:
            yield self
        await server.stop(None)


@pytest.fixture
def play(tmp_path) -> Callable[[Callable[[Desk], Awaitable[None]]], None]:
    """Runs a test's coroutine with a desk."""

    def play(test: Callable[[Desk], Awaitable[None]]) -> None:
        async def main() -> None:
            async with Desk().open(f"unix:{tmp_path}/s") as desk:
                await test(desk)

        run(main)

    return play


async def batches_of(call: Any) -> list[Any]:
    """The first batches that come."""
    while True:
        reply = await call.read()
        if reply.batches:
            return list(reply.batches)


def test_batches_come_as_they_finish(play):
    async def test(desk: Desk) -> None:
        before = now_ns()
        call = desk.timeline(60)
        first = await call.read()
        assert before < first.now_ns < now_ns()
        assert not first.batches
        assert desk.told == [Trace(True)]
        desk.service.traced(Traced("cuda:0", (batch(1), batch(2))))
        desk.service.traced(Traced("cuda:1", (batch(1),)))
        found = await batches_of(call)
        assert [(each.device, each.id) for each in found] == [
            ("cuda:0", 1), ("cuda:0", 2), ("cuda:1", 1)
        ]
        request = v1.TracedRequest
        assert found[0] == v1.TracedBatch(
            device="cuda:0", id=1, model="m", version=2, variant="v.onnx",
            bucket=[v1.TracedShape(dims=[3, 4]), v1.TracedShape()], lane=1, rows=5, padded_rows=6,
            requests=[request(front_end="front end 1", id=7, arrived_ns=8),
                      request(front_end="front end 2", id=9, arrived_ns=10)],
            started_ns=11, began_ns=12, stage_ns=13, h2d_ns=14, compute_ns=15, d2h_ns=16,
            error="no",
        )
        call.cancel()

    play(test)


def test_the_call_ends_by_itself(play):
    async def test(desk: Desk) -> None:
        replies = [reply async for reply in desk.timeline(0.05)]
        times = [reply.now_ns for reply in replies]
        assert times == sorted(times)
        assert times[-1] - times[0] >= 50_000_000
        await desk.until_told(Trace(True), Trace(False))

    play(test)


def test_a_caller_who_goes_away_stops_the_tracing(play):
    async def test(desk: Desk) -> None:
        call = desk.timeline(60)
        await call.read()
        call.cancel()
        await desk.until_told(Trace(True), Trace(False))
        desk.service.traced(Traced("cpu", (batch(1),)))  # was on its way
        again = desk.timeline(60)
        await again.read()
        desk.service.traced(Traced("cpu", (batch(2),)))
        assert [each.id for each in await batches_of(again)] == [2]
        assert desk.told == [Trace(True), Trace(False), Trace(True)]
        again.cancel()

    play(test)


def test_callers_share_the_tracing(play):
    async def test(desk: Desk) -> None:
        calls = [desk.timeline(60) for _ in range(3)]
        for call in calls:
            await call.read()
        desk.service.traced(Traced("cpu", (batch(1),)))
        for call in calls:
            assert [each.id for each in await batches_of(call)] == [1]
        calls[0].cancel()
        desk.service.traced(Traced("cpu", (batch(2),)))
        for call in calls[1:]:
            assert [each.id for each in await batches_of(call)] == [2]
            call.cancel()
        await desk.until_told(Trace(True), Trace(False))

    play(test)


def test_a_worker_that_comes_later_is_told(play):
    async def test(desk: Desk) -> None:
        ours, theirs = Channel.pair()
        link = WorkerLink("worker", ours)
        desk.service.greet(link)
        assert not ours.waiting
        call = desk.timeline(60)
        await call.read()
        desk.service.greet(link)
        link.flush()
        assert theirs.receive() == [Trace(True)]
        call.cancel()
        link.close()
        theirs.close()

    play(test)


@pytest.mark.parametrize("seconds", [0, -1, 60.1, float("nan"), float("inf")])
def test_a_time_that_can_not_be_recorded_is_refused(play, seconds):
    async def test(desk: Desk) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await desk.timeline(seconds).read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert f"{seconds:g} seconds" in caught.value.details()
        assert "at most 60" in caught.value.details()
        assert not desk.told

    play(test)


def test_a_server_that_stops_ends_the_call(play):
    async def test(desk: Desk) -> None:
        call = desk.timeline(60)
        await call.read()
        desk.service.stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await batches_of(call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await desk.until_told(Trace(True), Trace(False))

    play(test)


def test_a_caller_who_does_not_read_stops_nothing_for_longer_than_it_asked(play):
    async def test(desk: Desk) -> None:
        call = desk.timeline(0.3)
        await desk.until_told(Trace(True))
        # Too much for gRPC's windows: the handler waits for the caller to read.
        large = Traced("cpu", (structs.replace(batch(1), model="m" * 1_000_000),))
        for _ in range(20):
            desk.service.traced(large)
        await desk.until_told(Trace(True), Trace(False))
        call.cancel()

    play(test)


# --- what waits for one caller -----------------------------------------------------------


def encoded(number: int, size: int) -> bytes:
    """One batch with a long name."""
    return v1.TimelineReply(
        batches=[v1.TracedBatch(id=number, model="m" * size)]
    ).SerializeToString()


def replies_of(recording: Recording) -> list[Any]:
    return [v1.TimelineReply.FromString(data) for data in recording.replies(5)]


def test_there_is_a_reply_even_if_nothing_has_finished():
    assert replies_of(Recording()) == [v1.TimelineReply(now_ns=5)]


def test_much_comes_in_several_replies_in_its_order():
    recording = Recording()
    half = debug_service.REPLY_BYTES // 2
    for number in range(5):
        recording.add(encoded(number, half), 1)
    replies = replies_of(recording)
    assert [[each.id for each in reply.batches] for reply in replies] == [[0, 1], [2, 3], [4]]
    assert {reply.now_ns for reply in replies} == {5}
    assert replies_of(recording) == [v1.TimelineReply(now_ns=5)]


def test_what_comes_while_replies_are_sent_waits_for_the_next_time():
    recording = Recording()
    recording.add(encoded(1, debug_service.REPLY_BYTES), 1)
    recording.add(encoded(2, 1), 1)
    sending = recording.replies(5)
    next(sending)
    recording.add(encoded(3, 1), 1)
    assert [v1.TimelineReply.FromString(data).batches[0].id for data in sending] == [2]
    assert [each.id for reply in replies_of(recording) for each in reply.batches] == [3]


def test_what_nobody_reads_is_counted_and_dropped():
    recording = Recording()
    quarter = debug_service.MAX_WAITING_BYTES // 4
    for number in range(6):
        recording.add(encoded(number, quarter), 10)
    replies = replies_of(recording)
    assert [each.id for reply in replies for each in reply.batches] == [0, 1, 2]
    assert [reply.missed for reply in replies] == [30, 0, 0]
    recording.add(encoded(9, quarter), 10)
    (reply,) = replies_of(recording)
    assert (reply.batches[0].id, reply.missed) == (9, 0)


def test_few_calls_at_once(play):
    async def test(desk: Desk) -> None:
        calls = [desk.timeline(60) for _ in range(debug_service.MAX_CALLS)]
        for call in calls:
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await desk.timeline(60).read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
        await desk.until_told(Trace(True), Trace(False))
        assert await desk.timeline(60).read()

    play(test)
