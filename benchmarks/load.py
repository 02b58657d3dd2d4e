"""Our own load, for what perf_analyzer can not send: InferBatch, and images of mixed sizes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import uvloop

from trtserve.clock import now_ns
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2 as v1

LIMIT = (
    ("grpc.max_receive_message_length", 1 << 30), ("grpc.max_send_message_length", 1 << 30),
)


def request(model: str, array: Any) -> pb.ModelInferRequest:
    """A request with one FP32 input named x."""
    return pb.ModelInferRequest(
        model_name=model,
        inputs=[pb.ModelInferRequest.InferInputTensor(
            name="x", datatype="FP32", shape=array.shape
        )],
        raw_input_contents=[np.ascontiguousarray(array, np.float32).tobytes()],
    )


def infer_batch_rate(
    address: str, requests: Sequence[pb.ModelInferRequest], calls_in_flight: int, seconds: float
) -> float:
    """Requests a second when the same InferBatch is sent again and again.

    The message is serialized once; each answer's number of items is counted, and the first one
    is looked into for errors.
    """
    data = v1.InferBatchRequest(requests=requests).SerializeToString()
    method = "/trtserve.v1.InferenceService/InferBatch"
    first = v1.InferBatchResponse.FromString(
        uvloop.run(_closed_loop(address, method, [data], 1, 0.0))[0]
    )
    errors = [item.error.message for item in first.items if item.HasField("error")]
    if errors or len(first.items) != len(requests):
        raise RuntimeError(f"InferBatch does not work: {errors[:1]}")
    answers = uvloop.run(_closed_loop(address, method, [data], calls_in_flight, seconds))
    return len(answers) * len(requests) / seconds


def mixed_rate(
    address: str, requests: Sequence[pb.ModelInferRequest], in_flight: int, seconds: float
) -> float:
    """Unary requests a second, going round the given ones."""
    data = [message.SerializeToString() for message in requests]
    method = "/inference.GRPCInferenceService/ModelInfer"
    answers = uvloop.run(_closed_loop(address, method, data, in_flight, seconds))
    return len(answers) / seconds


async def _closed_loop(
    address: str, method: str, data: Sequence[bytes], in_flight: int, seconds: float
) -> list[bytes]:
    """Call again and again; the answers that came within the time (at least one)."""
    async with grpc.aio.insecure_channel(address, options=LIMIT) as channel:
        call = channel.unary_unary(method)
        end = now_ns() + int(seconds * 1e9)
        answers: list[bytes] = []
        turn = iter(range(1 << 62))

        async def caller() -> None:
            while True:
                answer = await call(data[next(turn) % len(data)])
                if now_ns() < end or not answers:
                    answers.append(answer if not answers else b"")
                if now_ns() >= end:
                    return

        await asyncio.gather(*(caller() for _ in range(in_flight)))
        return answers
