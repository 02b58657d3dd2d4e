"""InferBatch: many requests in one call, each with its own fate."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.frontend.serving import run, serving
from tests.frontend.stand import floats, request
from trtserve.ipc.message import Cancel
from trtserve.proto import trtserve_pb2 as v1


def batch(*messages: Any) -> v1.InferBatchRequest:
    return v1.InferBatchRequest(requests=messages)


def test_items_are_answered_in_order_and_a_bad_one_fails_alone(tmp_path):
    async def test() -> None:
        async with serving(tmp_path) as (_, caller):
            answer = await caller.batch(batch(
                request(floats(1, 3), request_id="a"),
                request(floats(1, 3), model="n"),
                request(floats(9, 3)),
                request(floats(2, 7), request_id="d"),
            ))
            kinds = [item.WhichOneof("result") for item in answer.items]
            assert kinds == ["response", "error", "error", "response"]
            assert answer.items[0].response.id == "a"
            assert answer.items[3].response.raw_output_contents[0] == floats(2, 7).tobytes()
            assert answer.items[1].error.code == grpc.StatusCode.NOT_FOUND.value[0]
            assert answer.items[2].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            assert "it takes x FP32[1..8, 1..]" in answer.items[2].error.message
            assert len((await caller.batch(batch())).items) == 0

    run(test)


def test_what_is_no_batch_fails_as_a_whole(tmp_path):
    async def test() -> None:
        async with serving(tmp_path) as (_, caller):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.batch(b"\x12\x00")
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT

    run(test)


def test_a_cancelled_call_cancels_its_items(tmp_path):
    async def test() -> None:
        async with serving(tmp_path) as (stand, caller):
            stand.answers = False
            call = asyncio.ensure_future(caller.batch(batch(
                request(floats(1, 3)), request(floats(1, 3), model="n"), request(floats(1, 4)),
            )))
            await stand.until(lambda: len(stand.held) == 2)
            call.cancel()
            await stand.until(lambda: len(stand.others) == 2)
            ids = [message.ids[0] for message in stand.others if isinstance(message, Cancel)]
            assert sorted(ids) == sorted(submit.id for submit in stand.held)

    run(test)
