"""Where answers go: one call, a batch, a stream in order."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest

from trtserve.errors import InvalidRequest, Overloaded, request_error_classes
from trtserve.frontend.reply import (
    MAX_STREAM_BYTES,
    STATUS_NUMBERS,
    BatchReply,
    StreamReply,
    UnaryReply,
)
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2 as v1


def test_status_numbers_are_grpcs():
    assert {grpc.StatusCode[name].value[0] for name in STATUS_NUMBERS} == set(
        STATUS_NUMBERS.values()
    )
    for name, number in STATUS_NUMBERS.items():
        assert grpc.StatusCode[name].value[0] == number
    assert {cls.code for cls in request_error_classes().values()} == set(STATUS_NUMBERS)


def response(name: str) -> tuple[list[bytes | memoryview], int]:
    """A serialized response in two parts, and its size."""
    data = pb.ModelInferResponse(model_name=name).SerializeToString()
    return [data[:1], memoryview(data)[1:]], len(data)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(), 20)

    asyncio.run(main())


async def turns(count: int = 3) -> None:
    """Let everything that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_unary_answer_and_error_reach_the_call():
    async def test() -> None:
        loop = asyncio.get_running_loop()
        reply = UnaryReply(loop)
        reply.answer(0, *response("m"))
        assert pb.ModelInferResponse.FromString(await reply.future).model_name == "m"
        reply = UnaryReply(loop)
        reply.fail(0, InvalidRequest("no"), b"")
        with pytest.raises(InvalidRequest, match="no"):
            await reply.future

    run(test)


def test_a_call_that_is_gone_takes_either():
    async def test() -> None:
        reply = UnaryReply(asyncio.get_running_loop())
        reply.future.cancel()
        reply.answer(0, *response("m"))
        reply.fail(0, InvalidRequest("no"), b"")
        assert reply.future.cancelled()

    run(test)


def test_a_batch_is_answered_when_its_last_item_is():
    async def test() -> None:
        reply = BatchReply(asyncio.get_running_loop(), 3)
        reply.answer(2, *response("c"))
        reply.fail(1, Overloaded("full", 25), b"id")
        assert not reply.future.done()
        reply.answer(0, *response("a"))
        items = v1.InferBatchResponse.FromString(await reply.future).items
        assert [item.WhichOneof("result") for item in items] == ["response", "error", "response"]
        assert (items[0].response.model_name, items[2].response.model_name) == ("a", "c")
        error = items[1].error
        assert (error.code, error.message, error.retry_after_ms) == (8, "full", 25)

    run(test)


def test_an_empty_batch_is_answered_at_once():
    async def test() -> None:
        assert await BatchReply(asyncio.get_running_loop(), 0).future == b""

    run(test)


def test_a_cancelled_batch_takes_the_rest():
    async def test() -> None:
        reply = BatchReply(asyncio.get_running_loop(), 1)
        reply.future.cancel()
        reply.answer(0, *response("a"))

    run(test)


def parsed(data: bytes | None) -> pb.ModelStreamInferResponse:
    assert data is not None
    return pb.ModelStreamInferResponse.FromString(data)


def test_a_stream_gives_answers_in_the_order_of_the_requests():
    async def test() -> None:
        reply = StreamReply(asyncio.get_running_loop())
        slots = [reply.open_slot() for _ in range(3)]
        waiter = asyncio.ensure_future(reply.next())
        reply.answer(slots[2], *response("c"))
        reply.fail(slots[1], InvalidRequest("no"), b"id\xff")
        await turns()
        assert not waiter.done()
        assert reply.waiting == 3
        reply.answer(slots[0], *response("a"))
        assert parsed(await waiter).infer_response.model_name == "a"
        failed = parsed(await reply.next())
        assert failed.error_message == "no"
        assert failed.infer_response.id == "id�"
        assert parsed(await reply.next()).infer_response.model_name == "c"
        assert reply.waiting == 0
        later = reply.open_slot()
        reply.end()
        reply.answer(later, *response("d"))
        assert parsed(await reply.next()).infer_response.model_name == "d"
        assert await reply.next() is None

    run(test)


def test_the_end_wakes_the_writer():
    async def test() -> None:
        reply = StreamReply(asyncio.get_running_loop())
        waiter = asyncio.ensure_future(reply.next())
        await turns()
        reply.end()
        assert await waiter is None

    run(test)


def test_a_reader_waits_until_there_is_room():
    async def test() -> None:
        reply = StreamReply(asyncio.get_running_loop())
        await reply.below(1)
        slots = [reply.open_slot() for _ in range(3)]
        waiter = asyncio.ensure_future(reply.below(2))
        for slot in slots:
            reply.answer(slot, *response("m"))
        await reply.next()
        await turns()
        assert not waiter.done()
        await reply.next()
        await waiter
        assert reply.waiting == 1

    run(test)


def test_a_reader_that_is_cancelled_while_it_waits_does_not_stop_the_writer():
    async def test() -> None:
        reply = StreamReply(asyncio.get_running_loop())
        reply.answer(reply.open_slot(), *response("m"))
        waiter = asyncio.ensure_future(reply.below(1))
        await turns()
        waiter.cancel()
        await turns()
        assert parsed(await reply.next()).infer_response.model_name == "m"

    run(test)


def test_answers_that_nobody_takes_stop_a_reader_by_their_bytes_too():
    async def test() -> None:
        reply = StreamReply(asyncio.get_running_loop())
        large = memoryview(bytes(MAX_STREAM_BYTES // 2))
        for _ in range(2):
            assert reply.has_room(10)
            reply.answer(reply.open_slot(), [large], len(large))
        assert not reply.has_room(10)
        waiter = asyncio.ensure_future(reply.below(10))
        await turns()
        assert not waiter.done()
        await reply.next()
        await waiter

    run(test)
