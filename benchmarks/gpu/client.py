"""One client process of a group (see group.py): gRPC load as cheap as Python can make it.

Messages are serialized before the start and answers are not parsed: of each call or stream the
first one is looked into, and the others must have its length, which an error has not.

    python -m benchmarks.gpu.client ADDRESS --payload images --mode stream --seconds 5
"""

import argparse
import asyncio
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import uvloop

from benchmarks.gpu import case, group
from trtserve.clock import NS_PER_S, now_ns
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2 as v1

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
BATCH = "/trtserve.v1.InferenceService/InferBatch"

_OPTIONS = (
    ("grpc.max_receive_message_length", 1 << 30), ("grpc.max_send_message_length", 1 << 30),
    # Else channels to one address share one connection, and with it one front end.
    ("grpc.use_local_subchannel_pool", 1),
)
_DRAIN_S = 20.0


@dataclass(slots=True)
class Tally:
    """What one client counts. `length` is a good answer's."""

    start_ns: int
    end_ns: int
    each: int
    answered: int = 0
    errors: int = 0
    first_error: str = ""
    latencies: list[int] = field(default_factory=list)

    def note(self, now: int, good: bool, sent_ns: int = 0) -> None:
        """An answer has come."""
        if self.start_ns <= now < self.end_ns:
            if good:
                self.answered += self.each
                if sent_ns:
                    self.latencies.append(now - sent_ns)
            else:
                self.errors += 1

    def fail(self, text: str) -> None:
        """An error, within the window or not."""
        self.errors += 1
        self.first_error = self.first_error or text


def image_requests(sizes: Sequence[int], count: int, seed: int) -> list[pb.ModelInferRequest]:
    """Requests of one image each, all sizes evenly mixed."""
    pictures = {size: case.images(size, count) for size in sizes}
    return [
        pb.ModelInferRequest(
            model_name=case.MODEL,
            inputs=[pb.ModelInferRequest.InferInputTensor(
                name="image", datatype="UINT8", shape=(1, *pictures[size].shape[1:])
            )],
            raw_input_contents=[pictures[size][number].tobytes()],
        )
        for size, number in case.mixed(sizes, count, seed)
    ]


def identity_requests(count: int) -> list[pb.ModelInferRequest]:
    """Requests of 16 floats each."""
    values = np.random.default_rng(0).random((count, 1, 16), np.float32)
    return [
        pb.ModelInferRequest(
            model_name="identity",
            inputs=[pb.ModelInferRequest.InferInputTensor(
                name="x", datatype="FP32", shape=[1, 16]
            )],
            raw_input_contents=[value.tobytes()],
        )
        for value in values
    ]


def serialize(requests: Sequence[pb.ModelInferRequest], mode: str, batch: int) -> list[bytes]:
    """The messages of a mode."""
    if mode != "batch":
        return [request.SerializeToString() for request in requests]
    whole = len(requests) - len(requests) % batch or len(requests)
    return [
        v1.InferBatchRequest(requests=requests[at : at + batch]).SerializeToString()
        for at in range(0, whole, batch)
    ]


def _problem(mode: str, data: bytes) -> str:
    """What is wrong with an answer; "" when it is good."""
    if mode == "stream":
        answer = pb.ModelStreamInferResponse.FromString(data)
        found: str = answer.error_message
        return found
    if mode == "batch":
        items = v1.InferBatchResponse.FromString(data).items
        return "; ".join({item.error.message for item in items if item.HasField("error")})
    pb.ModelInferResponse.FromString(data)
    return ""


async def unary_load(
    channel: Any, mode: str, turn: Callable[[], bytes], depth: int, tally: Tally
) -> None:
    """`depth` calls in flight on one channel."""
    call = channel.unary_unary(BATCH if mode == "batch" else INFER)

    async def caller() -> None:
        length = 0
        while (sent := now_ns()) < tally.end_ns:
            try:
                answer = await call(turn())
            except grpc.aio.AioRpcError as error:
                tally.fail(f"{error.code().name}: {error.details()}")
                await asyncio.sleep(0.01)
                continue
            if not length:
                if problem := _problem(mode, answer):
                    tally.fail(problem)
                else:
                    length = len(answer)
            tally.note(now_ns(), len(answer) == length, sent)

    await asyncio.gather(*(caller() for _ in range(depth)))


async def stream_load(
    channel: Any, turn: Callable[[], bytes], depth: int, tally: Tally
) -> None:
    """`depth` messages in flight on one stream."""
    call = channel.stream_stream(STREAM)()
    length = owed = 0
    try:
        for _ in range(depth):
            await call.write(turn())
            owed += 1
        while owed:
            answer = await call.read()
            if answer is grpc.aio.EOF:
                tally.fail("the stream ended")
                return
            now = now_ns()
            owed -= 1
            if not length:
                if problem := _problem("stream", answer):
                    tally.fail(problem)
                else:
                    length = len(answer)
            tally.note(now, len(answer) == length)
            if now < tally.end_ns:
                await call.write(turn())
                owed += 1
        await call.done_writing()
    except grpc.aio.AioRpcError as error:
        tally.fail(f"{error.code().name}: {error.details()}")
    finally:
        call.cancel()


async def load(options: argparse.Namespace, messages: Sequence[bytes]) -> dict[str, object]:
    """Connect, wait for the start, load, and say what was found."""
    channels = [
        grpc.aio.insecure_channel(options.address, options=(*_OPTIONS, ("benchmark.channel", at)))
        for at in range(options.channels)
    ]
    for channel in channels:
        await asyncio.wait_for(channel.channel_ready(), _DRAIN_S)
    start = await asyncio.get_running_loop().run_in_executor(None, group.say_ready)
    if start is None:
        sys.exit("the parent is gone")
    end = start + int(options.seconds * NS_PER_S)
    tally = Tally(start, end, options.batch if options.mode == "batch" else 1)
    order = itertools.cycle(messages)
    cpu: list[float] = []

    async def meter() -> None:
        for at in (start, end):
            await asyncio.sleep(max(0.0, (at - now_ns()) / NS_PER_S))
            times = os.times()
            cpu.append(times.user + times.system)

    loads = [
        stream_load(channel, order.__next__, options.depth, tally)
        if options.mode == "stream"
        else unary_load(channel, options.mode, order.__next__, options.depth, tally)
        for channel in channels for _ in range(options.streams if options.mode == "stream" else 1)
    ]
    try:
        await asyncio.wait_for(
            asyncio.gather(meter(), *loads),
            (end - now_ns()) / NS_PER_S + _DRAIN_S,
        )
    except TimeoutError:
        tally.fail(f"answers were owed {_DRAIN_S:.0f} s after the end")
    latencies = np.asarray(tally.latencies) / 1e6
    return {
        "answered": tally.answered, "errors": tally.errors, "first_error": tally.first_error,
        "cpu_seconds": cpu[1] - cpu[0] if len(cpu) == 2 else 0.0,
        "p50_ms": case.percentile(latencies, 0.5), "p99_ms": case.percentile(latencies, 0.99),
    }


def command(address: str, **values: object) -> list[str]:
    """What a group starts."""
    return ["benchmarks.gpu.client", address] + [
        f"--{name.replace('_', '-')}={value}" for name, value in values.items()
    ]


def main() -> None:
    """Be one client."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("address")
    given.add_argument("--payload", choices=("images", "identity"), required=True)
    given.add_argument("--mode", choices=("unary", "stream", "batch"), required=True)
    given.add_argument("--seconds", type=float, required=True)
    given.add_argument("--sizes", default=case.SIZES)
    given.add_argument("--images", type=int, default=16, help="of each size")
    given.add_argument("--batch", type=int, default=8, help="requests of one InferBatch")
    given.add_argument("--channels", type=int, default=4)
    given.add_argument("--streams", type=int, default=1, help="streams of each channel")
    given.add_argument("--depth", type=int, default=8, help="in flight on each stream or channel")
    given.add_argument("--seed", type=int, default=0)
    options = given.parse_args()
    if options.payload == "images":
        requests = image_requests(
            [int(size) for size in options.sizes.split(",")], options.images, options.seed
        )
    else:
        requests = identity_requests(options.images)
    messages = serialize(requests, options.mode, options.batch)
    if options.mode == "batch":
        options.batch = min(options.batch, len(requests))
    del requests
    uvloop.install()
    group.say_result(asyncio.run(load(options, messages)))


if __name__ == "__main__":
    main()
